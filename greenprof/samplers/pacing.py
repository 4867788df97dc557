"""Making a profile of what is recorded so far, a little at a time, while the program goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from greenprof._native import time
from greenprof.profiles import ProfileBuilder, Sample
from greenprof.samplers.spanlinks import SampleKey

__all__ = ["GaveWayError", "Pace", "PacedBuilder"]

#: So long at a time. Python would have others wait for the interpreter lock for 5 ms each time,
#: and a program that does much I/O asks for it after every call.
WORK_NS: Final = 1_000_000
#: ... and then so long not at all.
REST_S: Final = 0.004
#: What looking at the clock costs is no more than a few of the steps between.
STEPS: Final = 32


class GaveWayError(Exception):
    """Somebody else wants to go on who cannot wait for as long."""


class Pace:
    """Called for each step of some work: rests when it has taken its time, or gives it up.

    Raises GaveWayError where `is_over` says so. The work may be done by any thread but one that
    the program waits for.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over
        self._steps = 0
        self._since_ns: int = time.monotonic_ns()

    def step(self) -> None:
        """One of many small ones."""
        self._steps += 1
        if self._steps >= STEPS:
            self.look()

    def look(self) -> None:
        """A larger one."""
        self._steps = 0
        if self._is_over():
            raise GaveWayError
        if time.monotonic_ns() - self._since_ns >= WORK_NS:
            time.sleep(REST_S)
            self._since_ns = time.monotonic_ns()


class PacedBuilder(ProfileBuilder):
    """Builds at a pace."""

    def __init__(self, max_nodes: int, pace: Pace) -> None:
        super().__init__(max_nodes=max_nodes)
        self._pace = pace

    def pause(self) -> None:
        """Rest, or give up."""
        self._pace.step()

    def node(self, parent: int, frame: int) -> int:
        """See `ProfileBuilder.node`; all that is recorded has a stack."""
        self._pace.step()
        return super().node(parent, frame)

    def sample(self, key: SampleKey) -> Sample:
        """See `ProfileBuilder.sample`."""
        self._pace.step()
        return super().sample(key)
