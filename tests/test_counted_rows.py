"""Numbers of what was counted: awaits, repeats, loop blockers, calls."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given

from greenprof.analysis import await_rows, block_rows, function_table, repeat_rows
from greenprof.exporters.headline import reader_warnings
from greenprof.profiles import (
    AwaitStats,
    Block,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    Repeat,
    State,
)
from tests.counted_profiles import COMMITTED, FETCHED, counted_profile, exact_profile, stats_of
from tests.profiles import (
    MS,
    REPO,
    RUN_SYNC,
    SPAWN,
    accounted_profile,
    app,
    library,
    orders_profile,
    profiles,
)


def test_awaits_by_line_operation_and_task() -> None:
    profile = counted_profile()
    rows = await_rows(profile)
    found = [(profile.groups[row.group].name, row.site.name, row.site.line) for row in rows]
    assert found == [
        ("GET /report", "connect", 100),
        ("GET /orders/{}", "load_lines", 31),
        ("GET /orders/{}", "get_order", 40),
        ("worker-{}", "work", 80),
        ("GET /report", "load_lines", 31),
    ]
    lazy, work = rows[1], rows[3]
    assert (lazy.count, lazy.total_ns, lazy.min_ns, lazy.max_ns) == (2400, 3560 * MS, MS, 40 * MS)
    assert lazy.mean_ns == 3560 * MS // 2400
    assert (lazy.errors, lazy.cancelled, lazy.awaited) == (0, 0, FETCHED)
    assert (work.errors, work.awaited, work.bridge) == (2, COMMITTED, "sqlalchemy")
    for percent, expected_ns in ((50, MS), (95, 2 * MS), (99, 2 * MS), (100, 40 * MS)):
        assert lazy.percentile_ns(percent) == pytest.approx(expected_ns, rel=0.03)
    assert work.percentile_ns(50) == pytest.approx(15 * MS, rel=0.03)


def test_awaits_of_all_tasks_together() -> None:
    rows = await_rows(counted_profile(), by_group=False)
    assert [(row.site.name, row.count, row.group) for row in rows] == [
        ("connect", 3, -1),
        ("load_lines", 2460, -1),
        ("get_order", 12, -1),
        ("work", 30, -1),
    ]
    lazy = rows[1]
    assert (lazy.total_ns, lazy.min_ns, lazy.max_ns) == (3740 * MS, MS, 40 * MS)
    assert sum(lazy.durations.values()) == lazy.count


def test_several_ways_to_a_line_are_one_row() -> None:
    builder = ProfileBuilder()
    group = builder.group("task", "asyncio")
    ways = [[app("one", 1), REPO], [app("two", 2), REPO], [app("two", 2), app("other", 7)]]
    for times, way in zip(([5, 7], [3], [900]), ways, strict=True):
        site = builder.add_await(stats_of(group, builder.stack(way), FETCHED, times))
        builder.add_repeat(Repeat(site, 1, len(times) * 10, 10, sum(times), 1000))
    builder.add_await(stats_of(group, builder.stack(ways[0]), COMMITTED, [1], bridge="greenback"))
    profile = builder.build(ProfileInfo())
    rows = [(row.site.name, row.awaited, row.count, row.min_ns, row.max_ns, row.total_ns)
            for row in await_rows(profile)]  # fmt: skip
    assert rows == [
        ("other", FETCHED, 1, 900, 900, 900),
        ("load_lines", FETCHED, 3, 3, 7, 15),
        ("load_lines", COMMITTED, 1, 1, 1, 1),
    ]
    other, load = repeat_rows(profile)
    assert (load.site.name, load.units, load.awaits, load.total_ns) == ("load_lines", 2, 30, 15)
    assert (other.units, other.per_unit) == (1, 10.0)
    # The first way that was seen is the one that a reader is led to.
    assert [frame.name for frame in profile.stack(load.stack)] == ["one", "load_lines"]


def test_a_percentile_does_not_go_over_what_was_seen() -> None:
    builder = ProfileBuilder()
    group, stack = builder.group("task", "asyncio"), builder.stack([app("f", 3)])
    # The middle of this time's bucket lies above it.
    builder.add_await(stats_of(group, stack, "?", [1_000_001]))
    builder.add_await(AwaitStats(group, stack, "nothing", "generic", 0, 0, 0, 0))
    one, none = await_rows(builder.build(ProfileInfo()))
    assert {one.percentile_ns(percent) for percent in (1, 50, 99, 100)} == {1_000_001}
    assert (none.mean_ns, none.percentile_ns(99), none.min_ns, none.max_ns) == (0, 0, 0, 0)


def test_repeats_say_how_often_and_how_much() -> None:
    profile = counted_profile()
    first, second = repeat_rows(profile)
    assert (first.site.line, first.awaited, first.bridge) == (31, FETCHED, "sqlalchemy")
    assert (first.units, first.awaits, first.most, first.per_unit) == (12, 2400, 214, 200)
    assert (first.total_ns, first.units_ns) == (3560 * MS, 4800 * MS)
    assert profile.groups[second.group].name == "GET /report"


def test_a_line_is_named_once_with_all_that_it_repeats() -> None:
    """One query of SQLAlchemy's is several awaits: the cursor, the execution, the rows."""
    builder = ProfileBuilder()
    group, other = builder.group("GET /", "asyncio"), builder.group("GET /other", "asyncio")
    line, next_line = builder.stack([app("f", 7)]), builder.stack([app("f", 8)])
    repeats = [
        (group, line, "cursor", 20, 5, 1000), (group, line, "execute", 12, 80, 1010),
        (group, line, "close", 20, 10, 990), (group, next_line, "execute", 10, 1, 1000),
        (other, line, "close", 10, 2, 9),
    ]  # fmt: skip
    for its, stack, awaited, most, total_ns, units_ns in repeats:
        site = builder.add_await(stats_of(its, stack, awaited, [total_ns]))
        builder.add_repeat(Repeat(site, 1, most, most, total_ns, units_ns))
    rows = repeat_rows(builder.build(ProfileInfo()))
    assert [(row.group, row.site.line, row.operations, row.total_ns) for row in rows] == [
        (group, 7, "execute and 2 more", 95),
        (other, 7, "close", 2),
        (group, 8, "execute", 1),
    ]
    assert (rows[0].awaits, rows[0].most, rows[0].units_ns) == (12, 12, 1010)
    assert rows[0].others == ["close", "cursor"]


def test_the_line_that_blocks_is_the_users_and_what_it_called_is_told() -> None:
    first, second = block_rows(counted_profile())
    assert (first.site.name, first.site.line, first.inside) == ("total", 60, "")
    assert (first.count, first.total_ns, first.worst_ns, first.waiting) == (
        3, 1200 * MS, 640 * MS, 14,
    )  # fmt: skip
    assert (second.site.name, second.site.line, second.inside) == ("get_order", 43, "json.dumps")
    builder = ProfileBuilder()
    ids = builder.group("t", "greenlet"), builder.thread("m")
    theirs = builder.stack([library("a", "outer"), RUN_SYNC, library("b", "inner")])
    nowhere = builder.stack([SPAWN])
    for stack, worst_ns in ((theirs, 3), (nowhere, 2), (-1, 1)):
        builder.add_block(Block(*ids, stack, 1, worst_ns, worst_ns, 0, "gevent"))
    rows = block_rows(builder.build(ProfileInfo()))
    assert [row.site.name for row in rows] == ["inner", "greenlet_spawn", "[no stack]"]
    assert [row.site.origin for row in rows] == [FrameOrigin.LIBRARY] * 3
    assert [row.inside for row in rows] == ["", "", ""]


def test_calls_are_counted_where_the_function_is_last() -> None:
    calls = {row.name: row.calls for row in function_table(exact_profile("wall"))}
    assert calls["get_order"] == calls["load_lines"] == calls["greenlet_spawn"] == 12
    assert calls["LazyLoader._load_for_state"] == calls["Connection.fetch"] == 2400
    # A recursive function was called at each of its levels; one that was not counted has none.
    assert calls["fib"] == 3 + 6 + 12
    assert calls["AsyncSession.execute"] == 0
    assert all(row.calls == 0 for row in function_table(orders_profile()))


@given(profiles())
def test_nothing_is_lost_and_nothing_out_of_order(profile: Profile) -> None:
    rows, merged = await_rows(profile), await_rows(profile, by_group=False)
    for name in ("count", "total_ns", "errors", "cancelled"):
        whole = sum(getattr(stats, name) for stats in profile.awaits)
        assert sum(getattr(row, name) for row in rows) == whole
        assert sum(getattr(row, name) for row in merged) == whole
    for row in rows:
        points = [row.min_ns, *map(row.percentile_ns, (50, 95, 99)), row.max_ns]
        assert all(one <= other for one, other in pairwise(points))
        assert row.stack < 0 or row.site == profile.stack(row.stack)[-1]
    assert sum(row.total_ns for row in repeat_rows(profile)) == sum(
        repeat.total_ns for repeat in profile.repeats
    )
    assert Counter(row.worst_ns for row in block_rows(profile)) == Counter(
        block.worst_ns for block in profile.blocks
    )


@given(profiles())
def test_every_call_has_a_function(profile: Profile) -> None:
    profile.info.engine = "exact"
    counted = sum(
        sample.count
        for sample in profile.samples
        if sample.state is State.ON_CPU and sample.stack >= 0
    )
    assert sum(row.calls for row in function_table(profile)) == counted


def test_a_timeline_that_let_go_of_its_beginning_says_so() -> None:
    profile = accounted_profile()
    assert profile.info.lost_slices == 3
    said = "the timeline keeps its last stretches only: 3 earlier ones gave way to them"
    assert said in reader_warnings(profile)
    profile.info.lost_slices = 0
    assert not [text for text in reader_warnings(profile) if "timeline" in text]
