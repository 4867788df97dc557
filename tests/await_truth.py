"""Awaits that were counted, held against what the program itself counted and timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import greenprof
from greenprof import sites
from greenprof.frames import FrameTable
from greenprof.profiles import AwaitStats, Profile, ProfileBuilder, ProfileInfo, Sample
from greenprof.samplers.awaits import AwaitAccount
from greenprof.sites import AwaitRow, RepeatRow

PERCENTS = (50, 95, 99)


class Counted:
    """An account, and what it has counted so far."""

    def __init__(self, account: AwaitAccount) -> None:
        self.account = account

    def profile(self) -> Profile:
        """What was counted so far, as a profiler would have it."""
        builder = ProfileBuilder()
        self.account.fill(builder, FrameTable(), 0)
        return builder.build(ProfileInfo(repeat_min=self.account.repeat_min))

    def rows(self) -> list[AwaitRow]:
        return sites.await_rows(self.profile())

    def row(self, end: str) -> AwaitRow:
        """The one row of what is called so, or ends so."""
        found = [row for row in self.rows() if row.awaited.endswith(end)]
        assert len(found) == 1, (end, [(row.awaited, row.site, row.group) for row in self.rows()])
        return found[0]

    def counts(self) -> dict[str, int]:
        """How often each was awaited, by the last part of its name."""
        found: dict[str, int] = {}
        for row in self.rows():
            name = row.awaited.rpartition(".")[2]
            found[name] = found.get(name, 0) + row.count
        return found

    def repeats(self) -> list[RepeatRow]:
        return sites.repeat_rows(self.profile())

    def samples(self) -> list[Sample]:
        return self.profile().samples

    def stack_names(self, row: AwaitRow) -> list[str]:
        return [frame.name.rpartition(".")[2] for frame in self.profile().stack(row.stack)]

    def group(self, row: AwaitRow | RepeatRow | AwaitStats) -> str:
        return self.profile().groups[row.group].name


@contextlib.contextmanager
def counting(**options: Any) -> Iterator[Counted]:
    """Count awaits round a block, without sampling; nothing may have gone wrong inside."""
    account = AwaitAccount(**options)
    try:
        account.start()
        yield Counted(account)
    finally:
        account.stop()
    assert account.warnings == []


@contextlib.contextmanager
def beside_spans(traced: bool) -> Iterator[None]:
    """Make spans of the same awaits at the same time, or do not."""
    if not traced:
        yield
        return
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    with greenprof.trace(provider) as tracing:
        yield
    assert tracing.counts.awaits > 0


class Truth:
    """What one operation's awaits took: from outside, and inside of what was awaited.

    What is counted lies between the two, each time; so it does for sums, extremes and percentiles,
    and no clock has to be trusted to be quick.
    """

    def __init__(self) -> None:
        self.outer_ns: list[int] = []
        self.inner_ns: list[int] = []

    def wait(self, await_: Callable[[Any], Any], awaitable: Any) -> Any:
        """Hand over an awaitable, and note how long that took."""
        began_ns = time.monotonic_ns()
        try:
            return await_(awaitable)
        finally:
            self.outer_ns.append(time.monotonic_ns() - began_ns)

    async def timed(self, awaitable: Awaitable[Any]) -> Any:
        """Await, and note how long that took by itself."""
        began_ns = time.monotonic_ns()
        try:
            return await awaitable
        finally:
            self.inner_ns.append(time.monotonic_ns() - began_ns)

    def check(self, row: AwaitRow, *, errors: int = 0, cancelled: int = 0) -> None:
        """Fail where a row says something else than the program knows."""
        outer = sorted(self.outer_ns)
        inner = sorted(self.inner_ns) or [0] * len(outer)
        assert row.count == len(outer) == len(inner), (row.count, len(outer), len(inner))
        assert (row.errors, row.cancelled) == (errors, cancelled)
        assert sum(inner) <= row.total_ns <= sum(outer)
        assert inner[0] <= row.min_ns <= outer[0]
        assert inner[-1] <= row.max_ns <= outer[-1]
        assert sum(row.durations.values()) == row.count
        for percent in PERCENTS:
            low, high = rank(inner, percent), rank(outer, percent)
            assert low * 0.97 <= row.percentile_ns(percent) <= high * 1.03, percent


def rank(ordered: Sequence[int], percent: float) -> int:
    """The duration that `percent` of them do not go over."""
    return ordered[max(1, -int(-len(ordered) * percent // 100)) - 1]
