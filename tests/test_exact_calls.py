"""The exact engine counts what programs count themselves: every call, of every kind of function."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

import greenprof
from greenprof.profiles import Profile
from tests.counted_calls import assert_counts_agree, burn, count, counted, counting
from tests.running import run_greenprof


def fibonacci(number: int) -> int:
    count()
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def even(number: int) -> bool:
    count()
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    count()
    return number != 0 and even(number - 1)


def test_recursion() -> None:
    with counting() as found:
        assert fibonacci(12) == 144
        assert even(301) is False
    assert counted["fibonacci"] == 465
    assert_counts_agree(found(), ["fibonacci", "even", "odd"])


def test_a_recursive_functions_total_counts_once() -> None:
    def down(levels: int) -> None:
        count()
        burn(4)
        if levels:
            down(levels - 1)

    with counting() as found:
        down(9)
    result = found()
    assert_counts_agree(result)
    assert 40 <= result.total_ms("down") < 60
    assert result.self_ms("burn") == pytest.approx(result.total_ms("burn"), rel=0.1)


def numbers(limit: int) -> Iterator[int]:
    count()
    yield from range(limit)


def doubled(limit: int) -> Generator[int]:
    count()
    for number in numbers(limit):
        yield 2 * number


def test_generators_are_called_once_each_and_their_steps_are_not_calls() -> None:
    def consume() -> int:
        count()
        return sum(doubled(50)) + sum(number for number in numbers(20))

    with counting() as found:
        consume()
        abandoned = doubled(10)
        next(abandoned)
        del abandoned
        thrown = doubled(10)
        next(thrown)
        with pytest.raises(ValueError, match="stop"):
            thrown.throw(ValueError("stop"))
    result = found()
    assert_counts_agree(result, ["numbers", "doubled", "consume"])
    assert ("consume", "doubled", "numbers") in result.paths("consume", "doubled", "numbers")


def test_a_generator_is_below_whoever_asks_for_its_next_value() -> None:
    def slow() -> Iterator[int]:
        count()
        for number in range(2):
            burn(10)
            yield number

    def first(values: Iterator[int]) -> None:
        count()
        next(values)

    def second(values: Iterator[int]) -> None:
        count()
        next(values)

    with counting() as found:
        values = slow()
        first(values)
        second(values)
    result = found()
    assert_counts_agree(result)
    assert 10 <= result.total_ms("first") < 15
    assert 10 <= result.total_ms("second") < 15


@contextlib.contextmanager
def managed() -> Iterator[None]:
    count()
    burn(3)
    try:
        yield
    finally:
        burn(3)


@contextlib.asynccontextmanager
async def managed_async() -> AsyncIterator[None]:
    count()
    burn(3)
    try:
        yield
    finally:
        await asyncio.sleep(0)
        burn(3)


async def values(limit: int) -> AsyncIterator[int]:
    count()
    for number in range(limit):
        await leaf(0)
        yield number


async def leaf(milliseconds: float) -> None:
    count()
    await asyncio.sleep(0)
    if milliseconds:
        burn(milliseconds)


async def middle() -> None:
    count()
    await leaf(1)
    await leaf(1)


def test_coroutines_and_tasks_side_by_side() -> None:
    async def main() -> None:
        count()
        await asyncio.gather(*(middle() for _ in range(50)))
        await asyncio.create_task(middle())

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result, ["middle", "leaf", "burn"])
    assert counted["leaf"] == 102
    assert result.groups()["middle"] == ("asyncio", 51)
    assert ("main", "middle", "leaf") in result.paths("main", "middle", "leaf")
    assert 102 <= result.total_ms("middle") < 140


def test_coroutines_that_are_cancelled_fail_or_are_never_awaited() -> None:
    async def waits() -> None:
        count()
        await asyncio.sleep(60)

    async def fails() -> None:
        count()
        await leaf(0)
        raise LookupError

    async def main() -> None:
        count()
        tasks = [asyncio.create_task(waits()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(
            *tasks, *(fails() for _ in range(3)), return_exceptions=True
        )
        assert [type(outcome).__name__ for outcome in outcomes] == (
            ["CancelledError"] * 5 + ["LookupError"] * 3
        )
        waits().close()  # never begins, so it is not called

    with counting() as found:
        asyncio.run(main())
    assert_counts_agree(found(), ["waits", "fails", "leaf"])


def test_asynchronous_generators_and_context_managers() -> None:
    async def main() -> None:
        count()
        with managed():
            async with managed_async():
                assert [number async for number in values(7)] == list(range(7))
        with pytest.raises(LookupError):
            async with managed_async():
                raise LookupError

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result, ["managed", "managed_async", "values", "leaf"])
    assert counted["managed_async"] == 2
    # What is done on the way out is done below `__exit__`, not below `__enter__`.
    left = {
        frame.name
        for sample in result.profile.samples
        for frame, below in itertools.pairwise(result.profile.stack(sample.stack))
        if below.name in ("managed", "managed_async")
    }
    assert {name.rpartition(".")[2] for name in left} == {
        "__enter__",
        "__exit__",
        "__aenter__",
        "__aexit__",
    }


def test_threads() -> None:
    def work(times: int) -> None:
        count()
        for _ in range(times):
            burn(1)

    with counting() as found:
        threads = [threading.Thread(target=work, args=(4,), name=f"worker-{n}") for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    result = found()
    assert_counts_agree(result, ["work", "burn"])
    assert result.groups()["worker-{}"] == ("thread", 6)
    assert 24 <= result.total_ms("work") < 40


def test_threads_that_come_and_go_share_what_yappi_keeps_for_each() -> None:
    def work() -> None:
        count()

    with counting() as found:
        for _ in range(40):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        used = max(number for _, number in found().engine._calls.contexts.living())
        assert used < 15
    assert_counts_agree(found())


def test_a_thread_that_ran_before_is_followed() -> None:
    begin, done = threading.Event(), threading.Event()

    def step() -> None:
        count()

    def work() -> None:
        begin.wait()
        for _ in range(10):
            step()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with counting() as found:
        begin.set()
        done.wait()
        thread.join()
    result = found()
    assert_counts_agree(result)
    assert ("work", "step") in result.paths("work", "step")


def test_functions_that_were_under_way_have_their_time_but_no_call() -> None:
    def inner() -> None:
        count()
        burn(5)

    def outer() -> None:
        with counting() as found:
            until = 20_000
            while until:
                until -= 1
            inner()
        results.append(found())

    results: list[object] = []
    outer()
    result = results[0]
    assert_counts_agree(result)  # type: ignore[arg-type]
    assert result.calls()["outer"] == 0  # type: ignore[attr-defined]
    assert result.self_ms("outer") > 0  # type: ignore[attr-defined]
    assert ("outer", "inner") in result.paths("outer", "inner")  # type: ignore[attr-defined]


def test_calls_that_end_by_an_exception_and_calls_from_c() -> None:
    def fails(number: int) -> int:
        count()
        if number % 2:
            raise ValueError(number)
        return -number

    def key(number: int) -> int:
        count()
        with contextlib.suppress(ValueError):
            return fails(number)
        return number

    class Thing:
        def __init__(self) -> None:
            count()

        @property
        def value(self) -> int:
            count()
            return 1

        def __del__(self) -> None:
            count()

    with counting() as found:
        sorted(range(30), key=key)
        assert sum(map(key, range(10))) == 5
        assert Thing().value == 1
    assert_counts_agree(found(), ["fails", "key", "__init__", "value", "__del__"])


def test_own_code_is_not_in_the_result() -> None:
    with counting() as found:
        burn(1)
        found()
    own = [frame.path for frame in found().profile.frames if "/greenprof/" in frame.path]
    assert own == []


RECURSING = """
import sys

def down():
    down()

def at_the_limit(calls):
    try:
        at_the_limit(calls)
    except RecursionError:
        while calls:
            calls.pop()
            len(calls)

sys.setrecursionlimit(250)
for _ in range(20):
    try:
        down()
    except RecursionError:
        pass
    at_the_limit(list(range(100)))
print("done")
"""


def test_recursion_to_the_interpreters_limit_ends(tmp_path: Path) -> None:
    """There is no room for a call of ours then: to try again and again held the program for ever.

    Nor for yappi to ask, which then asks no more: the profile says so.
    """
    program = tmp_path / "recursing.py"
    program.write_text(RECURSING, encoding="utf-8")
    output = tmp_path / "out.gprof"
    finished = run_greenprof("run", "-q", "--engine", "exact", "-o", output, program, limit_s=60)
    assert finished.stdout == "done\n"
    profile = Profile.load(output)
    assert "down" in {frame.name for frame in profile.frames}
    assert any(text.startswith("yappi lost touch") for text in profile.info.warnings)


def test_the_engine_is_asked_to_the_end() -> None:
    with greenprof.Profiler(engine="exact") as profiler:
        fibonacci(5)
    assert not any(text.startswith("yappi lost touch") for text in profiler.profile.info.warnings)
