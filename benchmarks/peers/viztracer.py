"""viztracer: records every call with its time; the stacks are in how the calls of a thread nest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Clock, Peer, Stack

ENTRIES = 5_000_000
"""Room for this many calls: the default of a million keeps the last second or two of a busy program."""


class Viztracer(Peer):
    """With `--log_async` it shows each asyncio task as a thread of its own."""

    tool = "viztracer"
    distribution = "viztracer"

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self._options = options

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        given = ["--quiet", "--ignore_c_function", "--tracer_entries", str(ENTRIES)]
        written = ["--output_file", f"{output}.json"]
        return [sys.executable, "-m", "viztracer", *given, *self._options, *written, "--", *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        trace = json.loads(Path(f"{output}.json").read_text(encoding="utf-8"))
        threads: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
        for event in trace["traceEvents"]:
            if event["ph"] == "X":
                threads.setdefault((event["pid"], event["tid"]), []).append(event)
        for events in threads.values():
            yield from nested(events)


def nested(events: list[dict[str, Any]]) -> Iterator[Stack]:
    """Stacks of a thread's complete events, with the time of each that is not its callees'."""
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    open_calls: list[tuple[str, float, float]] = []  # name, end, time of its own
    for event in [*events, {"name": "", "ts": float("inf"), "dur": 0.0}]:
        while open_calls and open_calls[-1][1] <= event["ts"]:
            names = tuple(name for name, _, _ in open_calls)
            yield names, max(open_calls.pop()[2], 0.0) / 1e6
        if open_calls:
            name, end, own = open_calls[-1]
            open_calls[-1] = (name, end, own - event["dur"])
        function = event["name"].partition(" (")[0].rpartition(".")[2]
        open_calls.append((function, event["ts"] + event["dur"], event["dur"]))
