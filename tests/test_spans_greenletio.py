"""Spans over greenletio's bridge, under a loop and with its own loop below sync code."""

from __future__ import annotations

import asyncio

from greenletio import async_
from greenletio import await_ as greenletio_await

from tests import raw_bridges, span_trees
from tests.span_trees import Spans, attributes_of, current_name, line_of

spans = span_trees.spans
greenletio_loop = raw_bridges.greenletio_loop


class Greenletio:
    def __init__(self, spans: Spans) -> None:
        self.spans = spans

    async def leaf(self) -> None:
        with self.spans.span("driver"):
            await asyncio.sleep(0.001)

    def inner(self) -> None:
        with self.spans.span("inner"):
            greenletio_await(self.leaf())  # the line that waits

    async def between(self) -> None:
        with self.spans.span("between"):
            await async_(self.inner)()

    def outer(self) -> None:
        with self.spans.span("outer"):
            greenletio_await(self.between())
            with self.spans.span("after"):
                pass

    async def endpoint(self) -> None:
        with self.spans.span("request"):
            await async_(self.outer)()
        assert current_name() == ""


def test_greenletio_under_a_loop(spans: Spans) -> None:
    program = Greenletio(spans)
    with spans.trace():
        asyncio.run(program.endpoint())
    assert spans.lines() == [
        "request",
        "  outer",
        "    await Greenletio.between",
        "      between",
        "        inner",
        "          await Greenletio.leaf",
        "            driver",
        "    after",
    ]
    said = attributes_of(spans.named("leaf"))
    assert said["greenprof.bridge"] == "greenletio"
    assert said["code.function.name"] == "tests.test_spans_greenletio.Greenletio.inner"
    assert said["code.line.number"] == line_of(Greenletio.inner, "the line that waits")


def test_greenletio_fifty_times_at_once(spans: Spans) -> None:
    program = Greenletio(spans)

    async def main() -> None:
        await asyncio.gather(*(program.endpoint() for _ in range(50)))

    with spans.trace():
        asyncio.run(main())
    trees = spans.trees()
    assert len(trees) == 50
    assert len(set(trees)) == 1
    assert len(trees[0]) == 8


def test_greenletio_with_its_loop_below(
    spans: Spans, greenletio_loop: asyncio.AbstractEventLoop
) -> None:
    """Its loop's greenlet stays from one await to the next, and keeps nothing of the first one."""
    program = Greenletio(spans)
    with spans.trace():
        for number in range(2):
            with spans.span(f"request {number}"):
                program.inner()
                assert current_name() == f"request {number}"
        greenletio_await(program.leaf())
    below = ["  inner", "    await Greenletio.leaf", "      driver"]
    assert spans.lines() == [
        "request 0",
        *below,
        "request 1",
        *below,
        "await Greenletio.leaf",
        "  driver",
    ]
    assert {attributes_of(one)["greenprof.bridge"] for one in spans.awaits()} == {"greenletio"}
