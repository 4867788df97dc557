"""Bridges in both directions that greenprof has no description of, and greenletio, which is described."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet
from greenletio import async_
from greenletio import await_ as greenletio_await

import greenprof
from greenprof.profiles import State
from tests import raw_bridges
from tests.raw_bridges import LoopBelow, as_async, wait
from tests.shapes import both_ways, ended, following, shape, until_waiting

greenletio_loop = raw_bridges.greenletio_loop

Here = Callable[[str], None]


def recording(at: dict[str, list[str]]) -> Here:
    def here(place: str) -> None:
        at[place] = [name for name in shape() if not name.endswith("here")]

    return here


async def leaf(here: Here) -> None:
    here("awaited")
    await asyncio.sleep(0.3)
    here("awaited again")


def sync(here: Here) -> None:
    here("sync")
    wait(leaf(here))
    here("sync again")


async def middle(here: Here) -> None:
    await as_async(sync, here)


def outer(here: Here) -> None:
    wait(middle(here))


async def endpoint(here: Here) -> None:
    await as_async(outer, here)


def test_a_loop_above_sync_code_of_an_unknown_bridge() -> None:
    """Nothing but the switches tells: while they are followed, stacks are whole everywhere."""
    at: dict[str, list[str]] = {}

    async def main() -> None:
        task = asyncio.create_task(endpoint(recording(at)))
        await until_waiting(task)
        at["suspended"] = shape(task)
        at["from a thread"] = await asyncio.to_thread(shape, task)
        await task

    with following(True):
        asyncio.run(main())
    in_sync = ["endpoint", "~as_async", "|outer", "~wait", "|*middle", "~as_async", "|sync"]
    in_leaf = [*in_sync, "~wait", "|*leaf"]
    assert at == {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "from a thread": [*in_leaf, "*sleep"],
        "awaited again": ["main", *in_leaf],
        "sync again": ["main", *in_sync],
    }


def test_an_unknown_bridge_that_nobody_followed() -> None:
    """The stack is what Python shows: the sync code is missing, and nothing is made up for it."""
    at: dict[str, list[str]] = {}

    async def main() -> None:
        task = asyncio.create_task(endpoint(recording(at)))
        await until_waiting(task)
        at["suspended"] = shape(task)
        await ended(task)

    asyncio.run(main())
    in_sync = ["endpoint", "as_async", "middle", "~as_async", "|sync"]
    in_leaf = ["endpoint", "as_async", "middle", "as_async", "leaf"]
    assert at == {"sync": in_sync, "awaited": in_leaf, "suspended": [*in_leaf, "sleep"]}


def test_a_bridge_that_makes_a_coroutine_for_each_step() -> None:
    """The same greenlet is awaited for in one frame after another: only the last one counts."""
    at: dict[str, list[str]] = {}
    here = recording(at)

    def work() -> None:
        for number in range(3):
            wait(one_step(number))

    async def one_step(number: int) -> None:
        here(f"awaited {number}")

    async def drive(child: greenlet) -> None:
        while await step(child):
            pass

    async def step(child: greenlet) -> bool:
        handed = child.switch()
        if handed is not None:
            await handed
        return not child.dead

    with following(True):
        asyncio.run(drive(greenlet(work)))
    in_step = ["drive", "~step", "|work", "~wait", "|*one_step"]
    assert at == {f"awaited {number}": in_step for number in range(3)}


def test_a_loop_below_sync_code_of_an_unknown_bridge() -> None:
    """The sync code is the root, running and suspended; its greenlet and the task are one stack."""
    at: dict[str, list[str]] = {}
    here = recording(at)
    labels: list[tuple[str, str]] = []

    async def probe(task: asyncio.Task[Any]) -> None:
        await asyncio.sleep(0.002)
        at["suspended"] = shape(task)
        stack = greenprof.capture_stack(main)
        at["greenlet"] = shape(stack)
        assert stack.state is State.AWAITING
        labels.append((stack.kind, stack.task))
        at["probe"] = shape()

    async def leaf_below() -> None:
        here("awaited")
        task = asyncio.current_task()
        assert task is not None
        other = asyncio.create_task(probe(task))
        await asyncio.sleep(0.3)
        await other

    def repository(loop: LoopBelow) -> None:
        here("sync")
        loop.wait(leaf_below())
        here("sync again")

    main = getcurrent()
    with following(True), LoopBelow() as loop:
        repository(loop)
    tests_own = at["sync"][:-1]
    assert tests_own[-1] == "test_a_loop_below_sync_code_of_an_unknown_bridge"
    in_sync = [*tests_own, "repository"]
    in_leaf = [*in_sync, "~LoopBelow.wait", "|~LoopBelow.serve", "*leaf_below"]
    assert at == {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "greenlet": [*in_leaf, "*sleep"],
        # Nobody waits for this one: it is not the sync code's.
        "probe": ["probe"],
        "sync again": in_sync,
    }
    assert labels == [("thread", "MainThread")]


# greenletio, both ways.


def greenletio_sync(here: Here) -> None:
    here("sync")
    greenletio_await(leaf(here))


async def greenletio_middle(here: Here) -> None:
    await async_(greenletio_sync)(here)


@async_  # type: ignore[untyped-decorator]
def greenletio_outer(here: Here) -> None:
    greenletio_await(greenletio_middle(here))


@both_ways
def test_greenletio_under_a_loop(follow: bool) -> None:
    at: dict[str, list[str]] = {}

    async def start() -> None:
        await greenletio_outer(recording(at))

    async def main() -> None:
        task = asyncio.create_task(start())
        await until_waiting(task)
        at["suspended"] = shape(task)
        await ended(task)

    with following(follow):
        asyncio.run(main())
    bridge = ["~decorator", "~run"]
    in_sync = ["start", *bridge, "|greenletio_outer", "~await_", "|*greenletio_middle", *bridge]
    in_sync.append("|greenletio_sync")
    in_leaf = [*in_sync, "~await_", "|*leaf"]
    assert at == {"sync": in_sync, "awaited": in_leaf, "suspended": [*in_leaf, "*sleep"]}


@both_ways
def test_greenletio_with_its_loop_below(
    follow: bool, greenletio_loop: asyncio.AbstractEventLoop
) -> None:
    at: dict[str, list[str]] = {}
    here = recording(at)

    async def probe(task: asyncio.Task[Any]) -> None:
        await asyncio.sleep(0.002)
        at["suspended"] = shape(task)
        at["greenlet"] = shape(main)

    async def leaf_below() -> None:
        here("awaited")
        task = asyncio.current_task()
        assert task is not None
        other = asyncio.create_task(probe(task))
        await asyncio.sleep(0.3)
        await other

    def repository() -> None:
        here("sync")
        greenletio_await(leaf_below())
        here("sync again")

    main = getcurrent()
    with following(follow):
        repository()
        task = next(iter(asyncio.all_tasks(greenletio_loop)))
        stack = greenprof.capture_stack(task)
    in_sync = at["sync"]
    in_leaf = [*in_sync, "~await_", "|~async_run", "*leaf_below"]
    assert at == {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "greenlet": [*in_leaf, "*sleep"],
        "sync again": in_sync,
    }
    # The loop's own task has handed control to the sync code: it is current, and does not run.
    assert shape(stack)[-1] == "~async_run"
    assert stack.state is State.BLOCKED
