"""What is known exactly, in the data model: adding up, merging, and what came since a snapshot."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof.durations import bucket_of
from greenprof.errors import OptionError
from greenprof.profiles import (
    AwaitStats,
    Block,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    Repeat,
    Slice,
    SliceKind,
    Track,
)
from tests.profiles import (
    FETCH,
    MS,
    SECOND,
    SPAWN,
    accounted_profile,
    app,
    awaits_of,
    library,
    orders_profile,
    profiles,
)

START = "2026-01-02T03:04:05+00:00"


class Recording:
    """A builder with a group and a thread."""

    def __init__(self) -> None:
        self.builder = ProfileBuilder()
        self.group = self.builder.group("GET /orders", "asyncio")
        self.thread = self.builder.thread("MainThread")

    def stack(self, *lines: int) -> int:
        return self.builder.stack([app("f", line) for line in lines])

    def awaits(self, stack: int, *times_ns: int, awaited: str = "fetch", errors: int = 0) -> int:
        stats = awaits_of(self.group, stack, awaited, list(times_ns), errors=errors)
        return self.builder.add_await(stats)

    def block(self, stack: int, duration_ns: int, waiting: int = 0) -> None:
        self.builder.add_block(
            Block(self.group, self.thread, stack, 1, duration_ns, duration_ns, waiting, "asyncio")
        )

    def run(self, track: int, start_ns: int, duration_ns: int, flow: int = 0) -> None:
        self.builder.add_slice(Slice(track, SliceKind.RUN, start_ns, duration_ns, -1, "step", flow))

    def track(self, name: str) -> int:
        return self.builder.track(Track(name, self.group, self.thread))

    def profile(self, *, duration_ns: int = SECOND, started_at: str = START) -> Profile:
        return self.builder.build(ProfileInfo(started_at=started_at, duration_ns=duration_ns))


def awaits_in(profile: Profile) -> dict[Any, AwaitStats]:
    """The awaits by what they are, whatever the numbering."""
    found = {}
    for stats in profile.awaits:
        group = profile.groups[stats.group]
        key = group.name, group.kind, profile.stack(stats.stack), stats.awaited, stats.bridge
        assert key not in found
        found[key] = stats
    return found


def numbers_in(profile: Profile) -> Counter[tuple[object, ...]]:
    """What adds up of awaits, repeats and blocks, whatever the numbering."""
    found: Counter[tuple[object, ...]] = Counter()
    sites = list(awaits_in(profile))
    for key, stats in awaits_in(profile).items():
        for name in ("count", "total_ns", "errors", "cancelled"):
            found[*key, name] += getattr(stats, name)
        for bucket, count in stats.durations.items():
            found[*key, "took", bucket] += count
    for repeat in profile.repeats:
        for name in ("units", "awaits", "total_ns", "units_ns"):
            found[*sites[repeat.site], "repeated", name] += getattr(repeat, name)
    for block in profile.blocks:
        group, thread = profile.groups[block.group], profile.threads[block.thread]
        found[group.name, group.kind, thread, block.loop, "blocks"] += block.count
        found[group.name, group.kind, thread, block.loop, "blocked"] += block.total_ns
    return +found


def timeline(profile: Profile) -> Counter[tuple[object, ...]]:
    """Names and times of the slices, whatever their numbering; flows are left out."""
    return Counter(
        (
            profile.tracks[one.track].name,
            profile.groups[profile.tracks[one.track].group].name,
            profile.threads[profile.tracks[one.track].thread],
            one.kind,
            one.start_ns,
            one.duration_ns,
            profile.stack(one.stack),
            one.name,
        )
        for one in profile.slices
    )


def test_awaits_of_one_operation_at_one_site_are_one() -> None:
    recording = Recording()
    stack = recording.stack(1, 2)
    first = recording.awaits(stack, 5 * MS, 9 * MS, errors=1)
    assert recording.awaits(stack, 7 * MS, awaited="commit") == first + 1
    assert recording.awaits(recording.stack(1), 7 * MS) == first + 2
    given_stats = awaits_of(recording.group, stack, "fetch", [2 * MS, 11 * MS])
    assert recording.builder.add_await(given_stats) == first
    assert recording.builder.add_await(given_stats) == first
    assert given_stats == awaits_of(recording.group, stack, "fetch", [2 * MS, 11 * MS])
    stats = recording.profile().awaits[first]
    assert (stats.count, stats.total_ns, stats.errors) == (6, 40 * MS, 1)
    assert (stats.min_ns, stats.max_ns) == (2 * MS, 11 * MS)
    assert stats.durations == Counter(
        map(bucket_of, [5 * MS, 9 * MS, 2 * MS, 11 * MS, 2 * MS, 11 * MS])
    )


def test_repeats_of_one_site_are_one() -> None:
    recording = Recording()
    site = recording.awaits(recording.stack(1), 5)
    other = recording.awaits(recording.stack(2), 5)
    recording.builder.add_repeat(Repeat(site, 1, 20, 20, 50, 70))
    recording.builder.add_repeat(Repeat(other, 1, 10, 10, 5, 7))
    recording.builder.add_repeat(Repeat(site, 3, 45, 17, 90, 110))
    assert recording.profile().repeats == [
        Repeat(site, 4, 65, 20, 140, 180),
        Repeat(other, 1, 10, 10, 5, 7),
    ]


def test_blocks_of_one_line_are_one_with_the_stack_of_the_worst() -> None:
    recording = Recording()
    stacks = [
        recording.builder.stack([app("report", 50), SPAWN, library("numpy", name)])
        for name in ("sum", "sort", "dot")
    ]
    for stack, duration_ns, waiting in zip(
        stacks, (100 * MS, 300 * MS, 200 * MS), (3, 1, 2), strict=True
    ):
        recording.block(stack, duration_ns, waiting)
    other, library_only = recording.stack(51), recording.builder.stack([FETCH])
    recording.block(other, 900 * MS)
    recording.block(library_only, 80 * MS)
    recording.block(-1, 70 * MS)
    recording.block(-1, 60 * MS)
    blocks = recording.profile().blocks
    # The worst total first.
    assert [(one.stack, one.count, one.total_ns, one.worst_ns, one.waiting) for one in blocks] == [
        (other, 1, 900 * MS, 900 * MS, 0),
        (stacks[1], 3, 600 * MS, 300 * MS, 3),
        (-1, 2, 130 * MS, 70 * MS, 0),
        (library_only, 1, 80 * MS, 80 * MS, 0),
    ]


def test_tracks_of_one_name_stay_apart() -> None:
    recording = Recording()
    assert recording.track("worker") != recording.track("worker")
    assert len(recording.profile().tracks) == 2


def test_slices_are_in_order_and_begin_with_the_profile() -> None:
    recording = Recording()
    one, other = recording.track("one"), recording.track("other")
    recording.run(other, 5, 5)
    recording.run(one, 30, 2)
    recording.run(one, 10, 5)
    recording.run(one, 10, 20)
    recording.run(one, -4, 10)
    recording.run(one, -9, 4)
    recording.run(one, 50, -3)
    found = [(each.track, each.start_ns, each.duration_ns) for each in recording.profile().slices]
    assert found == [
        (one, 0, 6),
        (one, 0, 0),
        (one, 10, 20),
        (one, 10, 5),
        (one, 30, 2),
        (one, 50, 0),
        (other, 5, 5),
    ]


def test_a_built_profile_does_not_change_with_its_builder() -> None:
    recording = Recording()
    site = recording.awaits(recording.stack(1), 5 * MS)
    track = recording.track("one")
    recording.builder.add_repeat(Repeat(site, 1, 20, 20, 50, 70))
    recording.block(recording.stack(1), 5)
    recording.run(track, 1, 1)
    before = recording.profile()
    copy = Profile.from_bytes(before.to_bytes())
    recording.awaits(recording.stack(1), 6 * MS)
    recording.builder.add_repeat(Repeat(site, 1, 20, 20, 50, 70))
    recording.block(recording.stack(1), 6)
    recording.run(recording.track("two"), 1, 1)
    assert before == copy


def test_a_clock_read_out_of_order_does_not_make_a_file_that_does_not_load() -> None:
    recording = Recording()
    recording.awaits(-1, -7)
    recording.builder.add_repeat(Repeat(0, 1, 20, 20, -50, -70))
    recording.block(-1, -5)
    recording.run(recording.track("one"), -10, -5)
    profile = recording.profile()
    assert (profile.awaits[0].total_ns, profile.awaits[0].min_ns) == (0, 0)
    assert Profile.from_bytes(profile.to_bytes()) == profile


def test_sums_of_what_a_file_barely_holds_can_be_saved() -> None:
    """Files made by hand hold any number; merged, they are a profile like any other."""
    recording = Recording()
    most = 2**63 - 1
    for awaited in ("fetch", "fetch", "commit"):
        stats = AwaitStats(0, -1, awaited, "x", most, most, 0, most, most, most, {3: most})
        recording.builder.add_repeat(Repeat(recording.builder.add_await(stats), *[most] * 5))
    recording.builder.add_block(Block(0, 0, -1, most, most, most, most, "asyncio"))
    recording.run(recording.track("one"), most, most, flow=most)
    recording.builder.count_tasks(0, most)
    one = recording.profile(duration_ns=most)
    one.info.ticks = most
    merged = Profile.merge([one, one])
    assert merged.awaits[0].count == most
    assert Profile.from_bytes(merged.to_bytes()) == merged


@given(profiles(), profiles())
def test_merging_adds_up(one: Profile, other: Profile) -> None:
    one.info.started_at = other.info.started_at = START
    merged = Profile.merge([one, other])
    assert numbers_in(merged) == numbers_in(one) + numbers_in(other)
    assert timeline(merged) == timeline(one) + timeline(other)
    assert len(merged.tracks) == len(one.tracks) + len(other.tracks)
    known, added, both = awaits_in(one), awaits_in(other), awaits_in(merged)
    for key, stats in both.items():
        parts = [awaits[key] for awaits in (known, added) if key in awaits]
        assert stats.min_ns == min(part.min_ns for part in parts)
        assert stats.max_ns == max(part.max_ns for part in parts)
    worst = max((block.worst_ns for each in (one, other) for block in each.blocks), default=0)
    assert max((block.worst_ns for block in merged.blocks), default=0) == worst
    for name in ("lost_awaits", "lost_slices"):
        assert getattr(merged.info, name) == getattr(one.info, name) + getattr(other.info, name)
    assert Profile.from_bytes(merged.to_bytes()) == merged


@given(profiles())
def test_merging_one_changes_nothing(profile: Profile) -> None:
    merged = Profile.merge([profile])
    assert numbers_in(merged) == numbers_in(profile)
    assert timeline(merged) == timeline(profile)
    assert [one.flow for one in merged.slices] == [one.flow for one in profile.slices]


def test_timelines_of_several_processes_stand_side_by_side_in_time() -> None:
    first, second = Recording(), Recording()
    first.run(first.track("task"), 10, 5, flow=1)
    first.run(0, 20, 5, flow=2)
    second.run(second.track("task"), 10, 5, flow=1)
    second.run(0, 30, 5)
    later = second.profile(started_at="2026-01-02T03:04:06.500000+00:00")
    for order in ([first.profile(), later], [later, first.profile()]):
        merged = Profile.merge(order)
        assert [track.name for track in merged.tracks] == ["task", "task"]
        one = order.index(later)
        by_track = {
            track: [each.start_ns for each in merged.slices if each.track == track]
            for track in (0, 1)
        }
        assert by_track[one] == [1_500_000_010, 1_500_000_030]
        assert by_track[1 - one] == [10, 20]
        flows = [each.flow for each in merged.slices if each.flow]
        assert len(set(flows)) == 3


@pytest.mark.parametrize("started_at", ["", "yesterday", "2026-01-02T03:04:05"])
def test_a_timeline_of_an_unknown_start_begins_with_the_others(started_at: str) -> None:
    recording, other = Recording(), Recording()
    recording.run(recording.track("task"), 10, 5)
    other.run(other.track("task"), 20, 5)
    merged = Profile.merge([recording.profile(), other.profile(started_at=started_at)])
    assert [one.start_ns for one in merged.slices] == [10, 20]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            ("exact", "cpu"),
            ("sampling", ""),
            "exact engine, cpu clock with those of the sampling engine",
        ),
        (
            ("exact", "cpu"),
            ("exact", "wall"),
            "exact engine, cpu clock with those of the exact engine, wall clock",
        ),
        (("future\n\x1b[2J", ""), ("sampling", ""), r"future\\n\\x1b\[2J engine"),
    ],
)
def test_what_does_not_add_up_is_not_merged(
    one: tuple[str, str], other: tuple[str, str], said: str
) -> None:
    parts = [orders_profile(), orders_profile()]
    for part, (engine, clock) in zip(parts, (one, other), strict=True):
        part.info = dataclasses.replace(part.info, engine=engine, clock=clock)
    with pytest.raises(OptionError, match=said) as caught:
        Profile.merge(parts)
    assert str(caught.value).isprintable()


def test_merging_says_how_all_were_measured() -> None:
    parts = [orders_profile() for _ in range(3)]
    for part, limit_ns, repeat_min in zip(parts, (0, 200, 100), (20, 0, 30), strict=True):
        part.info = dataclasses.replace(
            part.info,
            engine="exact",
            clock="wall",
            block_limit_ns=limit_ns,
            repeat_min=repeat_min,
        )
    info = Profile.merge(parts).info
    assert (info.engine, info.clock) == ("exact", "wall")
    assert (info.block_limit_ns, info.repeat_min) == (100, 20)


@given(st.data())
def test_what_came_since_a_snapshot(data: st.DataObject) -> None:
    earlier, since = data.draw(profiles()), data.draw(profiles())
    earlier.info.started_at = since.info.started_at = START
    later = Profile.merge([earlier, since])
    difference = later.subtract(earlier)
    expected = numbers_in(since)
    found = numbers_in(difference)
    repeated = {key for key in expected if key[-2] == "repeated"}
    for key in expected.keys() | found.keys():
        # Repeats of a task that was over the threshold before are one task's at least.
        if key not in repeated:
            assert found[key] == expected[key], key
    exact = awaits_in(since)
    for key, stats in awaits_in(difference).items():
        assert stats.min_ns <= exact[key].min_ns
        assert stats.max_ns >= exact[key].max_ns
        # ... and not by more than a bucket's width.
        assert bucket_of(stats.min_ns) == bucket_of(exact[key].min_ns)
        assert bucket_of(stats.max_ns) == bucket_of(exact[key].max_ns)
    assert Profile.from_bytes(difference.to_bytes()) == difference


def test_repeats_and_blocks_since_a_snapshot() -> None:
    recording = Recording()
    old_site = recording.awaits(recording.stack(1), *[MS] * 30)
    recording.awaits(recording.stack(2), *[MS] * 5)
    recording.builder.add_repeat(Repeat(old_site, 2, 30, 18, 30 * MS, 40 * MS))
    recording.block(recording.stack(7), 500 * MS, waiting=9)
    earlier = recording.profile()
    nothing = earlier.subtract(earlier)
    assert (nothing.awaits, nothing.repeats, nothing.blocks) == ([], [], [])
    # A task that was over the threshold goes on; a line blocks in another stack, more briefly.
    recording.awaits(recording.stack(1), *[MS] * 4)
    recording.builder.add_repeat(Repeat(old_site, 0, 4, 18, 4 * MS, 5 * MS))
    stack = recording.builder.stack([app("f", 7), library("numpy", "dot")])
    recording.block(stack, 150 * MS, waiting=2)
    rest = recording.profile(duration_ns=2 * SECOND).subtract(earlier)
    [stats] = rest.awaits
    assert (stats.count, stats.total_ns) == (4, 4 * MS)
    assert [frame.line for frame in rest.stack(stats.stack)] == [1]
    assert rest.repeats == [Repeat(0, 1, 4, 4, 4 * MS, 5 * MS)]
    [block] = rest.blocks
    assert (block.count, block.total_ns, block.worst_ns) == (1, 150 * MS, 150 * MS)


def test_slices_since_a_snapshot_begin_where_it_ended() -> None:
    recording = Recording()
    gone, stays = recording.track("gone"), recording.track("stays")
    recording.run(gone, 0, SECOND)
    recording.run(gone, SECOND - 5, 0)
    recording.run(stays, SECOND - 100, 300, flow=4)
    earlier = recording.profile()
    recording.run(stays, SECOND, 0)
    recording.run(stays, SECOND + 50, 20, flow=4)
    recording.run(recording.track("new"), 3 * SECOND, 7)
    later = recording.profile(duration_ns=4 * SECOND)
    rest = later.subtract(earlier)
    assert [track.name for track in rest.tracks] == ["stays", "new"]
    found = [(one.track, one.start_ns, one.duration_ns, one.flow) for one in rest.slices]
    assert found == [(0, 0, 200, 4), (0, 0, 0, 0), (0, 50, 20, 4), (1, 2 * SECOND, 7, 0)]
    assert rest.info.started_at == "2026-01-02T03:04:06+00:00"


def test_a_whole_profile_merges_with_itself() -> None:
    profile = accounted_profile()
    merged = Profile.merge([profile, profile])
    assert [stats.count for stats in merged.awaits] == [24, 480]
    [repeat] = merged.repeats
    assert (repeat.site, repeat.units, repeat.awaits, repeat.most) == (1, 24, 480, 20)
    [block] = merged.blocks
    assert (block.count, block.worst_ns, block.waiting) == (6, 400 * MS, 7)
    assert (len(merged.tracks), len(merged.slices)) == (4, 10)
    assert merged.info.lost_slices == 6
    assert {one.flow for one in merged.slices} == {0, 1, 2}
