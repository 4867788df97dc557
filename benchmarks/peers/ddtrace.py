"""ddtrace: Datadog's profiler, which writes pprof files where it is told to, and then sends nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import pprof
from benchmarks.peers.base import Clock, Peer, Stack, script

SETTINGS = {
    "DD_PROFILING_ENABLED": "true",
    "DD_PROFILING_MEMORY_ENABLED": "false",
    "DD_PROFILING_HEAP_ENABLED": "false",
    "DD_PROFILING_LOCK_ENABLED": "false",
    "DD_PROFILING_MAX_FRAMES": "512",
    "DD_TRACE_ENABLED": "false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_CRASHTRACKING_ENABLED": "false",
}
MEASURES: dict[Clock, str] = {"cpu": "cpu-time", "wall": "wall-time"}


class Ddtrace(Peer):
    """It chooses its rate itself, by what it costs."""

    name = "ddtrace"
    tool = "ddtrace"
    distribution = "ddtrace"
    executable = "ddtrace-run"

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        settings = [f"{key}={value}" for key, value in SETTINGS.items()]
        started = [script("ddtrace-run") or "ddtrace-run", sys.executable, *program]
        return ["env", *settings, f"DD_PROFILING_OUTPUT_PPROF={output}", *started]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        for path in sorted(output.parent.glob(f"{output.name}.*.pprof")):
            yield from pprof.stacks(path, MEASURES[clock])
