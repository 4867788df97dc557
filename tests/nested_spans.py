"""A program three bridges deep, with spans on both sides of each, over any bridge that is two functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.span_trees import Spans, current_name

TREE = [
    "request",
    "  outer",
    "    await Program.between",
    "      between",
    "        inner",
    "          await Program.leaf",
    "            driver",
    "            driver again",
    "          after",
    "    await asyncio.tasks.sleep",
]


class Program:
    """Notes after each await which span is current.

    `start` runs a sync function from a coroutine, and `wait` is what that calls to await something.
    """

    def __init__(
        self,
        spans: Spans,
        start: Callable[[Callable[[], None]], Awaitable[Any]],
        wait: Callable[[Awaitable[Any]], Any],
    ) -> None:
        self.spans = spans
        self.start = start
        self.wait = wait
        self.current: list[tuple[str, str]] = []

    async def leaf(self) -> None:
        with self.spans.span("driver"):
            await asyncio.sleep(0.001)
        with self.spans.span("driver again"):
            await asyncio.sleep(0)

    def inner(self) -> None:
        with self.spans.span("inner"):
            self.wait(self.leaf())
            self.current.append(("inner", current_name()))
            with self.spans.span("after"):
                pass

    async def between(self) -> None:
        with self.spans.span("between"):
            await self.start(self.inner)
            self.current.append(("between", current_name()))

    def outer(self) -> None:
        with self.spans.span("outer"):
            self.wait(self.between())
            self.wait(asyncio.sleep(0))
            self.current.append(("outer", current_name()))

    async def endpoint(self) -> None:
        with self.spans.span("request"):
            await self.start(self.outer)
            self.current.append(("request", current_name()))
        self.current.append(("", current_name()))

    def check(self) -> None:
        """Fail where another span was current than the one that was opened there."""
        assert all(expected == found for expected, found in self.current), self.current
        assert len(self.current) == 5
