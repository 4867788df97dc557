"""greenprof: read by its speedscope export, as anybody else would, and not by its own analysis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import speedscope
from benchmarks.peers.base import Clock, Peer, Stack


class Greenprof(Peer):
    name = "greenprof"
    tool = "greenprof"
    distribution = "greenprof"
    clocks = ("cpu", "wall")

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        given = ["--quiet", "--force", "--rate", f"{rate_hz:g}", "--format", "gprof"]
        return [sys.executable, "-m", "greenprof", "run", *given, "-o", str(output), *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        exported = Path(f"{output}.{clock}.speedscope.json")
        given = ["--quiet", "--force", "--clock", clock, "-o", str(exported)]
        subprocess.run(
            [sys.executable, "-m", "greenprof", "export", *given, str(output)], check=True
        )
        return speedscope.stacks(exported)
