"""Stacks as short lines that tests compare: one frame a line, with its kind and the boundaries."""

from __future__ import annotations

from typing import Any

import greenprof
from greenprof.capture import Stack
from greenprof.profiles import Frame, FrameKind, FrameOrigin

MARKS = {FrameKind.PYTHON: "", FrameKind.BOUNDARY: "~", FrameKind.AWAITED: "*"}


def line(frame: Frame) -> str:
    """`|` above which a greenlet boundary lies, `~` a bridge's frame, `*` awaited, then the name."""
    name = frame.name.rpartition("<locals>.")[2]
    return ("|" if frame.crosses else "") + MARKS[frame.kind] + name


def stack_of(target: Any) -> tuple[Frame, ...]:
    """The frames of a stack, or of what `capture_stack` takes; without this module's own."""
    stack = target if isinstance(target, Stack) else greenprof.capture_stack(target)
    assert stack.error is None, stack.error
    return tuple(frame for frame in stack.frames if frame.path != __file__)


def shape(target: Any = None) -> list[str]:
    """Every frame, root first; the caller's stack by default."""
    return [line(frame) for frame in stack_of(target)]


def outline(target: Any = None) -> list[str]:
    """The frames that are the program's or a bridge's, and those that a boundary lies above."""
    return [
        line(frame)
        for frame in stack_of(target)
        if frame.origin is FrameOrigin.APP or frame.kind is FrameKind.BOUNDARY or frame.crosses
    ]
