"""References to coroutines that yappi takes and does not give back, given back.

yappi 1.7 asks the interpreter which coroutine a frame belongs to, each time one is suspended or
ends, and keeps the reference that it gets. No coroutine would ever go away: a service would grow
without end, and an asynchronous generator that nobody iterates any more would not be closed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_MIN_SWEEP: Final = 64

_generator_of = ctypes.pythonapi.PyFrame_GetGenerator
_generator_of.restype = ctypes.py_object
_generator_of.argtypes = [ctypes.py_object]
_give_back = ctypes.pythonapi.Py_DecRef
_give_back.restype = None
_give_back.argtypes = [ctypes.py_object]


class Entered:
    """The coroutines that were entered in one thread and may not have been left since.

    One that has been left, which is seen at the next one's entry, has a reference too many.
    """

    def __init__(self) -> None:
        self._entered: list[Any] = []
        self._sweep_at = _MIN_SWEEP

    def enter(self, frame: FrameType) -> None:
        """Note the entry into a coroutine's frame; give back what those that were left have."""
        entering = _generator_of(frame)
        entered = self._entered
        while entered and ((last := entered[-1]) is entering or not _runs(last)):
            entered.pop()
            _give_back(last)
        entered.append(entering)
        if len(entered) > self._sweep_at:
            self.sweep()

    def sweep(self) -> None:
        """Look at all of them: several greenlets may have left theirs in any order."""
        kept = []
        for one in self._entered:
            if _runs(one):
                kept.append(one)
            else:
                _give_back(one)
        self._entered = kept
        self._sweep_at = max(_MIN_SWEEP, 2 * len(kept))

    def forget(self) -> None:
        """Forget those that run on: nobody will ask for their frames' coroutines any more."""
        self.sweep()
        self._entered.clear()

    def __del__(self) -> None:
        self.sweep()  # the thread has ended


def _runs(one: Any) -> bool:
    for name in ("cr_running", "ag_running", "gi_running"):
        found = getattr(one, name, None)
        if found is not None:
            return bool(found)
    return False


async def _nothing() -> None:
    pass


def references_taken(start: Callable[[], None], stop: Callable[[], None]) -> int:
    """How many references yappi takes when a coroutine is left: 1, or 0 where it was mended."""
    coroutine = _nothing()
    before = sys.getrefcount(coroutine)
    start()
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        stop()
    taken = sys.getrefcount(coroutine) - before
    for _ in range(taken):
        _give_back(coroutine)
    return taken
