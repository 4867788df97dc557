"""austin: looks at the program from a process of its own; one line of text for each look at a thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.base import Clock, Peer, Stack, script


class Austin(Peer):
    """With `--sleepless` it leaves out threads that wait."""

    tool = "austin"
    distribution = "austin-dist"
    executable = "austin"

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        self._options = options

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        given = ["--interval", f"{1e6 / rate_hz:.0f}", "--output", str(output)]
        return [script("austin") or "austin", *given, *self._options, sys.executable, *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        with output.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if not line.startswith("P"):
                    continue  # what austin says of the run: "# mode: wall"
                stack, _, microseconds = line.rstrip("\n").rpartition(" ")
                # Process and thread stand before the frames: P1;T0:2;module.py:function:12
                frames = (part.rsplit(":", 2) for part in stack.split(";"))
                names = (frame[1] for frame in frames if len(frame) == 3)
                yield tuple(names), int(microseconds) / 1e6
