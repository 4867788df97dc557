"""SQLAlchemy's asyncio bridge, alone and with each of its async drivers on real databases."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import sqlalchemy
import uvloop
from greenlet import getcurrent
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof.bridges.sqlalchemy import BRIDGE
from greenprof.profiles import Frame, FrameKind, State
from tests import sqlalchemy_programs
from tests.shapes import both_ways, ended, following, outline, shape, until_waiting
from tests.sqlalchemy_programs import Line, Order, await_, database

url = sqlalchemy_programs.url_fixture("aiosqlite", "asyncpg", "psycopg")

AWAIT = f"~{await_.__name__}"
SPAWN = "~greenlet_spawn"


def test_the_installed_release_is_described() -> None:
    """Where 2.0 or 2.1 is installed, these are the functions that the description means."""
    path = greenlet_spawn.__code__.co_filename.replace("\\", "/")
    for function in (greenlet_spawn, await_):
        keys = [key for key in BRIDGE.roles if path.endswith("/" + key[0])]
        assert (keys[0][0], function.__qualname__) in BRIDGE.roles, sqlalchemy.__version__


class Seen:
    """What was captured, under the name of the place it was captured at."""

    def __init__(self) -> None:
        self.at: dict[str, list[str]] = {}

    def here(self, place: str) -> None:
        self.at[place] = [name for name in shape() if name not in ("Seen.here", "*Seen.here")]


async def leaf(seen: Seen) -> None:
    seen.here("awaited")
    await asyncio.sleep(0.3)
    seen.here("awaited again")


def third(seen: Seen) -> None:
    seen.here("sync")
    await_(leaf(seen))
    seen.here("sync again")


async def between_second_and_third(seen: Seen) -> None:
    await greenlet_spawn(third, seen)


def second(seen: Seen) -> None:
    await_(between_second_and_third(seen))


async def between_first_and_second(seen: Seen) -> None:
    await greenlet_spawn(second, seen)


def first(seen: Seen) -> None:
    await_(between_first_and_second(seen))


async def endpoint(seen: Seen) -> None:
    await greenlet_spawn(first, seen)


TO_THIRD = [
    "endpoint",
    SPAWN,
    "|first",
    AWAIT,
    "|*between_first_and_second",
    SPAWN,
    "|second",
    AWAIT,
    "|*between_second_and_third",
    SPAWN,
    "|third",
]
TO_LEAF = [*TO_THIRD, AWAIT, "|*leaf"]


@both_ways
def test_three_bridges_deep_the_stack_is_whole(follow: bool) -> None:
    """From sync code, from awaited code, of the suspended task from another one and from a thread."""
    seen = Seen()

    async def main() -> None:
        task = asyncio.create_task(endpoint(seen))
        await until_waiting(task)
        seen.at["suspended"] = shape(task)
        seen.at["from a thread"] = await asyncio.to_thread(shape, task)
        await task

    with following(follow):
        asyncio.run(main())
    assert seen.at == {
        "sync": TO_THIRD,
        "awaited": TO_LEAF,
        "suspended": [*TO_LEAF, "*sleep"],
        "from a thread": [*TO_LEAF, "*sleep"],
        # By now somebody awaits the task.
        "awaited again": ["main", *TO_LEAF],
        "sync again": ["main", *TO_THIRD],
    }


@both_ways
def test_a_greenlet_of_a_task_has_the_tasks_stack(follow: bool) -> None:
    """The sync greenlet and the loop's own are both parts of what the task does."""
    greenlets: list[Any] = []

    async def slow() -> None:
        await asyncio.sleep(0.3)

    def sync() -> None:
        greenlets.append(getcurrent())
        assert shape(greenlets[0]) == ["start", SPAWN, "|sync"]
        assert shape(main_greenlet) == ["start", SPAWN, "|sync"]
        await_(slow())

    async def start() -> None:
        await greenlet_spawn(sync)

    async def main() -> None:
        task = asyncio.create_task(start())
        await until_waiting(task)
        stack = greenprof.capture_stack(greenlets[0])
        assert shape(stack) == ["start", SPAWN, "|sync", AWAIT, "|*slow", "*sleep"]
        assert (stack.kind, stack.state) == ("asyncio", State.AWAITING)
        assert stack.task.endswith("start")
        await task

    main_greenlet = getcurrent()
    with following(follow):
        asyncio.run(main())


@both_ways
def test_the_whole_stack_from_a_thread_while_sync_code_runs(follow: bool) -> None:
    """From a thread, only a tracer knows which greenlet runs: without it the parent is missing."""
    looking, release = threading.Event(), threading.Event()
    ident = threading.get_ident()
    found: list[list[str]] = []

    def look() -> None:
        looking.wait(10)
        while not found or found[-1][-1] != "Condition.wait":
            found.append(shape(ident))
        release.set()

    def sync() -> None:
        looking.set()
        release.wait(10)

    async def start() -> None:
        await greenlet_spawn(sync)

    with following(follow):
        thread = threading.Thread(target=look)
        thread.start()
        asyncio.run(start())
        thread.join()
    whole = ["start", SPAWN, "|sync", "Event.wait", "Condition.wait"]
    assert found[-1] == (whole if follow else ["sync", *whole[3:]])


def one_order() -> list[Order]:
    return [Order(id=1, lines=[Line(id=1), Line(id=2)])]


def slow_query(url: str) -> str:
    if "sqlite" in url:
        return (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 1500000) "
            "SELECT sum(n) FROM t"
        )
    return "SELECT pg_sleep(0.3)"


DRIVERS_OWN = {
    "aiosqlite": "Connection.execute",
    "asyncpg": "Connection.fetch",
    "psycopg": "AsyncConnection.wait",
}


def drivers_frames(frames: tuple[Frame, ...], driver: str) -> list[Frame]:
    return [frame for frame in frames if f"/{driver}/" in frame.path.replace("\\", "/")]


async def wait_until_in_driver(task: asyncio.Task[Any], driver: str) -> greenprof.Stack:
    """The stack of the task once it waits in its driver for the database."""
    for _ in range(2000):
        stack = greenprof.capture_stack(task)
        names = [frame.name for frame in drivers_frames(stack.frames, driver)]
        if any("execute" in name or "fetch" in name or "wait" in name for name in names):
            return stack
        await asyncio.sleep(0.001)
    raise AssertionError(f"never seen in {driver}: {greenprof.format_stack(task)}")


@both_ways
def test_waiting_for_a_real_database(url: str, follow: bool) -> None:
    """From the endpoint through the ORM and the bridge into the driver's coroutines."""
    driver = url.partition("+")[2].partition(":")[0]

    async def endpoint(session: AsyncSession) -> None:
        await session.execute(text(slow_query(url)))

    async def main() -> None:
        async with database(url, one_order()) as engine, AsyncSession(engine) as session:
            task = asyncio.create_task(endpoint(session))
            stack = await wait_until_in_driver(task, driver)
            assert stack.error is None
            assert stack.state is State.AWAITING
            assert outline(stack)[:2] == ["endpoint", SPAWN]
            bridge = [f.name for f in stack.frames if f.kind is FrameKind.BOUNDARY]
            # The first is the session's, which checks the connection out; each pair is one bridge.
            assert bridge[-2:] == ["greenlet_spawn", await_.__name__], bridge
            waiting = drivers_frames(stack.frames, driver)
            assert waiting
            assert {frame.kind for frame in waiting} <= {FrameKind.AWAITED, FrameKind.PYTHON}
            assert waiting[-1].kind is FrameKind.AWAITED
            assert next(f.name for f in stack.frames if f.crosses) == "Session.execute"
            await task

    with following(follow):
        asyncio.run(main())


@both_ways
def test_lazy_loads_in_run_sync(url: str, follow: bool) -> None:
    """The line that touches the attribute is on the stack of the query that it causes."""
    driver = url.partition("+")[2].partition(":")[0]
    running: list[list[str]] = []
    suspended: list[list[str]] = []

    def count_lines(session: Session) -> int:
        order = session.get_one(Order, 1)
        return len(touch(order))

    def touch(order: Order) -> list[Line]:
        return order.lines

    async def watch(task: asyncio.Task[Any]) -> None:
        while not task.done():
            stack = greenprof.capture_stack(task)
            if "touch" in outline(stack) and drivers_frames(stack.frames, driver):
                suspended.append(outline(stack))
            # A thread of its own runs SQLite, and needs the interpreter lock; PostgreSQL is quick.
            await asyncio.sleep(0.0005 if driver == "aiosqlite" else 0)

    async def endpoint(engine: AsyncEngine) -> int:
        async with AsyncSession(engine) as session:
            return await session.run_sync(count_lines)

    async def main() -> None:
        async with database(url, one_order()) as engine:

            @event.listens_for(engine.sync_engine, "before_cursor_execute")
            def before(*_: Any) -> None:
                running.append([name for name in outline() if name != "before"])

            task = asyncio.create_task(endpoint(engine))
            await asyncio.gather(task, watch(task))
            assert task.result() == 2
            event.remove(engine.sync_engine, "before_cursor_execute", before)

    with following(follow):
        asyncio.run(main())
    above = ["main", "endpoint", SPAWN, "|count_lines"]
    assert above in running
    assert [*above, "touch"] in running
    assert suspended
    for names in suspended:
        assert names[:6] == [*above, "touch", AWAIT], names
        assert names[6].startswith("|*"), names


@both_ways
def test_sync_code_that_awaits_a_task_and_several_things_at_once(follow: bool) -> None:
    """What is handed over need not be a coroutine of its own."""

    async def work() -> None:
        await asyncio.sleep(0.3)

    def sync_task() -> None:
        await_(asyncio.ensure_future(work()))

    def sync_gather() -> None:
        await_(asyncio.gather(work(), work()))

    async def main() -> None:
        task = asyncio.create_task(greenlet_spawn(sync_task))
        await until_waiting(task)
        assert shape(task) == [SPAWN, "|sync_task", AWAIT, "*<asyncio.Task>"]
        children = [one for one in asyncio.all_tasks() if "work" in str(one.get_coro())]
        assert [shape(one) for one in children] == [
            [SPAWN, "|sync_task", AWAIT, "|*work", "*sleep"]
        ]
        await ended(task)
        task = asyncio.create_task(greenlet_spawn(sync_gather))
        await until_waiting(task)
        assert shape(task) == [SPAWN, "|sync_gather", AWAIT, "*<asyncio.gather>"]
        await ended(task)

    with following(follow):
        asyncio.run(main())


@both_ways
def test_compiled_coroutines(follow: bool) -> None:
    """uvloop's are Cython's: they show a made-up frame, and what they await is a wrapper."""
    found: dict[str, list[str]] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)

            def sync() -> None:
                await_(loop.sock_recv(ours, 1))

            async def direct() -> None:
                await loop.sock_recv(ours, 1)

            for name, coroutine in (
                ("through the bridge", greenlet_spawn(sync)),
                ("direct", direct()),
                ("as a task's own", loop.sock_recv(ours, 1)),
            ):
                task: asyncio.Task[Any] = asyncio.create_task(coroutine)
                await until_waiting(task)
                found[name] = shape(task)
                theirs.send(b"x")
                await task

    with following(follow):
        uvloop.run(main())
    assert found == {
        "through the bridge": [SPAWN, "|sync", AWAIT, "|*sock_recv"],
        "direct": ["direct", "sock_recv"],
        "as a task's own": ["sock_recv"],
    }
