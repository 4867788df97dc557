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

__all__ = [
    "CallGraph",
    "Cost",
    "Function",
    "call_graph",
    "calls_are",
    "names_of",
    "owner_of",
    "unique",
]


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


def names_of(frame: Frame) -> tuple[str, str]:
    """Return a frame's name and its qualified name, as functions are told apart by name.

    What is no line of a file, but says what was waited for, gets angle brackets.
    """
    if not frame.path and frame.name[:1] not in {"", "<", "["}:
        return f"<{frame.name}>", f"<{frame.qualified_name}>"
    return frame.name, frame.qualified_name


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
    return _Graph(profile, clock).found


class _Graph:
    """Makes a call graph of the stack tree: below the task groups, one walk for all of them."""

    def __init__(self, profile: Profile, clock: str) -> None:
        self.found = CallGraph()
        self._profile = profile
        self._clock = clock
        self._exact = calls_are(profile) == "calls"
        self._indexes: dict[tuple[str, str, int], int] = {}
        self._groups: dict[int, int] = {}
        self._nodes = [_Node() for _ in profile.nodes]
        program = self._above(profile.info.command or "greenprof")
        self.found.costs[program].calls = self.found.costs[program].outermost = 1
        outermost: list[int] = []
        for index, (parent, _) in enumerate(profile.nodes):
            outermost.append(index if parent < 0 else outermost[parent])
        for sample in profile.samples:
            seen = self._seen(sample)
            if seen.counts:
                if sample.stack >= 0:
                    _sum(self._nodes[sample.stack], seen)
                self._add_to_group(program, sample, seen, outermost)
        self._walk()

    def _seen(self, sample: Sample) -> _Node:
        """A sample's part in a stack that ends with it."""
        waited = waited_ns(sample)
        seen = _Node()
        seen.own[0] = sample.cpu_ns
        seen.own[1] = waited if sample.state in WAITS else 0
        seen.own[2] = waited if sample.state is State.BLOCKED else 0
        weighs = counted_ns(self._clock, *seen.own) > 0
        if sample.state is State.ON_CPU if self._exact else weighs:
            seen.calls = sample.count
        seen.total = seen.own
        seen.counts = weighs or seen.calls > 0
        return seen

    def _add_to_group(
        self, program: int, sample: Sample, seen: _Node, outermost: list[int]
    ) -> None:
        """Add a sample to its task group, and to what the group's stacks begin with."""
        group = self._groups.get(sample.group)
        if group is None:
            named = self._profile.groups[sample.group]
            kind = "" if named.kind == "asyncio" else f" ({named.kind})"
            group = self._groups[sample.group] = self._above(f"{named.name}{kind}")
            for cost in (self.found.costs[group], self._edge(program, 0, group)):
                cost.calls = cost.outermost = named.count
        for cost in (
            self.found.costs[program],
            self.found.costs[group],
            self._edge(program, 0, group),
        ):
            _add(cost.total, seen.total)
        if sample.stack < 0:
            _add(self.found.costs[group].own, seen.own)
            _add(self._edge(program, 0, group).own, seen.own)
            _add(self.found.lines[group].setdefault(0, [0, 0, 0]), seen.own)
            return
        first = outermost[sample.stack]
        edge = self._edge(group, 0, self._function(first))
        _add(edge.total, seen.total)
        if sample.stack == first:
            _add(edge.own, seen.own)
        if sample.stack == first or not self._exact:
            edge.calls += seen.calls
            edge.outermost += seen.calls

    def _walk(self) -> None:
        """Add all functions and the edges between them, depth first."""
        children: defaultdict[int, list[int]] = defaultdict(list)
        # A parent's number is smaller than its children's.
        for index in range(len(self._nodes) - 1, -1, -1):
            node, parent = self._nodes[index], self._profile.nodes[index][0]
            if node.counts:
                children[parent].append(index)
                if parent >= 0:
                    above = self._nodes[parent]
                    above.counts = True
                    _add(above.total, node.total)
                    above.calls += 0 if self._exact else node.calls
        active: defaultdict[int | tuple[int, int], int] = defaultdict(int)
        # A node's complement means: all below it is done. Children are there last first.
        todo = [(child, -1, 0) for child in children[-1]]
        while todo:
            index, caller, caller_line = todo.pop()
            function, line = self._function(max(index, ~index)), 0
            if index < 0:
                active[function] -= 1
                active[caller, function] -= 1
                continue
            frame, node = self._frame(index), self._nodes[index]
            line = frame.line or frame.first_line
            node.add_to(self.found.costs[function], again=active[function] > 0)
            if any(node.own):
                _add(self.found.lines[function].setdefault(line, [0, 0, 0]), node.own)
            if caller >= 0:
                edge = self._edge(caller, caller_line, function)
                node.add_to(edge, again=active[caller, function] > 0)
            active[function] += 1
            active[caller, function] += 1
            todo.append((~index, caller, caller_line))
            todo.extend((child, function, line) for child in children[index])

    def _frame(self, node: int) -> Frame:
        return self._profile.frames[self._profile.nodes[node][1]]

    def _function(self, node: int) -> int:
        """The function that a stack ends with."""
        frame = self._frame(node)
        key = function_key(frame)
        index = self._indexes.get(key)
        if index is None:
            _, path, first_line = key
            name, qualified_name = names_of(frame)
            function = Function(name, path, first_line, qualified_name, owner_of(frame))
            index = self._indexes[key] = self._new(function)
        return index

    def _edge(self, caller: int, line: int, callee: int) -> Cost:
        by_line = self.found.edges.get((caller, callee))
        if by_line is None:
            by_line = self.found.edges[caller, callee] = {}
        cost = by_line.get(line)
        if cost is None:
            cost = by_line[line] = Cost()
        return cost

    def _above(self, name: str) -> int:
        return self._new(Function(f"<{name}>", "", 0, f"<{name}>", "tasks"))

    def _new(self, function: Function) -> int:
        self.found.functions.append(function)
        self.found.costs.append(Cost())
        self.found.lines.append({})
        return len(self.found.functions) - 1


@dataclass(slots=True)
class _Node:
    """What was seen of a stack, and (`total`) of those that go on below it."""

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


def _sum(node: _Node, seen: _Node) -> None:
    node.calls += seen.calls
    node.counts = True
    _add(node.own, seen.own)
    _add(node.total, seen.total)


def _add(times: list[int], more: list[int]) -> None:
    # Without a loop: this is what exporting takes most of its time for.
    times[0] += more[0]
    times[1] += more[1]
    times[2] += more[2]
