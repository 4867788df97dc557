"""What a profiler beside greenprof is to a benchmark: how it is run, and how its output is read."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

Clock = Literal["cpu", "wall"]
Stack = tuple[tuple[str, ...], float]
"""The names of functions from the root to the leaf, without modules and classes, and seconds."""


class Peer(ABC):
    """A profiler with one choice of settings.

    `name` says profiler and settings, `tool` the profiler alone: peers of one tool share a column of a table.
    `distribution` is what it is called on PyPI; None: it comes with Python.
    """

    name: str
    tool: str
    distribution: str | None
    clocks: tuple[Clock, ...] = ("wall",)
    """What `stacks` can be asked for; those that record one clock only give that, whatever it is."""
    executable: str | None = None
    """What has to be installed beside this Python, where the peer is a program of its own."""

    def version(self) -> str | None:
        """Its version; None where it is not installed."""
        if self.distribution is None:
            return sys.version.split()[0]
        if self.executable is not None and script(self.executable) is None:
            return None
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    @abstractmethod
    def command(self, program: Sequence[str], output: Path, rate_hz: float = 100) -> list[str]:
        """The command line that runs the program (what stands after `python`) and writes to `output`.

        Some add a suffix to `output`, for the profiler asks for one; `stacks` adds the same. The rate does
        not matter to those that see every call.
        """

    @abstractmethod
    def stacks(self, output: Path, clock: Clock = "wall") -> Iterator[Stack]:
        """What the profiler recorded, with the time that each stack took itself, without its callees."""


def script(name: str) -> str | None:
    """Where an installed command lies: beside this Python, which need not be on the path, or on it."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
