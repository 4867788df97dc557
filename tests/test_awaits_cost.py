"""Await accounting that nobody asked for takes a small part of the time at most, and says so."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import greenback
import pytest
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof.profiles import Profile
from greenprof.samplers import budget
from greenprof.samplers.awaits import AwaitAccount
from greenprof.samplers.budget import CREDIT_NS, EACH, SHARE, WHOLE, Budget
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

    def __init__(self, clock: Clock, every_ns: int, cost_ns: int) -> None:
        self.budget = Budget(0)
        self.now_ns = self.counted = self.not_counted = 0
        self._clock, self._every_ns, self._cost_ns = clock, every_ns, cost_ns

    def run(self, seconds: float) -> list[int]:
        """When a pause began, in nanoseconds."""
        pauses = []
        until_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < until_ns:
            self.now_ns += self._every_ns
            if self.budget.is_paused(self.now_ns):
                self.not_counted += 1
                continue
            begun_ns = self.budget.begin()
            self._clock.now_ns += self._cost_ns
            self.counted += 1
            if begun_ns and self.budget.end(begun_ns, self.now_ns):
                pauses.append(self.now_ns)
        return pauses


def test_what_is_cheap_is_not_paused(clock: Clock) -> None:
    program = Program(clock, every_ns=1_000_000, cost_ns=3_300)
    assert program.run(60) == []
    assert program.budget.counted_ns(program.now_ns) == (program.now_ns, program.now_ns)


@pytest.mark.parametrize("cost_ns", [25_000, 100_000, 900_000])
def test_what_is_not_takes_its_share_and_no_more(clock: Clock, cost_ns: int) -> None:
    program = Program(clock, every_ns=1_000_000, cost_ns=cost_ns)
    pauses = program.run(300)
    assert pauses
    taken_ns = program.counted * WHOLE * cost_ns
    allowed_ns = SHARE * 300e9 + CREDIT_NS
    assert 0.9 * (allowed_ns - CREDIT_NS) < taken_ns < allowed_ns + EACH * WHOLE * cost_ns
    counted_ns, whole_ns = program.budget.counted_ns(program.now_ns)
    assert whole_ns == program.now_ns
    assert counted_ns / whole_ns == pytest.approx(
        program.counted / (program.counted + program.not_counted), rel=0.1
    )


def test_a_quiet_hour_pays_for_a_moment_only(clock: Clock) -> None:
    program = Program(clock, every_ns=1_000_000, cost_ns=100_000)
    program.run(1)
    program.now_ns += 3600 * 10**9
    began_ns = program.now_ns
    (pause, *_) = program.run(60)
    # The credit, of which 0.15 less what is earned goes each second.
    assert (pause - began_ns) / 1e9 == pytest.approx(CREDIT_NS / (0.15 - SHARE) / 1e9, rel=0.05)


def test_awaits_that_do_nothing_are_not_all_counted() -> None:
    counted = Counted(AwaitAccount(sparing=True))
    counted.account.start()
    try:
        asyncio.run(greenlet_spawn(many, MANY))
    finally:
        counted.account.stop()
    assert 1_000 < sum(row.count for row in counted.rows()) < MANY
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


def test_it_goes_on_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was open when it began is forgotten; what begins later is counted, and right."""
    monkeypatch.setattr(budget, "CREDIT_NS", 0)
    monkeypatch.setattr(budget, "RESUMED_NS", 0)
    counts = []

    async def later() -> None:
        await asyncio.sleep(0.02)

    counted = Counted(AwaitAccount(sparing=True))

    def program() -> None:
        for _ in range(10):
            many(EACH + 1)  # one is looked at, and takes more than there is
            found: Any = counted.account._budget
            while found.is_paused(time.monotonic_ns()):
                await_(nothing())
            await_(later())
            counts.append(counted.row("later").count)

    counted.account.start()
    try:
        asyncio.run(greenlet_spawn(program))
    finally:
        counted.account.stop()
    assert counts == list(range(1, 11))
    assert counted.row("later").min_ns >= 20_000_000
    assert counted.account.warnings


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
    assert 1_000 < sum(row.count for row in counted.rows()) < MANY
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
        assert recording._account._budget is None
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
