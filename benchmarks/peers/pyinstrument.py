"""pyinstrument: samples the main thread; read from its session file, which holds every stack it saw."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.base import Clock, Peer, Stack


class Pyinstrument(Peer):
    name = "pyinstrument"
    tool = "pyinstrument"
    distribution = "pyinstrument"

    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        given = ["--interval", f"{1 / rate_hz:g}", "-r", "pyisession", "-o", str(output)]
        return [sys.executable, "-m", "pyinstrument", *given, *program]

    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        session = json.loads(output.read_text(encoding="utf-8"))
        for frames, seconds in session["frame_records"]:
            # A frame is "function\0file\0line", and more behind a \1.
            yield tuple(frame.partition("\0")[0] for frame in frames), seconds
