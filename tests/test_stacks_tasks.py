"""Tasks that wait for tasks, in each of asyncio's and anyio's ways; their states; tasks elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import pytest
import uvloop

import greenprof
from greenprof import awaitables
from greenprof.profiles import State
from tests.shapes import ended, shape, until_waiting

SLEEP_S = 10.0


async def await_event() -> None:
    await asyncio.Event().wait()


Record = Callable[[], None]


async def child(record: Record) -> None:
    await asyncio.sleep(0)
    record()
    await asyncio.sleep(SLEEP_S)


async def use_task(record: Record) -> None:
    await asyncio.create_task(child(record))


async def use_gather(record: Record) -> None:
    await asyncio.gather(child(record), asyncio.sleep(SLEEP_S))


async def use_task_group(record: Record) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child(record))


async def use_wait_for(record: Record) -> None:
    await asyncio.wait_for(child(record), 9)


async def use_shield(record: Record) -> None:
    await asyncio.shield(child(record))


async def use_wait(record: Record) -> None:
    await asyncio.wait([asyncio.create_task(child(record))])


async def use_as_completed(record: Record) -> None:
    for one in asyncio.as_completed([child(record)]):
        await one


async def use_anyio(record: Record) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(child, record)


async def use_anyio_start(record: Record) -> None:
    async def starting(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await child(record)
        task_status.started()

    async with anyio.create_task_group() as group:
        await group.start(starting)


async def use_body_of_group(record: Record) -> None:
    """The group's own task does not wait for it yet, but for something else."""
    async with asyncio.TaskGroup() as group:
        group.create_task(child(record))
        await asyncio.sleep(SLEEP_S)


async def use_group_of_function(record: Record) -> None:
    """As Starlette's middleware does it: the group is opened by an async context manager."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[anyio.abc.TaskGroup]:
        async with anyio.create_task_group() as group:
            yield group

    async def elsewhere(group: anyio.abc.TaskGroup) -> None:
        group.start_soon(child, record)
        await asyncio.sleep(SLEEP_S)

    async with opened() as group:
        await elsewhere(group)


async def use_chain(record: Record) -> None:
    async def middle() -> None:
        await asyncio.gather(child(record))

    await asyncio.wait_for(asyncio.shield(asyncio.create_task(middle())), 9)


# Two functions in later releases of 3.13.
LEAVES_GROUP = [
    f"TaskGroup.{name}" for name in ("__aexit__", "_aexit") if hasattr(asyncio.TaskGroup, name)
]
AS_COMPLETED = (
    "_wait_for_one" if sys.version_info < (3, 13) else "_AsCompletedIterator._wait_for_one"
)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (use_task, ["use_task", "child"]),
        (use_gather, ["use_gather", "child"]),
        (use_task_group, ["use_task_group", *LEAVES_GROUP, "child"]),
        (use_wait_for, ["use_wait_for", "wait_for", "child"]),
        (use_shield, ["use_shield", "child"]),
        (use_wait, ["use_wait", "wait", "_wait", "child"]),
        (use_as_completed, ["use_as_completed", AS_COMPLETED, "Queue.get", "child"]),
        (use_anyio, ["use_anyio", "TaskGroup.__aexit__", "TaskHandle._run_coro", "child"]),
        (
            use_anyio_start,
            ["use_anyio_start", "TaskGroup.start", "TaskHandle._run_coro", "starting", "child"],
        ),
        (use_body_of_group, ["use_body_of_group", "child"]),
        (use_group_of_function, ["use_group_of_function", "TaskHandle._run_coro", "child"]),
        (use_chain, ["use_chain", "wait_for", "middle", "child"]),
    ],
)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_task_has_the_task_that_waits_for_it_above_it(
    run: Any, function: Callable[[Record], Coroutine[Any, Any, None]], expected: list[str]
) -> None:
    """Running and suspended; a child's stack alone would not tell whose work it is."""
    running: list[list[str]] = []
    children: list[asyncio.Task[Any]] = []

    def record() -> None:
        running.append([name for name in shape() if name != "record"])
        current = asyncio.current_task()
        assert current is not None
        children.append(current)

    async def main() -> None:
        task = asyncio.create_task(function(record))
        await until_waiting(task)
        assert running == [expected]
        assert shape(children[0]) == [*expected, "sleep"]
        await ended(task)
        for one in children:
            await ended(one)

    run(main())


def test_what_tasks_wait_for_when_it_is_tasks() -> None:
    """The leaf names what cannot be told by a frame."""

    async def main() -> None:
        inner = asyncio.create_task(asyncio.sleep(SLEEP_S))

        async def one() -> None:
            await inner

        async def several() -> None:
            await asyncio.gather(inner, asyncio.sleep(SLEEP_S))

        tasks = [asyncio.create_task(one()), asyncio.create_task(several())]
        await until_waiting(tasks[1])
        assert shape(tasks[0]) == ["one", "*<asyncio.Task>"]
        assert shape(tasks[1]) == ["several", "*<asyncio.gather>"]
        for task in tasks:
            await ended(task)

    asyncio.run(main())


def test_tasks_that_wait_for_each_other_end() -> None:
    """A deadlock is just what somebody wants to look at: the walk must not go round in it."""

    async def main() -> None:
        async def first() -> None:
            await asyncio.shield(tasks[1])

        async def second() -> None:
            await asyncio.shield(tasks[0])

        tasks: list[asyncio.Task[None]] = []
        tasks += [asyncio.create_task(first()), asyncio.create_task(second())]
        await until_waiting(tasks[0])
        assert shape(tasks[0]) == ["second", "first"]
        assert shape(tasks[1]) == ["first", "second"]
        # Cancelling one would go round as well: only its own wait is ended.
        for task in tasks:
            waiter = awaitables.waiter_of(task)
            waiter.set_result(None)

    asyncio.run(main())


def test_tasks_written_in_python() -> None:
    """`asyncio.tasks._PyTask`, which debuggers and alternative loops use."""
    running: list[list[str]] = []

    def record() -> None:
        running.append([name for name in shape() if name != "record"])

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def make(loop: Any, coroutine: Any, **options: Any) -> Any:
            python_task: Any = getattr(asyncio.tasks, "_PyTask")  # noqa: B009  # no stub has it
            return python_task(coroutine, loop=loop, **options)

        loop.set_task_factory(make)
        task = asyncio.create_task(use_gather(record))
        await until_waiting(task)
        assert running == [["use_gather", "child"]]
        assert shape(task) == ["use_gather", "*<asyncio.gather>"]
        # From 3.14 on, asyncio's own function does not know of such tasks.
        all_tasks = getattr(asyncio.tasks, "_py_all_tasks", asyncio.all_tasks)()
        assert ["use_gather", "child", "sleep"] in [shape(one) for one in all_tasks]
        await ended(task)
        for one in all_tasks - {asyncio.current_task()}:
            await ended(one)

    asyncio.run(main())


def test_tasks_before_and_after_their_life() -> None:
    async def main() -> None:
        task = asyncio.create_task(await_event())
        assert shape(task) == ["await_event"]
        assert greenprof.capture_stack(task).state is State.READY
        await until_waiting(task)
        await ended(task)
        assert shape(task) == []
        assert greenprof.capture_stack(task).state is None
        assert "no frames" in greenprof.format_stack(task)

    asyncio.run(main())


def test_a_task_is_ready_once_what_it_waits_for_is_there() -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await future

        async def sleeps() -> None:
            await asyncio.sleep(0.01)

        one, other = asyncio.create_task(waits()), asyncio.create_task(sleeps())
        await until_waiting(one)
        assert greenprof.capture_stack(one).state is State.AWAITING
        future.set_result(None)
        assert greenprof.capture_stack(one).state is State.READY
        assert greenprof.capture_stack(other).state is State.AWAITING
        # The loop does not come round to its timers while this task holds it.
        threading.Event().wait(0.02)
        assert greenprof.capture_stack(other).state is State.READY
        await asyncio.gather(one, other)

    asyncio.run(main())


def test_a_task_of_another_threads_loop() -> None:
    """Suspended, and running there: by its frames on that thread's stack."""
    found: dict[str, asyncio.Task[Any]] = {}
    ready, hold, release = threading.Event(), threading.Event(), threading.Event()

    def busy() -> None:
        hold.set()
        release.wait(10)

    async def holds() -> None:
        await asyncio.sleep(0)
        busy()

    async def there() -> None:
        found["suspended"] = asyncio.create_task(await_event())
        found["running"] = asyncio.create_task(holds())
        ready.set()
        await found["running"]
        await ended(found["suspended"])

    thread = threading.Thread(target=asyncio.run, args=(there(),))
    thread.start()
    assert ready.wait(10)
    assert hold.wait(10)
    try:
        assert shape(found["suspended"]) == ["await_event", "Event.wait"]
        running = greenprof.capture_stack(found["running"])
        assert shape(running)[:3] == ["there", "holds", "busy"]
        assert running.task == "test_a_task_of_another_threads_loop.<locals>.holds"
        assert running.state is State.BLOCKED
        whole = greenprof.capture_stack(thread)
        assert shape(whole) == shape(running)
    finally:
        release.set()
        thread.join()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs Python 3.12: eager tasks")
def test_an_eager_task_begins_inside_its_creator() -> None:
    """Its first step runs before `create_task` returns: whoever creates it is really its caller."""
    running: list[list[str]] = []

    async def first_step() -> None:
        running.append(shape())
        await asyncio.sleep(0.01)
        running.append(shape())

    async def creator() -> None:
        task = asyncio.create_task(first_step())
        running.append(shape())
        await task

    async def main() -> None:
        factory: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009  # not in 3.11's stub
        asyncio.get_running_loop().set_task_factory(factory)
        await creator()

    asyncio.run(main())
    machinery = ["create_task", "BaseEventLoop.create_task", "factory"]
    assert running == [
        ["main", "creator", *machinery, "first_step"],
        ["main", "creator"],
        ["main", "creator", "first_step"],
    ]
