"""yappi: times every call, for each greenlet and each coroutine; read from its pstats file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import callers
from benchmarks.peers.base import Clock, Peer, Stack

RUNNER = Path(__file__).with_name("yappi_runner.py")


class Yappi(Peer):
    """Its own command line follows no greenlets, so a script of a few lines starts it instead.

    Without builtins (functions in C) it costs less, with them it knows whom C code calls: a coroutine is
    called by `coroutine.send`.
    """

    tool = "yappi"
    distribution = "yappi"

    def __init__(self, clock: Clock, *, builtins: bool = False) -> None:
        self.name = f"yappi{' --builtins' * builtins}, {'CPU' if clock == 'cpu' else 'wall'} clock"
        self._given = [clock, "yes" if builtins else "no"]

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        return [sys.executable, str(RUNNER), *self._given, str(output), *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        return callers.stacks(output)
