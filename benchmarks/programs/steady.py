"""Measures a program from within while it does the same again and again: its CPU time, and its profiler's.

Whoever measures may ask for slices of it, by a socket, in turns with another process that runs the same program:
what the machine does meanwhile happens to both. Without that socket there is one slice.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

WARM_UP_S = 0.4
ASK, END = b"slice\n", b"end\n"


@dataclass(frozen=True)
class Arguments:
    """What each program is given."""

    seconds: float
    """Of a slice."""
    url: str
    above: int
    """The process that asks; those between it and the program are the profiler's."""
    meet: str
    """The Unix socket of who asks; without one there is a single slice, and what there is to say is printed."""

    def slices(self) -> Iterator[None]:
        """One for each slice that is asked for. Blocks the thread until it is."""
        self.tell({"cpu_s": cpu_s(between(self.above))})
        if self._asking is None:
            yield
        else:
            with self._asking.makefile("rb") as asked:
                while asked.readline() == ASK:
                    yield
        self.tell({"cpu_s": cpu_s(between(self.above))})

    def tell(self, said: dict[str, Any]) -> None:
        line = json.dumps(said)
        if self._asking is None:
            print(line)
        else:
            self._asking.sendall(line.encode() + b"\n")

    @cached_property
    def _asking(self) -> socket.socket | None:
        if not self.meet:
            return None
        asking = socket.socket(socket.AF_UNIX)
        asking.connect(self.meet)
        return asking


def arguments() -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--url", default="")
    parser.add_argument("--above", type=int, default=os.getppid())
    parser.add_argument("--meet", default="")
    return Arguments(**vars(parser.parse_args()))


class Window:
    """What the process, and a profiler in processes above it, took between entry and exit."""

    def __init__(self, above: int) -> None:
        self._profilers = between(above)
        self.cpu_s = self.wall_s = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self.cpu_s, self.wall_s = cpu_s(self._profilers), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s, self.wall_s = (
            cpu_s(self._profilers) - self.cpu_s,
            time.monotonic() - self.wall_s,
        )

    def per(self, units: int) -> dict[str, Any]:
        return {"units": units, "cpu_s": self.cpu_s, "wall_s": self.wall_s}


def cpu_s(others: list[int]) -> float:
    """CPU time of this process and those."""
    return time.process_time() + sum(map(precise_cpu_s_of, others))


def precise_cpu_s_of(pid: int) -> float:
    """CPU time of a process's threads that run still, in nanoseconds (proc(5): schedstat), where Linux keeps it."""
    try:
        texts = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:  # a thread has just ended
        texts = []
    return sum(int(text.split()[0]) for text in texts) / 1e9 if texts else cpu_s_of(pid)


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
    """CPU time of a process, in steps of 10 ms."""
    user, system = map(int, fields_of(pid)[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def in_turns(turn: Callable[[], object], given: Arguments) -> None:
    """Does turns until the time of each slice is over, and says what they took.

    The time bounds a run under a profiler that makes the program many times slower; the work of each turn is
    the same under all of them.
    """
    turns = repeat(turn, WARM_UP_S)
    for _ in given.slices():
        with Window(given.above) as window:
            turns = repeat(turn, given.seconds)
        given.tell(window.per(turns))


def repeat(turn: Callable[[], object], seconds: float) -> int:
    turns = 0
    until = time.monotonic() + seconds
    while True:
        turn()
        turns += 1
        if time.monotonic() >= until:
            return turns
