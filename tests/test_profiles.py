"""The data model: interning, the caps, merging and subtracting."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof.errors import GreenprofError, OptionError
from greenprof.profiles import (
    OVERFLOW_NAME,
    Frame,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    SpanRef,
    State,
    TaskGroup,
)
from tests.profiles import MS, SECOND, app, orders_profile, profiles, traced_profile


def contents(profile: Profile) -> Counter[tuple[object, ...]]:
    """What a profile says, whatever its numbering: (group, thread, stack, state, what) -> how much."""
    found: Counter[tuple[object, ...]] = Counter()
    for sample in profile.samples:
        group = profile.groups[sample.group]
        key = (
            (group.name, group.kind),
            profile.threads[sample.thread],
            profile.stack(sample.stack),
            sample.state,
        )
        found[*key, "count"] += sample.count
        found[*key, "wall"] += sample.wall_ns
        found[*key, "cpu"] += sample.cpu_ns
    for part in profile.span_samples:
        sample, ref = profile.samples[part.sample], profile.spans[part.span]
        group = profile.groups[sample.group]
        at = (ref, group.name, group.kind, profile.threads[sample.thread])
        part_key = (*at, profile.stack(sample.stack), sample.state)
        found[*part_key, "count"] += part.count
        found[*part_key, "wall"] += part.wall_ns
        found[*part_key, "cpu"] += part.cpu_ns
    return +found


def too_large_parts(profile: Profile) -> list[int]:
    """The samples whose parts sum up to more than they are."""
    sums: dict[int, list[int]] = {}
    for part in profile.span_samples:
        sums.setdefault(part.sample, []).append(part.wall_ns)
    return [at for at, parts in sums.items() if sum(parts) > profile.samples[at].wall_ns]


def test_equal_stacks_and_samples_are_stored_once() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("GET /", "asyncio"), builder.thread("MainThread")
    first = builder.stack([app("a", 1), app("b", 2)])
    frames = [builder.frame(app("a", 1)), builder.frame(app("b", 2))]
    second = builder.stack(frames)
    builder.add(group, thread, first, State.ON_CPU, 1, 5, 4)
    builder.add(group, thread, second, State.ON_CPU, 2, 10, 8)
    builder.add(group, thread, builder.stack([app("a", 1)]), State.AWAITING, 1, 7)
    profile = builder.build(ProfileInfo())
    assert first == second
    assert profile.nodes == [(-1, 0), (0, 1)]
    assert profile.stack(first) == (app("a", 1), app("b", 2))
    assert profile.stack(-1) == ()
    assert [(s.stack, s.state, s.count, s.wall_ns, s.cpu_ns) for s in profile.samples] == [
        (0, State.AWAITING, 1, 7, 0),
        (1, State.ON_CPU, 3, 15, 12),
    ]


def test_a_built_profile_does_not_change_with_its_builder() -> None:
    builder = ProfileBuilder()
    info = ProfileInfo(pids=[1], warnings=["first"])
    group, thread = builder.group("a", "thread"), builder.thread("t")
    node = builder.stack([app("a", 1)])
    builder.add(group, thread, node, State.ON_CPU, 1, 1, 1)
    before = builder.build(info)
    copy = Profile.from_bytes(before.to_bytes())
    builder.count_tasks(group, 5)
    builder.add(group, thread, node, State.ON_CPU, 1, 1, 1)
    builder.add(group, builder.thread("u"), builder.stack([app("b", 1)]), State.IDLE)
    info.warnings.append("second")
    info.pids.append(2)
    assert before == copy


def test_stacks_over_the_cap_keep_their_upper_part_and_are_counted() -> None:
    builder = ProfileBuilder(max_nodes=4)
    group, thread = builder.group("g", "asyncio"), builder.thread("t")
    for number in range(1000):
        stack = builder.stack(
            [app("root", 1), app("handler", 2), app(f"f{number}", 3), app("x", 4)]
        )
        builder.add(group, thread, stack, State.ON_CPU, 2, 10, 10)
    profile = builder.build(ProfileInfo(overflow_samples=3))
    names = {tuple(f.name for f in profile.stack(s.stack)): s.count for s in profile.samples}
    assert names == {
        ("root", "handler", "f0", "x"): 2,
        ("root", "handler", OVERFLOW_NAME): 999 * 2,
    }
    assert profile.info.overflow_samples == 3 + 999 * 2
    assert sum(sample.cpu_ns for sample in profile.samples) == 10_000
    assert len(profile.nodes) <= 2 * 4
    assert len(profile.frames) <= 4 + 1


def test_groups_and_threads_over_the_cap_share_one() -> None:
    builder = ProfileBuilder(max_groups=2)
    for number in range(50):
        builder.count_tasks(builder.group(f"task {number}", "asyncio"))
        builder.thread(f"thread {number}")
    profile = builder.build(ProfileInfo())
    assert profile.groups == [
        TaskGroup("task 0", "asyncio", 1),
        TaskGroup("task 1", "asyncio", 1),
        TaskGroup("[other]", "asyncio", 48),
    ]
    assert profile.threads == ["thread 0", "thread 1", "[other]"]


def test_a_clock_read_out_of_order_does_not_make_a_file_that_does_not_load() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("g", "thread"), builder.thread("t")
    builder.add(group, thread, -1, State.ON_CPU, 1, -5, -7)
    profile = builder.build(ProfileInfo())
    assert (profile.samples[0].wall_ns, profile.samples[0].cpu_ns) == (0, 0)
    assert Profile.from_bytes(profile.to_bytes()) == profile


def test_parts_of_samples_never_sum_up_to_more_than_the_sample() -> None:
    builder = ProfileBuilder()
    key = builder.group("g", "thread"), builder.thread("t"), -1, State.ON_CPU
    first, second, third = (builder.span(SpanRef("a" * 32, str(n) * 16)) for n in range(3))
    builder.add(*key, 3, 30, 3)
    builder.add(*key, 1, -10, 0)  # a clock that was read out of order
    builder.add_part(first, key, 2, 15, 0)
    builder.add_part(second, key, 3, 15, -2)
    builder.add_part(third, key, 0, 7, 0)
    profile = builder.build(ProfileInfo())
    assert [(p.span, p.sample, p.count, p.wall_ns, p.cpu_ns) for p in profile.span_samples] == [
        (0, 0, 2, 15, 0),
        (1, 0, 2, 5, 0),
    ]
    # One that has no part any more is not stored.
    assert [ref.span_id[0] for ref in profile.spans] == ["0", "1"]
    assert Profile.from_bytes(profile.to_bytes()) == profile


def test_spans_of_several_processes_stay_apart_and_one_that_both_saw_is_one() -> None:
    one, other = traced_profile(), traced_profile()
    other.spans = [*other.spans[:-1], SpanRef("c" * 32, "d" * 16)]
    other.info = dataclasses.replace(other.info, profile_id="e" * 32)
    merged = Profile.merge([one, other])
    assert set(merged.spans) == {*one.spans, *other.spans}
    assert not too_large_parts(merged)
    assert merged.info.profile_id == f"{'f' * 32}, {'e' * 32}"
    assert Profile.merge([one, one]).info.profile_id == "f" * 32


@given(profiles(), profiles())
def test_merging_adds_up(one: Profile, other: Profile) -> None:
    merged = Profile.merge([one, other])
    assert contents(merged) == contents(one) + contents(other)
    tasks: Counter[tuple[str, str]] = Counter()
    for group in one.groups + other.groups:
        tasks[group.name, group.kind] += group.count
    assert {(g.name, g.kind): g.count for g in merged.groups} == dict(tasks)
    for name in ("process_cpu_ns", "ticks", "missed_ticks", "sampler_cpu_ns", "overflow_samples"):
        assert getattr(merged.info, name) == getattr(one.info, name) + getattr(other.info, name)
    assert merged.info.duration_ns == max(one.info.duration_ns, other.info.duration_ns)


@given(profiles())
def test_merging_one_changes_nothing_that_counts(profile: Profile) -> None:
    assert contents(Profile.merge([profile])) == contents(profile)


def test_merging_says_what_several_processes_were() -> None:
    one, other = orders_profile(), orders_profile()
    other.info = dataclasses.replace(
        other.info,
        command="worker.py",
        pids=[4712],
        started_at="2026-01-02T03:04:00+00:00",
        duration_ns=5 * SECOND,
        warnings=[*one.info.warnings, "a second one"],
    )
    info = Profile.merge([one, other]).info
    assert info.command == "orders.py --requests 15 + worker.py"
    assert info.pids == [4711, 4712]
    assert info.started_at == "2026-01-02T03:04:00+00:00"
    assert (info.duration_ns, info.process_cpu_ns) == (5 * SECOND, 1800 * MS)
    assert info.warnings == [*one.info.warnings, "a second one"]
    assert (info.python, info.rate_hz) == ("3.11.9", 100.0)


def test_merging_keeps_what_each_part_had_over_its_cap() -> None:
    builder = ProfileBuilder(max_nodes=1)
    group, thread = builder.group("g", "asyncio"), builder.thread("t")
    builder.add(group, thread, builder.stack([app("a", 1), app("b", 1)]), State.ON_CPU, 4)
    part = builder.build(ProfileInfo())
    assert Profile.merge([part, part]).info.overflow_samples == 8


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(OptionError, match="give one at least"):
        Profile.merge([])


@given(st.data())
def test_what_came_since_a_snapshot(data: st.DataObject) -> None:
    earlier, since = data.draw(profiles()), data.draw(profiles())
    earlier.info.started_at = since.info.started_at = "2026-01-02T03:04:05+00:00"
    later = Profile.merge([earlier, since])
    difference = later.subtract(earlier)
    assert contents(difference) == contents(since)
    assert not too_large_parts(difference)
    assert all(sample.count or sample.wall_ns or sample.cpu_ns for sample in difference.samples)
    known = {(group.name, group.kind): group.count for group in difference.groups}
    assert +Counter(known) == +Counter({(g.name, g.kind): g.count for g in since.groups})


def test_subtracting_says_when_and_what_is_new() -> None:
    earlier = orders_profile()
    later = Profile.merge([earlier, earlier])
    later.info = dataclasses.replace(
        later.info, duration_ns=5 * SECOND, warnings=[*earlier.info.warnings, "new"]
    )
    info = later.subtract(earlier).info
    assert info.started_at == "2026-01-02T03:04:07+00:00"
    assert (info.duration_ns, info.process_cpu_ns, info.ticks) == (3 * SECOND, 900 * MS, 198)
    assert info.warnings == ["new"]


def test_subtracting_an_equal_snapshot_leaves_nothing() -> None:
    profile = traced_profile()
    nothing = profile.subtract(profile)
    assert (nothing.samples, nothing.groups, nothing.nodes) == ([], [], [])
    assert (nothing.spans, nothing.span_samples) == ([], [])
    assert nothing.info.profile_id == profile.info.profile_id


def test_subtracting_a_later_snapshot_does_not_go_below_zero() -> None:
    earlier = orders_profile()
    later = Profile.merge([earlier, earlier])
    difference = earlier.subtract(later)
    assert difference.samples == []
    assert difference.info.process_cpu_ns == 0
    assert difference.info.duration_ns == 0


def test_subtracting_another_session_is_an_error() -> None:
    one, other = orders_profile(), orders_profile()
    other.info = dataclasses.replace(other.info, started_at="2026-01-02T03:04:06+00:00")
    with pytest.raises(OptionError, match="two snapshots of one session"):
        one.subtract(other)


def test_qualified_name() -> None:
    assert app("Api.get", 1).qualified_name == "orders.api.Api.get"
    assert Frame("<module>", "x.py").qualified_name == "<module>"


def test_errors_are_for_the_command_line_too() -> None:
    assert issubclass(OptionError, ValueError)
    assert GreenprofError("x").exit_code == 2
