"""What bounds memory: each table that grows with the program is filled to its bound and beyond.

Tables whose bound has a test beside their other tests are listed in docs/benchmarks.md, under "Growth".
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from greenprof import idle, labels, loops
from greenprof.profiler import Profiler
from greenprof.profiles import OVERFLOW_NAME, Profile
from greenprof.samplers import awaitsites, repeats
from greenprof.samplers import places as module
from greenprof.samplers.observer import Observer
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.timeline import DROP_EVERY
from tests.await_programs import nap
from tests.await_truth import counting
from tests.cli_programs import write_program
from tests.running import run_greenprof
from tests.sqlalchemy_programs import await_
from tests.timelines import recording

# Some of these count what happens within a fraction of a second, on machines that have others' work to do.
pytestmark = pytest.mark.flaky(reruns=3)


def test_threads_that_end_leave_no_tables_of_awaits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread for each request, for ever: what they counted is one table."""
    monkeypatch.setattr(awaitsites, "FOLD_AT", 4)

    def load() -> None:
        await_(nap())
        await_(nap())

    def work() -> None:
        asyncio.run(greenlet_spawn(load))

    with counting() as counted:
        counted.account._sites._fold_at = 4
        for _ in range(30):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        work()
        assert len(counted.account._sites._tables) <= 2 * 4
    assert counted.counts() == {"nap": 62}
    assert sum(row.count for row in counted.rows()) == 62


def test_living_threads_keep_their_tables_of_awaits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they go on to count after others' tables were added up is counted as well."""
    monkeypatch.setattr(awaitsites, "FOLD_AT", 2)
    number, each = 8, 20
    barrier = threading.Barrier(number)

    def load() -> None:
        for _ in range(each):
            await_(nap())

    def work() -> None:
        for _ in range(2):
            barrier.wait()
            asyncio.run(greenlet_spawn(load))

    with counting() as counted:
        counted.account._sites._fold_at = 2
        threads = [threading.Thread(target=work) for _ in range(number)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert counted.counts() == {"nap": 2 * number * each}


def test_a_timeline_of_the_last_second_keeps_no_more() -> None:
    """Neither what happened before, nor the names of who did it; and nothing is called lost."""
    seconds = 0.2

    async def main() -> None:
        until = time.monotonic() + 5 * seconds
        while time.monotonic() < until:
            await asyncio.create_task(asyncio.sleep(0.001))

    with recording(seconds=seconds) as record:
        record.timeline._tracks._prune_at = record.timeline._tracks._least = 64
        asyncio.run(main())
        kept = len(record.timeline._ring)
        made = next(record.timeline._numbers) - 1
        assert len(record.timeline._tracks) < made / 3
    assert DROP_EVERY < kept < made / 2
    found = record.result()
    assert found.profile.slices
    assert record.timeline.lost_slices == 0


def test_places_of_a_timeline() -> None:
    places = module.Places()
    first = places.called(nap)
    for number in range(module.MAX_PLACES + 50):
        places.called(_named(number))
    assert len(places._places) == module.MAX_PLACES
    assert places.called(_named(module.MAX_PLACES + 10)) == module.UNKNOWN
    assert places.called(nap) == first


class _Callback:
    __qualname__: str


def _named(number: int) -> _Callback:
    callback = _Callback()
    callback.__qualname__ = f"callback_{number}"
    return callback


def test_tasks_that_are_gone_are_forgotten() -> None:
    """However many there were: what is remembered is in proportion to those that live."""
    recorder = Recorder()
    tasks = Observer(recorder, 10_000_000, threading.get_ident()).tasks

    async def main() -> int:
        most = 0
        for _ in range(20_000):
            task = asyncio.ensure_future(asyncio.sleep(0))
            tasks.find(task)
            await task
            most = max(most, len(tasks._known))
        return most

    assert asyncio.run(main()) <= 4096 + 1


def test_what_is_remembered_of_functions_that_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that computes and nothing else is asked for no names of what it calls."""
    monkeypatch.setattr(idle, "_CACHE_LIMIT", 50)
    names: dict[str, Any] = {"sys": sys}
    for number in range(500):
        exec(f"def made_{number}(): return sys._getframe()", names)
        idle.is_between_calls(names[f"made_{number}"]())
    assert len(idle._called) <= 50


@pytest.mark.parametrize("module", [labels, loops])
def test_what_is_remembered_of_functions_on_stacks(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are given a request, or run a loop: a program may make new ones for ever."""
    monkeypatch.setattr(module, "_CACHE_LIMIT", 50)
    names: dict[str, Any] = {"sys": sys}
    finder = loops.LoopFinder()
    for number in range(500):
        exec(f"def made_{number}(): return sys._getframe()", names)
        frames = [names[f"made_{number}"]()]
        if module is labels:
            labels.awaits_route(frames)
        else:
            finder.find(0, frames)
    assert 0 < len(module._kept) <= 50


def test_units_of_tasks_that_are_gone_are_forgotten() -> None:
    def load() -> None:
        await_(nap())

    async def main() -> None:
        for _ in range(300):
            await asyncio.create_task(greenlet_spawn(load))

    with counting() as counted:
        asyncio.run(main())
        gc.collect()
        counted.account._units.close_over()
        assert len(counted.account._units.known) <= 2
    assert counted.counts() == {"nap": 300}


def test_operations_of_one_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that makes a query of a text of its own each time, for ever."""
    monkeypatch.setattr(repeats, "MAX_OPERATIONS", 20)
    site = repeats._AtSite(5)
    for operation in range(1, 101):
        site.add(operation, 5)
    for _ in range(14):
        site.add(1, 5)
        site.add(99, 5)
    assert len(site.operations) == 20
    assert site.count == 1 + 100 + 28
    assert site.repeated(10) == (15, 75)


def test_a_program_that_makes_functions_for_ever_meets_max_nodes() -> None:
    """The profile has no more than was asked for, and says what it left out and how to mend it."""
    with Profiler(1000, max_nodes=50, awaits=False) as profiler:
        until = time.monotonic() + 0.6
        number = 0
        while time.monotonic() < until:
            number += 1
            names: dict[str, Any] = {}
            exec(f"def made_{number}(work): work(0.002)", names)
            names[f"made_{number}"](_busy)
    profile = profiler.profile
    assert number > 60
    assert len(profile.nodes) <= 2 * 50
    assert profile.info.overflow_samples > 0
    assert OVERFLOW_NAME in {frame.name for frame in profile.frames}
    assert sum(sample.wall_ns for sample in profile.samples) > 0.9 * 0.6e9
    [warning] = [text for text in profile.info.warnings if "went over the limit" in text]
    assert "50 stored stack nodes" in warning
    assert "raise max_nodes" in warning


def test_the_command_line_bounds_nodes_as_well(tmp_path: Path) -> None:
    """As many as a program that finds itself over the limit is told to give."""
    source = """
        import time

        def busy(seconds):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                pass

        for number in range(40):
            names = {}
            exec(f"def made_{number}(work): work(0.005)", names)
            names[f"made_{number}"](busy)
    """
    program = write_program(tmp_path, "program.py", source)
    sizes = {}
    for most in (10, 1000):
        output = tmp_path / f"{most}.gprof"
        run_greenprof(
            "run", "--quiet", "--rate", "1000", "--max-nodes", str(most), "-o", output, program
        )
        profile = Profile.load(output)
        told = [text for text in profile.info.warnings if "--max-nodes" in text]
        sizes[most] = len(profile.nodes), bool(told)
    assert sizes[10][0] <= 20
    assert sizes[10][1]
    assert sizes[1000][0] > 40
    assert not sizes[1000][1]


def _busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
