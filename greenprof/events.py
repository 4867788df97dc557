"""What a profile knows exactly: awaits, repeats, loop blockers and slices, added up as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from greenprof.model import (
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    Repeat,
    Slice,
    Track,
)

__all__ = ["EventTables", "Events"]

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


class EventTables:
    """Adds up events whose groups, threads and stacks are told by ids; it asks nothing of those.

    Not safe for several threads. What is given is copied.
    """

    def __init__(self) -> None:
        self._awaits: dict[tuple[int, int, str, str], int] = {}
        self._await_stats: list[AwaitStats] = []
        self._repeats: dict[int, Repeat] = {}
        # By stack here, and by the line that blocks when the frames are known.
        self._blocks: dict[tuple[int, int, int, str], Block] = {}
        self._tracks: list[Track] = []
        self._slices: list[Slice] = []

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


# A clock that was read twice out of order must not make a file that does not load.
def _whole_await(stats: AwaitStats) -> AwaitStats:
    shortest = max(stats.min_ns, 0)
    return dataclasses.replace(
        stats,
        total_ns=max(stats.total_ns, 0),
        min_ns=shortest,
        max_ns=max(stats.max_ns, shortest),
        durations={bucket: n for bucket, n in sorted(stats.durations.items()) if n > 0},
    )


def _whole_repeat(repeat: Repeat) -> Repeat:
    return dataclasses.replace(
        repeat, total_ns=max(repeat.total_ns, 0), units_ns=max(repeat.units_ns, 0)
    )


def _whole_block(block: Block) -> Block:
    return dataclasses.replace(
        block, total_ns=max(block.total_ns, 0), worst_ns=max(block.worst_ns, 0)
    )


def _whole_slice(one: Slice) -> Slice:
    """A slice without what lies before the profile's start."""
    start_ns = max(one.start_ns, 0)
    end_ns = one.start_ns + one.duration_ns
    return dataclasses.replace(one, start_ns=start_ns, duration_ns=max(end_ns - start_ns, 0))


def _block_order(block: Block) -> tuple[int, int, int, int]:
    return -block.total_ns, block.group, block.thread, block.stack


def _slice_order(one: Slice) -> tuple[int, int, int]:
    return one.track, one.start_ns, -one.duration_ns
