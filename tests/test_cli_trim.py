"""Frames of greenprof itself are neither in profiles of programs nor in their tracebacks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from greenprof.cli.program import run_as_main
from greenprof.cli.trim import without_frames_above
from greenprof.profiles import Frame, ProfileBuilder, ProfileInfo, State
from tests.cli_programs import write_program
from tests.test_cli_signals import end, started

STARTER = Frame(run_as_main.__code__.co_qualname, run_as_main.__code__.co_filename, 7)
ABOVE = Frame("main", "/bin/greenprof", 3)
PROGRAM, WORK = Frame("<module>", "/app.py", 1), Frame("work", "/app.py", 2)


def test_stacks_begin_below_the_function_that_runs_the_program() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("MainThread", "thread"), builder.thread("MainThread")
    builder.count_tasks(group)
    stacks = {
        (ABOVE, STARTER, PROGRAM, WORK): (PROGRAM, WORK),
        (ABOVE, STARTER, PROGRAM): (PROGRAM,),
        (ABOVE, STARTER): (ABOVE, STARTER),
        (ABOVE,): (ABOVE,),
        (WORK,): (WORK,),
        (PROGRAM, WORK): (PROGRAM, WORK),
        (): (),
    }
    for stack in stacks:
        builder.add(group, thread, builder.stack(stack), State.ON_CPU, 1, 10, 1)
    profile = builder.build(ProfileInfo(command="app.py", warnings=["kept"]))
    trimmed = without_frames_above(profile, run_as_main.__code__)
    seen = {trimmed.stack(sample.stack): sample for sample in trimmed.samples}
    assert set(seen) == set(stacks.values())
    assert seen[PROGRAM, WORK].wall_ns == 20
    assert sum(sample.count for sample in trimmed.samples) == len(stacks)
    assert trimmed.groups == profile.groups
    assert trimmed.threads == profile.threads
    assert trimmed.info == profile.info


@pytest.mark.parametrize("rate", [100, 10_000])
def test_ctrl_c_shows_the_programs_frames_only(tmp_path: Path, rate: int) -> None:
    """At 10,000 Hz it comes inside the sampler more often than not."""
    source = "print('ready', flush=True)\nwhile True:\n    len('x')\n"
    program = write_program(tmp_path, "app.py", source)
    options = ("run", "-q", "--rate", str(rate), "-o", os.devnull, "--format", "text", "-f")
    with started("-m", "greenprof", *options, program, cwd=tmp_path) as process:
        code, _, err = end(process, signal.SIGINT)
    assert code == -signal.SIGINT
    assert f'File "{program}"' in err
    assert err.count("File ") == 1
