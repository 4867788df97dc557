"""What stacks have in common that differ in their lines alone: found out once, and remembered.

A program has far fewer sequences of functions than stacks, and how a unified stack is put together
follows from the functions, and from who awaits for whom. What is found out here is found out
once for each; what can change from one look to the next is no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import CO_GENERATOR
from itertools import count
from operator import attrgetter
from types import CodeType
from typing import Any

from greenprof import bridges, rawstack
from greenprof.bridges import Part
from greenprof.rawstack import RawStack
from greenprof.switches import CO_AWAITS

__all__ = ["CO_RESUMED", "Shape", "Whole", "is_awaited", "remember", "shape_of", "wholes"]

#: Of each kind that are remembered; then all are forgotten.
MAX_SHAPES = 1024

CO_RESUMED = CO_AWAITS | CO_GENERATOR
# Coroutines written as classes.
_RESUMING = frozenset({"send", "throw", "__next__"})
_NONE = 1 << 30

_code_of = attrgetter("f_code")
_serials = count(1)


class Shape:
    """One greenlet's frames, root first, by their functions.

    `cut` frames of what runs the program are left out above. Of the others, `awaits` are the
    indexes of bridge frames that await something, `first_await` that of the first coroutine.
    `hub`: whether the greenlet serves everybody. `serial` is a number of its own.
    """

    __slots__ = ("age", "awaits", "codes", "cut", "first_await", "hub", "serial")

    def __init__(self, codes: list[CodeType], age: int) -> None:
        self.codes = codes  # keeps them alive, and with them their ids
        self.age = age
        self.serial = next(_serials)
        self.cut = rawstack.launcher_above(codes)
        inner = codes[self.cut :]
        roles = [bridges.role_of(code) for code in inner]
        self.hub = bool(roles) and roles[0] is not None and roles[0].part is Part.HUB
        self.awaits = tuple(
            at
            for at, role in enumerate(roles[:-1])
            if role is not None and role.part is Part.BRIDGE_FRAME and is_awaited(inner[at + 1])
        )
        self.first_await = next(
            (at for at, code in enumerate(inner) if code.co_flags & CO_AWAITS), _NONE
        )


class Whole:
    """How a unified stack of certain shapes is put together; see `RawStack`.

    `dropped` are the indexes of frames that are left out, the last first.
    """

    __slots__ = ("dropped", "edges", "segments", "serial")

    def __init__(self, stack: RawStack, dropped: tuple[int, ...]) -> None:
        self.segments = tuple(stack.segments)
        self.edges = frozenset(stack.edges)
        self.dropped = dropped
        self.serial = next(_serials)

    def fill(self, stack: RawStack, pieces: Sequence[list[Any]]) -> None:
        """Put frames together that are of these shapes."""
        frames = stack.frames
        for piece in pieces:
            frames += piece
        for at in self.dropped:
            del frames[at]
        stack.segments = list(self.segments)
        stack.edges = set(self.edges)


_shapes: dict[tuple[int, ...], Shape] = {}
#: By the serial numbers of shapes, and the indexes where they are put together.
wholes: dict[tuple[int, ...], Whole] = {}


def shape_of(frames: list[Any]) -> Shape:
    """The shape of a greenlet's frames, from its root on; what runs the program is taken out of them."""
    codes = list(map(_code_of, frames))
    key = tuple(map(id, codes))
    shape = _shapes.get(key)
    age = bridges.age + rawstack.launchers
    if shape is None or shape.age != age:
        if len(_shapes) >= MAX_SHAPES:
            _shapes.clear()
            wholes.clear()  # they are told by the numbers of shapes
        shape = _shapes[key] = Shape(codes, age)
    if shape.cut:
        del frames[: shape.cut]
    return shape


def is_awaited(code: CodeType) -> bool:
    """Whether a function's caller awaits it, rather than calls it."""
    return bool(code.co_flags & CO_RESUMED) or code.co_name in _RESUMING


def remember(key: tuple[int, ...], stack: RawStack, pieces: Sequence[list[Any]]) -> Whole | None:
    """Remember how a stack was put together of its pieces; None if they are not what it was made of."""
    dropped = []
    kept = iter(stack.frames)
    awaited = next(kept, None)
    at = 0
    for piece in pieces:
        for frame in piece:
            if frame is awaited:
                awaited = next(kept, None)
            elif _is_transparent(frame.f_code):
                dropped.append(at)
            else:
                return None  # a stack of another thread, that has gone on meanwhile
            at += 1
    if awaited is not None:
        return None
    if len(wholes) >= MAX_SHAPES:
        wholes.clear()
    whole = wholes[key] = Whole(stack, tuple(reversed(dropped)))
    return whole


def _is_transparent(code: CodeType) -> bool:
    role = bridges.role_of(code)
    return role is not None and role.part is Part.TRANSPARENT
