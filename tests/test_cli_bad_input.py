"""Bad input: one line that says what to do, exit code 2, and no file made or changed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cli_programs import contents, one_line_error, write_program
from tests.running import run_python

ROOTS_POWERS = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PR_CAPBSET_DROP = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_program(tmp_path, "app.py", "print('the program ran')")
    write_program(tmp_path, "taken.txt", "precious")
    write_program(tmp_path, "plain/file.txt", "")
    write_program(tmp_path, "package/__init__.py", "")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0\0")
    (tmp_path / "nothing.py").symlink_to("nowhere.py")
    write_program(tmp_path, "bin/shelltool", "#!/bin/sh\n").chmod(0o755)
    return tmp_path


CASES = [
    # what is typed, and what the line has to say
    ("run", "no program given: name a script"),
    ("run -q", "no program given"),
    ("run --", "no program given"),
    ("run -m", "-m needs a value"),
    ("run -qc", "-c needs a value"),
    ("run nosuch.py", "no such script: 'nosuch.py'"),
    ("run nothing.py", "a link to nothing"),
    ("run package.tool", "greenprof run -m package.tool"),
    ("run uvicorn app:app", "greenprof run -- uvicorn"),
    ("run plain", "'plain' is a folder without a __main__.py"),
    ("run binary", "not a Python script"),
    ("run -m nosuch", "no module named 'nosuch'"),
    ("run -m nosuch.sub", "no module named 'nosuch.sub'"),
    ("run -m package.nosuch", "no module named 'package.nosuch'"),
    ("run -m json.decoder.nosuch", "no module named 'json.decoder.nosuch'"),
    ("run -m app.py", "type -m app"),
    ("run -m package", "'package' is a package without a __main__.py"),
    ("run -m math", "'math'"),
    ("run -m ..", "no module named"),
    ("run -- nosuch", "no such command: 'nosuch'"),
    ("run -- shelltool", "not a Python script"),
    ("run --rate fast app.py", "'fast' is no number"),
    ("run --rate '' app.py", "'' is no number"),
    *(
        (f"run --rate {rate} app.py", "give samples a second, from 1 to 10000")
        for rate in ("0", "-1", "nan", "inf", "10001", "1e-400")
    ),
    ("run --rate", "--rate"),
    ("run --clock sun app.py", "'sun' is not one of"),
    ("run --nosuch app.py", "--nosuch"),
    ("run -o out.xyz app.py", "out.xyz"),
    ("run -o out.xyz app.py", ".speedscope.json"),
    ("run -o out.txt --format xyz app.py", "'xyz'"),
    ("run --format text app.py", "-o"),
    ("run -o - app.py", "--format"),
    ("run -o taken.txt app.py", "--force"),
    ("run -o taken.txt -m app", "--force"),
    ("run -o new.txt -o taken.txt app.py", "taken.txt"),
    ("run -o new.txt -o new.txt app.py", "twice"),
    ("run -o nosuch/out.txt app.py", "no directory 'nosuch'"),
    ("run -o plain --format text -f app.py", "is a directory"),
    ("run -o app.py/out.txt app.py", "app.py"),
    ("run -o '' --format text app.py", "not a file name"),
    ("show", "no profile given"),
    ("show nosuch.gprof", "no profile 'nosuch.gprof'"),
    ("show plain", "is a directory"),
    ("show taken.txt", "not a greenprof profile"),
    ("show --tree taken.txt", "not a greenprof profile"),
    ("show --clock sun taken.txt", "'sun'"),
    ("export", "no output given"),
    ("export taken.txt", "no output given"),
    ("export -o out.txt", "no profile given"),
    ("export taken.txt -o out.txt", "not a greenprof profile"),
    ("export taken.txt -o out.xyz", "out.xyz"),
    ("export taken.txt -o taken.txt", "--force"),
    ("", "no command given"),
    ("nosuch", "'nosuch'"),
    ("--nosuch", "--nosuch"),
]


@pytest.mark.parametrize(("typed", "said"), CASES, ids=[typed or "nothing" for typed, _ in CASES])
def test_one_line_and_nothing_changed(folder: Path, typed: str, said: str) -> None:
    words = [word.replace("''", "") for word in typed.split()]
    line = one_line_error(*words, cwd=folder, env={"PATH": str(folder / "bin")})
    assert said in line


def test_names_with_control_characters_stay_on_one_line(folder: Path) -> None:
    assert r"no\nsuch\x1b[2J.py" in one_line_error("run", "no\nsuch\x1b[2J.py", cwd=folder)
    one_line_error("run", b"\xff.py".decode(errors="surrogateescape"), cwd=folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", b"", "is empty"),
        ("cut", b"\x89GPROF\r\n\0\1\0\0x", "cut short"),
        ("newer", b"\x89GPROF\r\n\0\2\0\0", "newer greenprof"),
    ],
)
@pytest.mark.parametrize("command", [("show",), ("show", "--tree"), ("export", "-o", "new.txt")])
def test_broken_profiles(
    folder: Path, command: tuple[str, ...], name: str, content: bytes, said: str
) -> None:
    (folder / name).write_bytes(content)
    assert said in one_line_error(*command, name, cwd=folder)


def test_without_permission(folder: Path) -> None:
    """Also where the tests run as root: the powers that make permissions void are dropped first."""
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    secret = write_program(folder, "secret.py", "")
    secret.chmod(0)
    unread = folder / "unread.gprof"
    unread.write_bytes(b"")
    unread.chmod(0)
    without_powers = (
        "import ctypes, os, sys; library = ctypes.CDLL(None);"
        f"[library.prctl({PR_CAPBSET_DROP}, power, 0, 0, 0) for power in {ROOTS_POWERS}];"
        "os.chdir(sys.argv[1]); os.execv(sys.executable, [sys.executable, '-m', 'greenprof', *sys.argv[2:]])"
    )
    cases = [
        (folder, ["run", "-o", "locked/out.txt", "app.py"], "permission denied"),
        (folder, ["run", "secret.py"], "cannot read script 'secret.py': Permission denied"),
        (folder, ["show", "unread.gprof"], "cannot read 'unread.gprof'"),
        (locked, ["run", "../app.py"], "permission denied"),
    ]
    for cwd, words, said in cases:
        finished = run_python("-c", without_powers, cwd, *words, expect=2)
        assert said in finished.stderr
        assert finished.stderr.count("\n") == 1
        assert finished.stdout == ""
    secret.chmod(0o600)
    unread.chmod(0o600)
    assert not {path.name for path in contents(folder)} & {"out.txt"}
    assert not list(folder.rglob("app-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_the_programs_code_stays(folder: Path) -> None:
    write_program(folder, "app.py", "import sys; sys.exit(3)")
    finished = run_python(
        "-m",
        "greenprof",
        "run",
        "-o",
        "/dev/full",
        "--format",
        "text",
        "-f",
        "app.py",
        cwd=folder,
        expect=3,
    )
    assert re.fullmatch(r"greenprof: cannot write to '/dev/full': .*\n", finished.stderr)


def test_a_folder_that_goes_away_is_one_line_and_the_programs_code_stays(folder: Path) -> None:
    write_program(folder, "app.py", "import os, sys; os.rmdir('going'); sys.exit(3)")
    (folder / "going").mkdir()
    finished = run_python(
        "-m", "greenprof", "run", "-o", "going/out.txt", "app.py", cwd=folder, expect=3
    )
    assert finished.stderr.startswith("greenprof: cannot write to ")
    assert finished.stderr.count("\n") == 1
