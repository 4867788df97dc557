"""Spans over bridges that greenprof has no description of, in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from opentelemetry import context as context_api

from tests import span_trees
from tests.nested_spans import TREE, Program
from tests.raw_bridges import LoopBelow, as_async, wait
from tests.span_trees import Spans, attributes_of, current_name, short

spans = span_trees.spans


def test_a_loop_above_sync_code(spans: Spans) -> None:
    """The greenlets' contexts begin empty: greenprof carries the span over, and back again."""
    program = Program(spans, as_async, wait)
    with spans.trace() as tracing:
        asyncio.run(program.endpoint())
    assert spans.lines() == TREE
    program.check()
    assert (tracing.counts.awaits, tracing.counts.recorded, tracing.counts.dropped) == (3, 3, {})


def test_what_one_span_says(spans: Spans) -> None:
    async def slow_query() -> None:
        await asyncio.sleep(0.01)

    def load_order() -> None:
        wait(slow_query())

    async def main() -> None:
        await asyncio.create_task(as_async(load_order), name="order 17")

    with spans.trace():
        asyncio.run(main())
    span = spans.named("slow_query")
    assert span.name.startswith("await tests.test_spans_generic.")
    # The bridge is the program's own here: its innermost line is the one in `wait`.
    assert attributes_of(span) == {
        "code.function.name": "tests.raw_bridges.wait",
        "code.file.path": wait.__code__.co_filename,
        "code.line.number": wait.__code__.co_firstlineno + 3,
        "greenprof.bridge": "generic",
        "greenprof.task": "order 17",
        "greenprof.outcome": "returned",
    }


def test_fifty_requests_at_once_do_not_mix(spans: Spans) -> None:
    async def leaf(number: int) -> None:
        with spans.span(f"driver {number}"):
            await asyncio.sleep(number % 7 / 1000)
            await asyncio.sleep(0)

    def sync(number: int) -> None:
        assert current_name() == f"request {number}"
        for at in range(3):
            with spans.span(f"sync {number}.{at}"):
                wait(leaf(number))
                assert current_name() == f"sync {number}.{at}"

    async def request(number: int) -> None:
        with spans.span(f"request {number}"):
            await asyncio.sleep(number % 5 / 1000)
            await as_async(sync, number)
            assert current_name() == f"request {number}"

    async def main() -> None:
        await asyncio.gather(*map(request, range(50)))

    with spans.trace():
        asyncio.run(main())
    assert sorted(spans.trees()) == sorted(
        (
            f"request {number}",
            *(
                line
                for at in range(3)
                for line in (f"  sync {number}.{at}", "    await leaf", f"      driver {number}")
            ),
        )
        for number in range(50)
    )


def test_other_context_values_are_carried_as_well(spans: Spans) -> None:
    """Baggage, say; but each side keeps what it attached itself."""
    key = context_api.create_key("tenant")
    seen: list[Any] = []

    async def leaf() -> None:
        seen.append(context_api.get_value(key))
        await asyncio.sleep(0)

    def sync() -> None:
        seen.append(context_api.get_value(key))
        token = context_api.attach(context_api.set_value(key, "inner"))
        wait(leaf())
        seen.append(context_api.get_value(key))
        context_api.detach(token)
        seen.append(context_api.get_value(key))

    async def main() -> None:
        token = context_api.attach(context_api.set_value(key, "outer"))
        await as_async(sync)
        seen.append(context_api.get_value(key))
        context_api.detach(token)

    with spans.trace():
        asyncio.run(main())
    assert seen == ["outer", "inner", "inner", "outer", "outer"]


def test_the_bridges_own_code_between_awaits(spans: Spans) -> None:
    """What the loop's side does after an await, before it goes back, is the caller's again."""

    async def leaf() -> None:
        await asyncio.sleep(0)

    def sync() -> None:
        with spans.span("sync"):
            wait(leaf())
            wait(leaf())

    async def drives() -> None:
        child = greenlet(sync)
        handed = child.switch()
        while not child.dead:
            await handed
            handed = child.switch()
            with spans.span("bridge"):
                await asyncio.sleep(0)
        with spans.span("end"):
            pass

    async def main() -> None:
        with spans.span("request"):
            await drives()

    with spans.trace():
        asyncio.run(main())
    # The first of its spans comes when the second await has begun, the other one after the sync code.
    assert spans.lines() == [
        "request",
        "  sync",
        "    await leaf",
        "    await leaf",
        "      bridge",
        "  bridge",
        "  end",
    ]


def test_a_bridge_that_makes_a_coroutine_for_each_step(spans: Spans) -> None:
    async def one_step(number: int) -> None:
        with spans.span(f"step {number}"):
            await asyncio.sleep(0)

    def work() -> None:
        with spans.span("work"):
            for number in range(3):
                wait(one_step(number))

    async def step(child: greenlet) -> bool:
        handed = child.switch()
        if handed is not None:
            await handed
        return not child.dead

    async def drive() -> None:
        child = greenlet(work)
        with spans.span("request"):
            while await step(child):
                pass

    with spans.trace():
        asyncio.run(drive())
    assert spans.lines() == [
        "request",
        "  work",
        "    await one_step",
        "      step 0",
        "    await one_step",
        "      step 1",
        "    await one_step",
        "      step 2",
    ]


def test_exceptions_and_cancellation(spans: Spans) -> None:
    """Thrown into the greenlet by the bridge: what it was is on the span."""

    class OrderError(Exception):
        pass

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OrderError

    async def hangs() -> None:
        await asyncio.sleep(60)

    def sync() -> None:
        with pytest.raises(OrderError):
            wait(fails())
        wait(hangs())

    async def main() -> None:
        with spans.span("request"), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await as_async(sync)
        assert current_name() == ""

    with spans.trace():
        asyncio.run(main())
    assert spans.lines() == ["request", "  await fails", "  await hangs"]
    found = {
        short(one.name): (
            one.status.status_code.name,
            attributes_of(one)["greenprof.outcome"],
            str(attributes_of(one).get("error.type")).rpartition(".")[2],
        )
        for one in spans.awaits()
    }
    assert found == {
        "await fails": ("ERROR", "raised", "OrderError"),
        "await hangs": ("UNSET", "cancelled", "None"),
    }


def test_greenlets_that_await_nothing_make_no_spans(spans: Spans) -> None:
    """Sync code that switches to and fro; a greenlet begins with the context of who started it."""
    seen: list[str] = []

    def numbers() -> None:
        for number in range(3):
            seen.append(current_name())
            main.switch(number)

    main = getcurrent()
    with spans.trace() as tracing, spans.span("request"):
        child = greenlet(numbers)
        assert [child.switch() for _ in range(3)] == [0, 1, 2]
        child.switch()
        assert current_name() == "request"
    assert seen == ["request"] * 3
    assert spans.lines() == ["request"]
    assert tracing.counts.awaits == 0


def test_a_greenlet_that_a_coroutine_switches_to_and_from(spans: Spans) -> None:
    """What yields plain values cannot be told from what hands awaitables over, until it ends: then the
    coroutine's own span is current again."""
    current: list[str] = []

    def numbers() -> None:
        parent = getcurrent().parent
        assert parent is not None
        with spans.span("numbers"):
            for number in range(3):
                parent.switch(number)

    async def main() -> None:
        with spans.span("request"):
            child = greenlet(numbers)
            for _ in range(3):
                child.switch()
                await asyncio.sleep(0)
                with spans.span("use"):
                    pass
            child.switch()
            current.append(current_name())
        current.append(current_name())

    with spans.trace():
        asyncio.run(main())
    assert current == ["request", ""]
    assert spans.lines() == ["request", "  numbers", *["    await ?", "      use"] * 3]


def test_a_loop_below_sync_code(spans: Spans) -> None:
    """The loop's task lives on between awaits: each await has the span current at its own time."""
    current: list[str] = []

    async def leaf(number: int) -> None:
        with spans.span(f"driver {number}"):
            await asyncio.sleep(0.001)
        await asyncio.gather(other(number))

    async def other(number: int) -> None:
        with spans.span(f"task {number}"):
            await asyncio.sleep(0)

    def repository(loop: LoopBelow, number: int) -> None:
        with spans.span(f"repository {number}"):
            loop.wait(leaf(number))
            current.append(current_name())

    with LoopBelow() as loop, spans.trace():
        for number in range(2):
            repository(loop, number)
            current.append(current_name())
        loop.wait(leaf(2))
        current.append(current_name())
    assert current == ["repository 0", "", "repository 1", "", ""]
    assert spans.lines() == [
        "repository 0",
        "  await leaf",
        "    driver 0",
        "    task 0",
        "repository 1",
        "  await leaf",
        "    driver 1",
        "    task 1",
        "await leaf",
        "  driver 2",
        "  task 2",
    ]


def test_exceptions_from_a_loop_below(spans: Spans) -> None:
    """Thrown into the sync code by the loop's greenlet, which goes on serving."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("no such order")

    class Throwing(LoopBelow):
        async def serve(self) -> None:
            handed = self.main.switch()
            while handed is not None:
                try:
                    value = await handed
                except LookupError as error:
                    handed = self.main.throw(error)
                else:
                    handed = self.main.switch(value)

    with Throwing() as loop, spans.trace(), spans.span("repository"):
        with pytest.raises(LookupError, match="no such order"):
            loop.wait(fails())
        assert current_name() == "repository"
    assert spans.lines() == ["repository", "  await fails"]
    (span,) = spans.awaits()
    assert attributes_of(span)["greenprof.outcome"] == "raised"
    assert attributes_of(span)["error.type"] == "LookupError"
