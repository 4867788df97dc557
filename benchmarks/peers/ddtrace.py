"""ddtrace: Datadog's profiler, which writes pprof files where it is told to, and then sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import pprof
from benchmarks.peers.base import Clock, Peer, Stack, script

SETTINGS = {
    "DD_PROFILING_ENABLED": "true",
    "DD_PROFILING_MAX_FRAMES": "512",
    # Stacks by time alone.
    "DD_PROFILING_MEMORY_ENABLED": "false",
    "DD_PROFILING_HEAP_ENABLED": "false",
    "DD_PROFILING_LOCK_ENABLED": "false",
    # Where gevent is installed it would import the standard library a second time, and 4.16 then shows no
    # thread but the main one.
    "DD_UNLOAD_MODULES_FROM_SITECUSTOMIZE": "false",
    # Nobody is there to send anything to.
    "DD_TRACE_ENABLED": "false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
}
FIXED = "DD_PROFILING_STACK_ADAPTIVE_SAMPLING_ENABLED"
MEASURES: dict[Clock, str] = {"cpu": "cpu-time", "wall": "wall-time"}


class Ddtrace(Peer):
    """It chooses its rate itself, by what it costs, unless `fixed`: then it looks 100 times a second."""

    tool = "ddtrace"
    distribution = "ddtrace"
    clocks = ("cpu", "wall")
    executable = "ddtrace-run"

    def __init__(self, name: str, *, fixed: bool = False) -> None:
        self.name = name
        self._settings = {**SETTINGS, FIXED: "false"} if fixed else SETTINGS

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        settings = [f"{key}={value}" for key, value in self._settings.items()]
        started = [script("ddtrace-run") or "ddtrace-run", sys.executable, *program]
        return ["env", *settings, f"DD_PROFILING_OUTPUT_PPROF={output}", *started]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        for path in sorted(output.parent.glob(f"{output.name}.*.pprof")):
            yield from pprof.stacks(path, MEASURES[clock])
