"""Await accounting that nobody asked for takes a small part of the time at most, and says so."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from pathlib import Path
from typing import Any

import greenback
import pytest
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof.profiles import Profile
from greenprof.samplers import budget, bursts
from greenprof.samplers.awaits import AwaitAccount
from greenprof.samplers.budget import (
    AHEAD_NS,
    CREDIT_NS,
    DEBT_NS,
    EACH,
    FIRST,
    SHARE,
    WHOLE,
    Budget,
)
from tests.await_truth import Counted
from tests.cli_programs import write_program
from tests.running import run_greenprof
from tests.sqlalchemy_programs import await_

#: Awaits, of which there are too many to count them all unasked.
MANY = 120_000


async def nothing() -> None:
    pass


async def short() -> None:
    await asyncio.sleep(0.002)


def many(count: int) -> None:
    for _ in range(count):
        await_(nothing())


class Clock:
    """A thread's CPU time, which only passes where a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def thread_time_ns(self) -> int:
        self.now_ns += 700  # asking takes time as well
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(budget, "time", found)
    return found


class Program:
    """Awaits one after another, each `every_ns`, that cost `cost_ns` to count."""

    def __init__(self, clock: Clock, every_ns: int = 1_000_000, cost_ns: int = 100_000) -> None:
        self.budget = Budget(0)
        self.now_ns = 0
        self.every_ns, self.cost_ns = every_ns, cost_ns
        #: When those began that were counted, and those that were not.
        self.counted: list[int] = []
        self.left_out: list[int] = []
        self._clock = clock

    @property
    def taken_ns(self) -> float:
        return len(self.counted) * WHOLE * self.cost_ns

    def run(self, seconds: float) -> list[int]:
        """When a pause began, in nanoseconds."""
        pauses = []
        until_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < until_ns:
            self.now_ns += self.every_ns
            if self.budget.is_paused(self.now_ns):
                self.left_out.append(self.now_ns)
                continue
            if self.now_ns >= self.budget.burst_until_ns and self.budget.end_burst(self.now_ns):
                pauses.append(self.now_ns)
                self.left_out.append(self.now_ns)
                continue
            begun_ns = self.budget.begin(self.now_ns)
            self._clock.now_ns += self.cost_ns
            self.counted.append(self.now_ns)
            if begun_ns and self.budget.end(begun_ns, self.now_ns):
                pauses.append(self.now_ns)
        return pauses


def test_what_is_cheap_is_not_paused(clock: Clock) -> None:
    program = Program(clock, cost_ns=2_200)
    assert program.run(60) == []
    whole_ns = program.now_ns - program.every_ns
    assert program.budget.counted_ns(program.now_ns) == (whole_ns, whole_ns)


@pytest.mark.parametrize(
    ("cost_ns", "least"),
    # A burst has its least length: what costs that much leaves something over.
    [(25_000, 0.9), (100_000, 0.9), (900_000, 0.1)],
)
def test_what_is_not_takes_its_share_and_no_more(clock: Clock, cost_ns: int, least: float) -> None:
    program = Program(clock, cost_ns=cost_ns)
    assert program.run(300)
    ahead_ns = AHEAD_NS + DEBT_NS + EACH * WHOLE * cost_ns
    assert least * SHARE * 300e9 < program.taken_ns < SHARE * 300e9 + ahead_ns
    counted_ns, whole_ns = program.budget.counted_ns(program.now_ns)
    assert whole_ns == program.now_ns - program.every_ns
    assert counted_ns / whole_ns == pytest.approx(
        len(program.counted) / (len(program.counted) + len(program.left_out)), rel=0.1
    )


def test_it_counts_in_many_short_bursts(clock: Clock) -> None:
    """A run of seconds has many of them, in all its parts, and in no step with the program."""
    program = Program(clock, every_ns=200_000, cost_ns=15_000)
    pauses = program.run(6)
    assert len(pauses) > 12
    for second in range(6):
        seen = [at_ns for at_ns in program.counted if at_ns // 10**9 == second]
        assert len(seen) > 50
    assert len(program.counted) * WHOLE * 15_000 < AHEAD_NS + DEBT_NS + SHARE * 6e9
    between = [later - one for one, later in itertools.pairwise(pauses)]
    assert max(between) < 1.5e9
    assert len({round(one / 1e7) for one in between}) > len(between) / 3


def test_what_was_before_the_first_is_no_part_of_it(clock: Clock) -> None:
    """A program that takes its time to start: that says nothing of how many are left out."""
    program = Program(clock)
    program.now_ns = 10**10
    program.run(5)
    counted_ns, whole_ns = program.budget.counted_ns(program.now_ns)
    assert whole_ns == pytest.approx(5e9, rel=0.01)
    part = len(program.counted) / (len(program.counted) + len(program.left_out))
    assert counted_ns / whole_ns == pytest.approx(part, rel=0.1)


def test_what_takes_turns_is_counted_alike(clock: Clock) -> None:
    """Many awaits for a moment, then few: the same part of either."""
    program = Program(clock, cost_ns=5_000)
    many = few = 0
    for _ in range(1_000):
        program.every_ns = 200_000
        before = len(program.counted)
        program.run(0.1)
        many += len(program.counted) - before
        program.every_ns = 2_000_000
        before = len(program.counted)
        program.run(0.1)
        few += len(program.counted) - before
    assert many / few == pytest.approx(10, rel=0.25)


def test_a_quiet_hour_pays_for_a_moment_only(clock: Clock) -> None:
    program = Program(clock)
    program.run(1)
    program.now_ns += 3600 * 10**9
    before_ns = program.taken_ns
    program.run(10)
    ahead_ns = CREDIT_NS + DEBT_NS + EACH * WHOLE * program.cost_ns
    assert program.taken_ns - before_ns < SHARE * 10e9 + ahead_ns


def test_what_is_rare_and_dear_counts_for_itself(clock: Clock) -> None:
    """Not for all others if it is looked at by chance, and not for nothing if it is not."""
    found = Budget(0)

    def look(cost_ns: int) -> int:
        clock.now_ns += cost_ns
        return cost_ns

    measured = found.exactly(look)
    dear_ns = AHEAD_NS // 4
    for _ in range(FIRST + EACH - 1):
        assert not (begun_ns := found.begin(0)) or not found.end(begun_ns, 0)
    for _ in range(2):
        assert measured(dear_ns) == dear_ns
    begun_ns = found.begin(0)
    measured(2 * dear_ns)
    assert found.end(begun_ns, 0)


def test_awaits_that_do_nothing_are_not_all_counted() -> None:
    counted = Counted(AwaitAccount(sparing=True))
    counted.account.start()
    try:
        asyncio.run(greenlet_spawn(many, MANY))
    finally:
        counted.account.stop()
    assert 100 < sum(row.count for row in counted.rows()) < MANY
    (said,) = counted.account.warnings
    assert re.match(r"awaits were counted for [0-9.]+ of [0-9.]+ s: unless it is asked for ", said)
    assert counted.account.warnings == [said]


def test_those_that_take_their_time_are_all_counted() -> None:
    def wait() -> None:
        for _ in range(10):
            await_(short())

    async def main() -> None:
        await asyncio.gather(*(greenlet_spawn(wait) for _ in range(20)))

    counted = Counted(AwaitAccount(sparing=True))
    counted.account.start()
    try:
        asyncio.run(main())
    finally:
        counted.account.stop()
    assert sum(row.count for row in counted.rows()) == 200
    assert counted.account.warnings == []


@pytest.fixture
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is looked at takes more than there is."""
    for name in ("AHEAD_NS", "CREDIT_NS", "DEBT_NS"):
        monkeypatch.setattr(budget, name, 0)


@pytest.mark.usefixtures("nothing_ahead")
def test_it_goes_on_after_a_pause() -> None:
    """What begins in a pause is not counted; what begins later is, and is right."""
    counts = []

    async def later() -> None:
        await asyncio.sleep(0.02)

    counted = Counted(AwaitAccount(sparing=True))

    def program() -> None:
        for _ in range(5):
            many(100 * EACH)
            found: Any = counted.account._bursts
            assert found.budget.paused_until_ns
            while found.is_paused(time.monotonic_ns()):
                await_(nothing())
            await_(later())
            counts.append(counted.row("later").count)

    counted.account.start()
    try:
        asyncio.run(greenlet_spawn(program))
    finally:
        counted.account.stop()
    assert counts == list(range(1, 6))
    assert counted.row("later").min_ns >= 20_000_000
    assert counted.account.warnings


@pytest.mark.parametrize("closing_s", [1.0, 0.03])
def test_what_is_open_when_a_pause_begins(
    monkeypatch: pytest.MonkeyPatch, closing_s: float
) -> None:
    """It is counted to its end: else those that take long would be left out. But not for ever."""
    monkeypatch.setattr(bursts, "CLOSING_NS", round(closing_s * 1e9))
    counted = Counted(AwaitAccount(sparing=True))

    async def long() -> None:
        await asyncio.sleep(0.1)

    async def too_late() -> None:
        await asyncio.sleep(0.01)

    def pause() -> None:
        await_(short())
        counted.account.charge(20 * AHEAD_NS, time.monotonic_ns())
        assert not counted.account.is_paused(time.monotonic_ns())
        for _ in range(5):
            await_(too_late())

    async def main() -> None:
        await asyncio.gather(greenlet_spawn(await_, long()), greenlet_spawn(pause))
        assert counted.account.is_paused(time.monotonic_ns())

    counted.account.start()
    try:
        asyncio.run(main())
    finally:
        counted.account.stop()
    counts = {row.awaited.rpartition(".")[2]: row.count for row in counted.rows()}
    if closing_s == 1:
        assert counts == {"short": 1, "long": 1}
        assert counted.row("long").min_ns >= 0.09e9
        assert len(counted.account.warnings) == 1
    else:
        assert counts == {"short": 1}
        assert any(
            text.startswith("1 awaits were not counted") for text in counted.account.warnings
        )


def test_what_begins_where_it_is_handed_over_too() -> None:
    async def main() -> None:
        await greenback.ensure_portal()
        for _ in range(MANY):
            greenback.await_(nothing())

    counted = Counted(AwaitAccount(sparing=True))
    counted.account.start()
    try:
        asyncio.run(main())
    finally:
        counted.account.stop()
    assert 100 < sum(row.count for row in counted.rows()) < MANY
    assert len(counted.account.warnings) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"awaits": True},
        {"engine": "exact"},
        {"timeline": 60.0},
    ],
)
def test_whoever_asks_gets_all(options: dict[str, Any]) -> None:
    with greenprof.Profiler(**options) as profiler:
        asyncio.run(greenlet_spawn(many, 1_000))
        recording: Any = profiler._recording
        assert recording._account._bursts is None
    assert sum(one.count for one in profiler.profile.awaits) == 1_000


PROGRAM = f"""
import asyncio
from sqlalchemy.util import await_only, greenlet_spawn
async def nothing(): pass
def many():
    for _ in range({MANY}):
        await_only(nothing())
asyncio.run(greenlet_spawn(many))
"""
# A hub stays where it was, so it gets a process of its own.
IN_HUB = f"""
import gevent
def many():
    for _ in range({MANY}):
        gevent.sleep(0)
gevent.spawn(many).join()
"""


@pytest.mark.parametrize(
    ("program", "options", "all_of_them"),
    [
        (PROGRAM, (), False),
        (PROGRAM, ("--awaits",), True),
        (PROGRAM, ("--no-awaits",), None),
        (IN_HUB, (), False),
    ],
    ids=["default", "all", "none", "hub"],
)
def test_the_command_line(
    tmp_path: Path, program: str, options: tuple[str, ...], all_of_them: bool | None
) -> None:
    script = write_program(tmp_path, "app.py", program)
    out = tmp_path / "out.gprof"
    run_greenprof("run", *options, "-o", out, script, cwd=tmp_path)
    profile = Profile.load(out)
    count = sum(one.count for one in profile.awaits)
    assert (count >= MANY) is bool(all_of_them)
    assert (count == 0) is (all_of_them is None)
    assert any("asked for" in text for text in profile.info.warnings) == (not options)
    shown = run_greenprof("show", out, cwd=tmp_path)
    text = " ".join(shown.stdout.split())
    assert ("asked for" in text) == (not options), shown
