"""speedscope's file format: https://www.speedscope.app/file-format-schema.json."""

from __future__ import annotations

import json
from typing import Any

from greenprof.analysis import weighted_stacks
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Frame, Profile

__all__ = ["EXPORTER", "render"]


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return a JSON document with one profile for each task group on each thread; none if empty.

    Weights are nanoseconds and combine the clocks as the collapsed format does: code that ran
    weighs its CPU time; under the wall clock waiting ends in a frame `[await]`, `[ready]`,
    `[blocked]` or `[idle]`; under the await clock only `[await]` and `[ready]` count.
    """
    frames = _Frames()
    indexes = [frames.index(_frame(frame)) for frame in profile.frames]
    stacks: dict[tuple[int, int], list[tuple[list[int], int]]] = {}
    busy: dict[tuple[int, int], int] = {}
    for group, thread, node, label, weight_ns in weighted_stacks(profile, clock=clock):
        stack = [indexes[frame] for frame in profile.frame_ids(node)]
        if label or not stack:
            stack.append(frames.index({"name": label or "[no stack]"}))
        stacks.setdefault((group, thread), []).append((stack, weight_ns))
        busy.setdefault((group, thread), 0)
        if label not in ("[idle]", "[blocked]"):
            busy[group, thread] += weight_ns
    profiles: list[dict[str, Any]] = [
        {
            "type": "sampled",
            "name": _name(profile, group, thread),
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": sum(weight for _, weight in weighted),
            "samples": [stack for stack, _ in weighted],
            "weights": [weight for _, weight in weighted],
        }
        # The busiest is what is looked at first: not a pool of threads that wait for work.
        for (group, thread), weighted in sorted(
            stacks.items(), key=lambda item: (-busy[item[0]], item[0])
        )
    ]
    document: dict[str, Any] = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": printable(f"greenprof {profile.info.greenprof}".strip()),
        "name": printable(profile.info.command or "greenprof"),
        "activeProfileIndex": 0,
        "shared": {"frames": frames.found},
        "profiles": profiles,
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


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
