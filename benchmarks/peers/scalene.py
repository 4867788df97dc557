"""scalene: CPU by line, and the stacks that it took along; read from its JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.base import Clock, Peer, Stack


class Scalene(Peer):
    name = "scalene"
    tool = "scalene"
    distribution = "scalene"

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        path, *arguments = program
        given = ["--cpu-only", "--profile-all", "--stacks", "--cpu-percent-threshold", "0"]
        given += ["--cpu-sampling-rate", f"{1 / rate_hz:g}", "-o", f"{output}.json"]
        return [sys.executable, "-m", "scalene", "run", *given, path, "---", *arguments]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        profile = json.loads(Path(f"{output}.json").read_text(encoding="utf-8"))
        for frames, metrics in profile["stacks"]:
            # A frame is "file Class.function:line;".
            functions = (frame.rpartition(":")[0].rpartition(" ")[2] for frame in frames)
            names = tuple(function.rpartition(".")[2] for function in functions)
            spent_s = metrics["python_time"] + metrics["c_time"]
            yield names, spent_s if clock == "cpu" else max(spent_s, metrics["cpu_samples"])
