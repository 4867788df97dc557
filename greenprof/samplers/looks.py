"""What a loop's thread runs while it is kept: looks at it from another thread, and what they saw."""

from __future__ import annotations

import os
from collections import Counter
from types import FrameType
from typing import Any, NamedTuple

from greenlet import greenlet

from greenprof import awaitables, stacks, switches
from greenprof._native import current_frames
from greenprof.capture import Stack, stack_of
from greenprof.frames import FrameTable
from greenprof.idle import RUNNING_A_LOOP, called_name
from greenprof.labels import thread_name
from greenprof.profiles import Frame, FrameKind, FrameOrigin
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.steps import Stretch

__all__ = ["ElsewhereError", "Look", "Looker", "Looks", "line_of"]

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

#: Looks that are kept of one stretch; with more, every second is dropped.
MAX_LOOKS = 16
# Functions whose lines are known; a program that makes them as it runs has no end of them.
_MAX_FRAMES = 20_000
_MAX_PARENTS = 32


class Look(NamedTuple):
    """One look: when, by `time.monotonic_ns`, and what was seen, in a recorder's numbers."""

    at_ns: int
    group: int
    thread: int
    node: int
    line: Frame
    stack: Stack


class ElsewhereError(Exception):
    """The loop has handed control back to the sync code that it serves."""


class Looks:
    """The looks at one stretch, thinned out so that they are few, and evenly spread."""

    def __init__(self) -> None:
        self.kept: list[Look] = []
        self._next_ns = 0
        self._spacing_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time for another."""
        return now_ns >= self._next_ns

    def add(self, look: Look) -> None:
        """Keep a look."""
        self.kept.append(look)
        if len(self.kept) >= MAX_LOOKS:
            # Replaced, not changed: the loop's thread may be choosing from it.
            self.kept = self.kept[::2]
            self._spacing_ns = self.kept[-1].at_ns - self.kept[-2].at_ns
        self._next_ns = look.at_ns + self._spacing_ns

    def choose(self, start_ns: int, end_ns: int) -> Look | None:
        """The look that says best what a stretch was: at its commonest line, near its middle."""
        kept = [look for look in self.kept if start_ns <= look.at_ns <= end_ns] or self.kept
        if not kept:
            return None
        lines = Counter(_key_of(look.line) for look in kept)
        most = max(lines.values())
        middle_ns = (start_ns + end_ns) // 2
        return min(
            (look for look in kept if lines[_key_of(look.line)] == most),
            key=lambda look: abs(look.at_ns - middle_ns),
        )


def _key_of(line: Frame) -> tuple[str, str, int]:
    return line.name, line.path, line.line


def line_of(frames: tuple[Frame, ...]) -> Frame:
    """The line that a reader can change: the innermost of the application, else the innermost."""
    for frame in reversed(frames):
        bridge = frame.kind is FrameKind.BOUNDARY
        if frame.origin is FrameOrigin.APP and frame.path and not bridge:
            return frame
    return frames[-1] if frames else Frame("?", "", origin=FrameOrigin.LIBRARY)


class Looker:
    """Takes looks, and stores their stacks in a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._table = FrameTable()
        self._made = 0

    def look(self, ident: int, stretch: Stretch, now_ns: int) -> Look | None:
        """What a thread runs in a stretch; None if it cannot be told.

        Whoever calls makes sure that the stretch still lasts afterwards. Raises ElsewhereError
        where nothing keeps the loop.
        """
        frame = (current_frames() or {}).get(ident)
        followed = switches.of_thread(ident)
        count, reference = (0, None) if followed is None else followed.position()
        current = None if reference is None else reference()
        while frame is not None and _is_own(frame, stretch):
            frame = frame.f_back
        if frame is None:
            return None
        elsewhere = not _is_below(frame, current, stretch)
        owner = stretch.owner
        task = owner if awaitables.is_task(owner) else None
        raw, is_tasks = stacks.running(frame, current, followed, task)
        if followed is not None and followed.position()[0] != count:
            return None  # it switched greenlets meanwhile: no stack that ever was
        if elsewhere:
            raise ElsewhereError
        if raw.owner is not None:
            owner = raw.owner
        elif task is not None and not is_tasks:
            owner = current
        elif task is None and not isinstance(owner, greenlet):
            owner = None
            _leave_out_loop(raw)
        self._made += len(raw.frames)
        if self._made > _MAX_FRAMES:
            self._table, self._made = FrameTable(), 0
        stack = stack_of(raw, owner, ident, None, self._table)
        return Look(
            now_ns,
            self._recorder.group(stack.task, stack.kind),
            self._recorder.thread(thread_name(ident)),
            self._recorder.node(raw),
            line_of(stack.frames),
            stack,
        )


def _leave_out_loop(raw: stacks.RawStack) -> None:
    """Begin a callback's stack below the loop: the line that runs a loop does not keep it."""
    last = len(raw.frames) - 1
    above = 0
    for at in range(last, -1, -1):
        frame = raw.frames[at]
        if frame.f_code.co_qualname == "Handle._run" or called_name(frame) in RUNNING_A_LOOP:
            # A function in C has no frame: what calls it is all that is seen.
            above = min(at + 1, last)
            break
    del raw.frames[:above]
    raw.form = 0
    kinds = [(max(start - above, 0), kind, crosses) for start, kind, crosses in raw.segments]
    begun = max((n for n, (start, _, _) in enumerate(kinds) if not start), default=0)
    raw.segments[:] = kinds[begun:]
    raw.edges = {edge - above for edge in raw.edges if edge >= above}


def _is_own(frame: FrameType, stretch: Stretch) -> bool:
    """Whether this is greenprof's, and no part of what the stretch runs."""
    code = frame.f_code
    return code.co_filename.startswith(_OWN_FOLDER) and code is not stretch.below


def _is_below(frame: FrameType, current: greenlet | None, stretch: Stretch) -> bool:
    """Whether what runs was called in the stretch.

    A loop may run in a child of the greenlet of the sync code that it serves, and hand control
    back to it within a callback (Playwright's sync API): the loop then waits for nobody.
    """
    if stretch.below is None:
        return True
    found: FrameType | None = frame
    one: Any = current
    for _ in range(_MAX_PARENTS):
        frames = stacks.walk(found)
        if any(above.f_code is stretch.below for above in frames):
            return True
        if len(frames) >= stacks.MAX_DEPTH:
            return True  # it may be further up
        one = None if one is None else one.parent
        found = None if one is None else one.gr_frame
        if found is None:
            break
    return current is None
