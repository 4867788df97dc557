"""How the stretches of a timeline lie within one another, and which belong together.

An await begins in the middle of a step, and ends in the middle of another: sync code hands an
awaitable over, and the same step goes on with the coroutine. So what a task ran is cut where its
awaits begin and end. The pieces within an await are what ran for it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

__all__ = ["Stretch", "TrackSlices", "link_children"]


class Stretch:
    """From when to when, by `time.monotonic_ns`; `stack` is a profile's, -1 if it is not known.

    `whole`: it ends where its greenlet waits in a hub, and no part of it is within an await.
    """

    __slots__ = ("end_ns", "flow", "name", "stack", "start_ns", "whole")

    def __init__(
        self, start_ns: int, end_ns: int, stack: int = -1, name: str = "", *, whole: bool = False
    ) -> None:
        self.start_ns = start_ns
        self.end_ns = max(end_ns, start_ns)
        self.stack = stack
        self.name = name
        self.flow = 0
        self.whole = whole


class TrackSlices:
    """The stretches of one task, greenlet or thread. `group` is what its awaits say, -1: nothing."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.group = -1
        self.runs: list[Stretch] = []
        self.awaits: list[Stretch] = []
        self.blocks: list[Stretch] = []

    def nest(self) -> None:
        """Cut what ran so that each piece is within an await or outside of it."""
        self.runs.sort(key=_order)
        self.awaits.sort(key=_order)
        edges = sorted({edge for one in self.awaits for edge in (one.start_ns, one.end_ns)})
        beginning = {one.start_ns: one for one in self.awaits}
        pieces = []
        around: list[Stretch] = []
        coming = 0
        for piece in self._cut(edges):
            while coming < len(self.awaits) and self.awaits[coming].start_ns <= piece.start_ns:
                around.append(self.awaits[coming])
                coming += 1
            around = [one for one in around if one.end_ns > piece.start_ns]
            if around:
                # Clocks were read one by one: a sliver of one lies in the other.
                if piece.whole:
                    continue
                piece.name = piece.name or around[-1].name
                piece.stack = around[-1].stack
                piece.flow = id(around[-1])
            else:
                piece.name = piece.name or self.label
                waits = beginning.get(piece.end_ns)
                if waits is None and piece.whole:
                    waits = self._await_after(piece.end_ns)
                if waits is not None:
                    piece.stack = waits.stack
            pieces.append(piece)
        self.runs = pieces

    def _cut(self, edges: list[int]) -> Iterable[Stretch]:
        for run in self.runs:
            start_ns = run.start_ns
            at = bisect_right(edges, start_ns)
            while at < len(edges) and edges[at] < run.end_ns:
                yield Stretch(start_ns, edges[at], -1, run.name, whole=run.whole)
                start_ns = edges[at]
                at += 1
            if start_ns < run.end_ns:
                yield Stretch(start_ns, run.end_ns, run.stack, run.name, whole=run.whole)

    def _await_after(self, at_ns: int) -> Stretch | None:
        at = bisect_left(self.awaits, at_ns, key=_start)
        runs_next = bisect_left(self.runs, at_ns, key=_start)
        if at == len(self.awaits):
            return None
        found = self.awaits[at]
        again = runs_next < len(self.runs) and self.runs[runs_next].start_ns < found.start_ns
        return None if again else found

    def await_around(self, at_ns: int) -> Stretch | None:
        """The innermost await that lasts at a time."""
        at = bisect_right(self.awaits, at_ns, key=_start) - 1
        # Awaits within awaits are few, and those that are over lie in between.
        for one in reversed(self.awaits[max(at - 15, 0) : at + 1]):
            if one.end_ns > at_ns:
                return one
        return None


def link_children(tracks: Mapping[int, TrackSlices], parents: Iterable[tuple[int, int]]) -> None:
    """Give an await and what runs for it the same number, from 1 on; call it once, after `nest`.

    `parents` are pairs of a track and that of the task that awaits it: the first stretch of a
    task that was begun during an await ran for it, too.
    """
    for track, parent in parents:
        runs = tracks[track].runs
        above = tracks.get(parent)
        if above is None or not runs:
            continue
        found = above.await_around(runs[0].start_ns)
        if found is not None:
            runs[0].flow = id(found)
    numbers: dict[int, int] = {}
    for slices in tracks.values():
        for run in slices.runs:
            if run.flow:
                run.flow = numbers.setdefault(run.flow, len(numbers) + 1)
    for slices in tracks.values():
        for one in slices.awaits:
            one.flow = numbers.get(id(one), 0)


def _start(one: Stretch) -> int:
    return one.start_ns


def _order(one: Stretch) -> tuple[int, int]:
    return one.start_ns, -one.end_ns
