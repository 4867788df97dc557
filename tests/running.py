"""Runs real programs in processes of their own, with a time limit, and says what they printed when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parent.parent
LIMIT_S = 60.0
# For programs that use CPU for as long as they say; they import time themselves.
BURN = """
def burn(seconds):
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += len(str(number))

"""


@dataclass(frozen=True)
class Finished:
    """A program that ended; `returncode` is negative for the signal that ended it."""

    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return (
            f"{' '.join(self.command)}\nended with {self.returncode}"
            f"\n--- stdout\n{self.stdout[-8000:]}\n--- stderr\n{self.stderr[-8000:]}"
        )


def run_python(
    *arguments: str | Path,
    expect: int | None = 0,
    limit_s: float = LIMIT_S,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> Finished:
    """Runs this Python with the arguments and returns what it printed.

    `env` is added to the environment. Fails with everything that was printed where the exit code is not
    `expect` (None: any will do), or where the program takes longer than `limit_s`; its children end with it.
    """
    command = (sys.executable, *map(str, arguments))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        # A group of its own, so that the time limit ends the program's children too.
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=limit_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            finished = Finished(command, process.returncode, stdout, stderr)
            message = f"took longer than {limit_s} s: {finished}"
            raise AssertionError(message) from None
    finished = Finished(command, process.returncode, stdout, stderr)
    assert expect is None or finished.returncode == expect, str(finished)
    return finished


def run_greenprof(
    *arguments: str | Path,
    expect: int | None = 0,
    limit_s: float = LIMIT_S,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Runs the command line, as `python -m greenprof`; see `run_python` for the rest."""
    return run_python(
        "-m", "greenprof", *arguments, expect=expect, limit_s=limit_s, env=env, cwd=cwd
    )
