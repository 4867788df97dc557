"""py-spy: looks at the program from a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import speedscope
from benchmarks.peers.base import Clock, Peer, Stack, script


class PySpy(Peer):
    """Without `--idle` it shows threads that use CPU, with it those that wait as well."""

    tool = "py-spy"
    distribution = "py-spy"
    executable = "py-spy"

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self._options = options

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        given = ["--rate", f"{rate_hz:.0f}", "--format", "speedscope", "--output", str(output)]
        return [
            script("py-spy") or "py-spy",
            "record",
            *given,
            *self._options,
            "--",
            sys.executable,
            *program,
        ]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        return speedscope.stacks(output)
