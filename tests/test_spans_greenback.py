"""Spans of what sync code awaits through greenback, whose portals run awaited code in the sync greenlet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import greenback
import pytest
import trio

import greenprof
from tests import span_trees
from tests.span_trees import Spans, attributes_of, current_name, line_of, short

spans = span_trees.spans
direct = span_trees.direct

Sleep = Callable[[float], Awaitable[Any]]


class Program:
    """Spans on both sides of `await_`, in code that suspends by the loop's own sleep."""

    def __init__(self, spans: Spans, sleep: Sleep = asyncio.sleep) -> None:
        self.spans = spans
        self.sleep = sleep
        self.current: list[tuple[str, str]] = []

    async def leaf(self) -> None:
        with self.spans.span("driver"):
            await self.sleep(0.001)
        with self.spans.span("driver again"):
            await self.sleep(0)

    def inner(self) -> None:
        with self.spans.span("inner"):
            greenback.await_(self.leaf())
            self.current.append(("inner", current_name()))
            with self.spans.span("after"):
                pass

    async def between(self) -> None:
        await self.sleep(0)
        with self.spans.span("between"):
            self.inner()
            await self.sleep(0)
            self.current.append(("between", current_name()))

    def outer(self) -> None:
        with self.spans.span("outer"):
            greenback.await_(self.between())
            self.current.append(("outer", current_name()))

    async def body(self) -> None:
        with self.spans.span("request"):
            await self.sleep(0)
            self.outer()
            self.current.append(("request", current_name()))
        self.current.append(("", current_name()))

    async def ensured(self) -> None:
        await greenback.ensure_portal()
        await self.body()

    async def run_inside(self) -> None:
        await greenback.with_portal_run(self.body)

    def check(self) -> None:
        assert self.spans.lines() == [
            "request",
            "  outer",
            "    await Program.between",
            "      between",
            "        inner",
            "          await Program.leaf",
            "            driver",
            "            driver again",
            "          after",
        ]
        assert all(expected == found for expected, found in self.current), self.current
        assert len(self.current) == 5


@pytest.mark.parametrize("way", ["ensured", "run_inside"])
def test_parents_are_right_in_both_directions(spans: Spans, way: str) -> None:
    """Sync code inside awaited code inside sync code, all in one greenlet."""
    program = Program(spans)
    run: Callable[[], Coroutine[Any, Any, None]] = getattr(program, way)
    with spans.trace() as tracing:
        asyncio.run(run())
    program.check()
    assert (tracing.counts.awaits, tracing.counts.recorded, tracing.counts.dropped) == (2, 2, {})


@pytest.mark.parametrize("way", ["ensured", "run_inside"])
def test_under_trio(spans: Spans, way: str) -> None:
    program = Program(spans, trio.sleep)
    with spans.trace():
        trio.run(getattr(program, way))
    program.check()


def test_a_portal_for_a_sync_function(spans: Spans) -> None:
    program = Program(spans)

    async def request() -> None:
        with spans.span("request"):
            await greenback.with_portal_run_sync(program.inner)

    with spans.trace():
        asyncio.run(request())
    assert spans.lines() == [
        "request",
        "  inner",
        "    await Program.leaf",
        "      driver",
        "      driver again",
        "    after",
    ]


def test_a_portal_bestowed_on_a_task_that_runs(spans: Spans) -> None:
    program = Program(spans)

    async def main() -> None:
        async def later() -> None:
            await asyncio.sleep(0)
            await program.body()

        task = asyncio.create_task(later())
        greenback.bestow_portal(task)
        await task

    with spans.trace():
        asyncio.run(main())
    program.check()


def test_what_one_span_says(spans: Spans) -> None:
    async def slow_query() -> None:
        await asyncio.sleep(0.01)

    def load_order() -> None:
        greenback.await_(slow_query())  # the line that waits

    async def main() -> None:
        await greenback.ensure_portal()
        load_order()

    async def named() -> None:
        await asyncio.create_task(main(), name="order 17")

    with spans.trace():
        asyncio.run(named())
    span = spans.named("slow_query")
    here = "tests.test_spans_greenback.test_what_one_span_says.<locals>"
    assert span.name == f"await {here}.slow_query"
    assert attributes_of(span) == {
        "code.function.name": f"{here}.load_order",
        "code.file.path": __file__,
        "code.line.number": line_of(test_what_one_span_says, "the line that waits"),
        "greenprof.bridge": "greenback",
        "greenprof.task": "order 17",
        "greenprof.outcome": "returned",
    }
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time >= 9_000_000


def test_fifty_tasks_at_once_do_not_mix(spans: Spans) -> None:
    async def leaf(number: int) -> None:
        with spans.span(f"driver {number}"):
            await asyncio.sleep(number % 7 / 1000)
            await asyncio.sleep(0)

    def sync(number: int) -> None:
        for _ in range(3):
            greenback.await_(leaf(number))
            assert current_name() == f"request {number}"

    async def request(number: int) -> None:
        await greenback.ensure_portal()
        with spans.span(f"request {number}"):
            await asyncio.sleep(number % 5 / 1000)
            sync(number)

    async def main() -> None:
        await asyncio.gather(*map(request, range(50)))

    with spans.trace():
        asyncio.run(main())
    assert sorted(spans.trees()) == sorted(
        (f"request {number}", *("  await leaf", f"    driver {number}") * 3) for number in range(50)
    )


def test_async_context_managers_and_iterators_from_sync_code(spans: Spans) -> None:
    """What a context manager opens is current until it closes it, also in the sync code."""

    class Transaction:
        async def __aenter__(self) -> None:
            self.span = spans.span("transaction")
            self.span.__enter__()
            await asyncio.sleep(0)

        async def __aexit__(self, *_: object) -> None:
            await asyncio.sleep(0)
            self.span.__exit__(None, None, None)

    async def numbers() -> AsyncIterator[int]:
        for number in range(2):
            with spans.span(f"row {number}"):
                await asyncio.sleep(0)
            yield number

    current: list[str] = []

    def sync() -> None:
        with greenback.async_context(Transaction()):
            current.append(current_name())
            current.extend(current_name() for _ in greenback.async_iter(numbers()))
        current.append(current_name())

    async def main() -> None:
        await greenback.ensure_portal()
        with spans.span("request"):
            sync()
        current.append(current_name())

    with spans.trace():
        asyncio.run(main())
    assert current == ["transaction"] * 3 + ["request", ""]
    tree = spans.lines()
    assert tree[:3] == ["request", "  await Transaction.__aenter__", "    transaction"]
    assert [line for line in tree if "row" in line] == ["        row 0", "        row 1"]
    assert tree[-1] == "      await Transaction.__aexit__"
    assert tree.count("      await numbers") == 3  # two rows, and the end


def test_what_never_suspends_is_awaited_as_well(spans: Spans) -> None:
    """Nothing switches for it: it begins and ends in `await_` itself."""

    async def cached() -> int:
        with spans.span("cache"):
            return 17

    async def main() -> int:
        await greenback.ensure_portal()
        found: int = greenback.await_(cached())
        return found

    with spans.trace():
        assert asyncio.run(main()) == 17
    assert spans.lines() == ["await cached", "  cache"]
    assert attributes_of(spans.awaits()[0])["greenprof.outcome"] == "returned"


@pytest.mark.parametrize("suspends", [False, True])
def test_exceptions_and_cancellation(spans: Spans, suspends: bool) -> None:
    async def fails() -> None:
        if suspends:
            await asyncio.sleep(0)
        raise LookupError("no such order")

    async def hangs() -> None:
        await asyncio.sleep(60)

    def sync() -> None:
        with pytest.raises(LookupError, match="no such order"):
            greenback.await_(fails())
        greenback.await_(hangs())

    async def main() -> None:
        await greenback.ensure_portal()
        with spans.span("request"), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):  # noqa: ASYNC100  # it awaits in sync()
                sync()
        assert current_name() == ""

    with spans.trace():
        asyncio.run(main())
    assert spans.lines() == ["request", "  await fails", "  await hangs"]
    found = {
        short(one.name): (
            one.status.status_code.name,
            attributes_of(one)["greenprof.outcome"],
            attributes_of(one).get("error.type"),
        )
        for one in spans.awaits()
    }
    assert found == {
        "await fails": ("ERROR", "raised", "LookupError"),
        "await hangs": ("UNSET", "cancelled", None),
    }


def test_a_call_without_a_portal_fails_as_it_did(spans: Spans) -> None:
    """greenback's own error, and the awaitable is as it was left: nothing is made of it."""

    async def never() -> None:
        raise AssertionError("never runs")

    async def main() -> None:
        coroutine = never()
        with pytest.raises(RuntimeError, match="ensure_portal"):
            greenback.await_(coroutine)
        coroutine.close()

    with spans.trace():
        asyncio.run(main())
    assert {attributes_of(one)["greenprof.outcome"] for one in spans.awaits()} <= {"raised"}


def test_await_is_as_it_was_when_tracing_has_ended(direct: Spans) -> None:
    """Under every name that it was imported by, also while a call of it is open."""
    code = greenback.await_.__code__
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def leaf() -> int:
        inside.set()
        await go_on.wait()
        return 17

    async def request() -> int:
        await greenback.ensure_portal()
        found: int = greenback.await_(leaf())
        return found

    async def main() -> None:
        with direct.trace():
            task = asyncio.create_task(request())
            await inside.wait()
        assert greenback.await_.__code__ is code
        go_on.set()
        assert await task == 17
        assert await request() == 17

    asyncio.run(main())
    assert greenback.await_.__code__ is code


def test_tracing_that_starts_while_something_is_awaited(spans: Spans) -> None:
    """What was open is left out; what that code awaits next is there, below the right span."""
    inside, go_on = asyncio.Event(), asyncio.Event()
    program = Program(spans)

    async def between() -> None:
        inside.set()
        await go_on.wait()
        program.inner()

    async def request() -> None:
        await greenback.ensure_portal()
        with spans.span("request"):
            greenback.await_(between())
            program.inner()

    async def main() -> None:
        task = asyncio.create_task(request())
        await inside.wait()
        with spans.trace():
            go_on.set()
            await task

    asyncio.run(main())
    inner = [
        "  inner",
        "    await Program.leaf",
        "      driver",
        "      driver again",
        "    after",
    ]
    assert spans.lines() == ["request", *inner, *inner]


def test_the_keyword_that_await_takes(direct: Spans) -> None:
    """Its argument may be given by its name, as before."""

    async def leaf() -> int:
        await asyncio.sleep(0)
        return 17

    async def main() -> int:
        await greenback.ensure_portal()
        name = greenback.await_.__code__.co_varnames[0]
        call: Any = greenback.await_
        found: int = call(**{name: leaf()})
        return found

    with direct.trace():
        assert asyncio.run(main()) == 17
    assert direct.lines() == ["await leaf"]


def test_greenback_that_is_imported_after_tracing_began() -> None:
    """Programs start tracing first: what they import later is traced all the same."""
    from tests.running import run_python

    program = """
import asyncio, sys
from opentelemetry.sdk.trace import TracerProvider
import greenprof
assert "greenback" not in sys.modules
tracing = greenprof.start_tracing(TracerProvider(shutdown_on_exit=False))
import greenback
async def leaf():
    await asyncio.sleep(0)
async def main():
    await greenback.ensure_portal()
    greenback.await_(leaf())
asyncio.run(main())
print(tracing.counts.awaits, tracing.counts.recorded)
"""
    assert run_python("-c", program).stdout == "1 1\n"


def test_greenprof_is_unaware_of_other_loops_awaits(direct: Spans) -> None:
    """An ordinary ``await`` of a portal's task is no await of sync code: it makes no span."""

    async def main() -> None:
        await greenback.ensure_portal()
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    with direct.trace() as tracing:
        asyncio.run(main())
    assert isinstance(tracing, greenprof.Tracing)
    assert tracing.counts.awaits == 0
    assert direct.lines() == []
