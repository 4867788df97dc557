"""Await accounting in profiles: snapshots, files, merges, and who listens meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof.frames import FrameTable
from greenprof.profiles import ProfileBuilder, ProfileInfo
from greenprof.samplers.awaits import AwaitAccount
from tests.await_programs import nap
from tests.sqlalchemy_programs import await_


def test_off_by_option() -> None:
    def load() -> None:
        for _ in range(20):
            await_(nap())

    with greenprof.profile(awaits=False) as profiler:
        asyncio.run(greenlet_spawn(load))
    assert profiler.profile.awaits == []
    assert profiler.profile.repeats == []


def test_a_snapshot_while_it_counts() -> None:
    seen: list[int] = []

    def load(profiler: greenprof.Profiler) -> None:
        for _ in range(5):
            await_(nap())
            seen.append(sum(stats.count for stats in profiler.snapshot().awaits))

    profiler = greenprof.Profiler(awaits=True)
    with profiler:
        asyncio.run(greenlet_spawn(load, profiler))
    assert seen == [1, 2, 3, 4, 5]
    assert sum(stats.count for stats in profiler.profile.awaits) == 5


def test_saved_and_merged(tmp_path: Any) -> None:
    """Rows of two runs add up, and a file keeps every number."""

    def load() -> None:
        for _ in range(12):
            await_(nap())

    found = []
    for name in ("one", "other"):
        with greenprof.profile() as profiler:
            asyncio.run(greenlet_spawn(load))
        profiler.profile.save(tmp_path / f"{name}.gprof")
        found.append(greenprof.Profile.load(tmp_path / f"{name}.gprof"))
        (kept,), (saved,) = profiler.profile.awaits, found[-1].awaits
        assert saved == kept
    merged = greenprof.Profile.merge(found)
    (stats,) = merged.awaits
    assert (stats.count, sum(stats.durations.values())) == (24, 24)
    assert stats.total_ns == sum(one.awaits[0].total_ns for one in found)
    (repeat,) = merged.repeats
    assert (repeat.units, repeat.awaits, repeat.most) == (2, 24, 12)


def test_an_observer_is_told_of_each() -> None:
    """The one who waited, its thread, start and end, and a site that `placed_site` knows."""
    told: list[tuple[Any, int, int, int, int]] = []
    account = AwaitAccount()
    account.observer = lambda owner, ident, start_ns, end_ns, site: told.append(
        (owner.get_name(), ident, start_ns, end_ns, site)
    )

    def load() -> None:
        for _ in range(3):
            await_(nap())

    async def main() -> None:
        await asyncio.create_task(greenlet_spawn(load), name="observed")

    account.start()
    try:
        asyncio.run(main())
    finally:
        account.stop()
    assert {(name, ident) for name, ident, *_ in told} == {("observed", threading.get_ident())}
    builder = ProfileBuilder()
    account.fill(builder, FrameTable(), 0)
    profile = builder.build(ProfileInfo())
    (stats,) = profile.awaits
    assert sum(end - start for _, _, start, end, _ in told) == stats.total_ns
    group, _, awaited = account.placed_site(told[0][4])
    assert (profile.groups[group].name, awaited) == (
        "observed",
        "tests.await_programs.nap",
    )
    assert account.placed_site(99) == (0, -1, "")
