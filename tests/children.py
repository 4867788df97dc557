"""Programs with children that burn a known amount of CPU time, under `greenprof run --subprocesses`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from greenprof.profiles import Profile
from tests.cli_programs import write_program
from tests.running import Finished, run_greenprof

# A module of the programs': what each child does, told apart by the function's name.
WORK = """
import time

def burn(seconds):
    until = time.thread_time() + seconds
    number = 0
    while time.thread_time() < until:
        number += len(str(number))

def one(seconds):
    burn(seconds)
    return "one"

def two(seconds):
    burn(seconds)
    return "two"

def three(seconds):
    burn(seconds)
    return "three"
"""


def run_family(
    folder: Path,
    source: str,
    *arguments: str | Path,
    options: tuple[str, ...] = (),
    expect: int | None = 0,
    env: Mapping[str, str] | None = None,
) -> tuple[Profile, Finished]:
    """Runs a program that may `import work`; returns the profile of all its processes.

    Nothing of greenprof's is left in the folder for temporary files, but what `leavings` finds there.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    write_work(folder)
    program = write_program(folder, "app.py", source)
    finished = run_greenprof(
        *("run", "--subprocesses", "--force", "--rate", "400", *options),
        *("-o", folder / "app.gprof"),
        program,
        *arguments,
        cwd=folder,
        expect=expect,
        env={"TMPDIR": str(temporary), **(env or {})},
    )
    return Profile.load(folder / "app.gprof"), finished


def write_work(folder: Path) -> None:
    """Writes the module `work`."""
    write_program(folder, "work.py", WORK)


def leavings(folder: Path) -> list[str]:
    """What greenprof has left in the folder for temporary files."""
    return sorted(name for name in os.listdir(folder / "tmp") if name.startswith("greenprof"))


def cpu_s(profile: Profile, *names: str) -> list[float]:
    """The CPU time below each of the functions."""
    found = dict.fromkeys(names, 0)
    for sample in profile.samples:
        for name in {frame.name for frame in profile.stack(sample.stack)} & set(names):
            found[name] += sample.cpu_ns
    return [found[name] / 1e9 for name in names]


def is_near(seen_s: float, truth_s: float) -> bool:
    """Whether a sum of a second or less is what it should be, as far as few samples can tell."""
    return abs(seen_s - truth_s) <= 0.05 + 0.1 * truth_s
