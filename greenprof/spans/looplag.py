"""How late event loops are: a timer that comes round twice a second, and by how much it misses.

Loops of asyncio and uvloop, and gevent's hubs. Each is asked in its own thread, by a timer that
keeps neither the loop nor the program alive and belongs to no task. Loops of other kinds are left
alone: a timer may mean something there (a workflow's history, a clock that a test moves on).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, ref

from greenprof import loops
from greenprof._native import time
from greenprof.interrupted import from_signal_handler

__all__ = ["INTERVAL_S", "LoopLag", "kind_of"]

INTERVAL_S = 0.5

#: Called with how late a loop was, in seconds, and what kind of loop it is.
Report = Callable[[float, str], None]


class LoopLag:
    """Watches any number of loops, and reports how late each comes round; see `watch`."""

    def __init__(self, report: Report, interval_s: float = INTERVAL_S) -> None:
        self._report = report
        self._interval_s = interval_s
        # Weakly: a timer holds its loop. Who keeps a watch is the timer that will call it.
        self._watches: WeakKeyDictionary[Any, ref[_Watch] | None] = WeakKeyDictionary()
        self._stopped = False

    def watch(self, loop: Any) -> None:
        """Watch a loop from now on; once is enough, more do nothing. In the loop's own thread."""
        try:
            if loop in self._watches:
                return
            kind = kind_of(loop)
            make = {"": None, "gevent": _HubWatch}.get(kind, _LoopWatch)
            watch = None if make is None else make(self._report, kind, loop, self._interval_s)
            self._watches[loop] = None if watch is None else ref(watch)
            if watch is not None and not self._stopped:
                watch.start()
        except Exception as error:  # a loop of somebody's own, or one that is closed
            if from_signal_handler(error):
                raise

    def stop(self) -> None:
        """Watch none of them any more. A loop of another thread keeps its timer for one last turn."""
        self._stopped = True
        # References are copied in C: other threads may add theirs, and find that it is too late.
        for reference in self._watches.keyrefs():
            loop = reference()
            found = None if loop is None else self._watches.get(loop)
            if found is not None and (watch := found()) is not None:
                watch.stop()


def kind_of(loop: Any) -> str:
    """Which kind of loop this is: "asyncio", "uvloop", "gevent"; empty for what is none of them."""
    kind = type(loop)
    asyncio_loop = getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", None)
    if asyncio_loop is not None and issubclass(kind, asyncio_loop):
        # One with a clock or a way of waiting of its own is of another kind.
        own = kind.time is not asyncio_loop.time or kind._run_once is not asyncio_loop._run_once
        return "" if own else "asyncio"
    uvloop_loop = getattr(sys.modules.get("uvloop"), "Loop", None)
    if uvloop_loop is not None and issubclass(kind, uvloop_loop):
        return "uvloop"
    hub = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if hub is not None and issubclass(kind, hub):
        return "gevent"
    return ""


class _Watch:
    """One loop's timer, again and again."""

    def __init__(self, report: Report, kind: str, loop: Any, interval_s: float) -> None:
        self._report = report
        self._kind = kind
        self._loop = ref(loop)
        self._interval_s = interval_s
        self._due = 0.0
        self._stopped = False

    def start(self) -> None:
        loop = self._loop()
        if loop is not None and not self._stopped:
            self._due = time.monotonic() + self._interval_s
            self._schedule(loop)

    def stop(self) -> None:
        self._stopped = True
        loop = self._loop()
        # Another thread's timer must not be touched: its next turn finds that it was stopped.
        if loop is not None and self._is_of_this_thread(loop):
            self._cancel()

    def _came(self) -> None:
        """The timer's callback. Nothing gets out of it: it would end up in the loop's hands."""
        try:
            if self._stopped:
                self._cancel()
                return
            late = time.monotonic() - self._due
            if self._has_run():
                # Timers may come a trifle early, by the resolution of the loop's clock.
                self._report(max(0.0, late), self._kind)
            self.start()
        except Exception as error:  # the loop is closing
            if from_signal_handler(error):
                raise

    def _has_run(self) -> bool:
        """Whether the loop has run all the time since the timer was set."""
        return True

    def _schedule(self, loop: Any) -> None:
        raise NotImplementedError

    def _cancel(self) -> None:
        raise NotImplementedError

    def _is_of_this_thread(self, loop: Any) -> bool:
        raise NotImplementedError


class _LoopWatch(_Watch):
    """asyncio's own loop, or uvloop's."""

    _handle: Any = None
    _run: ref[Any] | None = None

    def _schedule(self, loop: Any) -> None:
        self._run = _this_run()
        # A context of its own: the one that is current belongs to a request, which a timer that
        # goes on for ever would keep alive.
        self._handle = loop.call_later(self._interval_s, self._came, context=Context())

    def _has_run(self) -> bool:
        # A program may stop its loop for a while and run it again. It is not late then.
        return self._run is not None and self._run() is sys.get_asyncgen_hooks().firstiter

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _is_of_this_thread(self, loop: Any) -> bool:
        return loops.running_loop() is loop


def _this_run() -> ref[Any] | None:
    """Stands for one run of the loop in this thread: both kinds make this hook anew for each."""
    hook = sys.get_asyncgen_hooks().firstiter
    return None if hook is None else ref(hook)


class _HubWatch(_Watch):
    """gevent's hub. It has a timer only while greenlets wait, and so has nobody to be late for else."""

    _timer: Any = None

    def _schedule(self, loop: Any) -> None:
        self._cancel()
        # Without a reference (`ref=False`): gevent's loop ends when only this one is left.
        self._timer = loop.loop.timer(self._interval_s, ref=False)
        # `update`: gevent's loop reads the clock once a turn, and this turn may be long.
        self._timer.start(self._came, update=True)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _is_of_this_thread(self, loop: Any) -> bool:
        hubs = sys.modules.get("gevent._hub_local")
        return getattr(hubs, "get_hub_if_exists", lambda: None)() is loop
