"""The frames of one unified stack as a sampler takes them, and the walk that finds them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat
from types import CodeType, FrameType
from typing import Any

from greenlet import greenlet

from greenprof import bridges
from greenprof.bridges import Part, Role

#: Frames beyond this depth are cut off at the root; walking costs time for each.
MAX_DEPTH = 2000

PYTHON, AWAITED, BOUNDARY = range(3)

# How deep below the thread's root `greenprof run` runs the program.
_LAUNCHER_DEPTH = 16
_launchers: list[CodeType] = []
#: How many there are.
launchers = 0


def leave_out_above(code: CodeType) -> None:
    """Say that a function runs the program: it and its callers are no part of any stack."""
    global launchers
    _launchers.append(code)
    launchers += 1


def is_run() -> bool:
    """Whether a function was named that runs the program."""
    return bool(_launchers)


def runs_program(code: CodeType) -> bool:
    """Whether this is a function that `leave_out_above` was told of."""
    return any(launcher is code for launcher in _launchers)


def launcher_above(codes: Sequence[CodeType]) -> int:
    """How many of the functions from a thread's root on run the program, or their callers."""
    for at, code in enumerate(codes[:_LAUNCHER_DEPTH]):
        if code in _launchers:
            return at + 1
    return 0


def walk(frame: FrameType | None) -> list[FrameType]:
    """The frames from the root down to `frame`, at most `MAX_DEPTH` of them.

    Without what runs the program, and without a gap in which another thread could move the stack on.
    """
    frames = walk_all(frame)
    leave_out_launcher(frames)
    return frames


def walk_all(frame: FrameType | None) -> list[FrameType]:
    """The same frames as `walk` gives, with those of what runs the program."""
    # The walk runs in C, where no other thread comes in between.
    if frame is None:
        return []
    frames: list[Any] = []
    try:
        frames.extend(accumulate(repeat("f_back", MAX_DEPTH), getattr, initial=frame))
    except AttributeError:  # the root's f_back is None, which has none
        frames.pop()
    frames.reverse()
    return frames


def leave_out_launcher(frames: list[Any]) -> None:
    """Drop what `leave_out_above` was told of from frames that begin at a thread's root."""
    if _launchers:
        del frames[: launcher_above([frame.f_code for frame in frames[:_LAUNCHER_DEPTH]])]


class RawStack:
    """Frames from root to leaf, with what a report needs to know of them.

    `segments` are (index of the first frame, PYTHON or AWAITED, whether a greenlet boundary lies
    above it), in ascending order. `edges` are the indexes of bridges' frames. `owner` is the sync
    greenlet that the stack belongs to when it is not the task's. `handed` is the segment that
    what is put below begins with, where that is awaited on behalf of sync code. `leaf` names what
    ends the chain of awaits, `deadline` is when it will. `spawned` is the greenlet that begins with
    the first frame, where what spawned it belongs above and was left out. `form` is a number that
    stands for all of it but the lines of the frames, 0 without one. `hub`: whether it is the stack
    of a greenlet that serves everybody, as it runs.
    """

    __slots__ = (
        "deadline",
        "edges",
        "error",
        "form",
        "frames",
        "handed",
        "hub",
        "leaf",
        "owner",
        "segments",
        "spawned",
    )

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.segments: list[tuple[int, int, bool]] = []
        self.edges: set[int] = set()
        self.owner: greenlet | None = None
        self.handed: tuple[int, int, bool] | None = None
        self.leaf: str | None = None
        self.spawned: greenlet | None = None
        self.deadline: float | None = None
        self.error: str | None = None
        self.form = 0
        self.hub = False

    def begin(self, kind: int, crosses: bool) -> None:
        """Start a segment at the next frame."""
        self.segments.append((len(self.frames), kind, crosses))

    def extend(
        self, frames: Sequence[Any], roles: Sequence[tuple[int, Role]] | None = None
    ) -> None:
        """Add frames, noting which of them are bridges'; `roles` if they are known already."""
        if roles is None:
            roles = bridges.roles_in(frames)
        if not roles:
            self.frames.extend(frames)
            return
        begin = 0
        for at, role in roles:
            self.frames.extend(frames[begin:at])
            begin = at + 1
            if role.part is Part.TRANSPARENT:
                continue
            self.edges.add(len(self.frames))
            self.frames.append(frames[at])
            if role.part is Part.AWAIT_SITE:
                self.begin(AWAITED, False)
        self.frames.extend(frames[begin:])

    def mark_edge(self) -> None:
        """Say that the last frame is a bridge's."""
        if self.frames:
            self.edges.add(len(self.frames) - 1)

    def make_root(self, owner: greenlet, frames: list[FrameType]) -> None:
        """Make sync code the root, and the bridge frame just added the first that it awaits."""
        bridge_frame = self.frames[-1]
        self.owner = owner
        self.form = 0
        self.frames.clear()
        self.edges.clear()
        self.segments.clear()
        self.begin(PYTHON, False)
        self.extend(frames)
        self.mark_edge()
        self.begin(AWAITED, True)
        self.frames.append(bridge_frame)
        self.mark_edge()

    def put_below(self, other: RawStack) -> None:
        """Put this stack below that of whoever waits for it."""
        if other.owner is not None:
            self.owner = other.owner
        if other.handed is not None and self.segments:
            self.segments[0] = other.handed
        self.put_above(other)

    def hand_over(self) -> None:
        """Find out `handed`: the kind of the last segment goes on below."""
        if self.segments and self.segments[-1][1] == AWAITED:
            at, kind, crosses = self.segments[-1]
            self.handed = 0, kind, crosses and at == len(self.frames)

    def put_above(self, other: RawStack) -> None:
        """Put another stack's frames above this one's root."""
        if not other.frames:
            return
        moved = len(other.frames)
        self.form = 0
        self.frames[:0] = other.frames
        self.segments = other.segments + [(at + moved, k, c) for at, k, c in self.segments]
        self.edges = other.edges | {at + moved for at in self.edges}

    def end_at(self, frame: Any) -> None:
        """Cut off what is below a frame; nothing if it is not there."""
        for at in range(len(self.frames) - 1, -1, -1):
            if self.frames[at] is frame:
                self.form = 0
                del self.frames[at + 1 :]
                self.segments = [one for one in self.segments if one[0] <= at]
                self.edges = {one for one in self.edges if one <= at}
                self.leaf = None
                break

    def kinds(self) -> list[tuple[int, bool]]:
        """For each frame its kind (PYTHON, AWAITED, BOUNDARY) and whether a boundary is above."""
        size = len(self.frames)
        found = [(PYTHON, False)] * size
        ends = [at for at, _, _ in self.segments[1:]]
        for (at, kind, _), end in zip(self.segments, [*ends, size], strict=False):
            if kind != PYTHON:
                found[at:end] = [(kind, False)] * (min(end, size) - at)
        for at in self.edges:
            found[at] = (BOUNDARY, False)
        for at, _, crosses in self.segments:
            if crosses and at < size:
                found[at] = (found[at][0], True)
        return found
