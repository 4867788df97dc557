"""Stacks as short lines that tests compare: one frame a line, with its kind and the boundaries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import greenlet
import pytest

import greenprof
from greenprof import switches
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


both_ways = pytest.mark.parametrize("follow", [False, True], ids=["unfollowed", "followed"])


@contextlib.contextmanager
def following(follow: bool) -> Iterator[None]:
    """With switches followed, or without: what bridges keep has to do then."""
    if not follow:
        yield
        return
    switches.follow()
    try:
        yield
    finally:
        switches.unfollow()


async def until_waiting(task: asyncio.Task[Any]) -> None:
    """Let the loop run until a task waits for something that takes time, its children as well."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()


async def ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def switch_once() -> None:
    """Two switches: into a new greenlet, and back when it has ended."""
    greenlet.greenlet(lambda: None).switch()
