"""`profile()` in every form that a program may use, from any thread, nested, and at the wrong time."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import select
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import greenprof
from greenprof import Profiler
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.profiles import OVERFLOW_NAME, Profile, State
from tests.process_state import posix_timers


def burn(seconds: float = 0.05) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))


async def burn_async(seconds: float = 0.05) -> None:
    await asyncio.sleep(0)
    burn(seconds)


def names_in(profile: Profile) -> set[str]:
    return {
        frame.name.rpartition(".")[2]
        for sample in profile.samples
        for frame in profile.stack(sample.stack)
    }


def wall_s(profile: Profile) -> float:
    """The main thread's wall time."""
    main = profile.threads.index("MainThread")
    return sum(sample.wall_ns for sample in profile.samples if sample.thread == main) / 1e9


def in_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    [value] = result
    return value


def runs(p: Profiler) -> bool:
    """Asked anew each time, as a type checker that has seen an answer does not expect."""
    return p.running


def test_with() -> None:
    with greenprof.profile(rate_hz=1000) as p:
        assert runs(p)
        burn()
    assert not runs(p)
    assert "burn" in names_in(p.profile)
    info = p.profile.info
    assert (info.rate_hz, info.pids) == (1000, [os.getpid()])
    assert info.duration_ns >= 50_000_000
    assert info.ticks > 10
    assert not info.warnings


def test_async_with_and_inside_an_async_generator() -> None:
    async def values() -> AsyncIterator[int]:
        async with greenprof.profile(1000) as p:
            for number in range(3):
                await burn_async()
                yield number
        profiles.append(p.profile)

    async def main() -> None:
        async with greenprof.profile(1000) as p:
            await burn_async()
        profiles.append(p.profile)
        assert [number async for number in values()] == [0, 1, 2]

    profiles: list[Profile] = []
    asyncio.run(main())
    assert len(profiles) == 2
    assert all("burn_async" in names_in(profile) for profile in profiles)


def test_decorated_function() -> None:
    p = greenprof.profile(1000)

    @p
    def work(seconds: float, *, more: int = 0) -> float:
        """What it does."""
        burn(seconds)
        return seconds + more

    assert (work.__name__, work.__doc__) == ("work", "What it does.")
    for seconds in (0.03, 0.06):  # the last call's profile is kept
        assert work(seconds, more=1) == seconds + 1
        assert "burn" in names_in(p.profile)
        assert p.profile.info.duration_ns >= seconds * 1e9
    assert not runs(p)


def test_decorated_coroutine_function_and_method() -> None:
    p = greenprof.profile(1000)

    class Service:
        @p
        async def work(self) -> str:
            await burn_async()
            return "done"

    assert inspect.iscoroutinefunction(Service.work)
    assert asyncio.run(Service().work()) == "done"
    assert "burn_async" in names_in(p.profile)


def test_recursion_and_concurrent_calls_are_part_of_the_outermost_one() -> None:
    p = greenprof.profile(1000)

    @p
    def down(depth: int) -> int:
        burn(0.01)
        return down(depth - 1) + 1 if depth else 0

    @p
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def several() -> None:
        await asyncio.gather(work(0.01), work(0.08), work(0.03))

    assert down(4) == 4
    assert p.profile.info.duration_ns >= 50_000_000
    asyncio.run(several())
    assert p.profile.info.duration_ns >= 80_000_000
    assert not runs(p)
    with p:
        down(1)
        assert runs(p)
    assert p.profile.info.duration_ns >= 20_000_000


def test_generator_functions_and_classes_are_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def async_numbers() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, async_numbers):
        with pytest.raises(OptionError, match="numbers is a generator function"):
            greenprof.profile()(function)
    with pytest.raises(OptionError, match="Profile is no function"):
        greenprof.profile()(Profile)
    with pytest.raises(OptionError, match="3 is no function"):
        greenprof.profile()(3)  # type: ignore[type-var]


def test_an_exception_in_the_block_stops_and_passes() -> None:
    def fail() -> None:
        burn()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), greenprof.profile(1000) as p:
        fail()
    assert "burn" in names_in(p.profile)

    with pytest.raises(KeyError, match="mine"):
        p(fail)()
    assert not runs(p)


def test_start_and_stop_and_again() -> None:
    p = Profiler(1000)
    with pytest.raises(ProfilerStateError, match="no profile yet"):
        _ = p.profile
    with pytest.raises(ProfilerStateError, match="does not run"):
        p.stop()
    with pytest.raises(ProfilerStateError, match="does not run"):
        p.snapshot()
    assert p.start() is p
    burn()
    first = p.stop()
    assert p.profile is first
    p.start()
    burn()
    assert p.stop() is not first


def test_two_at_once_is_an_error_that_leaves_the_first_running() -> None:
    with greenprof.profile(1000) as first:
        burn(0.02)
        with pytest.raises(ProfilerStateError, match="runs already"):
            Profiler().start()
        with pytest.raises(ProfilerStateError, match="runs already"):
            first.start()
        with pytest.raises(ProfilerStateError, match="runs already"), greenprof.profile():
            pass
        with pytest.raises(ProfilerStateError, match="runs already"):
            in_thread_raising(Profiler(outermost=True).start)
        ticks = first.snapshot().info.ticks
        burn(0.05)
    assert first.profile.info.ticks > ticks


def in_thread_raising(function: Callable[[], Any]) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except ProfilerStateError as error:
            errors.append(error)

    in_thread(call)
    for error in errors:
        raise error


def test_a_block_that_stops_the_profiler_itself() -> None:
    with greenprof.profile(1000) as p:
        burn()
        kept = p.stop()
    assert p.profile is kept


@pytest.mark.parametrize("rate", [0, -1, 0.5, 10_001, math.nan, math.inf, None, "fast", "", [100]])
def test_bad_rates(rate: Any) -> None:
    with pytest.raises(
        OptionError, match=r"the rate is .*: give samples a second, from 1 to 10000"
    ):
        greenprof.profile(rate)


@pytest.mark.parametrize("max_nodes", [0, -5, "many", None, 1.5])
def test_bad_caps(max_nodes: Any) -> None:
    with pytest.raises(OptionError, match="max_nodes is"):
        greenprof.profile(max_nodes=max_nodes)


def test_snapshots_grow() -> None:
    with greenprof.profile(1000) as p:
        burn()
        first = p.snapshot()
        burn()
        second = p.snapshot()
    walls = [wall_s(profile) for profile in (first, second, p.profile)]
    assert 0 < walls[0] < walls[1] <= walls[2]


def test_nested_below_an_outermost_one() -> None:
    outer = Profiler(1000, outermost=True, command="greenprof run app.py").start()
    burn(0.1)
    with greenprof.profile(50) as inner:
        assert inner.running
        with pytest.raises(ProfilerStateError, match="runs already"):
            Profiler().start()
        with pytest.raises(ProfilerStateError, match="runs already"):
            Profiler(outermost=True).start()
        burn(0.1)
    part = inner.profile
    burn(0.05)
    whole = outer.stop()
    assert part.info.rate_hz == 1000
    assert part.info.command == "greenprof run app.py"
    assert 0.08 < part.info.duration_ns / 1e9 < whole.info.duration_ns / 1e9
    assert 0.05 < wall_s(part) <= wall_s(whole) - 0.1
    assert 0 < part.info.ticks < whole.info.ticks
    for sample in part.samples:
        assert min(sample.count, sample.wall_ns, sample.cpu_ns) >= 0
    assert sum(sample.count for sample in part.samples) > 0


def test_a_nested_one_may_end_after_the_outermost() -> None:
    outer = Profiler(1000, outermost=True).start()
    inner = greenprof.profile().start()
    burn()
    outer.stop()
    burn()
    assert "burn" in names_in(inner.stop())
    assert not inner.running
    with greenprof.profile(1000):
        pass


def test_nested_ones_by_decorator() -> None:
    p = greenprof.profile()

    @p
    def work() -> None:
        burn()

    with Profiler(1000, outermost=True):
        work()
        work()
    assert "work" in names_in(p.profile)


@pytest.mark.parametrize("rate", [100, 5000])
def test_two_hundred_times_in_a_row_from_the_main_thread(rate: float) -> None:
    for _ in range(200):
        with greenprof.profile(rate):
            pass


def start_and_stop(times: int) -> None:
    for number in range(times):
        p = Profiler(5000).start()
        if number % 3 == 0:
            time.sleep(0.0005)
        p.stop()


def test_two_hundred_times_in_a_row_from_a_worker_while_the_main_thread_waits() -> None:
    in_thread(lambda: start_and_stop(200))
    until = time.monotonic() + 5
    while posix_timers() and time.monotonic() < until:
        pass
    reader, writer = os.pipe()

    def start_and_stop_and_tell() -> None:
        start_and_stop(200)
        os.write(writer, b"x")

    thread = threading.Thread(target=start_and_stop_and_tell)
    thread.start()
    assert select.select([reader], [], [], 60)[0]
    thread.join()
    os.close(reader)
    os.close(writer)


def test_two_hundred_times_in_a_row_from_a_worker_while_the_main_thread_computes() -> None:
    thread = threading.Thread(target=start_and_stop, args=(200,))
    thread.start()
    while thread.is_alive():
        sum(range(1000))


def test_started_in_one_thread_and_stopped_in_another() -> None:
    p = in_thread(Profiler(1000).start)
    burn(0.1)
    main_ticks = p.stop().info.ticks
    assert main_ticks > 20
    p = Profiler(1000).start()
    burn(0.1)
    assert in_thread(p.stop).info.ticks > 20


def test_stopped_while_the_main_thread_is_in_a_call() -> None:
    p = Profiler(1000).start()
    thread = threading.Timer(0.1, p.stop)
    thread.start()
    time.sleep(0.4)
    thread.join()
    assert {sample.state for sample in p.profile.samples} >= {State.BLOCKED}
    assert wall_s(p.profile) == pytest.approx(0.1, abs=0.07)


def test_ever_new_stacks_meet_the_cap_and_the_profile_says_so() -> None:
    names: dict[str, Any] = {"burn": burn}
    with greenprof.profile(1000, max_nodes=100) as p:
        for number in range(150):
            exec(f"def made_{number}(): burn(0.003)", names)
            names[f"made_{number}"]()
    profile = p.profile
    assert len(profile.nodes) <= 200
    assert profile.info.overflow_samples > 0
    assert OVERFLOW_NAME in names_in(profile)
    assert wall_s(profile) == pytest.approx(profile.info.duration_ns / 1e9, rel=0.1)
    [warning] = profile.info.warnings
    assert "over the limit of 100 stored stack nodes" in warning


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("greenprof.samplers.threadsampler.start_new_thread", no_thread)
        p = Profiler(1000)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            p.start()
    assert not runs(p)
    assert posix_timers() == 0
    with p:
        burn()


def test_a_clock_that_stands_still_in_tests_does_not_stop_the_sampler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        for name in ("monotonic_ns", "thread_time_ns", "process_time_ns", "clock_gettime_ns"):
            patch.setattr(time, name, lambda *_: 5)
        with greenprof.profile(1000) as p:
            burn(0.1)
    assert wall_s(p.profile) == pytest.approx(p.profile.info.duration_ns / 1e9, rel=0.1)
