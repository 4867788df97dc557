"""A timeline for https://ui.perfetto.dev and chrome://tracing, in the Trace Event Format.

The format is that of https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
("JSON object format"). Its word for what holds rows is a process, for a row a thread: here a
process is a thread of the program, and its rows are the tasks and greenlets that it ran.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

from greenprof.clocks import check_clock
from greenprof.exporters.icicle import icicle
from greenprof.exporters.registry import Exporter
from greenprof.exporters.traceevents import Row, Rows, lanes
from greenprof.exporters.units import duration
from greenprof.printable import printable
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, Slice, SliceKind

__all__ = ["EXPORTER", "render"]

BLOCKERS: Final = "loop blockers"
"""The row of a thread that shows who kept its loop from going on."""

_CALLERS: Final = 8
# As deep as callers are looked for where there are none to show.
_WALKED: Final = 200
_COLOURS: Final = {
    SliceKind.RUN: "thread_state_running",
    SliceKind.AWAIT: "thread_state_iowait",
    SliceKind.BLOCK: "terrible",
}


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return a JSON document with one row for each task, greenlet and thread of the timeline.

    A row has slices of the categories `run`, `await` and `block`; an arrow leads from an await to
    what ran for it. Each thread whose loop was blocked has a row `loop blockers` on top. Times are
    microseconds since the profile's start.

    Of a profile without a timeline, the stacks are laid out side by side, the heaviest first, in
    one row for each task group: an icicle whose widths are times under the `clock`, and whose
    order says nothing of when. The processes' names say so.
    """
    check_clock(clock)
    if profile.slices:
        rows = Rows(max(one.start_ns + one.duration_ns for one in profile.slices))
        _Timeline(profile, rows).write()
        kind = "timeline"
    else:
        rows = Rows(sum(max(one.wall_ns, one.cpu_ns) for one in profile.samples))
        icicle(profile, clock, rows)
        kind = f"aggregated stacks, {clock} clock; not a timeline: record one with --timeline"
    info = profile.info
    document: dict[str, Any] = {
        "displayTimeUnit": "ms",
        "otherData": {
            "shows": kind,
            "command": printable(info.command),
            "python": printable(info.python),
            "greenprof": printable(info.greenprof),
            "started_at": printable(info.started_at),
            "lost_slices": str(info.lost_slices),
            "warnings": "; ".join(map(printable, info.warnings)),
        },
    }
    head = json.dumps(document, separators=(",", ":")).removesuffix("}")
    return f'{head},"traceEvents":{rows.events()}}}\n'


class _Timeline:
    """Writes the slices of one profile into rows."""

    def __init__(self, profile: Profile, rows: Rows) -> None:
        self._profile = profile
        self._rows = rows
        self._shown: dict[int, dict[str, Any]] = {-1: {}}

    def write(self) -> None:
        profile = self._profile
        by_track: dict[int, list[Slice]] = {}
        for one in profile.slices:
            by_track.setdefault(one.track, []).append(one)
        # Threads and tasks stand in the order in which they first did something.
        order = sorted(by_track, key=lambda track: min(one.start_ns for one in by_track[track]))
        threads: dict[int, list[int]] = {}
        for track in order:
            threads.setdefault(profile.tracks[track].thread, []).append(track)
        flows = _Flows()
        for thread, tracks in threads.items():
            process = self._rows.process(printable(profile.threads[thread]))
            self._blockers(process, tracks, by_track)
            for track in tracks:
                self._track(process, track, by_track[track], flows)
        flows.write(self._rows)

    def _blockers(self, process: int, tracks: list[int], by_track: dict[int, list[Slice]]) -> None:
        blocks = [one for track in tracks for one in by_track[track] if one.kind is SliceKind.BLOCK]
        for lane in lanes(blocks):
            row = self._rows.row(process, BLOCKERS)
            for one, start_ns, end_ns in lane:
                args = {"task": self._name(one.track), **self._args(one.stack)}
                name = f"{printable(one.name)} blocks for {duration(one.duration_ns)}"
                self._rows.slice(
                    row, name, "block", start_ns, end_ns, _COLOURS[SliceKind.BLOCK], args
                )

    def _track(self, process: int, track: int, slices: list[Slice], flows: _Flows) -> None:
        own = [one for one in slices if one.kind is not SliceKind.BLOCK]
        blocks = [one for one in slices if one.kind is SliceKind.BLOCK]
        found = lanes(own)
        name = self._name(track)
        # One at least: a track may have no more than a mark.
        rows = [self._rows.row(process, name) for _ in range(max(len(found), 1))]
        for row, lane in zip(rows, found, strict=False):
            for placed in lane:
                one, start_ns, end_ns = placed
                kind = one.kind
                if kind is SliceKind.RUN and _overlaps(blocks, start_ns, end_ns):
                    kind = SliceKind.BLOCK
                text, args = self._slice_name(one), self._args(one.stack)
                self._rows.slice(row, text, str(one.kind), start_ns, end_ns, _COLOURS[kind], args)
                if one.flow and start_ns < end_ns:
                    if one.kind is SliceKind.AWAIT:
                        flows.leave(one.flow, row, placed.leaves_ns)
                    else:
                        flows.arrive(one.flow, row, start_ns)
        for one in blocks:
            self._rows.mark(
                rows[0], "blocks the loop", "block", one.start_ns, self._args(one.stack)
            )

    def _name(self, track: int) -> str:
        """What a row is called: the group of its task, and the task where that says more."""
        own = self._profile.tracks[track]
        group = self._profile.groups[own.group].name
        name = own.name if group in own.name else f"{group} ({own.name})" if own.name else group
        return printable(name)

    def _slice_name(self, one: Slice) -> str:
        """What is awaited; or what ran: the function that a stretch ended in, if that is known."""
        name = printable(one.name)
        if one.kind is SliceKind.AWAIT:
            return f"await {name}"
        group = self._profile.groups[self._profile.tracks[one.track].group].name
        # What ran for an await has the name of what is awaited, and the line that awaits.
        if one.flow or one.stack < 0 or one.name not in ("", group):
            return name
        return printable(self._profile.frames[self._profile.nodes[one.stack][1]].name)

    def _args(self, stack: int) -> dict[str, Any]:
        """What is said of a slice beside its name: the line, and who called it."""
        found = self._shown.get(stack)
        if found is None:
            frames = self._innermost(stack)
            found = self._shown[stack] = {"line": _line(_site(frames)), "stack": _callers(frames)}
        return found

    def _innermost(self, stack: int) -> tuple[Frame, ...]:
        """As much of a stack as is said of a slice; of deep recursion that is little."""
        found: list[Frame] = []
        shown, has_own = 0, False
        while stack >= 0 and len(found) < _WALKED and not (has_own and shown > _CALLERS):
            stack, number = self._profile.nodes[stack]
            frame = self._profile.frames[number]
            shown += frame.origin is FrameOrigin.APP or frame.crosses or not found
            has_own |= frame.origin is FrameOrigin.APP and frame.kind is not FrameKind.BOUNDARY
            found.append(frame)
        return tuple(reversed(found))


class _Flows:
    """Arrows: from an await to the first thing that ran for it, on each row."""

    def __init__(self) -> None:
        self._awaits: dict[int, tuple[int, Row]] = {}
        self._runs: dict[int, dict[Row, int]] = {}

    def leave(self, flow: int, row: Row, at_ns: int) -> None:
        known = self._awaits.get(flow)
        self._awaits[flow] = (at_ns, row) if known is None else min(known, (at_ns, row))

    def arrive(self, flow: int, row: Row, at_ns: int) -> None:
        runs = self._runs.setdefault(flow, {})
        runs[row] = min(runs.get(row, at_ns), at_ns)

    def write(self, rows: Rows) -> None:
        for flow, (start_ns, row) in self._awaits.items():
            for to_row, to_ns in self._runs.get(flow, {}).items():
                if to_ns >= start_ns:
                    rows.arrow(row, start_ns, to_row, to_ns)


def _overlaps(blocks: list[Slice], start_ns: int, end_ns: int) -> bool:
    """Whether a stretch is part of one in which the loop was blocked; those are few, and apart."""
    at = bisect_left(blocks, end_ns, key=lambda one: one.start_ns) - 1
    return at >= 0 and start_ns < blocks[at].start_ns + blocks[at].duration_ns


def _site(frames: Iterable[Frame]) -> Frame | None:
    """The innermost line of the application's, else the innermost one."""
    leaf = None
    for frame in frames:
        own = frame.origin is FrameOrigin.APP and frame.kind is not FrameKind.BOUNDARY
        if own or leaf is None or leaf.origin is not FrameOrigin.APP:
            leaf = frame
    return leaf


def _line(frame: Frame | None) -> str:
    if frame is None:
        return "?"
    return printable(f"{frame.name} {frame.path}:{frame.line}" if frame.path else frame.name)


def _callers(frames: tuple[Frame, ...]) -> str:
    """The functions of a stack in one line, without files; the innermost of a deep one."""
    shown = [
        f"{'| ' if frame.crosses else ''}{printable(frame.name)}"
        f" ({printable(os.path.basename(frame.path))}:{frame.line})"
        for frame in frames
        if frame.origin is FrameOrigin.APP or frame.crosses or frame is frames[-1]
    ]
    return " > ".join((["..."] if len(shown) > _CALLERS else []) + shown[-_CALLERS:])


EXPORTER = Exporter(
    name="chrome",
    suffixes=(".trace.json",),
    binary=False,
    render=render,
    description="a timeline for https://ui.perfetto.dev, chrome://tracing",
)
