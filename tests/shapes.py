"""Stacks as short lines that tests compare: one frame a line, with its kind and the boundaries."""

from __future__ import annotations

from typing import Any

import greenprof
from greenprof.capture import Stack
from greenprof.profile import Frame, FrameKind, FrameOrigin

MARKS = {FrameKind.PYTHON: "", FrameKind.BOUNDARY: "~", FrameKind.AWAITED: "*"}


def line(frame: Frame) -> str:
    """`|` above which a greenlet boundary lies, `~` a bridge's frame, `*` awaited, then the name."""
    return (
        ("|" if frame.crosses else "") + MARKS[frame.kind] + frame.name.rpartition("<locals>.")[2]
    )


def shape(target: Any = None) -> list[str]:
    """Every frame of a stack, root first; `target` is as for `capture_stack`."""
    return [
        line(frame)
        for frame in (
            target if isinstance(target, Stack) else greenprof.capture_stack(target)
        ).frames
    ]


def outline(target: Any = None) -> list[str]:
    """The frames that are not a library's own: the program's, the bridges' and Python's awaited."""
    stack = target if isinstance(target, Stack) else greenprof.capture_stack(target)
    return [
        line(frame)
        for frame in stack.frames
        if frame.origin is FrameOrigin.APP or frame.kind is FrameKind.BOUNDARY or frame.crosses
    ]
