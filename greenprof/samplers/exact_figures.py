"""What yappi has counted and measured, for each node of the call tree."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from inspect import CO_ASYNC_GENERATOR
from typing import Any, Final

from greenprof.samplers.exact_tree import Node

NS: Final = 1_000_000_000
# Where yappi's tuples have what is needed here.
_CALLS, _IN_C, _TOTAL, _SELF, _INDEX, _CALLEES, _NODE, _FUNCTION = 3, 5, 6, 7, 8, 9, 12, 13
_CALLEES_TOTAL: Final = 3


class Figures:
    """Times by the number of a node; read anew at each `read`."""

    def __init__(self) -> None:
        self.self_ns: dict[int, int] = {}
        self.total_ns: dict[int, int] = {}
        self.calls = 0
        self.c_calls = 0
        # What yappi has forgotten of functions that ran when it was asked before.
        self._owed: dict[int, float] = {}

    def read(
        self,
        enumerate_stats: Callable[[Any, Any], Any],
        nodes: list[Node],
        pause: Callable[[], None] | None = None,
    ) -> None:
        """Ask yappi for everything. What `pause` raises, called now and then, comes through."""
        found: list[Any] = []
        collects = gc.isenabled()
        # yappi walks its tables meanwhile, to which other threads must not add: nothing but C
        # code may run, and the collector might run somebody's.
        gc.disable()
        try:
            enumerate_stats(found.append, {})
        finally:
            if collects:
                gc.enable()
        codes = {node.number: node.code for node in list(nodes)}
        self.self_ns.clear()
        self.total_ns.clear()
        self.calls = self.c_calls = 0
        seconds: dict[int, float] = {}
        for one in found:
            if pause is not None:
                pause()
            number, own, index = one[_NODE], one[_SELF], one[_INDEX]
            if own == 0:
                self._note_lost(index, one)
            seconds[number] = seconds.get(number, 0.0) + own + self._owed.get(index, 0.0)
            if one[_FUNCTION] is codes.get(number):
                total = round(one[_TOTAL] * NS)
                self.total_ns[number] = self.total_ns.get(number, 0) + total
            if one[_IN_C]:
                self.c_calls += one[_CALLS]
            else:
                self.calls += one[_CALLS]
        for number, spent in seconds.items():
            self.self_ns[number] = max(round(spent * NS), 0)

    def _note_lost(self, index: int, one: Any) -> None:
        """Note what yappi sets to zero: a function that runs has only its callees' time so far.

        It adds a function's own time when that ends, and takes its callees' off when they do. For
        the one who asks in between it makes zero of what is below zero, and goes on from there.
        """
        callees = sum(callee[_CALLEES_TOTAL] for callee in one[_CALLEES])
        lost = one[_TOTAL] - callees
        if lost < 0:
            self._owed[index] = lost


def own_wall_ns(nodes: list[Node], totals: Mapping[int, int]) -> dict[int, int]:
    """Each node's own wall time, by its number, out of those from beginnings to ends.

    `nodes` are parents first. What is returned adds up: a node's with those below it, but for the
    tasks that begin there, is the node's total.
    """
    total = {number: ns for number, ns in totals.items() if ns > 0}
    called: dict[int, int] = {}
    for node in reversed(nodes):
        # One that did not end, or not as whom it began as, has no total: it lasted as long as
        # what it called, at least.
        ns = total.setdefault(node.number, called.get(node.number, 0))
        if node.parent is not None and not node.begins_task:
            called[node.parent.number] = called.get(node.parent.number, 0) + ns
    own = {number: ns - called.get(number, 0) for number, ns in total.items()}
    for node in nodes:
        if node.runs_tasks:
            own[node.number] = 0  # its tasks have it
    _take_off_consumers(nodes, own)
    return own


def _take_off_consumers(nodes: list[Node], own: dict[int, int]) -> None:
    """Take from asynchronous generators what their consumers did between two values.

    From its beginning to its end, a generator has all of its consumer's loop. That much is missing
    in the consumer's own time; as far as that is below zero, it is taken from the generators'.
    """
    below: dict[int, list[Node]] = {}
    spare: dict[int, int] = {}
    for node in reversed(nodes):
        if node.parent is None or node.code is None or not node.code.co_flags & CO_ASYNC_GENERATOR:
            continue
        left = sum(spare[one.number] for one in below.get(node.number, ()))
        spare[node.number] = max(own[node.number] + left, 0)
        below.setdefault(node.parent.number, []).append(node)
    for node in nodes:
        for one in below.get(node.number, ()):
            taken = min(-own[node.number], spare[one.number])
            if taken > 0:
                own[one.number] -= taken
                own[node.number] += taken
