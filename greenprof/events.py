"""What a profile knows exactly: awaits, repeats, loop blockers and slices, added up and subtracted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from greenprof.durations import bounds_of
from greenprof.interning import Renumbering
from greenprof.model import (
    MAX_NUMBER,
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    Repeat,
    Slice,
    Track,
)

__all__ = ["EventTables", "Events", "events_since"]

_Key = TypeVar("_Key")
_Site = tuple[str, str, int, int]
"""Name, path, first line of a function, and a line in it."""


class Events(NamedTuple):
    """The tables as they stand in a profile."""

    awaits: list[AwaitStats]
    repeats: list[Repeat]
    blocks: list[Block]
    tracks: list[Track]
    slices: list[Slice]


class _HasEvents(Protocol):
    """A profile, or the events of one."""

    @property
    def awaits(self) -> list[AwaitStats]: ...
    @property
    def repeats(self) -> list[Repeat]: ...
    @property
    def blocks(self) -> list[Block]: ...
    @property
    def tracks(self) -> list[Track]: ...
    @property
    def slices(self) -> list[Slice]: ...


class _HasStacks(_HasEvents, Protocol):
    @property
    def frames(self) -> list[Frame]: ...
    @property
    def nodes(self) -> list[tuple[int, int]]: ...


class EventTables:
    """Adds up events whose groups, threads and stacks are told by ids; it asks nothing of those.

    Not safe for several threads. What is added up is copied; slices and tracks are kept.
    """

    def __init__(self) -> None:
        self._awaits: dict[tuple[int, int, str, str], int] = {}
        self._await_stats: list[AwaitStats] = []
        self._repeats: dict[int, Repeat] = {}
        # By stack here, and by the line that blocks when the frames are known.
        self._blocks: dict[tuple[int, int, int, str], Block] = {}
        self._tracks: list[Track] = []
        self._slices: list[Slice] = []
        self._last_flow = 0

    def add_await(self, stats: AwaitStats) -> int:
        """Add awaits to those of the same group, stack, operation and bridge; return their index."""
        key = (stats.group, stats.stack, stats.awaited, stats.bridge)
        index = self._awaits.setdefault(key, len(self._await_stats))
        if index == len(self._await_stats):
            self._await_stats.append(dataclasses.replace(stats, durations=dict(stats.durations)))
            return index
        known = self._await_stats[index]
        if stats.count:
            known.min_ns = min(known.min_ns, stats.min_ns) if known.count else stats.min_ns
            known.max_ns = max(known.max_ns, stats.max_ns)
        known.count += stats.count
        known.total_ns += stats.total_ns
        known.errors += stats.errors
        known.cancelled += stats.cancelled
        for bucket, count in stats.durations.items():
            known.durations[bucket] = known.durations.get(bucket, 0) + count
        return index

    def add_repeat(self, repeat: Repeat) -> None:
        """Add repeats to those of the same site, an index that `add_await` returned."""
        known = self._repeats.get(repeat.site)
        if known is None:
            self._repeats[repeat.site] = dataclasses.replace(repeat)
            return
        known.units += repeat.units
        known.awaits += repeat.awaits
        known.most = max(known.most, repeat.most)
        known.total_ns += repeat.total_ns
        known.units_ns += repeat.units_ns

    def add_block(self, block: Block) -> None:
        """Add stretches in which a loop stood still."""
        _add_block(self._blocks, (block.group, block.thread, block.stack, block.loop), block)

    def track(self, track: Track) -> int:
        """Return the index of a new track: tasks of one name have one each."""
        self._tracks.append(track)
        return len(self._tracks) - 1

    def add_slice(self, one: Slice) -> None:
        """Add a stretch of a track's time."""
        self._slices.append(one)
        self._last_flow = max(self._last_flow, one.flow)

    def add_all(self, events: _HasEvents, ids: Renumbering, shift_ns: int = 0) -> None:
        """Add the events of another profile, whose slices begin `shift_ns` later than they say."""
        sites = []
        for stats in events.awaits:
            group, stack = ids.group(stats.group), ids.stack(stats.stack)
            sites.append(self.add_await(dataclasses.replace(stats, group=group, stack=stack)))
        for repeat in events.repeats:
            self.add_repeat(dataclasses.replace(repeat, site=sites[repeat.site]))
        for block in events.blocks:
            group, thread = ids.group(block.group), ids.thread(block.thread)
            stack = ids.stack(block.stack)
            self.add_block(dataclasses.replace(block, group=group, thread=thread, stack=stack))
        tracks = [
            self.track(Track(track.name, ids.group(track.group), ids.thread(track.thread)))
            for track in events.tracks
        ]
        # Numbers of flows are a process's own, too.
        flows = self._last_flow
        for one in events.slices:
            start_ns, flow = one.start_ns + shift_ns, one.flow and one.flow + flows
            place = tracks[one.track], one.kind, start_ns, one.duration_ns
            self.add_slice(Slice(*place, ids.stack(one.stack), one.name, flow))

    def build(self, frames: Sequence[Frame], nodes: Sequence[tuple[int, int]]) -> Events:
        """Return the tables so far, which later additions do not change.

        Blocks of one line become one. Slices are in the order of their tracks and, within one, of
        their starts, the longer of two first. No time and no number is below zero.
        """
        by_site: dict[tuple[int, int, _Site | None, str], Block] = {}
        for block in self._blocks.values():
            site = _blocking_site(block.stack, frames, nodes)
            _add_block(by_site, (block.group, block.thread, site, block.loop), block)
        return Events(
            awaits=[_whole_await(stats) for stats in self._await_stats],
            repeats=[_whole_repeat(repeat) for repeat in self._repeats.values()],
            blocks=sorted(map(_whole_block, by_site.values()), key=_block_order),
            tracks=list(self._tracks),
            slices=sorted(map(_whole_slice, self._slices), key=_slice_order),
        )


def _add_block(blocks: dict[_Key, Block], key: _Key, block: Block) -> None:
    known = blocks.get(key)
    if known is None:
        blocks[key] = dataclasses.replace(block)
        return
    if block.worst_ns > known.worst_ns:
        known.worst_ns = block.worst_ns
        known.stack = block.stack
    known.count += block.count
    known.total_ns += block.total_ns
    known.waiting = max(known.waiting, block.waiting)


def _blocking_site(
    stack: int, frames: Sequence[Frame], nodes: Sequence[tuple[int, int]]
) -> _Site | None:
    """The innermost line of the application, else the innermost one; None of no stack."""
    leaf = None
    while stack >= 0:
        stack, index = nodes[stack]
        frame = frames[index]
        bridge = frame.kind is FrameKind.BOUNDARY
        site = (frame.name, frame.path, frame.first_line, frame.line)
        if frame.origin is FrameOrigin.APP and frame.path and not bridge:
            return site
        leaf = leaf or site
    return leaf


def events_since(
    now: _HasStacks, earlier: _HasStacks, ids: Renumbering, earlier_ids: Renumbering, end_ns: int
) -> Events:
    """Return what came after an earlier snapshot, which ended at `end_ns`, in the numbers of `now`.

    `ids` and `earlier_ids` are those of both in one interner. What the shortest, the longest or the
    most was since then nobody noted: it is what the rest of the numbers leave possible.
    """
    known = {_await_key(stats, earlier_ids): stats for stats in earlier.awaits}
    known_repeats = {
        _await_key(earlier.awaits[repeat.site], earlier_ids): repeat for repeat in earlier.repeats
    }
    awaits: list[AwaitStats] = []
    repeats: list[Repeat] = []
    sites: dict[int, int] = {}
    for index, stats in enumerate(now.awaits):
        rest = _await_difference(stats, known.get(_await_key(stats, ids)))
        if rest.count:
            sites[index] = len(awaits)
            awaits.append(rest)
    for repeat in now.repeats:
        before = known_repeats.get(_await_key(now.awaits[repeat.site], ids))
        new = _repeat_difference(repeat, before)
        if new.awaits and repeat.site in sites:
            repeats.append(dataclasses.replace(new, site=sites[repeat.site]))
    known_blocks = {_block_key(block, earlier, earlier_ids): block for block in earlier.blocks}
    blocks = [
        _block_difference(block, known_blocks.get(_block_key(block, now, ids)))
        for block in now.blocks
    ]
    tracks: list[Track] = []
    track_ids: dict[int, int] = {}
    slices = []
    for one in now.slices:
        start_ns = one.start_ns - end_ns
        if start_ns < 0 and start_ns + one.duration_ns <= 0:
            continue
        if one.track not in track_ids:
            track_ids[one.track] = len(tracks)
            tracks.append(now.tracks[one.track])
        slices.append(dataclasses.replace(one, start_ns=start_ns, track=track_ids[one.track]))
    return Events(awaits, repeats, [block for block in blocks if block.count], tracks, slices)


def _await_key(stats: AwaitStats, ids: Renumbering) -> tuple[int, int, str, str]:
    return ids.group(stats.group), ids.stack(stats.stack), stats.awaited, stats.bridge


def _block_key(
    block: Block, profile: _HasStacks, ids: Renumbering
) -> tuple[int, int, _Site | None, str]:
    site = _blocking_site(block.stack, profile.frames, profile.nodes)
    return ids.group(block.group), ids.thread(block.thread), site, block.loop


def _await_difference(stats: AwaitStats, earlier: AwaitStats | None) -> AwaitStats:
    if earlier is None:
        return stats
    durations = {
        bucket: count - earlier.durations.get(bucket, 0)
        for bucket, count in stats.durations.items()
        if count > earlier.durations.get(bucket, 0)
    }
    low, high = stats.min_ns, stats.max_ns
    if durations:
        low = max(low, bounds_of(min(durations))[0])
        high = min(high, bounds_of(max(durations))[1])
    return dataclasses.replace(
        stats,
        count=max(stats.count - earlier.count, 0),
        total_ns=stats.total_ns - earlier.total_ns,
        min_ns=low,
        max_ns=high,
        errors=stats.errors - earlier.errors,
        cancelled=stats.cancelled - earlier.cancelled,
        durations=durations,
    )


def _repeat_difference(repeat: Repeat, earlier: Repeat | None) -> Repeat:
    if earlier is None:
        return repeat
    awaits = max(repeat.awaits - earlier.awaits, 0)
    return dataclasses.replace(
        repeat,
        # Repeats of tasks that went over the threshold before are repeats of somebody.
        units=max(repeat.units - earlier.units, 1),
        awaits=awaits,
        most=min(repeat.most, awaits),
        total_ns=repeat.total_ns - earlier.total_ns,
        units_ns=repeat.units_ns - earlier.units_ns,
    )


def _block_difference(block: Block, earlier: Block | None) -> Block:
    if earlier is None:
        return block
    total_ns = block.total_ns - earlier.total_ns
    return dataclasses.replace(
        block,
        count=max(block.count - earlier.count, 0),
        total_ns=total_ns,
        worst_ns=min(block.worst_ns, total_ns),
    )


# A clock that was read twice out of order must not make a file that does not load, nor a sum of
# numbers that a file barely holds.
def _within(number: int) -> int:
    return number if 0 <= number <= MAX_NUMBER else min(max(number, 0), MAX_NUMBER)


def _whole_await(stats: AwaitStats) -> AwaitStats:
    shortest = _within(stats.min_ns)
    return dataclasses.replace(
        stats,
        count=_within(stats.count),
        total_ns=_within(stats.total_ns),
        min_ns=shortest,
        max_ns=max(_within(stats.max_ns), shortest),
        errors=_within(stats.errors),
        cancelled=_within(stats.cancelled),
        durations={bucket: _within(n) for bucket, n in sorted(stats.durations.items()) if n > 0},
    )


def _whole_repeat(repeat: Repeat) -> Repeat:
    return Repeat(
        repeat.site,
        *map(_within, (repeat.units, repeat.awaits, repeat.most)),
        *map(_within, (repeat.total_ns, repeat.units_ns)),
    )


def _whole_block(block: Block) -> Block:
    return dataclasses.replace(
        block,
        count=_within(block.count),
        total_ns=_within(block.total_ns),
        worst_ns=_within(block.worst_ns),
        waiting=_within(block.waiting),
    )


def _whole_slice(one: Slice) -> Slice:
    """A slice without what lies before the profile's start."""
    start_ns = _within(one.start_ns)
    duration_ns = _within(one.start_ns + one.duration_ns - start_ns)
    flow = _within(one.flow)
    return Slice(one.track, one.kind, start_ns, duration_ns, one.stack, one.name, flow)


def _block_order(block: Block) -> tuple[int, int, int, int]:
    return -block.total_ns, block.group, block.thread, block.stack


def _slice_order(one: Slice) -> tuple[int, int, int]:
    return one.track, one.start_ns, -one.duration_ns
