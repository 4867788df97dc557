"""What of two profiles is the same thing, although lines and folders moved."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof.analysis import function_table
from greenprof.differences.matching import aligned, paired_lines, scale_factors, scaled
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from tests.differing import before, exact, moved
from tests.profiles import MS, SECOND, accounted_profile, app, orders_profile, profiles

lines = st.lists(st.integers(0, 200), max_size=12)


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ([], [], {}),
        ([10], [], {}),
        ([10, 20], [13, 40], {10: 13, 20: 40}),
        ([10, 20, 30], [10, 20, 25, 30], {10: 10, 20: 20, 30: 30}),
        ([10, 20, 30], [15, 35], {10: 15, 30: 35}),
        ([10, 20], [10, 15, 22], {10: 10, 20: 22}),
        ([40, 41, 42], [41, 42, 43, 50], {40: 41, 41: 42, 42: 43}),
    ],
)
def test_lines_are_paired_by_their_order_and_by_how_far_they_moved(
    old: list[int], new: list[int], pairs: dict[int, int]
) -> None:
    assert paired_lines(old, new) == pairs


@given(lines, lines)
def test_pairs_keep_the_order_and_use_each_line_once(old: list[int], new: list[int]) -> None:
    pairs = sorted(paired_lines(old, new).items())
    assert {line for line, _ in pairs} <= set(old)
    others = [other for _, other in pairs]
    assert others == sorted(set(others))
    assert set(others) <= set(new)
    if len(set(old)) == len(set(new)):
        assert len(pairs) == len(set(old))


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.integers(-50, 50))
def test_a_block_that_moved_as_a_whole_is_found(old: list[int], by: int) -> None:
    assert paired_lines(old, [line + by for line in old]) == {line: line + by for line in old}


def test_many_lines_take_no_time() -> None:
    assert len(paired_lines(range(0, 100_000, 2), range(99_999))) == 50_000


def test_functions_are_the_same_by_module_and_name_wherever_their_files_are() -> None:
    same = aligned(before(), moved(before()))
    rows = {(row.name, row.path, row.first_line) for row in function_table(same)}
    assert rows == {(row.name, row.path, row.first_line) for row in function_table(moved(before()))}
    assert {row.path for row in function_table(same) if row.name == "get_order"} == {
        "/home/other/orders/api.py"
    }


def lambdas(*first_lines: int) -> Profile:
    builder = ProfileBuilder()
    group, thread = builder.group("main", "thread"), builder.thread("MainThread")
    for line in first_lines:
        stack = builder.stack([app("<lambda>", line, first_line=line)])
        builder.add(group, thread, stack, State.ON_CPU, 1, line * MS, line * MS)
    return builder.build(ProfileInfo())


def test_functions_of_one_name_are_told_apart_by_the_order_of_their_lines() -> None:
    rows = function_table(aligned(lambdas(10, 20), lambdas(15, 25)))
    assert {row.first_line: row.self_cpu_ns for row in rows} == {15: 10 * MS, 25: 20 * MS}


def test_what_is_gone_keeps_its_own_place() -> None:
    other = dataclasses.replace(orders_profile(), frames=[], nodes=[], samples=[])
    assert aligned(before(), other).frames == before().frames


@given(profiles(), profiles())
def test_aligning_changes_no_number(one: Profile, other: Profile) -> None:
    same = aligned(one, other)
    assert same.samples == one.samples
    assert [frame.name for frame in same.frames] == [frame.name for frame in one.frames]


def with_tasks(profile: Profile, counts: dict[str, int], duration_ns: int = 2 * SECOND) -> Profile:
    groups = [
        dataclasses.replace(group, count=counts.get(group.name, group.count))
        for group in profile.groups
    ]
    info = dataclasses.replace(profile.info, duration_ns=duration_ns)
    return dataclasses.replace(profile, groups=groups, info=info)


def test_nothing_is_scaled_unless_it_is_asked_for() -> None:
    other = with_tasks(before(), {"GET /report": 6}, duration_ns=9 * SECOND)
    assert scale_factors(before(), other, "none") == (1.0, [1.0] * 4)


def test_by_duration_everything_is_scaled_alike() -> None:
    other = with_tasks(before(), {}, duration_ns=6 * SECOND)
    assert scale_factors(before(), other, "duration") == (3.0, [3.0] * 4)


def test_by_tasks_each_group_has_its_own_factor_and_threads_that_of_all() -> None:
    other = with_tasks(before(), {"GET /report": 6, "GET /orders/{}": 24})
    assert scale_factors(before(), other, "tasks") == (2.0, [2.0, 2.0, 2.0, 2.0])
    other = with_tasks(before(), {"GET /report": 18})
    assert scale_factors(before(), other, "tasks") == (2.0, [1.0, 6.0, 2.0, 2.0])


@pytest.mark.parametrize("scale", ["duration", "tasks"])
def test_what_has_no_duration_or_tasks_stays_as_it_is(scale: str) -> None:
    empty = with_tasks(before(), dict.fromkeys(["GET /report", "GET /orders/{}"], 0), 0)
    assert scale_factors(empty, before(), scale) == (1.0, [1.0] * 4)
    assert scale_factors(Profile(), Profile(), scale) == (1.0, [])


def test_scaling_multiplies_times_and_awaits_but_no_observations() -> None:
    profile = accounted_profile()
    twice = scaled(profile, 2.0, [2.0] * len(profile.groups))
    assert [one.wall_ns for one in twice.samples] == [2 * one.wall_ns for one in profile.samples]
    assert [one.cpu_ns for one in twice.samples] == [2 * one.cpu_ns for one in profile.samples]
    assert [one.count for one in twice.samples] == [one.count for one in profile.samples]
    assert [one.count for one in twice.awaits] == [2 * one.count for one in profile.awaits]
    assert [one.max_ns for one in twice.awaits] == [one.max_ns for one in profile.awaits]
    assert twice.info.process_cpu_ns == 2 * profile.info.process_cpu_ns


def test_calls_are_multiplied_as_well() -> None:
    profile = exact(before())
    twice = scaled(profile, 2.0, [2.0] * len(profile.groups))
    assert [one.count for one in twice.samples] == [2 * one.count for one in profile.samples]
