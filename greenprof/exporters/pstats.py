"""Python's own format of call statistics, as cProfile writes it: for pstats, snakeviz, gprof2dot."""

from __future__ import annotations

import marshal
from typing import Final

from greenprof.exporters.edges import Function, call_graph, calls_are
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["EXPORTER", "render"]

_Key = tuple[str, int, str]
"""File, line and name."""
_Numbers = tuple[int, int, float, float]

# 2 has no references between equal objects: with them, equal profiles give different bytes.
_MARSHAL_VERSION: Final = 2
# Where cProfile puts functions that have no file; pstats shows "<name>" as "{name}" then.
_NO_FILE: Final = "~"


def render(profile: Profile, /, *, clock: str = "wall") -> bytes:
    """Return statistics that `pstats.Stats` loads. Seconds are those that the clock counts.

    By the wall clock that is CPU time, waiting and calls that block, and no idle time. "Calls" are
    calls by the exact engine. A sampled profile knows none: there they are observations of the
    function, anywhere in a stack, and the root of all, which is the program, says so.
    """
    graph = call_graph(profile, clock=clock)
    keys = _keys(graph.functions, note=f"{clock} clock, calls are {calls_are(profile)}")
    callers: list[dict[_Key, _Numbers]] = [{} for _ in keys]
    for (caller, callee), by_line in graph.edges.items():
        costs = by_line.values()
        # The order of the two counts is not that of a function's own.
        callers[callee][keys[caller]] = (
            sum(cost.calls for cost in costs),
            sum(cost.outermost for cost in costs),
            sum(cost.own_ns(clock) for cost in costs) / 1e9,
            sum(cost.total_ns(clock) for cost in costs) / 1e9,
        )
    stats = {
        key: (cost.outermost, cost.calls, cost.own_ns(clock) / 1e9, cost.total_ns(clock) / 1e9, by)
        for key, cost, by in zip(keys, graph.costs, callers, strict=True)
    }
    return marshal.dumps(stats, _MARSHAL_VERSION)


def _keys(functions: list[Function], note: str) -> list[_Key]:
    program, *others = functions
    names = [f"<{program.name[1:-1]}: {note}>", *(function.name for function in others)]
    found: dict[_Key, None] = {}
    for function, name in zip(functions, names, strict=True):
        path, line = printable(function.path) or _NO_FILE, function.first_line
        key, times = (path, line, printable(name)), 1
        while key in found:
            # A group of the name of a function without a file; names that are equal once escaped.
            times += 1
            key = (path, line, f"{printable(name)} ({times})")
        found[key] = None
    return list(found)


EXPORTER = Exporter(
    name="pstats",
    suffixes=(".pstats", ".prof"),
    binary=True,
    render=render,
    description="as cProfile's, for pstats, snakeviz, gprof2dot",
)
