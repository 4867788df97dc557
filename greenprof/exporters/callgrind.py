"""Callgrind's profile format, for KCachegrind, QCachegrind, callgrind_annotate and gprof2dot.

The format: https://valgrind.org/docs/manual/cl-format.html.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from greenprof.exporters.edges import CallGraph, Cost, call_graph, calls_are, unique
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["EXPORTER", "render"]

# What the format calls a file that is not known.
_NO_FILE: Final = "???"
# The first one is what programs sort by that know only one.
_EVENTS: Final = {
    "wall": {
        "Wall": "CPU, waiting and blocking calls, ns",
        "CPU": "CPU time, ns",
        "Await": "suspended, ns",
        "Blocked": "in calls that block, ns",
    },
    "cpu": {"CPU": "CPU time, ns"},
    "await": {"Await": "suspended, ns"},
}


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return costs in nanoseconds by line, and the calls between functions with what they came to.

    By the wall clock the costs are Wall, CPU, Await and Blocked, otherwise the one that is asked
    for. "Called" is in calls by the exact engine, in observations otherwise. Functions that are
    told apart by their line alone have it in their name.
    """
    graph = call_graph(profile, clock=clock)
    return "".join(f"{line}\n" for line in _lines(profile, graph, clock))


def _lines(profile: Profile, graph: CallGraph, clock: str) -> Iterator[str]:
    info = profile.info
    yield "# callgrind format"
    yield "version: 1"
    yield f"creator: {printable(f'greenprof {info.greenprof}').strip()}"
    if info.pids:
        yield f"pid: {info.pids[0]}"
    yield f"cmd: {printable(info.command)}".rstrip()
    yield "part: 1"
    for note in (f"{clock} clock, calls are {calls_are(profile)}", *info.warnings):
        yield f"desc: Note: {printable(note)}"
    yield "positions: line"
    for event, meaning in _EVENTS[clock].items():
        yield f"event: {event} : {meaning}"
    yield f"events: {' '.join(_EVENTS[clock])}"
    yield f"summary: {_costs(graph.costs[0].total, clock)}"
    yield from _functions(graph, clock)


def _functions(graph: CallGraph, clock: str) -> Iterator[str]:
    names, written = _names(graph), _Names()
    callees: defaultdict[int, list[tuple[int, int, Cost]]] = defaultdict(list)
    for (caller, callee), by_line in graph.edges.items():
        callees[caller] += [(line, callee, cost) for line, cost in by_line.items()]
    for index, function in enumerate(graph.functions):
        yield ""
        yield f"ob={written.short('ob', function.owner)}"
        yield f"fl={written.short('fl', _file(function.path))}"
        yield f"fn={written.short('fn', names[index])}"
        for line, own in sorted(graph.lines[index].items()):
            yield f"{line} {_costs(own, clock)}"
        for line, callee, cost in sorted(callees[index], key=lambda call: call[:2]):
            called = graph.functions[callee]
            yield f"cob={written.short('ob', called.owner)}"
            yield f"cfi={written.short('fl', _file(called.path))}"
            yield f"cfn={written.short('fn', names[callee])}"
            yield f"calls={cost.calls} {called.first_line}"
            yield f"{line} {_costs(cost.total, clock)}"


def _names(graph: CallGraph) -> list[str]:
    """One name for each function: the format knows a function by it, not by its line."""
    named = [function.qualified_name for function in graph.functions]
    lines: defaultdict[str, set[int]] = defaultdict(set)
    for name, function in zip(named, graph.functions, strict=True):
        lines[name].add(function.first_line)
    return unique(
        f"{name}:{function.first_line}" if len(lines[name]) > 1 else name
        for name, function in zip(named, graph.functions, strict=True)
    )


def _file(path: str) -> str:
    return printable(path).strip() or _NO_FILE


def _costs(times: list[int], clock: str) -> str:
    cost = Cost(own=times)
    if clock == "wall":
        return " ".join(str(number) for number in (cost.own_ns("wall"), *times))
    return str(cost.own_ns(clock))


class _Names:
    """Names are written once, and by a number from then on."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def short(self, table: str, name: str) -> str:
        numbers = self._numbers[table]
        number = numbers.get(name)
        if number is not None:
            return f"({number})"
        number = numbers[name] = len(numbers) + 1
        return f"({number}) {name}"


EXPORTER = Exporter(
    name="callgrind",
    suffixes=(".callgrind",),
    binary=False,
    render=render,
    description="for KCachegrind, callgrind_annotate, gprof2dot",
)
