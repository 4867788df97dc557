"""What the command line's tests share: programs in files, and the same program run by python and by greenprof."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from greenprof.profiles import Profile
from tests.running import Finished, run_greenprof, run_python

# What `python -m` shows of itself in tracebacks; greenprof shows nothing of itself.
RUNPY_FRAMES = re.compile(
    r'^(?:  \| )?  File "<frozen (?:runpy|importlib[^"]*)>".*\n', re.MULTILINE
)


def write_program(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def run_both(
    *program: str | Path,
    cwd: Path,
    python_options: Sequence[str] = (),
    recorded: bool = True,
    env: dict[str, str] | None = None,
) -> Finished:
    """Runs a program without and with greenprof: it must print and end the same, and leave a profile.

    Returns what happened under greenprof. `recorded` says whether a profile is expected.
    """
    plain = run_python(*python_options, *program, expect=None, cwd=cwd, env=env)
    output = cwd / "profile-of-both.gprof"
    options: list[str | Path] = [*python_options, "-m", "greenprof", "run", "--quiet", "-o", output]
    profiled = run_python(*options, *program, expect=None, cwd=cwd, env=env)
    both = f"{plain}\n\n{profiled}"
    assert profiled.returncode == plain.returncode, both
    assert profiled.stdout == plain.stdout, both
    assert uniform(profiled.stderr) == uniform(RUNPY_FRAMES.sub("", plain.stderr)), both
    assert output.exists() is recorded
    if recorded:
        Profile.load(output)
        output.unlink()
    return profiled


def uniform(printed: str) -> str:
    """Without what differs by nature: addresses, and a traceback's title where it has no frames."""
    printed = re.sub(r"0x[0-9a-f]+", "0x0", printed)
    return re.sub(r"^Traceback.*\n(?=  File .*\n.*\n +\^+\n)", "", printed)


def one_line_error(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Runs greenprof with bad input: exit code 2, one line on standard error, no file made or changed."""
    before = contents(cwd)
    finished = run_greenprof(*arguments, expect=2, cwd=cwd, env=env)
    assert finished.stdout == ""
    assert finished.stderr.startswith("greenprof"), finished
    assert finished.stderr.endswith("\n")
    assert finished.stderr.count("\n") == 1, finished
    assert contents(cwd) == before
    return finished.stderr


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def saved_profile(folder: Path) -> Path:
    """The one profile that a run without -o saved in the folder."""
    (path,) = folder.glob("*.gprof")
    return path
