"""The exact engine's clocks, filters and limits, and that it leaves the program as it is."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import AsyncIterator, Generator
from typing import Any

import _yappi  # type: ignore[import-not-found]
import greenlet
import pytest
import yappi

from greenprof.errors import OptionError, ProfilerStateError
from greenprof.profiles import OVERFLOW_NAME, State
from greenprof.samplers import exact_coroutines
from greenprof.samplers.exact import ExactEngine
from tests.counted_calls import MS, assert_counts_agree, burn, count, counted, counting, profile_of


async def waits(seconds: float) -> None:
    count()
    await asyncio.sleep(seconds)


def test_the_wall_clock_counts_waiting_to_whoever_waits() -> None:
    def blocks() -> None:
        count()
        time.sleep(0.03)

    async def main() -> None:
        count()
        await waits(0.05)
        await asyncio.gather(waits(0.05), waits(0.05))
        blocks()

    with counting("wall") as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result, ["waits", "main", "blocks"])
    assert result.states() == {State.ON_CPU, State.AWAITING}
    # Two that wait side by side for a time wait twice that time.
    assert 145 <= result.total_ms("waits", clock="wall") < 1450
    assert 30 <= result.self_ms("blocks", clock="wall") < 300
    # Of its own it has the wait for `gather`; not that for a coroutine.
    main_ms = result.total_ms("main", clock="wall")
    assert result.self_ms("main", clock="wall") <= main_ms - 78
    waiting = [one for one in result.profile.samples if one.state is State.AWAITING]
    assert {one.count for one in waiting} == {0}
    assert {one.cpu_ns for one in waiting} == {0}


def test_the_wall_clock_across_a_greenlet_boundary() -> None:
    def sync() -> None:
        count()
        greenlet.getcurrent().parent.switch(waits(0.05))  # type: ignore[union-attr]
        burn(10)

    async def spawn() -> None:
        count()
        child = greenlet.greenlet(sync)
        awaitable = child.switch()
        while not child.dead:
            awaitable = child.switch(await awaitable)

    with counting("wall") as found:
        asyncio.run(spawn())
    result = found()
    assert_counts_agree(result, ["sync", "spawn", "waits"])
    for name in ("sync", "spawn"):
        assert 58 <= result.total_ms(name, clock="wall") < 580, name
        assert result.self_ms(name, clock="wall") < 25, name


def test_functions_of_other_modules_can_be_left_out() -> None:
    library = types.ModuleType("some.library")
    exec(
        "def outer(call):\n"
        "    inner = lambda: call()\n"
        "    for _ in range(1000): len(())\n"
        "    return sorted([1], key=lambda _: inner())\n",
        library.__dict__,
    )

    def inside() -> None:
        count()
        burn(5)

    def caller() -> None:
        count()
        library.outer(inside)

    with counting(only=[__name__, "tests.counted_calls"]) as found:
        caller()
    result = found()
    assert_counts_agree(result, ["caller", "inside", "burn"])
    assert {frame.module for frame in result.profile.frames} <= {__name__, "tests.counted_calls"}
    assert ("caller", "inside", "burn") in result.paths("caller", "inside", "burn")
    assert 5 <= result.total_ms("caller") < 10
    with counting(only=["some"]) as found:
        caller()
    assert {frame.name for frame in found().profile.frames} == {
        "outer",
        "outer.<locals>.<lambda>",
    }
    assert any("only functions of some are told apart" in line for line in found().engine.warnings)


def test_the_tree_is_bounded() -> None:
    source = "\n".join(f"def made_{n}(): return made_{n + 1}()" for n in range(300))
    names: dict[str, Any] = {"made_300": lambda: burn(3)}
    exec(source, names)
    with counting(max_nodes=100) as found:
        for _ in range(20):
            names["made_0"]()
    result = found()
    assert len(result.engine._tree.nodes) < 250
    assert OVERFLOW_NAME in {frame.name for frame in result.profile.frames}
    below_ms = sum(
        one.cpu_ns / MS for one in result.profile.samples if OVERFLOW_NAME in result.names(one)
    )
    assert 60 <= below_ms < 120
    assert any("max_nodes" in line for line in result.engine.warnings)


def test_frames_that_are_forgotten_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprof.samplers.exact_calls.MAX_FRAMES", 20)

    async def nested(levels: int) -> None:
        count()
        if levels:
            await nested(levels - 1)
        else:
            await asyncio.sleep(0)
            burn(1)

    async def main() -> None:
        count()
        await asyncio.gather(*(nested(6) for _ in range(5)))

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result)
    assert max(map(len, result.paths("nested"))) == 7


def test_a_snapshot_does_not_change_what_comes_after() -> None:
    def inner() -> None:
        count()
        burn(2)

    def outer() -> None:
        count()
        for _ in range(5):
            inner()
            snapshots.append(found())
        burn(2)

    snapshots: list[Any] = []
    with counting() as found:
        outer()
    result = found()
    assert [one.calls()["inner"] for one in snapshots] == [1, 2, 3, 4, 5]
    assert snapshots[0].total_ms("inner") >= 2
    assert_counts_agree(result)
    assert set(result.calls() - snapshots[-1].calls()) == {"burn", "count"}
    assert 10 <= result.total_ms("inner") < 16
    # The time that its callees took is not its own, though yappi forgot some of it at each snapshot.
    assert result.self_ms("outer") < 40


def test_requests_are_named_by_their_routes() -> None:
    class Route:
        path = "/items/{name}"

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        count()
        await asyncio.sleep(0)
        scope["route"] = Route
        burn(1)

    async def main() -> None:
        for name in ("one", "two", "three"):
            scope = {"type": "http", "method": "GET", "path": f"/items/{name}"}
            await asyncio.create_task(application(scope, None, None))

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result)
    assert result.groups()["GET /items/{name}"] == ("asyncio", 3)
    assert not any("/items/one" in name for name in result.groups())


def test_what_is_said_of_the_cost() -> None:
    with counting() as found:
        for _ in range(1000):
            count()
    engine = found().engine
    line = engine.warnings[0]
    assert line.startswith("exact engine: ")
    assert "µs more for it" in line
    assert 200_000 < engine.cost_ns < 1_000_000_000


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="the clock is 'sundial': give one of cpu, wall"):
        ExactEngine("sundial")


def test_yappi_of_somebody_else_is_left_alone() -> None:
    yappi.start()
    try:
        with pytest.raises(ProfilerStateError, match=r"yappi\.stop\(\)"), counting():
            pass
        assert yappi.is_running()
    finally:
        yappi.stop()
    try:
        with pytest.raises(ProfilerStateError, match=r"yappi\.clear_stats\(\)"), counting():
            pass
        assert yappi.get_func_stats() is not None
    finally:
        yappi.clear_stats()


@pytest.mark.parametrize("backend", ["native_thread", "greenlet"])
def test_yappi_is_given_back_as_it_was(backend: str) -> None:
    yappi.set_context_backend(backend)
    yappi.set_clock_type("wall")
    try:
        for _ in range(2):
            with counting() as found:
                burn(1)
            found().engine.stop()  # a second time does nothing
        assert not yappi.is_running()
        assert _yappi._get_start_flags() is None
        assert _yappi.get_clock_type() == "wall"
        assert _yappi.get_context_backend().lower() == backend
        yappi.start()
        burn(1)
        yappi.stop()
        assert "burn" in {one.name for one in yappi.get_func_stats()}
    finally:
        yappi.clear_stats()
        yappi.set_clock_type("cpu")
        yappi.set_context_backend("native_thread")


def test_what_a_signal_handler_raises_reaches_the_program() -> None:
    class AlarmError(Exception):
        pass

    def ring(_number: int, _frame: object) -> None:
        raise AlarmError("ring", 1)

    def busy() -> None:
        count()
        while True:
            len(())

    earlier = signal.signal(signal.SIGALRM, ring)
    caught = []
    try:
        with counting() as found:
            for _ in range(60):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.005)
                    busy()
                except AlarmError as error:
                    caught.append(error.args)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
    assert caught == [("ring", 1)] * 60
    result = found()
    assert not result.engine._calls.deferred.waiting
    assert result.engine._calls.troubles == {}
    assert result.calls()["busy"] == 60


def test_coroutines_go_away() -> None:
    closed = []

    async def short() -> None:
        await asyncio.sleep(0)

    async def generated() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main() -> None:
        left = []
        for _ in range(100):
            coroutine = short()
            left.append(weakref.ref(coroutine))
            await coroutine
            del coroutine
        await asyncio.sleep(0)
        assert sum(one() is not None for one in left) <= 2
        abandoned = generated()
        assert await anext(abandoned) == 1
        del abandoned
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert closed == [True]
        remaining.extend(left)

    remaining: list[weakref.ref[Any]] = []
    with counting():
        asyncio.run(main())
    assert [one() for one in remaining if one() is not None] == []
    assert len(remaining) == 100


def test_coroutines_have_the_references_that_they_had() -> None:
    async def steps() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(20):
            coroutines = [steps() for _ in range(3)]
            before = [sys.getrefcount(one) for one in coroutines]
            tasks = [asyncio.ensure_future(one) for one in coroutines]
            await asyncio.wait(tasks)
            del tasks
            await asyncio.sleep(0)
            kept.append((coroutines, before))

    kept: list[tuple[list[Any], list[int]]] = []
    with counting():
        asyncio.run(main())
    gc.collect()
    for coroutines, before in kept:
        assert [sys.getrefcount(one) for one in coroutines] == before


def test_references_that_yappi_takes_are_known() -> None:
    class Point:
        def __await__(self) -> Generator[None]:
            yield

    async def waits() -> None:
        await Point()
        await Point()

    coroutine = waits()
    before = sys.getrefcount(coroutine)
    with counting() as found:
        for _ in range(2):
            coroutine.send(None)
        gives_back = found().engine._calls._gives_back
    assert gives_back is True, "yappi gives references back now: greenprof need not"
    assert sys.getrefcount(coroutine) == before
    coroutine.close()
    assert exact_coroutines.references_taken(lambda: None, lambda: None) == 0


def test_a_forked_child_goes_on_without() -> None:
    with counting() as found:
        burn(1)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                engine = found().engine
                engine.abandon()
                burn(1)
                running = _yappi.is_running() or _yappi._get_start_flags() is not None
                status = 2 if running or threading.getprofile() is not None else 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        burn(1)
    assert_counts_agree(found())


def test_stopping_from_another_thread_and_in_a_signal_handler() -> None:
    engine = ExactEngine()
    counted.clear()
    engine.start()
    burn(1)
    thread = threading.Thread(target=engine.stop)
    thread.start()
    thread.join()
    assert not _yappi.is_running()
    assert_counts_agree(profile_of(engine))

    engine = ExactEngine()
    stopped = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        engine.stop()
        stopped.set()

    earlier = signal.signal(signal.SIGALRM, stop)
    try:
        engine.start()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while not stopped.is_set():
            len(())
    finally:
        signal.signal(signal.SIGALRM, earlier)
        engine.stop()
    assert not _yappi.is_running()
    with counting() as found:
        burn(1)
    assert_counts_agree(found())


def test_more_than_yappi_may_hold_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprof.samplers.exact_calls.MAX_YAPPI_BYTES", 1000)
    monkeypatch.setattr("greenprof.samplers.exact_calls.CHECK_EVERY", 4)
    with counting() as found:
        for _ in range(3):
            burn(1)
            threading.Thread(target=count).start()
    assert any("yappi used more than" in line for line in found().engine.warnings)
