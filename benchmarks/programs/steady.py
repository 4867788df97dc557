"""Measures a program from within while it does the same again and again: its CPU time, and its profiler's."""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

WARM_UP = 0.4
"""The part of the seconds to measure that goes before them."""
LEAST_TURNS = 2


@dataclass(frozen=True)
class Arguments:
    """What each program is given."""

    seconds: float
    url: str
    result: Path | None
    above: int
    """The process that asks; those between it and the program are the profiler's."""

    def tell(self, result: dict[str, Any]) -> None:
        text = json.dumps(result)
        if self.result is None:
            print(text)
        else:
            self.result.write_text(text, encoding="utf-8")


def arguments() -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--url", default="")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--above", type=int, default=os.getppid())
    return Arguments(**vars(parser.parse_args()))


class Window:
    """What the process, and a profiler in processes above it, took between entry and exit."""

    def __init__(self, above: int) -> None:
        self._profilers = between(above)
        self.cpu_s = self.wall_s = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self.cpu_s, self.wall_s = self._cpu_s(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s, self.wall_s = self._cpu_s() - self.cpu_s, time.monotonic() - self.wall_s

    def _cpu_s(self) -> float:
        return time.process_time() + sum(cpu_s_of(pid) for pid in self._profilers)

    def per(self, units: int) -> dict[str, Any]:
        return {"units": units, "cpu_s": self.cpu_s, "wall_s": self.wall_s}


def fields_of(pid: int) -> list[str]:
    """Those of /proc/PID/stat after the process's name, which may have spaces in it."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def between(above: int) -> list[int]:
    """The processes between that one and us: profilers that start the program they look at."""
    found = []
    pid = os.getppid()
    while pid not in {above, 0, 1}:
        found.append(pid)
        pid = int(fields_of(pid)[1])
    return found if pid == above else []


def cpu_s_of(pid: int) -> float:
    user, system = map(int, fields_of(pid)[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def in_turns(turn: Callable[[], object], given: Arguments) -> dict[str, Any]:
    """Does turns until the time is over, and says what all of them took.

    The time bounds a run under a profiler that makes the program many times slower; the work of each turn is
    the same under all of them.
    """
    warm_at = time.monotonic() + given.seconds * WARM_UP
    while True:
        turn()
        if time.monotonic() > warm_at:
            break
    turns = 0
    with Window(given.above) as window:
        until = time.monotonic() + given.seconds
        while turns < LEAST_TURNS or time.monotonic() < until:
            turn()
            turns += 1
    return window.per(turns)
