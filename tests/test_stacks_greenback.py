"""greenback: a portal runs the whole task in a greenlet, and awaits step by step inside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import greenback
import pytest
from greenlet import getcurrent

import greenprof
from greenprof.profiles import State
from tests.shapes import both_ways, ended, following, shape, until_waiting

Here = Callable[[str], None]

ENSURED = ["~greenback_shim", "~_greenback_shim", "|~trampoline"]


async def leaf(here: Here) -> None:
    here("awaited")
    await asyncio.sleep(0.1)
    here("awaited again")


def sync(here: Here) -> None:
    here("sync")
    greenback.await_(leaf(here))
    here("sync again")


async def ordinary(here: Here) -> None:
    here("ordinary")
    await asyncio.sleep(0.1)
    here("ordinary again")


async def body(here: Here) -> None:
    await ordinary(here)
    sync(here)


async def ensured(here: Here) -> None:
    await greenback.ensure_portal()
    await body(here)


async def run_inside(here: Here) -> None:
    await greenback.with_portal_run(body, here)


async def bestowed(here: Here) -> None:
    await asyncio.sleep(0)
    await body(here)


@both_ways
@pytest.mark.parametrize(
    ("function", "root"),
    [
        (ensured, [*ENSURED, "ensured"]),
        (bestowed, [*ENSURED, "bestowed"]),
        (run_inside, ["run_inside", "~with_portal_run", "~_greenback_shim", "|~trampoline"]),
    ],
)
def test_one_place_has_one_stack_running_and_suspended(
    follow: bool, function: Callable[[Here], Coroutine[Any, Any, None]], root: list[str]
) -> None:
    """In an ordinary ``await`` as in `await_`, by the loop's own task as by another one."""
    at: dict[str, list[str]] = {}
    states: set[State | None] = set()

    def here(place: str) -> None:
        at[place] = [name for name in shape() if not name.endswith("here")]

    async def main() -> None:
        task = asyncio.create_task(function(here))
        if function is bestowed:
            greenback.bestow_portal(task)
        for place in ("ordinary", "awaited"):
            while place not in at:  # noqa: ASYNC110  # an event would be awaited in between
                await asyncio.sleep(0)
            stack = greenprof.capture_stack(task)
            at[f"suspended in {place}"] = shape(stack)
            states.add(stack.state)
        while not task.done():  # noqa: ASYNC110  # who awaits it would be on its stack
            await asyncio.sleep(0.001)
        await task

    with following(follow):
        asyncio.run(main())
    in_body = [*root, "body"]
    in_sync = [*in_body, "sync"]
    in_leaf = [*in_sync, "~await_", "*leaf"]
    assert at == {
        "ordinary": [*in_body, "ordinary"],
        "suspended in ordinary": [*in_body, "ordinary", "sleep"],
        "ordinary again": [*in_body, "ordinary"],
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended in awaited": [*in_leaf, "*sleep"],
        "awaited again": in_leaf,
        "sync again": in_sync,
    }
    assert states == {State.AWAITING}


@both_ways
def test_with_portal_run_sync(follow: bool) -> None:
    """The greenlet is the sync function's only: no trampoline in it."""
    at: dict[str, list[str]] = {}

    def here(place: str) -> None:
        at[place] = [name for name in shape() if not name.endswith("here")]

    async def start() -> None:
        await greenback.with_portal_run_sync(sync, here)

    async def main() -> None:
        task = asyncio.create_task(start())
        await until_waiting(task)
        at["suspended"] = shape(task)
        await ended(task)

    with following(follow):
        asyncio.run(main())
    in_sync = ["start", "~with_portal_run_sync", "~_greenback_shim_sync", "|sync"]
    in_leaf = [*in_sync, "~await_", "*leaf"]
    assert at == {"sync": in_sync, "awaited": in_leaf, "suspended": [*in_leaf, "*sleep"]}


@both_ways
def test_sync_code_inside_awaited_code_inside_sync_code(follow: bool) -> None:
    """All in the one greenlet of the portal; and seen by that greenlet as by the task."""
    at: dict[str, list[str]] = {}
    greenlets: list[Any] = []

    def here(place: str) -> None:
        at[place] = [name for name in shape() if not name.endswith("here")]

    async def middle() -> None:
        sync(here)

    def outer() -> None:
        greenlets.append(getcurrent())
        greenback.await_(middle())

    async def start() -> None:
        await greenback.ensure_portal()
        outer()

    async def main() -> None:
        task = asyncio.create_task(start())
        await until_waiting(task)
        at["suspended"] = shape(task)
        at["greenlet"] = shape(greenlets[0])
        await ended(task)

    with following(follow):
        asyncio.run(main())
    in_sync = [*ENSURED, "start", "outer", "~await_", "*middle", "*sync"]
    in_leaf = [*in_sync, "~await_", "*leaf"]
    assert at == {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "greenlet": [*in_leaf, "*sleep"],
    }


@both_ways
def test_async_context_managers_and_iterators_from_sync_code(follow: bool) -> None:
    at: dict[str, list[str]] = {}

    class Manager:
        async def __aenter__(self) -> None:
            await asyncio.sleep(0.1)

        async def __aexit__(self, *_: object) -> None:
            pass

    async def numbers() -> AsyncIterator[int]:
        await asyncio.sleep(0.1)
        yield 1

    def enter() -> None:
        with greenback.async_context(Manager()):
            pass

    def iterate() -> None:
        for _ in greenback.async_iter(numbers()):
            pass

    async def start(function: Callable[[], None]) -> None:
        await greenback.ensure_portal()
        function()

    async def main() -> None:
        for function in (enter, iterate):
            task = asyncio.create_task(start(function))
            await until_waiting(task)
            at[function.__name__] = shape(task)
            await task

    with following(follow):
        asyncio.run(main())
    in_start = [*ENSURED, "start"]
    assert at == {
        "enter": [
            *in_start,
            "enter",
            "async_context.__enter__",
            "~await_",
            "*Manager.__aenter__",
            "*sleep",
        ],
        "iterate": [
            *in_start,
            "iterate",
            "async_iter.__next__",
            "~await_",
            "*numbers",
            "*sleep",
        ],
    }


def test_a_portals_task_is_named_by_its_own_function() -> None:
    """Not by greenback's coroutine, which the task then runs."""
    names: list[str] = []

    async def endpoint() -> None:
        await greenback.ensure_portal()
        names.append(greenprof.capture_stack().task)
        await asyncio.sleep(0.1)

    async def main() -> None:
        task = asyncio.create_task(endpoint())
        await until_waiting(task)
        names.append(greenprof.capture_stack(task).task)
        await ended(task)

    asyncio.run(main())
    assert len(set(names)) == 1
    assert names[0].endswith("<locals>.endpoint")


def test_the_step_in_which_a_task_gets_its_portal() -> None:
    """The task's coroutine is greenback's by then; the one that still runs is its own."""
    found: list[list[str]] = []

    async def endpoint() -> None:
        task = asyncio.current_task()
        assert task is not None
        greenback.bestow_portal(task)
        found.append(shape())
        await asyncio.sleep(0)
        found.append(shape())

    async def main() -> None:
        await asyncio.gather(endpoint())

    asyncio.run(main())
    assert found == [["main", "endpoint"], ["main", *ENSURED, "endpoint"]]
