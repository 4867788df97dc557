"""Repeated awaits: what one task or one request awaits again and again, and what is not that."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import greenback
import pytest
import trio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof.samplers import repeats
from tests import sqlalchemy_programs
from tests.await_truth import Counted, beside_spans, counting
from tests.sqlalchemy_programs import Line, Order, await_, database

url = sqlalchemy_programs.url_fixture("aiosqlite", "asyncpg", "psycopg")


async def answer() -> None:
    await asyncio.sleep(0)


# A driver is told of an operation, and awaits the same coroutine for all of them.
DRIVER = """
class Cursor:
    def __init__(self, await_, answer):
        self.await_, self.answer = await_, answer

    def execute(self, operation, parameters=()):
        return self._wait()

    def fetch(self):
        return self._wait()

    def _wait(self):
        return self.await_(self.answer())
"""


@pytest.fixture
def cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cursor that is a library's: its frames are not the program's lines."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    path = folder / "some_driver.py"
    path.write_text(DRIVER)
    names: dict[str, Any] = {}
    exec(compile(DRIVER, str(path), "exec"), names)
    return names["Cursor"](await_, answer)


def run(function: Callable[..., Any], *arguments: Any, **options: Any) -> Counted:
    """Count the awaits of sync code below one task."""
    with counting(**options) as counted:
        asyncio.run(greenlet_spawn(function, *arguments))
    return counted


def test_calls_in_one_line_are_repeated_by_each_task_once() -> None:
    async def query(_: str) -> None:
        await asyncio.sleep(0)

    def load() -> None:
        for _ in range(20):
            _ = await_(query("a")), await_(query("b"))

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(greenlet_spawn(load)) for _ in range(5)))

    with counting() as counted:
        asyncio.run(main())
    [row] = counted.rows()
    assert row.count == 200
    [repeat] = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (5, 200, 40)
    [found] = counted.profile().repeats
    assert found.total_ns == row.total_ns <= found.units_ns


def test_the_same_query_with_other_parameters_is_repeated(cursor: Any) -> None:
    def load() -> None:
        for number in range(25):
            cursor.execute("SELECT * FROM lines WHERE order_id = ?", (number,))

    counted = run(load)
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (1, 25, 25)
    assert repeat.site.line == load.__code__.co_firstlineno + 2
    (row,) = counted.rows()
    assert repeat.total_ns == row.total_ns
    assert repeat.total_ns <= repeat.units_ns


def test_a_loop_over_different_queries_is_not(cursor: Any) -> None:
    """One line, one coroutine, another text each time."""

    def load() -> None:
        for number in range(40):
            cursor.execute(f"SELECT * FROM table_{number}")

    counted = run(load)
    assert counted.repeats() == []
    assert [row.count for row in counted.rows()] == [40]


def test_more_different_queries_than_are_remembered(cursor: Any) -> None:
    def load() -> None:
        for number in range(400):
            cursor.execute(f"SELECT * FROM table_{number}")

    assert run(load).repeats() == []


def test_a_few_queries_in_turns(cursor: Any) -> None:
    """Each is repeated; one that comes up too seldom is not, and not added to the others."""
    queries = ["SELECT a", "SELECT b"] * 12 + ["SELECT c"] * 9

    def load() -> None:
        for query in queries:
            cursor.execute(query)

    (repeat,) = run(load).repeats()
    # Which operation the very first await was for is not looked up.
    assert repeat.awaits in {23, 24}


def test_a_fetch_goes_with_its_query(cursor: Any) -> None:
    """A line that executes and fetches: the fetch says nothing of what it fetches."""

    def different() -> None:
        for number in range(30):
            (cursor.execute(f"SELECT {number}"), cursor.fetch())

    def same() -> None:
        for number in range(30):
            (cursor.execute("SELECT ?", (number,)), cursor.fetch())

    assert run(different).repeats() == []
    (repeat,) = run(same).repeats()
    assert repeat.site.line == same.__code__.co_firstlineno + 2


def test_without_texts_the_coroutine_is_the_operation() -> None:
    def load() -> None:
        for _ in range(15):
            await_(answer())

    (repeat,) = run(load).repeats()
    assert (repeat.awaits, repeat.awaited.rpartition(".")[2]) == (15, "answer")


@pytest.mark.parametrize("least", [0, 1, 2, 10, 11, 12])
def test_the_threshold(least: int) -> None:
    """From `repeat_min` on, and 0 looks for none; all are counted in any case."""

    def load() -> None:
        for _ in range(11):
            await_(answer())

    counted = run(load, repeat_min=least)
    assert [repeat.awaits for repeat in counted.repeats()] == ([11] if 0 < least <= 11 else [])
    assert counted.counts() == {"answer": 11}


def test_once_in_each_of_many_tasks_is_no_repeat() -> None:
    def load(times: int) -> None:
        for _ in range(times):
            await_(answer())

    async def main(times: int) -> None:
        await asyncio.gather(*(greenlet_spawn(load, times) for _ in range(60)))

    with counting() as counted:
        asyncio.run(main(1))
        asyncio.run(main(9))
    assert counted.repeats() == []
    with counting() as counted:
        asyncio.run(main(10))
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (60, 600, 10)


def test_each_task_by_itself() -> None:
    """Units below the threshold do not count in, and the most is that of one."""

    def load(times: int) -> None:
        for _ in range(times):
            await_(answer())

    async def main() -> None:
        await asyncio.gather(*(greenlet_spawn(load, times) for times in (3, 9, 10, 17, 30)))

    with counting() as counted:
        asyncio.run(main())
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (3, 57, 30)
    assert counted.counts() == {"answer": 69}
    assert repeat.per_unit == 19


def test_tasks_that_still_run_are_in_a_snapshot() -> None:
    seen: list[tuple[int, int]] = []

    def load(counted: Counted) -> None:
        for number in range(30):
            await_(answer())
            if number in {5, 15, 29}:
                seen.append((number + 1, sum(repeat.awaits for repeat in counted.repeats())))

    with counting() as counted:
        asyncio.run(greenlet_spawn(load, counted))
    assert seen == [(6, 0), (16, 16), (30, 30)]
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits) == (1, 30)


def test_trios_tasks_count_apart() -> None:
    """They share a thread, and nothing of asyncio's tells them apart."""

    async def nap() -> None:
        await trio.lowlevel.checkpoint()

    async def worker(times: int) -> None:
        await greenback.ensure_portal()
        for _ in range(times):
            greenback.await_(nap())

    async def main(*times: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in times:
                nursery.start_soon(worker, number)

    with counting(as_samples=True) as counted:
        trio.run(main, *([3] * 30))
    assert counted.repeats() == []
    assert counted.counts() == {"nap": 90}
    with counting(as_samples=True) as counted:
        trio.run(main, 2, 12, 20)
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (2, 32, 20)
    # Side by side, their awaits are not inside of one another.
    (row,) = counted.rows()
    assert sum(sample.wall_ns for sample in counted.samples()) == row.total_ns


def test_threads_one_after_another_count_apart() -> None:
    def load() -> None:
        for _ in range(6):
            await_(answer())

    with counting() as counted:
        for _ in range(8):
            thread = threading.Thread(target=lambda: asyncio.run(greenlet_spawn(load)))
            thread.start()
            thread.join()
    assert counted.repeats() == []
    assert counted.counts() == {"answer": 48}


ORDERS = 40


def lazy_lines(session: Session) -> int:
    orders = session.query(Order).all()
    return sum(len(order.lines) for order in orders)  # the line to change


def different_queries(session: Session) -> None:
    for number in range(ORDERS):
        session.execute(text(f"SELECT {number} AS column_{number}"))


def same_query(session: Session) -> None:
    for number in range(ORDERS):
        session.execute(text("SELECT count(*) FROM orders WHERE id = :id"), {"id": number})


@pytest.mark.parametrize("traced", [False, True], ids=["alone", "with spans"])
def test_lazy_loads_on_a_real_database(url: str, traced: bool) -> None:
    """N+1 is found at its line, with its number; other loops over queries are told apart."""

    async def use(function: Callable[[Session], Any], engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(function)

    async def main() -> None:
        orders = [Order(id=n, lines=[Line(id=n)]) for n in range(1, ORDERS + 1)]
        async with database(url, orders) as engine:
            with beside_spans(traced), greenprof.profile(awaits=True) as profiler:
                for _ in range(3):
                    await asyncio.create_task(use(lazy_lines, engine), name="lazy 1")
                await asyncio.create_task(use(different_queries, engine), name="different")
                await asyncio.create_task(use(same_query, engine), name="same")
        profiles.append(profiler.profile)

    profiles: list[greenprof.Profile] = []
    asyncio.run(main())
    (profile,) = profiles
    rows = greenprof_repeats(profile)
    assert set(rows) == {"lazy {}", "same"}
    lazy, same = rows["lazy {}"], rows["same"]
    assert lazy.site.name.startswith("lazy_lines")
    assert lazy.site.line == lazy_lines.__code__.co_firstlineno + 2
    assert (lazy.units, lazy.most) == (3, ORDERS)
    assert lazy.awaits == 3 * ORDERS
    assert (same.units, same.awaits) == (1, ORDERS)
    assert same.site.line == same_query.__code__.co_firstlineno + 2
    assert lazy.total_ns <= lazy.units_ns


def greenprof_repeats(profile: greenprof.Profile) -> dict[str, Any]:
    from greenprof.sites import repeat_rows

    found: dict[str, Any] = {}
    for row in repeat_rows(profile):
        name = profile.groups[row.group].name
        assert name not in found, (row, found[name])
        found[name] = row
    return found


def test_a_function_that_is_never_given_a_text_is_looked_at_no_more() -> None:
    def flush(sent: object) -> int:
        return repeats.operation_of(sys._getframe(), here) + (sent is None)

    def execute(operation: object) -> int:
        return repeats.operation_of(sys._getframe(), here) + (operation is None)

    here = sys._getframe()
    first = execute("SELECT 1")
    assert first != execute("SELECT 2") != 0
    for _ in range(repeats.NO_TEXTS):
        assert flush(1) == execute(1) == 0
    assert execute("SELECT 1") == first
    assert flush("SELECT 1") == 0
