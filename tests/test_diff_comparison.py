"""Two profiles side by side: each figure before and after, and what is chance."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given

from greenprof.analysis import await_sites, function_table, group_table
from greenprof.differences import (
    Chance,
    Change,
    Comparison,
    FunctionChange,
    compare,
    counted_changes,
    function_changes,
    group_changes,
    join,
    site_changes,
    total_changes,
)
from greenprof.differences.chance import Timed, chance_of
from greenprof.errors import OptionError
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from tests.differing import accounted, after, before, exact, moved
from tests.profiles import MS, SECOND, app, profiles

PERIOD_NS = 10 * MS


def function(comparison: Comparison, name: str) -> FunctionChange:
    [found] = [row for row in function_changes(comparison) if row.name == name]
    return found


def test_functions_have_both_times_where_only_their_lines_moved() -> None:
    comparison = compare(before(), after(), clock="cpu")
    row = function(comparison, "total")
    assert (row.own, row.total) == (Change(800 * MS, 200 * MS), Change(800 * MS, 200 * MS))
    assert row.own.by == -600 * MS
    assert (row.path, row.first_line) == ("/home/other/orders/api.py", 8)
    assert function(comparison, "report").total == Change(800 * MS, 200 * MS)


def test_rows_are_sorted_by_how_much_changed() -> None:
    changes = [abs(row.total.by) for row in function_changes(compare(before(), after()))]
    assert changes[0] == 2600 * MS
    assert changes == sorted(changes, reverse=True)


def test_what_is_new_or_gone_has_nothing_on_the_other_side() -> None:
    gone = function(compare(before(), Profile()), "checksum")
    assert gone.total == Change(100 * MS, 0)
    new = function(compare(Profile(), before()), "checksum")
    assert (new.total, new.path) == (Change(0, 100 * MS), "/srv/orders/api.py")


def test_await_sites_are_the_same_by_function_and_operation() -> None:
    changes = {
        (one.site.function, one.site.awaited.rpartition(".")[2]): one.time
        for one in site_changes(compare(before(), after()))
    }
    assert changes == {
        ("get_order", "fetch"): Change(1200 * MS, 3200 * MS),
        ("load_lines", "fetch"): Change(300 * MS, 900 * MS),
        ("get_order", "sleep"): Change(50 * MS, 0),
    }


def test_counted_awaits_are_compared_where_both_profiles_have_them() -> None:
    old, new = accounted()
    slow, lazy = counted_changes(compare(old, new))
    assert slow.total.after == 2 * slow.total.before
    assert slow.mean.after == 2 * slow.mean.before
    assert slow.count == Change(12, 12)
    assert lazy.total.by == 0
    assert lazy.row.site.path == "/home/other/orders/repo.py"
    assert counted_changes(compare(before(), new)) == []


def test_task_groups_are_the_same_by_name_and_kind() -> None:
    rows = {row.name: row for row in group_changes(compare(before(), after(), clock="cpu"))}
    assert rows["GET /report"].time == Change(800 * MS, 200 * MS)
    assert rows["GET /report"].tasks == Change(3, 3)


def test_totals_are_those_of_the_summary() -> None:
    changes = total_changes(compare(before(), after()))
    assert changes["long"] == Change(2 * SECOND, 2 * SECOND)
    assert changes["awaiting"] == Change(1350 * MS, 3900 * MS)
    assert changes["CPU"] == Change(900 * MS, 900 * MS)


@pytest.mark.parametrize("clock", ["wall", "cpu", "await"])
def test_a_profile_differs_from_itself_in_nothing(clock: str) -> None:
    old, _ = accounted()
    comparison = compare(old, old, clock=clock)
    assert not any(row.total.by or row.own.by for row in function_changes(comparison))
    assert not any(row.time.by for row in group_changes(comparison))
    assert not any(row.time.by for row in site_changes(comparison))
    assert not any(row.total.by for row in counted_changes(comparison))
    assert comparison.notes == []


@given(profiles(), profiles())
def test_both_sides_add_up_to_the_profiles_own_tables(old: Profile, new: Profile) -> None:
    comparison = compare(old, new)
    rows = function_changes(comparison)
    assert sum(row.own.before for row in rows) == sum(
        row.self_ns("wall") for row in function_table(old)
    )
    assert sum(row.own.after for row in rows) == sum(
        row.self_ns("wall") for row in function_table(new)
    )
    groups = group_changes(comparison)
    assert sum(row.time.before for row in groups) == sum(
        row.cpu_ns + row.awaiting_ns + row.ready_ns + row.blocked_ns for row in group_table(old)
    )
    sites = site_changes(comparison)
    assert sum(one.time.before for one in sites) == sum(one.wait_ns for one in await_sites(old))
    assert sum(one.time.after for one in sites) == sum(one.wait_ns for one in await_sites(new))


@given(profiles(), profiles())
def test_a_joined_profile_has_all_samples_of_both(old: Profile, new: Profile) -> None:
    comparison = compare(old, new)
    joined = join(comparison)
    whole = joined.profile
    assert whole.samples[: joined.split] == new.samples
    moved_samples = whole.samples[joined.split :]
    for sample, own in zip(moved_samples, comparison.before.samples, strict=True):
        assert whole.stack(sample.stack) == comparison.before.stack(own.stack)
        assert whole.threads[sample.thread] == old.threads[own.thread]
        group = whole.groups[sample.group]
        assert (group.name, group.kind) == (
            old.groups[own.group].name,
            old.groups[own.group].kind,
        )
    assert sum(joined.tasks) == sum(group.count for group in old.groups)
    assert sum(group.count for group in whole.groups) == sum(group.count for group in new.groups)


def test_profiles_that_measure_other_things_are_refused() -> None:
    with pytest.raises(OptionError, match="sampling engine with one of the exact engine"):
        compare(before(), exact(before()))
    with pytest.raises(OptionError, match=r"\(cpu\) with one of the exact engine \(wall\)"):
        compare(exact(before()), exact(before(), "wall"))


@pytest.mark.parametrize("options", [{"clock": "cup"}, {"scale": "seconds"}])
def test_an_unknown_option_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="choose"):
        compare(before(), after(), **options)


def test_calls_are_compared_exactly() -> None:
    rows = function_changes(compare(exact(before()), exact(after())))
    [row] = [row for row in rows if row.name == "total"]
    assert row.calls == Change(80, 20)
    assert {row.total_chance for row in rows} == {Chance.CLEAR}


def longer(profile: Profile, times: float) -> Profile:
    duration_ns = round(profile.info.duration_ns * times)
    return dataclasses.replace(
        profile, info=dataclasses.replace(profile.info, duration_ns=duration_ns)
    )


def test_other_durations_are_pointed_out_unless_they_were_scaled_away() -> None:
    [note] = compare(before(), longer(before(), 2)).notes
    assert "after is 2.0 times as long" in note
    [note] = compare(before(), longer(before(), 2), scale="duration").notes
    assert "multiplied by 2" in note
    assert compare(before(), longer(before(), 1.05)).notes == []
    comparison = compare(before(), longer(before(), 2), scale="duration", clock="cpu")
    assert function(comparison, "total").total == Change(1600 * MS, 800 * MS)


@pytest.mark.parametrize(
    ("old", "new", "chance"),
    [
        (Timed(100, 100), Timed(100, 100), Chance.CLEAR),
        (Timed(100, 100), Timed(110, 110), Chance.NOISE),
        (Timed(100, 100), Timed(140, 140), Chance.MAYBE),
        (Timed(100, 100), Timed(200, 200), Chance.CLEAR),
        (Timed(0, 0), Timed(10, 1), Chance.NOISE),
        (Timed(0, 0), Timed(90, 9), Chance.CLEAR),
        (Timed(10, 0), Timed(0, 0), Chance.NOISE),
    ],
)
def test_chance_follows_the_standard_error_of_the_observations(
    old: Timed, new: Timed, chance: Chance
) -> None:
    assert chance_of(old, new) is chance
    assert chance_of(new, old) is chance


def sampled_program(made: random.Random, factor: float = 1.0, functions: int = 40) -> Profile:
    """A program whose functions take times in the proportion 1, 2, 3, ..., seen by random looks."""
    builder = ProfileBuilder()
    group, thread = builder.group("main", "thread"), builder.thread("MainThread")
    weights = [number + 1.0 for number in range(functions)]
    weights[-1] *= factor
    looks = round(100 * sum(weights) / functions)
    for number in made.choices(range(functions), weights, k=looks):
        stack = builder.stack([app("main", 1), app(f"f{number}", number, first_line=number)])
        builder.add(group, thread, stack, State.ON_CPU, 1, PERIOD_NS, PERIOD_NS)
    return builder.build(ProfileInfo(duration_ns=looks * PERIOD_NS))


def test_two_profiles_of_one_program_differ_by_noise() -> None:
    made = random.Random(11)
    chances = [
        row.own_chance
        for _ in range(20)
        for row in function_changes(compare(sampled_program(made), sampled_program(made)))
        if row.own.by
    ]
    assert len(chances) > 700
    # By Poisson's distribution 0.3 % and 4.3 %.
    assert chances.count(Chance.CLEAR) / len(chances) < 0.01
    assert chances.count(Chance.MAYBE) / len(chances) < 0.09


def test_a_real_change_is_no_noise() -> None:
    made = random.Random(12)
    for _ in range(20):
        comparison = compare(sampled_program(made), sampled_program(made, factor=2.0))
        assert function(comparison, "f39").own_chance is Chance.CLEAR


def test_a_moved_program_differs_in_nothing() -> None:
    comparison = compare(before(), moved(before(), by=300))
    assert not any(row.total.by for row in function_changes(comparison))
    assert not any(one.time.by for one in site_changes(comparison))
