"""A profile's stacks side by side, as if each function had run once, and the heaviest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from greenprof.analysis import function_key, weighted_stacks
from greenprof.exporters.depth import shallow
from greenprof.exporters.traceevents import Row, Rows
from greenprof.exporters.units import place
from greenprof.printable import printable
from greenprof.profiles import Frame, Profile

__all__ = ["icicle"]

MAX_DEPTH: Final = 400
"""Perfetto leaves out slices that are nested deeper than 512; what is below stays in this level."""

_COLOURS: Final = {
    "": "thread_state_running",
    "[await]": "thread_state_iowait",
    "[ready]": "thread_state_runnable",
    "[blocked]": "terrible",
    "[idle]": "thread_state_sleeping",
}


@dataclass(slots=True)
class _Box:
    """A function below certain others, or what its task waited for."""

    name: str
    args: dict[str, Any]
    label: str = ""
    weight_ns: int = 0
    below: dict[Any, _Box] = field(default_factory=dict)


def icicle(profile: Profile, clock: str, rows: Rows) -> None:
    """Write a row for each task group, in a process for each thread.

    Raises OptionError if there is no such clock.
    """
    profile = shallow(profile)
    boxes: dict[int, dict[int, _Box]] = {}
    shown = [_shown(frame) for frame in profile.frames]
    for group, thread, node, label, weight_ns in weighted_stacks(profile, clock=clock):
        of_thread = boxes.setdefault(thread, {})
        box = of_thread.setdefault(group, _Box(printable(profile.groups[group].name), {}))
        box.weight_ns += weight_ns
        for frame in profile.frame_ids(node)[:MAX_DEPTH]:
            key = function_key(profile.frames[frame]), profile.frames[frame].kind
            below = box.below.get(key)
            if below is None:
                below = box.below[key] = _Box(*shown[frame])
            box = below
            box.weight_ns += weight_ns
        if label or node < 0:
            name = label or "[no stack]"
            box = box.below.setdefault(name, _Box(name, {}, label))
            box.weight_ns += weight_ns
    by_weight = sorted(boxes.items(), key=lambda item: -max(_weights(item[1])))
    for thread, of_thread in by_weight:
        name = f"{printable(profile.threads[thread])}: aggregated stacks, not a timeline"
        process = rows.process(name)
        for box in sorted(of_thread.values(), key=_heaviest_first):
            _lay_out(rows, rows.row(process, box.name), box)


def _lay_out(rows: Rows, row: Row, root: _Box) -> None:
    """Write the boxes below one: each as wide as it is heavy, within the one that called it."""
    waiting: list[tuple[_Box, int]] = [(root, 0)]
    while waiting:
        box, start_ns = waiting.pop()
        if box is not root:
            end_ns = start_ns + box.weight_ns
            rows.slice(row, box.name, "icicle", start_ns, end_ns, _COLOURS[box.label], box.args)
        at_ns = start_ns
        placed = []
        for below in sorted(box.below.values(), key=_heaviest_first):
            placed.append((below, at_ns))
            at_ns += below.weight_ns
        waiting.extend(reversed(placed))


def _weights(of_thread: dict[int, _Box]) -> list[int]:
    return [box.weight_ns for box in of_thread.values()]


def _heaviest_first(box: _Box) -> tuple[int, str]:
    return -box.weight_ns, box.name


def _shown(frame: Frame) -> tuple[str, dict[str, Any]]:
    where = place(printable(frame.path), frame.first_line)
    args = {"function": printable(frame.qualified_name), "file": where, "kind": str(frame.kind)}
    return printable(frame.name), args
