"""Programs made at random over all bridges, nested in one another: every span has the parent that its program says."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import greenback
import pytest
import uvloop
from greenlet import getcurrent, greenlet
from greenletio import async_
from greenletio import await_ as greenletio_await
from sqlalchemy.util import greenlet_spawn

from tests import span_trees
from tests.span_trees import Spans, current_name, ids_of, scope_of
from tests.sqlalchemy_programs import await_

direct = span_trees.direct
spans = span_trees.spans

Wait = Callable[[Awaitable[Any]], Any]
Run = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


class Fault(Exception):  # noqa: N818  # no error: the programs mean it
    """Raised by some, and caught by whoever called them."""


async def over_sqlalchemy(function: Callable[[], None]) -> None:
    await greenlet_spawn(function)


async def over_greenback(function: Callable[[], None]) -> None:
    await greenback.with_portal_run_sync(function)


async def over_greenletio(function: Callable[[], None]) -> None:
    await async_(function)()


async def over_raw_greenlets(function: Callable[[], None]) -> None:
    child = greenlet(function)
    handed = child.switch()
    while not child.dead:
        try:
            value = await handed
        except Fault as error:
            handed = child.throw(error)
        else:
            handed = child.switch(value)


def wait_raw(awaitable: Awaitable[Any]) -> Any:
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(awaitable)


BRIDGES: list[tuple[Run, Wait]] = [
    (over_sqlalchemy, await_),
    (over_greenback, greenback.await_),
    (over_greenletio, greenletio_await),
    (over_raw_greenlets, wait_raw),
]


@dataclass
class Node:
    """A piece of a program: it opens a span, runs the pieces below it, and may fail at the end."""

    name: str
    below: list[Node] = field(default_factory=list)
    pause: float = 0.0
    fails: bool = False
    together: bool = False
    bridge: int | None = None


class Program:
    """One tree of pieces, and what is expected of its spans: the parent of each, across an await or not."""

    def __init__(self, spans: Spans, name: str, seed: int, size: int) -> None:
        self._spans = spans
        self._made = random.Random(seed)
        self._left = size
        self.parents: dict[str, tuple[str | None, bool]] = {name: (None, False)}
        self.awaits = 0
        self._root = self._node(name, 0)

    def _node(self, name: str, depth: int) -> Node:
        made = self._made
        node = Node(
            name,
            pause=made.choice((0.0, 0.0, made.random() / 500)),
            fails=depth > 0 and made.random() < 0.15,
            together=made.random() < 0.3,
        )
        while self._left > 0 and depth < 12 and len(node.below) < 4 and made.random() < 0.8:
            self._left -= 1
            below = self._node(f"{name}.{len(node.below)}", depth + 1)
            below.bridge = made.choice((None, *range(len(BRIDGES))))
            node.below.append(below)
        return node

    def _expect(self, node: Node, above: str, awaited: bool) -> None:
        self.parents[node.name] = above, awaited
        self.awaits += awaited

    async def run(self) -> None:
        assert current_name() == ""
        await self._in_async(self._root)
        assert current_name() == ""

    async def _in_async(self, node: Node) -> None:
        with self._spans.span(node.name):
            await asyncio.sleep(node.pause)
            if node.together:
                await asyncio.gather(*(self._start(one, node.name) for one in node.below))
            else:
                for one in node.below:
                    await self._start(one, node.name)
                    assert current_name() == node.name
            await asyncio.sleep(0)
            assert current_name() == node.name
            if node.fails:
                raise Fault(node.name)

    async def _start(self, node: Node, above: str) -> None:
        self._expect(node, above, awaited=False)
        try:
            if node.bridge is None:
                await self._in_async(node)
            else:
                run, wait = BRIDGES[node.bridge]
                await run(lambda: self._in_sync(node, wait))
        except Fault as fault:
            if str(fault) != node.name:
                raise

    def _in_sync(self, node: Node, wait: Wait) -> None:
        with self._spans.span(node.name):
            for one in node.below:
                awaited = one.bridge is not None
                self._expect(one, node.name, awaited)
                try:
                    if awaited:
                        wait(self._in_async(one))
                    else:
                        self._in_sync(one, wait)
                except Fault as fault:
                    if str(fault) != one.name:
                        raise
                assert current_name() == node.name
            if node.fails:
                raise Fault(node.name)


def check(spans: Spans, programs: list[Program]) -> None:
    by_ids = {ids_of(one): one for one in spans.finished}
    found: dict[str, tuple[str | None, bool]] = {}
    for one in spans.finished:
        if scope_of(one) == "greenprof":
            continue
        parent = None if one.parent is None else by_ids[one.parent.trace_id, one.parent.span_id]
        awaited = parent is not None and scope_of(parent) == "greenprof"
        if awaited:
            assert parent is not None
            assert parent.parent is not None
            parent = by_ids[parent.parent.trace_id, parent.parent.span_id]
        assert one.name not in found
        found[one.name] = None if parent is None else parent.name, awaited
    expected: dict[str, tuple[str | None, bool]] = {}
    for program in programs:
        expected |= program.parents
    assert found == expected
    assert len(spans.awaits()) == sum(program.awaits for program in programs)


@pytest.mark.parametrize("minimum", [0.0, 60.0], ids=["all", "only parents"])
@pytest.mark.parametrize("seed", range(8))
def test_twenty_programs_at_once(direct: Spans, seed: int, minimum: float) -> None:
    """Each await has a child here, so that nothing changes where only parents are recorded."""
    programs = [Program(direct, f"{n}", seed * 1000 + n, 60) for n in range(20)]

    async def main() -> None:
        await asyncio.gather(*(program.run() for program in programs))

    with direct.trace(min_duration=minimum) as tracing:
        asyncio.run(main())
    check(direct, programs)
    assert tracing.counts.dropped == {}
    assert sum(program.awaits for program in programs) > 100


def test_however_they_are_recorded(spans: Spans) -> None:
    programs = [Program(spans, f"{n}", 77 + n, 60) for n in range(20)]

    async def main() -> None:
        await asyncio.gather(*(program.run() for program in programs))

    with spans.trace():
        asyncio.run(main())
    check(spans, programs)


def test_on_another_loop(direct: Spans) -> None:
    programs = [Program(direct, f"{n}", 99 + n, 60) for n in range(20)]

    async def main() -> None:
        await asyncio.gather(*(program.run() for program in programs))

    with direct.trace():
        uvloop.run(main())
    check(direct, programs)


def test_in_four_threads_at_once(direct: Spans) -> None:
    programs = [Program(direct, f"{n}", 123 + n, 60) for n in range(20)]
    together = threading.Barrier(4)
    done: list[int] = []

    def run(mine: list[Program]) -> None:
        async def main() -> None:
            await asyncio.gather(*(program.run() for program in mine))

        together.wait(10)
        asyncio.run(main())
        done.append(len(mine))

    with direct.trace():
        threads = [threading.Thread(target=run, args=(programs[at::4],)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert done == [5] * 4
    check(direct, programs)
