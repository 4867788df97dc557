"""When sync code that awaits over a bridge had the thread, on loops whose steps cannot be timed.

uvloop runs its callbacks in C. What is seen of it are switches: a sync greenlet has the thread
from when it is switched to until it hands over something to await, or ends. What coroutines run is
not seen there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet

from greenprof import loops, switches
from greenprof._native import get_ident, time
from greenprof.interrupted import from_signal_handler

__all__ = ["SyncRuns"]

#: Greenlets that are looked after at a time; of more, the runs are not seen.
MAX_GREENLETS = 50_000

#: Called with the task, its thread, and from when to when its sync code ran.
Tell = Callable[[Any, int, int, int], None]


class SyncRuns:
    """Tells of each stretch of sync code on uvloop, as it ends, until stopped."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        # id(greenlet) -> itself, and since when it has the thread. None: it awaits.
        self._greenlets: dict[int, tuple[ref[greenlet], int | None]] = {}
        self._prune_at = 1024

    def start(self) -> None:
        """Start, from any thread."""
        switches.follow(record=False)
        switches.add_listener(self._switched, self._greenlets)
        self._following = True

    _following = False

    def stop(self) -> None:
        """Stop, from any thread. A second call does nothing."""
        switches.remove_listener(self._switched)
        if self._following:
            self._following = False
            switches.unfollow(record=False)
        self._greenlets.clear()

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        self._following = False
        switches.remove_listener(self._switched)
        self._greenlets.clear()

    def _switched(
        self,
        _event: str,
        origin: greenlet,
        target: greenlet,
        frame: FrameType | None,
        _handed: bool,
    ) -> None:
        """Take note of a switch; see `greenprof.switches.add_listener`."""
        if "uvloop" not in sys.modules:
            return
        try:
            known = self._greenlets.get(id(origin))
            if known is not None and known[0]() is origin and known[1] is not None:
                self._ended(origin, known[1])
            known = self._greenlets.get(id(target))
            if frame is None or (known is not None and known[0]() is target):
                self._begin(target)
        except Exception as error:
            if from_signal_handler(error):
                raise

    def _begin(self, target: greenlet) -> None:
        loop = loops.running_loop()
        if loop is None or not type(loop).__module__.startswith("uvloop"):
            return
        if len(self._greenlets) >= self._prune_at:
            self._prune()
        self._greenlets[id(target)] = ref(target), time.monotonic_ns()

    def _ended(self, origin: greenlet, start_ns: int) -> None:
        end_ns = time.monotonic_ns()
        if origin.dead:
            self._greenlets.pop(id(origin), None)
        else:
            self._greenlets[id(origin)] = ref(origin), None
        task = loops.current_task(loops.running_loop())
        if task is not None:
            self._tell(task, get_ident(), start_ns, end_ns)

    def _prune(self) -> None:
        for key, (found, _) in list(self._greenlets.items()):
            one = found()
            if one is None or one.dead:
                self._greenlets.pop(key, None)
        if len(self._greenlets) >= MAX_GREENLETS:
            self._greenlets.clear()
        self._prune_at = max(1024, 2 * len(self._greenlets))
