"""speedscope's file format: https://www.speedscope.app/file-format-schema.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final

from greenprof.analysis import trace_table, weighted_stacks
from greenprof.exporters.depth import shallow
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Frame, Profile

__all__ = ["EXPORTER", "MOST_TRACES", "render"]

MOST_TRACES: Final = 20
"""Traces that get a profile of their own: those with the most time."""

_Weighted = tuple[list[int], int]
"""A stack, as indexes of frames, and its weight."""


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return a JSON document with one profile for each task group on each thread; none if empty.

    After those come the traces with the most time, if spans were recorded.

    Weights are nanoseconds and combine the clocks as the collapsed format does: code that ran
    weighs its CPU time; under the wall clock waiting ends in a frame `[await]`, `[ready]`,
    `[blocked]` or `[idle]`; under the await clock only `[await]` and `[ready]` count. Of very deep
    stacks the lowest levels are left out, see `depth.shallow`.
    """
    profile = shallow(profile)
    frames = _Frames()
    indexes = [frames.index(_frame(frame)) for frame in profile.frames]
    stacks: dict[tuple[int, int], list[_Weighted]] = {}
    busy: dict[tuple[int, int], int] = {}
    for group, thread, label, stack, weight_ns in _stacks(profile, clock, frames, indexes):
        stacks.setdefault((group, thread), []).append((stack, weight_ns))
        busy.setdefault((group, thread), 0)
        if label not in ("[idle]", "[blocked]"):
            busy[group, thread] += weight_ns
    profiles = [
        _sampled(_name(profile, group, thread), weighted)
        # The busiest is what is looked at first: not a pool of threads that wait for work.
        for (group, thread), weighted in sorted(
            stacks.items(), key=lambda item: (-busy[item[0]], item[0])
        )
    ]
    for row in trace_table(profile, clock=clock)[:MOST_TRACES]:
        of_trace = dataclasses.replace(profile, samples=list(row.parts.values()))
        found = [(stack, ns) for *_, stack, ns in _stacks(of_trace, clock, frames, indexes)]
        if found:
            name = f"trace {row.trace_id} ({profile.groups[row.group].name})"
            profiles.append(_sampled(printable(name), found))
    document: dict[str, Any] = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": printable(f"greenprof {profile.info.greenprof}".strip()),
        "name": printable(profile.info.command or "greenprof"),
        "activeProfileIndex": 0,
        "shared": {"frames": frames.found},
        "profiles": profiles,
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def _stacks(
    profile: Profile, clock: str, frames: _Frames, indexes: list[int]
) -> Iterator[tuple[int, int, str, list[int], int]]:
    """Yield group, thread, label, stack and weight; `indexes` are those of the profile's frames."""
    for group, thread, node, label, weight_ns in weighted_stacks(profile, clock=clock):
        stack = [indexes[frame] for frame in profile.frame_ids(node)]
        if label or not stack:
            stack.append(frames.index({"name": label or "[no stack]"}))
        yield group, thread, label, stack, weight_ns


def _sampled(name: str, weighted: list[_Weighted]) -> dict[str, Any]:
    return {
        "type": "sampled",
        "name": name,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(weight for _, weight in weighted),
        "samples": [stack for stack, _ in weighted],
        "weights": [weight for _, weight in weighted],
    }


class _Frames:
    """The shared table of frames."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self._indexes: dict[tuple[Any, ...], int] = {}

    def index(self, frame: dict[str, Any]) -> int:
        index = self._indexes.setdefault(tuple(frame.items()), len(self.found))
        if index == len(self.found):
            self.found.append(frame)
        return index


def _frame(frame: Frame) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": printable(frame.name)}
    if frame.path:
        shown["file"] = printable(frame.path)
    if frame.first_line:
        # A frame is a function there: with the line that runs, it would fall into as many as it
        # has lines, and none would have the function's sum.
        shown["line"] = frame.first_line
    return shown


def _name(profile: Profile, group: int, thread: int) -> str:
    task, thread_name = profile.groups[group].name, profile.threads[thread]
    return printable(task if task == thread_name else f"{task} ({thread_name})")


EXPORTER = Exporter(
    name="speedscope",
    suffixes=(".speedscope.json",),
    binary=False,
    render=render,
    description="for https://www.speedscope.app",
)
