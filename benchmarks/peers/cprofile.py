"""cProfile: comes with Python, and times every call of the thread that it was started in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import callers
from benchmarks.peers.base import Clock, Peer, Stack


class CProfile(Peer):
    name = "cProfile"
    tool = "cProfile"
    distribution = None

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        return [sys.executable, "-m", "cProfile", "-o", str(output), *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        return callers.stacks(output)
