"""Reads variables of frames, and leaves the frames as they were.

Up to Python 3.12 `frame.f_locals` is a copy of all variables that stays with the frame: what they
referred to lives on, whatever the function does with its variables, until the frame is gone. And it is
the dictionary that the function gets from `locals()`, whose entries change each time that somebody
looks. From 3.13 on it is neither (PEP 667).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType
from typing import Any

__all__ = ["all_of", "value_in", "values_of"]

#: Functions with one of these names in them may have the copy in their hands.
_ASKING = frozenset({"locals", "vars", "eval", "exec", "f_locals"})
#: A name that pytest gives to functions with assertions, which ask for a copy and keep none.
_ASSERTING = "@py_builtins"
#: The frame, a variable here, and the argument of `getrefcount`.
_OWN_REFERENCES = 3
_CACHE_LIMIT = 20_000

_keeps_copies = sys.version_info < (3, 13)
# Ways to read a function's variables: a copy that is emptied again, as they are, or not at all.
_COPY, _PLAIN, _NONE = range(3)
# By the ids of codes, which stay taken.
_ways: dict[int, tuple[CodeType, int]] = {}


def values_of(frame: FrameType, names: Sequence[str]) -> list[Any]:
    """The values of some variables, None for one that is not bound or cannot be read unnoticed."""
    code = frame.f_code
    known = _ways.get(id(code)) or _way_of(code)
    if known[1] == _NONE:
        return [None] * len(names)
    values = frame.f_locals
    found = list(map(values.get, names))
    if known[1] == _COPY and sys.getrefcount(values) <= _OWN_REFERENCES:
        values.clear()
    return found


def value_in(frame: FrameType, names: Sequence[str]) -> Any:
    """The value of the first of a frame's variables that has one; None if none of them does."""
    if not names:
        return None
    for value in values_of(frame, names):
        if value is not None:
            return value
    return None


def all_of(frame: FrameType) -> dict[str, Any]:
    """All variables by their names; none if they cannot be read unnoticed."""
    code = frame.f_code
    known = _ways.get(id(code)) or _way_of(code)
    if known[1] == _NONE:
        return {}
    values = frame.f_locals
    found = dict(values)
    if known[1] == _COPY and sys.getrefcount(values) <= _OWN_REFERENCES:
        values.clear()
    return found


def _way_of(code: CodeType) -> tuple[CodeType, int]:
    if len(_ways) >= _CACHE_LIMIT:
        _ways.clear()
    way = _COPY
    # A module's variables, or a class's, are a dictionary themselves.
    if not _keeps_copies or not code.co_flags & CO_OPTIMIZED:
        way = _PLAIN
    elif not _ASKING.isdisjoint(code.co_names) and _ASSERTING not in code.co_names:
        way = _NONE
    known = _ways[id(code)] = code, way
    return known
