"""A clock that jumps from tick to tick, for what takes hours by the real one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

from greenprof import _native


class FastClock:
    """While it is entered, greenprof's own clock: it runs on, `slower` times slower, and jumps at `advance`.

    The program and the timers that interrupt it keep the real one. A context manager.
    """

    def __init__(self, rate_hz: float, slower: int = 1) -> None:
        self._period_ns = round(1e9 / rate_hz)
        self._slower = slower
        self._base_ns = time.monotonic_ns()
        self._timer: Any = None
        self._ahead_ns = 0
        self._real = _native.time.monotonic_ns

    def now_ns(self) -> int:
        """What time it is."""
        return (
            self._base_ns + self._ahead_ns + (time.monotonic_ns() - self._base_ns) // self._slower
        )

    def advance(self) -> None:
        """Go on to when the next tick is due."""
        began_ns = self._base_ns if self._timer is None else self._timer.started_ns
        self._ahead_ns += self._period_ns - (self.now_ns() - began_ns) % self._period_ns

    def __enter__(self) -> Self:
        _native.time.monotonic_ns = self.now_ns
        return self

    def __exit__(self, *_: object) -> None:
        _native.time.monotonic_ns = self._real

    def follow(self, timer: Any) -> Callable[[], None]:
        """Keep in step with a timer of the sampler; return what sends the signal that it would send."""
        self._timer = timer
        return partial(signal.raise_signal, timer.signum)
