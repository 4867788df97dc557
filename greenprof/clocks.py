"""The clocks that reports count by: a file that is written whole needs no more of `greenprof.analysis`."""

from __future__ import annotations

from typing import Final

from greenprof.errors import OptionError

__all__ = ["CLOCKS", "check_clock"]

CLOCKS: Final = ("wall", "cpu", "await")


def check_clock(clock: str) -> None:
    """Raise OptionError unless `clock` is "wall", "cpu" or "await"."""
    if clock not in CLOCKS:
        raise OptionError(f"there is no clock {clock!r}; choose wall, cpu or await")
