"""Stacks out of a pstats file, which holds no stacks: who called whom, and for how long.

The time that a function took itself is divided among its callers by the time of their calls to it, and so on
upwards, which is how gprof, gprof2dot and KCachegrind read such files. Where each function of a chain has one
caller this is exact; where callers share one, each of them gets its part of what lies below, from all.
"""

from __future__ import annotations

import pstats
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Stack

Function = tuple[str, int, str]
SMALLEST_SHARE = 1e-4
"""Of the whole time; what is less goes no further up."""
DEEPEST = 200


def stacks(path: Path) -> Iterator[Stack]:
    read: Any = pstats.Stats(str(path))
    functions = read.stats
    whole_s = sum(entry[2] for entry in functions.values())
    for function, (_, _, own_s, _, _) in functions.items():
        if own_s > 0:
            yield from _upwards(functions, (function,), own_s, whole_s * SMALLEST_SHARE)


def _upwards(
    functions: dict[Function, Any], path: tuple[Function, ...], seconds: float, least_s: float
) -> Iterator[Stack]:
    """The stacks that end in `path`, which share its seconds."""
    callers = {
        caller: call[3]
        for caller, call in functions[path[0]][4].items()
        if caller in functions and caller not in path and call[3] > 0
    }
    # What no caller is known for, such as a greenlet's first function, has its root here.
    all_s = max(sum(callers.values()), functions[path[0]][3])
    if seconds < least_s or len(path) > DEEPEST:
        callers = {}
    rest_s = seconds * (1 - sum(callers.values()) / all_s) if all_s > 0 else seconds
    if rest_s > 0:
        yield tuple(_name(function) for function in path), rest_s
    for caller, called_s in callers.items():
        yield from _upwards(functions, (caller, *path), seconds * called_s / all_s, least_s)


def _name(function: Function) -> str:
    """Its name alone: yappi writes the class before it."""
    return function[2].rpartition(".")[2]
