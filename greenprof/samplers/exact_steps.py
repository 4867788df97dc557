"""Where calls begin: the bytecode offsets at which functions, and their later steps, are entered.

A profile hook is told "call" when a function begins and whenever a generator or coroutine goes on,
and yappi calls its callback then, and for calls of C functions, without a word about which it is.
The offset at which the frame stands tells.
"""

from __future__ import annotations

import opcode
from collections.abc import Iterable
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import CodeType
from typing import Final, NamedTuple

from greenprof import bridges
from greenprof.switches import CO_AWAITS

_RESUME: Final = opcode.opmap["RESUME"]
# Low bits of its argument: where a frame goes on.
_AT_START, _AFTER_YIELD, _AFTER_YIELD_FROM = range(3)
_WHERE: Final = 3


class Steps(NamedTuple):
    """At which offsets a generator's or coroutine's frame stands when it is entered."""

    code: CodeType
    first: int
    all: frozenset[int]
    yielded: frozenset[int]
    """Those where it goes on for whoever asks for its next value, who may be another each time."""


class Entries:
    """What is known of functions, by the ids of their codes, which stay taken while these are kept.

    `plain` has the offset at which a function begins; `stepping` has those that run in steps.
    """

    def __init__(self) -> None:
        self.plain: dict[int, int] = {}
        self.stepping: dict[int, Steps] = {}
        self._codes: list[CodeType] = []

    def learn(self, code: CodeType) -> None:
        """Find out about a function that was not seen before."""
        key = id(code)
        if key in self.plain or key in self.stepping:
            return
        if len(self._codes) >= bridges.CACHE_LIMIT:
            # In this order: an id must not be known when its code may be gone.
            self.plain.clear()
            self.stepping.clear()
            self._codes.clear()
        self._codes.append(code)
        offsets = _offsets(code)
        first = next((at for at, where in offsets if where == _AT_START), 0)
        if not code.co_flags & (CO_AWAITS | CO_GENERATOR):
            self.plain[key] = first
            return
        asks: tuple[int, ...] = (_AFTER_YIELD,) if code.co_flags & CO_ASYNC_GENERATOR else ()
        if code.co_flags & CO_GENERATOR and not code.co_flags & CO_AWAITS:
            asks = (_AFTER_YIELD, _AFTER_YIELD_FROM)
        self.stepping[key] = Steps(
            code,
            first,
            frozenset(_with_thrown(at for at, _ in offsets)),
            frozenset(_with_thrown(at for at, where in offsets if where in asks)),
        )


def _with_thrown(offsets: Iterable[int]) -> list[int]:
    """The same, and the instructions before: an exception is thrown in at the yield itself."""
    return [at for found in offsets for at in (found, found - 2)]


def _offsets(code: CodeType) -> list[tuple[int, int]]:
    """The offsets of a function's RESUME instructions, and where each goes on from."""
    # Two bytes each, and what the interpreter keeps between them is zero in this copy.
    raw = code.co_code
    names, arguments = raw[::2], raw[1::2]
    found = []
    at = names.find(_RESUME)
    while at >= 0:
        found.append((2 * at, arguments[at] & _WHERE))
        at = names.find(_RESUME, at + 1)
    return found
