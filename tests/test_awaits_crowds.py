"""Await accounting of many: tasks, threads, accounts, lines, functions."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from greenprof.samplers import units
from tests import await_programs
from tests.await_programs import ProgramError, nap
from tests.await_truth import counting
from tests.sqlalchemy_programs import await_

traced = await_programs.traced


@pytest.mark.usefixtures("traced")
def test_fifty_tasks_at_once() -> None:
    """The sum of the counts is the program's own, by operation, line and outcome."""
    truth: Counter[str] = Counter()
    dice = random.Random(5)

    async def read(seconds: float) -> None:
        truth["read"] += 1
        await asyncio.sleep(seconds)

    async def write(seconds: float) -> None:
        truth["write"] += 1
        await asyncio.sleep(seconds)
        truth["errors"] += 1
        raise ProgramError

    def sync(number: int) -> None:
        for at in range(number % 9):
            await_(read(dice.random() / 500))
            if at % 2:
                with pytest.raises(ProgramError):
                    await_(write(dice.random() / 500))

    async def request(number: int) -> None:
        await greenlet_spawn(sync, number)
        await asyncio.sleep(0)
        await greenlet_spawn(sync, number + 1)

    async def main() -> None:
        await asyncio.gather(*map(request, range(50)))

    with counting() as counted:
        asyncio.run(main())
    assert counted.counts() == {"read": truth["read"], "write": truth["write"]}
    assert truth["read"] == sum(n % 9 + (n + 1) % 9 for n in range(50))
    rows = counted.rows()
    assert len(rows) == 2
    assert sum(row.errors for row in rows) == truth["errors"] == truth["write"]


def test_more_tasks_than_are_looked_at_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their awaits are counted; only repeats are not looked for."""
    monkeypatch.setattr(units, "MAX_UNITS", 10)

    def load() -> None:
        for _ in range(12):
            await_(nap())

    async def main() -> None:
        await asyncio.gather(*(greenlet_spawn(load) for _ in range(30)))

    with counting(as_samples=True) as counted:
        asyncio.run(main())
    assert counted.counts() == {"nap": 360}
    (repeat,) = counted.repeats()
    assert repeat.units <= 10
    (row,) = counted.rows()
    assert sum(sample.wall_ns for sample in counted.samples()) == row.total_ns


def test_threads_with_loops_of_their_own() -> None:
    """Threads that count at once lose nothing, and a thread started before is not followed."""
    number, each = 6, 150
    barrier = threading.Barrier(number)

    async def operation() -> None:
        await asyncio.sleep(0)

    def load() -> None:
        for _ in range(each):
            await_(operation())

    def work() -> None:
        barrier.wait()
        asyncio.run(greenlet_spawn(load))

    with counting() as counted:
        threads = [threading.Thread(target=work) for _ in range(number)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert counted.counts() == {"operation": number * each}
    (row,) = counted.rows()
    assert row.total_ns > 0
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (number, number * each, each)


def test_two_accounts_at_once() -> None:
    def load() -> None:
        for _ in range(5):
            await_(nap())

    with counting() as one:
        asyncio.run(greenlet_spawn(load))
        with counting() as other:
            asyncio.run(greenlet_spawn(load))
        asyncio.run(greenlet_spawn(load))
    assert one.counts() == {"nap": 15}
    assert other.counts() == {"nap": 5}


def test_more_sites_than_there_is_room_for() -> None:
    """What is over the cap is counted as lost, and what was there goes on counting."""
    source = "def load(await_, nap):\n" + "    await_(nap())\n" * 30
    names: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), names)

    def twice() -> None:
        names["load"](await_, nap)
        names["load"](await_, nap)

    with counting(max_sites=12) as counted:
        asyncio.run(greenlet_spawn(twice))
    assert [row.count for row in counted.rows()] == [2] * 12
    assert counted.account.lost == 36


def test_functions_made_anew_each_time_stay_apart() -> None:
    """Ids are used again: a row holds its code, so that another function never takes its place."""

    def make(number: int) -> Callable[[], None]:
        names: dict[str, Any] = {"await_": await_, "nap": nap}
        exec(compile(f"def made_{number}(): await_(nap())", __file__, "exec"), names)
        function: Callable[[], None] = names[f"made_{number}"]
        return function

    def load() -> None:
        for number in range(200):
            make(number)()

    with counting() as counted:
        asyncio.run(greenlet_spawn(load))
    assert sorted(row.site.name for row in counted.rows()) == sorted(
        f"made_{number}" for number in range(200)
    )
    assert {row.count for row in counted.rows()} == {1}


def test_snapshots_from_another_thread() -> None:
    """Counts only grow, and none is torn: each has as many durations as awaits in the end."""
    over = threading.Event()
    seen: list[int] = []

    def load() -> None:
        for _ in range(2000):
            await_(nap())

    with counting() as counted:

        def look() -> None:
            while not over.is_set():
                seen.append(sum(counted.counts().values()))

        looking = threading.Thread(target=look)
        looking.start()
        asyncio.run(greenlet_spawn(load))
        over.set()
        looking.join()
    assert seen == sorted(seen)
    assert counted.counts() == {"nap": 2000}
    (row,) = counted.rows()
    assert sum(row.durations.values()) == 2000
