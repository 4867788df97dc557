"""What is remembered of how stacks are put together: the same as what is found out anew."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import greenback
import pytest
from greenlet import getcurrent
from sqlalchemy.util import await_only, greenlet_spawn

import greenprof
from greenprof import bridges, rawstack, shapes, stacks
from greenprof.bridges import Bridge, Part, Role
from greenprof.rawstack import RawStack
from tests.raw_bridges import as_async, wait

Compose = Callable[..., None]


def whole(stack: RawStack) -> tuple[Any, ...]:
    return list(map(id, stack.frames)), stack.segments, stack.edges, stack.owner, stack.kinds()


class Comparing:
    """Puts each stack together twice, and notes where the two differ."""

    def __init__(self, once: Compose) -> None:
        self.once = once
        self.filled = 0
        self.different: list[tuple[Any, Any]] = []

    def __call__(self, stack: RawStack, *given: Any) -> None:
        anew = RawStack()
        parts, _, *others = given
        stacks._compose(anew, parts, *others)
        known = len(shapes.wholes)
        self.once(stack, *given)
        self.filled += stack.form != 0 and len(shapes.wholes) == known
        if whole(anew) != whole(stack):
            self.different.append((whole(anew), whole(stack)))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Comparing:
    comparing = Comparing(stacks._compose_once)
    monkeypatch.setattr(stacks, "_compose_once", comparing)
    return comparing


def spin(ms: float) -> None:
    until = time.perf_counter() + ms / 1e3
    while time.perf_counter() < until:
        pass


async def leaf(depth: int) -> None:
    if depth:
        await leaf(depth - 1)
    spin(1)
    await asyncio.sleep(0.001)
    spin(1)


def over(handing: Callable[[Any], Any], depth: int) -> Callable[[], None]:
    def sync(left: int = depth) -> None:
        if left:
            sync(left - 1)
            return
        spin(1)
        handing(leaf(depth))
        spin(1)

    return sync


async def by_sqlalchemy(depth: int) -> None:
    await greenlet_spawn(over(await_only, depth))


async def by_greenback(depth: int) -> None:
    await greenback.ensure_portal()
    over(greenback.await_, depth)()


async def by_nobody_known(depth: int) -> None:
    await as_async(over(wait, depth))


@pytest.mark.parametrize("way", [by_sqlalchemy, by_greenback, by_nobody_known])
def test_sampled_stacks_are_put_together_as_anew(
    way: Callable[[int], Any], compared: Comparing
) -> None:
    async def main() -> None:
        for _ in range(15):
            async with asyncio.TaskGroup() as group:
                for depth in range(5):
                    group.create_task(way(depth))

    with greenprof.Profiler(1000, awaits=False) as profiler:
        asyncio.run(main())
    assert compared.filled > 50
    assert not compared.different
    assert not profiler.profile.info.warnings


def running() -> RawStack:
    return stacks.running(sys._getframe(1), getcurrent(), None)[0]


def test_a_bridge_that_is_registered_later_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridges, "_bridges", dict(bridges._bridges))

    def crossing() -> RawStack:
        return running()

    before = [crossing(), crossing()]
    role = Role(Part.INTERNAL)
    path = __file__.replace("\\", "/")
    bridges.register_bridge(
        Bridge("one of ours", roles={(path.lstrip("/"), crossing.__qualname__): role})
    )
    try:
        after = crossing()
    finally:
        monkeypatch.undo()
        bridges._reindex()
    at = len(after.frames) - 1
    assert [at in stack.edges for stack in before] == [False, False]
    assert at in after.edges
    assert at not in crossing().edges


@contextmanager
def launcher(code: Any) -> Iterator[None]:
    rawstack.leave_out_above(code)
    try:
        yield
    finally:
        rawstack._launchers.remove(code)
        rawstack.launchers += 1  # as many changes


def test_what_runs_the_program_is_left_out_from_then_on() -> None:
    found: list[list[str]] = []

    def program() -> None:
        for _ in range(2):
            names = [frame.f_code.co_name for frame in running().frames]
            found.append(names[-3:] if "runs_it" in names else names)

    def runs_it() -> None:
        program()

    def in_thread() -> None:
        runs_it()
        with launcher(runs_it.__code__):
            runs_it()
        runs_it()

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    above = ["in_thread", "runs_it", "program"]
    assert found == [above, above, ["program"], ["program"], above, above]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MAX_SHAPES", 50)
    names: dict[str, Any] = {"running": running}
    for number in range(500):
        exec(f"def made_{number}(): return running()", names)
        stack = names[f"made_{number}"]()
        assert stack.frames[-1].f_code.co_name == f"made_{number}"
    assert 0 < len(shapes._shapes) <= 50
    assert 0 < len(shapes.wholes) <= 50
