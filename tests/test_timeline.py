"""Timelines of programs that know when they did what: to the nanosecond, and in the right task."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from greenprof._native import time
from greenprof.samplers import timeline as module
from greenprof.samplers.awaits import AwaitAccount
from greenprof.samplers.timeline import Timeline
from greenprof.samplers.tracks import Tracks
from tests.timelines import AWAIT, RUN, Truth, around, assert_nested, recording, run


def test_sync_code_and_what_it_awaits() -> None:
    truth = Truth()

    async def fetch() -> None:
        truth.burn("awaited")
        await asyncio.sleep(0.002)
        truth.burn("awaited")

    def service() -> None:
        for _ in range(2):
            truth.burn("sync")
            await_only(fetch())
        truth.burn("sync")

    async def endpoint() -> None:
        await greenlet_spawn(service)

    async def main() -> None:
        names = ("one", "two", "three")
        await asyncio.gather(*(asyncio.create_task(endpoint(), name=name) for name in names))

    found = run(main)
    for name in ("one", "two", "three"):
        own = [noted for noted in truth.noted if noted[0] == name]
        assert len(own) == 3 + 4
        awaits = found.of(name, AWAIT)
        assert [one.name.rpartition(".")[2] for one in awaits] == ["fetch", "fetch"]
        assert [found.line_of(one) for one in awaits] == [("service", 3)] * 2
        assert len({one.flow for one in awaits}) == 2
        for _, what, start_ns, end_ns in own:
            [ran] = around(found.of(name, RUN), start_ns, end_ns)
            waited = around(awaits, start_ns, end_ns)
            if what == "sync":
                assert not waited
                assert ran.flow == 0
            else:
                [one] = waited
                assert ran.flow == one.flow > 0
                assert ran.name == one.name
                assert ran.stack == one.stack
        # Before an await its line is the one that ran last; and nothing overlaps without nesting.
        first = found.of(name)[0]
        assert (first.kind, found.line_of(first)) == (RUN, ("service", 3))
        assert_nested(found.of(name))


def test_a_task_that_awaits_without_a_bridge_shows_the_line_where_it_was_suspended() -> None:
    async def inner() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        await asyncio.sleep(0)
        await inner()

    found = run(main)
    first, second, last = found.of("main", RUN)
    assert found.line_of(first) == ("main", 4)
    assert found.line_of(second) == ("inner", 1)
    assert last.stack == -1
    [track] = [track for track in found.tracks() if track[0] == "main"]
    assert track[1:] == ("main", "MainThread")


def test_tasks_that_run_for_an_await_belong_to_it() -> None:
    async def part() -> None:
        await asyncio.sleep(0.001)

    async def both() -> None:
        await asyncio.gather(
            asyncio.create_task(part(), name="left"), asyncio.create_task(part(), name="right")
        )

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        await asyncio.create_task(part(), name="alone")
        await greenlet_spawn(lambda: await_only(both()))

    found = run(main)
    [one] = found.of("main", AWAIT)
    assert one.flow
    assert [each.flow for each in found.of("left")] == [one.flow, 0]
    assert [each.flow for each in found.of("right")] == [one.flow, 0]
    assert [each.flow for each in found.of("alone")] == [0, 0]


def test_an_await_that_is_ready_at_once_is_within_what_ran() -> None:
    async def ready() -> None:
        pass

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        await greenlet_spawn(lambda: await_only(ready()))

    found = run(main)
    kinds = [
        one.kind
        for one in sorted(
            found.of("main"), key=lambda one: (one.start_ns, -one.duration_ns, one.kind is RUN)
        )
    ]
    assert kinds == [RUN, AWAIT, RUN, RUN]
    assert_nested(found.of("main"))


def test_callbacks_are_on_their_threads_track_by_name() -> None:
    truth = Truth()

    def called(what: str) -> None:
        truth.burn(what)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(called, "callback")
        await asyncio.sleep(0.002)

    found = run(main)
    [(_, _, start_ns, end_ns)] = truth.noted
    [one] = around(found.of(threading.current_thread().name, RUN), start_ns, end_ns)
    assert one.name.endswith("called")


def test_loops_in_other_threads() -> None:
    truth = Truth()

    async def main() -> None:
        truth.burn("there")
        await asyncio.sleep(0)

    with recording() as record:
        thread = threading.Thread(target=lambda: asyncio.run(main()), name="loop-7")
        thread.start()
        thread.join()
    found = record.result()
    [(task, _, start_ns, end_ns)] = truth.noted
    assert (task, "main", "loop-{}") in [(n, g.rpartition(".")[2], t) for n, g, t in found.tracks()]
    assert around(found.of(task, RUN), start_ns, end_ns)


def test_what_lasts_at_the_end_and_in_a_snapshot_is_there() -> None:
    truth = Truth()
    snapshots = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("main")
        await asyncio.sleep(0)
        with recording() as record:
            await asyncio.sleep(0)
            truth.burn("before")
            snapshots.append(record.result())
            truth.burn("after")
        snapshots.append(record.result())

    asyncio.run(main())
    before, after = truth.noted
    early, late = snapshots
    assert around(early.of("main", RUN), *before[2:])
    assert not around(early.of("main", RUN), *after[2:])
    assert around(late.of("main", RUN), before[2], after[3])


def test_the_ring_keeps_the_latest_and_tells_how_many_it_lost() -> None:
    async def main() -> None:
        for _ in range(300):
            await asyncio.sleep(0)

    with recording(max_slices=100) as record:
        asyncio.run(main())
    everything = run(main)
    kept = record.result()
    assert len(kept.profile.slices) == 100
    lost = record.timeline.lost_slices
    # The steps of the loop's own tasks and callbacks may differ by a few.
    assert lost > 150
    assert abs(lost + 100 - len(everything.profile.slices)) < 50


def test_tasks_without_end_take_no_memory_without_end() -> None:
    async def main() -> None:
        for _ in range(2_000):
            await asyncio.create_task(asyncio.sleep(0))

    with recording(max_slices=50) as record:
        record.timeline._tracks = tracks = Tracks(record.timeline._oldest_ns, prune_at=64)
        asyncio.run(main())
    assert len(tracks) <= 300
    assert len(tracks._owners) <= 300
    # What is kept has its names all the same.
    assert len(record.result().profile.slices) == 50


def test_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with recording(seconds=1000.0) as record:
        asyncio.run(main())

        class Later:
            @staticmethod
            def monotonic_ns() -> int:
                return int(time.monotonic_ns()) + 1001 * 10**9

        assert record.result().profile.slices
        monkeypatch.setattr(module, "time", Later)
        assert not record.result().profile.slices
        monkeypatch.undo()


def test_a_task_class_that_raises_is_recorded_all_the_same() -> None:
    class Odd(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
        def get_name(self) -> str:
            raise ValueError("no name")

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(lambda loop, coro: Odd(coro, loop=loop))
        await asyncio.create_task(asyncio.sleep(0))

    with recording() as record:
        asyncio.run(main())
    assert record.timeline.warnings == []
    assert "sleep" in [group for _, group, _ in record.result().tracks()]


def test_start_and_stop_leave_nothing_behind_and_stop_twice_does_nothing() -> None:
    account = AwaitAccount()
    timeline = Timeline(account)
    states = []
    for step in (timeline.stop, timeline.start, timeline.stop, timeline.stop):
        step()
        states.append((account.observer is not None, asyncio.events.Handle._run))
    before = states[0][1]
    assert states[0] == (False, before)
    assert states[1][0]
    assert states[1][1] is not before
    assert states[2:] == [(False, before)] * 2


def test_an_observer_of_somebody_elses_stays() -> None:
    account = AwaitAccount()
    timeline = Timeline(account)
    timeline.start()

    def other(*_: Any) -> None:
        pass

    account.observer = other
    timeline.stop()
    assert account.observer is other
