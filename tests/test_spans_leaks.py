"""Nothing that belongs to an await outlives it: spans, contexts, memory, after 100,000 of them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import ref

import greenback
import greenlet
import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from sqlalchemy.util import greenlet_spawn

import greenprof
from tests import span_trees
from tests.span_trees import Spans, await_spans_alive
from tests.sqlalchemy_programs import await_

direct = span_trees.direct


async def leaf() -> None:
    await asyncio.sleep(0)


async def hangs() -> None:
    await asyncio.sleep(60)


class Watching:
    """Weak references to the spans that were current in what was awaited."""

    def __init__(self) -> None:
        self.seen: list[ref[Any]] = []

    async def leaf(self) -> None:
        self.seen.append(ref(trace_api.get_current_span()))
        await asyncio.sleep(0)


def test_no_span_outlives_its_await() -> None:
    """Not a single one, whether it was recorded, left out as too short, or cancelled."""
    provider = TracerProvider(shutdown_on_exit=False)
    context = Watching()

    async def times_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await greenlet_spawn(lambda: await_(hangs()))

    for minimum in (0.0, 60.0):
        with greenprof.trace(provider, min_duration=minimum):
            asyncio.run(greenlet_spawn(lambda: [await_(context.leaf()) for _ in range(100)]))
            asyncio.run(times_out())
    gc.collect()
    alive = [found for one in context.seen if type(found := one()).__name__ == "AwaitSpan"]
    assert len(context.seen) == 200
    assert alive == []
    span_trees.nothing_left()


class Counting(SpanProcessor):
    """Keeps nothing."""

    def __init__(self) -> None:
        self.ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


async def done() -> None:
    pass


async def over_sqlalchemy(times: int) -> None:
    def sync(number: int) -> None:
        for _ in range(number):
            await_(done())

    await greenlet_spawn(sync, times // 2)
    # Greenlets and tasks that come and go.
    for _ in range(times // 100):
        await asyncio.gather(*(greenlet_spawn(sync, 1) for _ in range(50)))


async def over_raw_greenlets(times: int) -> None:
    """Their contexts are their own, and greenprof writes to them."""

    def sync(number: int) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        for _ in range(number):
            parent.switch(done())

    async def as_async(number: int) -> None:
        child = greenlet.greenlet(sync)
        handed = child.switch(number)
        while not child.dead:
            handed = child.switch(await handed)

    await as_async(times // 2)
    for _ in range(times // 100):
        await asyncio.gather(*(as_async(1) for _ in range(50)))


async def over_greenback(times: int) -> None:
    def sync(number: int) -> None:
        for _ in range(number):
            greenback.await_(done())

    async def as_task(number: int) -> None:
        await greenback.ensure_portal()
        sync(number)

    await as_task(times // 2)
    for _ in range(times // 100):
        await asyncio.gather(*(as_task(1) for _ in range(50)))


@pytest.mark.parametrize("program", [over_sqlalchemy, over_raw_greenlets, over_greenback])
@pytest.mark.parametrize("minimum", [0.0, 60.0], ids=["recorded", "too short"])
def test_a_hundred_thousand_awaits_leave_nothing(
    program: Callable[[int], Coroutine[Any, Any, None]], minimum: float
) -> None:
    """After the first ones, memory and the number of objects stay where they are."""
    processor = Counting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)

    def measure(times: int) -> tuple[int, int]:
        asyncio.run(program(times))
        gc.collect()
        gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects())

    with greenprof.trace(provider, min_duration=minimum) as tracing:
        for _ in range(2):
            blocks, objects = measure(5_000)
        blocks_after, objects_after = measure(100_000)
        alive = await_spans_alive()
    counts = tracing.counts
    assert counts.awaits == 110_000
    assert processor.ended == counts.recorded == (110_000 if minimum == 0 else 0)
    assert counts.dropped == {}
    assert alive == 0
    # A leak of anything at all with each await, or with each hundredth, would be thousands.
    assert blocks_after - blocks < 1_000
    assert objects_after - objects < 300
    span_trees.nothing_left()


def test_contexts_that_end_while_an_await_is_open(direct: Spans) -> None:
    """A chain of awaits, each begun inside of what the last one left behind, does not grow."""
    depth: list[int] = []

    async def enters(number: int) -> Any:
        manager = direct.span(f"kept {number}")
        manager.__enter__()
        return manager

    async def leaves(manager: Any) -> None:
        manager.__exit__(None, None, None)

    def chain() -> int:
        from greenprof.spans.contexts import SPAN_KEY, VARIABLE
        from greenprof.spans.span import AwaitSpan

        assert VARIABLE is not None
        count, current = 0, VARIABLE.get(None)
        while current is not None:
            span: Any = current.get(SPAN_KEY)
            current = span.outer if type(span) is AwaitSpan else None
            count += 1
        return count

    def sync() -> None:
        for number in range(200):
            manager = await_(enters(number))
            await_(leaf())
            await_(leaves(manager))
            depth.append(chain())

    with direct.trace():
        asyncio.run(greenlet_spawn(sync))
    assert max(depth) <= 2
    assert await_spans_alive() == 0
