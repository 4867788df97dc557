"""scalene: looks at lines, and at the stacks of the program's own files; read from its JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.base import Clock, Peer, Stack


class Scalene(Peer):
    """Without `--profile-all`, which puts three quarters of the time into threads of scalene's own."""

    name = "scalene"
    tool = "scalene"
    distribution = "scalene"

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        path, *arguments = program
        given = ["--cpu-only", "--stacks", "--async", "--cpu-percent-threshold", "0"]
        given += ["--cpu-sampling-rate", f"{1 / rate_hz:g}", "--outfile", f"{output}.json"]
        return [sys.executable, "-m", "scalene", "run", *given, path, "---", *arguments]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        profile = json.loads(Path(f"{output}.json").read_text(encoding="utf-8"))
        for frames, metrics in profile["stacks"]:
            # A frame is "file Class.function:line;", its figures are shares of the whole time.
            functions = (frame.rpartition(":")[0].rpartition(" ")[2] for frame in frames)
            names = tuple(function.rpartition(".")[2] for function in functions)
            yield names, metrics["cpu_samples"] * profile["elapsed_time_sec"]
