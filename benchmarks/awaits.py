"""Prints, as Markdown, what counting awaits costs: `python -m benchmarks.awaits`.

CPU time of the process for each await, or each request, of three programs: as they are, under a profiler that counts no
awaits, one that counts all, and one that counts as many as the default allows. The four take turns. And what a budget
takes for it: counting is switched on and off, turn by turn, and beside the difference stands what was charged for it.
Takes four minutes; needs the test extra, which brings its own PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol
from unittest.mock import patch

from sqlalchemy.util import await_only, greenlet_spawn

import greenprof
from benchmarks.programs.geventing import Gevent
from benchmarks.programs.queries import SqlAlchemy
from benchmarks.programs.shop import Shop
from greenprof.samplers.budget import Budget
from tests.postgres import running_postgres

#: As by default: it is at a look that the tracer is taken in and out.
RATE_HZ = 100.0
WAYS: dict[str, dict[str, bool | None] | None] = {
    "without": None,
    "no awaits": {"awaits": False},
    "all counted": {"awaits": True},
    "by default": {"awaits": None},
}


class Turning(Protocol):
    def turn(self) -> None: ...


class Program(NamedTuple):
    """What takes turns, and what each of these is so many of."""

    name: str
    program: Turning
    units: int
    turns: int
    """For each measurement: those by default go on for longer than what they may take at once."""


class Nothing:
    """Awaits that do nothing, one after another, below sync code."""

    count = 20_000

    def turn(self) -> None:
        asyncio.run(greenlet_spawn(self._awaits, 10))

    def _awaits(self, deeper: int) -> None:
        if deeper:
            self._awaits(deeper - 1)
            return
        for _ in range(self.count):
            await_only(_nothing())


async def _nothing() -> None:
    pass


def spent_s(program: Program, way: dict[str, bool | None] | None) -> float:
    """CPU time of a measurement's turns, in seconds for each of what they count."""

    def turns() -> float:
        started = time.process_time()
        for _ in range(program.turns):
            program.program.turn()
        return (time.process_time() - started) / program.turns / program.units

    if way is None:
        return turns()
    with greenprof.Profiler(RATE_HZ, **way):  # type: ignore[arg-type]
        return turns()


def rows(programs: list[Program], rounds: int) -> Iterator[str]:
    yield f"| CPU time | {' | '.join(WAYS)} |"
    yield f"|---|{'--:|' * len(WAYS)}"
    for program in programs:
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        program.program.turn()
        for number in range(rounds):
            for name in WAYS if number % 2 else reversed(WAYS):
                times[name].append(spent_s(program, WAYS[name]))
        cells = (f"{statistics.median(found) * 1e6:.1f} µs" for found in times.values())
        yield f"| {program.name} | {' | '.join(cells)} |"


def charged(program: Program, turns: int) -> str:
    """What counting every await costs by the process's CPU time, and by the budget: in microseconds for each unit."""
    never_ns = 1 << 61
    taken_ns = 0.0

    class Unlimited(Budget):
        """Bursts and pauses are as they are told."""

        def _earn(self, now_ns: int) -> None:
            pass

        def _take(self, cost_ns: float) -> None:
            nonlocal taken_ns
            taken_ns += cost_ns

        def turn(self, *, on: bool) -> float:
            self.paused_until_ns, self.burst_until_ns = 0 if on else never_ns, never_ns
            before = time.process_time()
            program.program.turn()
            return (time.process_time() - before) / program.units

    profiler: Any = greenprof.Profiler(RATE_HZ)
    with patch("greenprof.samplers.awaits.Budget", Unlimited), profiler:
        budget: Unlimited = profiler._recording._account._bursts.budget
        for _ in range(turns // 10):
            budget.turn(on=True)
        taken_ns = 0.0
        pairs = [(budget.turn(on=True), budget.turn(on=False)) for _ in range(turns)]
    median = statistics.median(on - off for on, off in pairs)
    asked = taken_ns / turns / program.units
    return f"{program.name}: {median * 1e6:.1f} µs measured, {asked / 1e3:.1f} µs charged"


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    rounds = parser.parse_args().rounds
    with running_postgres() as server:
        url = server.url("asyncpg")
        asyncio.run(_fill(Shop(url)))
        orm, gevent = SqlAlchemy(url), Gevent()
        programs = [
            Program("an await that does nothing", Nothing(), Nothing.count, 10),
            Program(
                "a request: SQLAlchemy's ORM, asyncpg, PostgreSQL; 3 awaits, 2 tasks",
                orm,
                orm.requests,
                15,
            ),
            Program(
                "a request: gevent, on loopback; 2 waits",
                gevent,
                gevent.clients * gevent.requests,
                15,
            ),
        ]
        say(f"CPython {platform.python_version()}, medians of {rounds} rounds:\n")
        for row in rows(programs, rounds):
            say(row)
        say("\nCounting all, by turns on and off:\n")
        for program in programs[1:]:  # a turn of the first is no longer than from look to look
            say(f"- {charged(program, 20 * rounds)}")
        orm.close()
    return 0


async def _fill(shop: Shop) -> None:
    await shop.fill()
    await shop.close()


if __name__ == "__main__":
    sys.exit(main())
