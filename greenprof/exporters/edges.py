"""Who called whom: functions and their edges, for formats that know no stacks.

Edges are those of the unified stacks: the function that awaited a bridge calls the sync code behind
it, and the sync code that waits calls the coroutine that it waits for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from greenprof.analysis import check_clock, counted_ns, function_key, origin_of
from greenprof.printable import printable
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, Sample, State
from greenprof.sites import WAITS, waited_ns

__all__ = ["CallGraph", "Cost", "Function", "call_graph", "calls_are", "owner_of", "unique"]


class Function(NamedTuple):
    """A function, or what stands above all functions: a task group, the program.

    Those have neither a file nor a line, and a name in angle brackets.
    """

    name: str
    path: str
    first_line: int
    qualified_name: str
    owner: str
    """Whose code it is, see `owner_of`."""


@dataclass(slots=True)
class Cost:
    """What a function, or an edge, came to. Time counts as in `analysis.function_table`.

    `total` is time with callees. What recursion makes of a function, or of an edge, within itself
    is in `calls` and in `own`, and not once more in `total` and `outermost`.
    """

    calls: int = 0
    """Calls by the exact engine; otherwise observations."""
    outermost: int = 0
    """Calls that were not within another one of the same function, or edge."""
    own: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Nanoseconds on the CPU, suspended, and blocked."""
    total: list[int] = field(default_factory=lambda: [0, 0, 0])

    def own_ns(self, clock: str) -> int:
        return counted_ns(clock, *self.own)

    def total_ns(self, clock: str) -> int:
        return counted_ns(clock, *self.total)


@dataclass(slots=True)
class CallGraph:
    """Functions, the program first, and which of them called which."""

    functions: list[Function] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    """One for each function."""
    lines: list[dict[int, list[int]]] = field(default_factory=list)
    """For each function, `own` by line."""
    edges: dict[tuple[int, int], dict[int, Cost]] = field(default_factory=dict)
    """By caller and callee, and by the caller's line."""


def calls_are(profile: Profile) -> str:
    """Return what a profile counts: "calls" or "samples"."""
    return "calls" if profile.info.engine == "exact" else "samples"


def owner_of(frame: Frame) -> str:
    """Return whose code a frame is, in a word.

    "greenlet boundary" for a bridge's internals, "python" for the standard library, otherwise the
    name of the top-level package, or "program" and "libraries" where that is not known.
    """
    if frame.kind is FrameKind.BOUNDARY:
        return "greenlet boundary"
    origin = origin_of(frame)
    if origin is FrameOrigin.STDLIB:
        return "python"
    package = printable(frame.module.partition(".")[0]).strip()
    if package and package != "__main__":
        return package
    return "program" if origin is FrameOrigin.APP else "libraries"


def unique(names: Iterable[str]) -> list[str]:
    """Return names that a text format can tell apart: not empty, one line, none of them twice."""
    found: dict[str, None] = {}
    again: dict[str, int] = {}
    for name in names:
        shown = printable(name).strip() or "?"
        tried = shown
        while tried in found:
            again[shown] = again.get(shown, 1) + 1
            tried = f"{shown} ({again[shown]})"
        found[tried] = None
    return list(found)


def call_graph(profile: Profile, *, clock: str) -> CallGraph:
    """Return the functions and edges of a profile, with all that a clock counts.

    The program is the first function; it calls the task groups, as often as there were tasks, and
    each group calls what its tasks' stacks begin with. Observations count for all functions of
    their stacks, calls for the one that was called. Idle time is left out. Raises OptionError for a clock
    that is not "wall", "cpu" or "await".
    """
    check_clock(clock)
    graph = _Graph(profile, clock)
    for group in dict.fromkeys(sample.group for sample in profile.samples):
        graph.add_group(group)
    return graph.found


class _Graph:
    """Adds one task group after the other to a call graph."""

    def __init__(self, profile: Profile, clock: str) -> None:
        self.found = CallGraph()
        self._profile = profile
        self._clock = clock
        self._exact = calls_are(profile) == "calls"
        self._indexes: dict[tuple[str, str, int], int] = {}
        self._samples: defaultdict[int, list[Sample]] = defaultdict(list)
        for sample in profile.samples:
            self._samples[sample.group].append(sample)
        self._program = self._above(profile.info.command or "greenprof")
        self.found.costs[self._program].calls = self.found.costs[self._program].outermost = 1

    def add_group(self, group: int) -> None:
        """Add the stacks of a task group."""
        nodes = self._nodes_of(group)
        children: defaultdict[int, list[int]] = defaultdict(list)
        # A parent's number is smaller than its children's, and -1 is above all.
        for index in sorted(nodes, reverse=True):
            node = nodes[index]
            _add(node.total, node.own)
            node.counts = node.counts or bool(node.calls or counted_ns(self._clock, *node.total))
            if index >= 0 and node.counts:
                parent = self._profile.nodes[index][0]
                nodes[parent].counts = True
                _add(nodes[parent].total, node.total)
                nodes[parent].calls += 0 if self._exact else node.calls
                children[parent].append(index)
        whole = nodes[-1]
        if not whole.counts:
            return
        named = self._profile.groups[group]
        kind = "" if named.kind == "asyncio" else f" ({named.kind})"
        root = self._above(f"{named.name}{kind}")
        whole.calls = named.count
        _add(self.found.costs[self._program].total, whole.total)
        self._add_call(self._program, 0, root, 0, whole)
        self._descend(root, nodes, children)

    def _nodes_of(self, group: int) -> dict[int, _Node]:
        """The stacks of a task group, those above them as well, with what was seen right there."""
        nodes: dict[int, _Node] = {-1: _Node()}
        for sample in self._samples[group]:
            index = sample.stack
            while index not in nodes:
                nodes[index] = _Node()
                index = self._profile.nodes[index][0]
            waited = waited_ns(sample)
            times = (
                sample.cpu_ns,
                waited if sample.state in WAITS else 0,
                waited if sample.state is State.BLOCKED else 0,
            )
            _add(nodes[sample.stack].own, times)
            called = sample.state is State.ON_CPU
            if called if self._exact else counted_ns(self._clock, *times):
                nodes[sample.stack].calls += sample.count
        return nodes

    def _descend(
        self, root: int, nodes: dict[int, _Node], children: defaultdict[int, list[int]]
    ) -> None:
        """Add what is below a task group, depth first."""
        active: defaultdict[int | tuple[int, int], int] = defaultdict(int)
        # A node's complement means: all below it is done. Children are there last first.
        todo = [(child, root, 0) for child in children[-1]]
        while todo:
            index, caller, line = todo.pop()
            frame = self._profile.frames[self._profile.nodes[max(index, ~index)][1]]
            function = self._function(frame)
            if index < 0:
                active[function] -= 1
                active[caller, function] -= 1
                continue
            own_line = frame.line or frame.first_line
            self._add_call(
                caller,
                line,
                function,
                own_line,
                nodes[index],
                again=active[function] > 0,
                again_here=active[caller, function] > 0,
            )
            active[function] += 1
            active[caller, function] += 1
            todo.append((~index, caller, line))
            todo.extend((child, function, own_line) for child in children[index])

    def _add_call(
        self,
        caller: int,
        caller_line: int,
        callee: int,
        line: int,
        node: _Node,
        *,
        again: bool = False,
        again_here: bool = False,
    ) -> None:
        """Add a stack to its last function, and to the edge that leads there."""
        node.add_to(self.found.costs[callee], again=again)
        by_line = self.found.edges.setdefault((caller, callee), {})
        node.add_to(by_line.setdefault(caller_line, Cost()), again=again_here)
        if any(node.own):
            _add(self.found.lines[callee].setdefault(line, [0, 0, 0]), node.own)

    def _function(self, frame: Frame) -> int:
        key = function_key(frame)
        index = self._indexes.get(key)
        if index is None:
            function = Function(*key, frame.qualified_name, owner_of(frame))
            index = self._indexes[key] = self._new(function)
        return index

    def _above(self, name: str) -> int:
        return self._new(Function(f"<{name}>", "", 0, f"<{name}>", "tasks"))

    def _new(self, function: Function) -> int:
        self.found.functions.append(function)
        self.found.costs.append(Cost())
        self.found.lines.append({})
        return len(self.found.functions) - 1


@dataclass(slots=True)
class _Node:
    """A stack within one task group."""

    calls: int = 0
    counts: bool = False
    """Whether there is anything to show of it, or of what is below it."""
    own: list[int] = field(default_factory=lambda: [0, 0, 0])
    total: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add_to(self, cost: Cost, *, again: bool) -> None:
        cost.calls += self.calls
        _add(cost.own, self.own)
        if not again:
            cost.outermost += self.calls
            _add(cost.total, self.total)


def _add(times: list[int], more: Iterable[int]) -> None:
    times[:] = [one + other for one, other in zip(times, more, strict=True)]
