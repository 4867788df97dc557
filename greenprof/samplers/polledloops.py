"""Stretches that nothing can be put round: in uvloop's callbacks, and in gevent's hub itself.

They are found by asking from another thread, again and again, what such a loop runs. A callback
that the loop is given meanwhile (a ping) tells when it has come round: each task takes one step at
the most until then, so a task that is seen before and after is in the same step. A stretch's
beginning is known to half an interval, and its end mostly to the moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextvars import Context
from types import FrameType
from typing import Any
from weakref import ref

from greenprof import bridges, idle, loops, spancontext, stacks, switches
from greenprof._native import current_frames, time
from greenprof.bridges import Part
from greenprof.interrupted import from_signal_handler
from greenprof.samplers import steps
from greenprof.samplers.queued import waiting_tasks
from greenprof.samplers.steps import Stretch
from greenprof.samplers.ticker import own_threads

__all__ = ["PolledLoops"]

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

#: Every so many ticks all threads are searched for loops; until there is one, every time.
SEARCH_EVERY = 10

#: Called with the thread's identity, the stretch, its end, and how many waited.
Ended = Callable[[int, Stretch, int, int], None]


class _Lasting:
    """A stretch that was seen: what is known of it so far."""

    __slots__ = ("context", "key", "owner", "ponged_ns", "seen_ns", "start_ns", "waiting")

    def __init__(self, key: int, owner: ref[Any] | None, start_ns: int, now_ns: int) -> None:
        self.key = key
        self.owner = owner
        self.start_ns = start_ns
        self.seen_ns = now_ns
        self.ponged_ns = 0
        self.waiting = 0
        self.context: Context | None = None

    def pong(self) -> None:
        """Take note that the loop has come round. In its thread."""
        self.ponged_ns = time.monotonic_ns()
        if switches.following():
            switches.adopt_thread()  # it may have been started before anybody followed


class _Polled:
    """One loop, in the thread in which it runs."""

    __slots__ = ("clear_ns", "kind", "lasting", "loop")

    def __init__(self, kind: str, loop: Any) -> None:
        self.kind = kind
        self.loop = ref(loop)
        #: When it was last known not to be in the stretch that comes next; 0: never.
        self.clear_ns = 0
        self.lasting: _Lasting | None = None


class PolledLoops:
    """Finds stretches by asking. Everything here runs in the watching thread."""

    def __init__(self, limit_ns: int, ended: Ended) -> None:
        self._limit_ns = limit_ns
        self._ended = ended
        self._polled: dict[int, _Polled] = {}
        self._finder = loops.LoopFinder()
        self._ticks = 0

    def tick(self) -> None:
        """Ask every loop what it runs."""
        if "uvloop" not in sys.modules and "gevent.hub" not in sys.modules:
            return
        frames = current_frames()
        if frames is None:
            return
        if not self._polled or self._ticks % SEARCH_EVERY == 0:
            self._search(frames)
        self._ticks += 1
        for ident, polled in list(self._polled.items()):
            try:
                frame, loop = frames.get(ident), polled.loop()
                if frame is None or loop is None:
                    del self._polled[ident]
                else:
                    self._ask(ident, polled, loop, frame)
            except Exception as error:  # a loop that is being closed
                if from_signal_handler(error):
                    raise
                del self._polled[ident]

    def lasting(self, since_ns: int) -> Iterator[tuple[int, Stretch]]:
        """The stretches that began before `since_ns` and were not over at the last tick."""
        for ident, polled in self._polled.items():
            lasting, loop = polled.lasting, polled.loop()
            if lasting is None or loop is None or lasting.start_ns > since_ns:
                continue
            if polled.kind == "uvloop":
                lasting.waiting = max(lasting.waiting, waiting_tasks(loop))
            yield ident, _stretch_of(polled, lasting, loop)

    def finish(self) -> None:
        """End all stretches now."""
        now_ns = time.monotonic_ns()
        for ident, polled in self._polled.items():
            self._finish(ident, polled, now_ns)
        self._polled.clear()

    def _search(self, frames: dict[int, FrameType]) -> None:
        for ident, frame in frames.items():
            if ident in own_threads:
                continue
            found: tuple[str, Any] | None = None
            hub = steps.hub_of(ident)
            if hub is not None:
                found = ("gevent", hub[0]) if hub[1] == "gevent" else None
            elif "uvloop" in sys.modules:
                loop = self._finder.find(ident, stacks.walk(frame))
                if type(loop).__module__.partition(".")[0] == "uvloop":
                    found = "uvloop", loop
            known = self._polled.get(ident)
            if found is not None and (known is None or known.loop() is not found[1]):
                self._polled[ident] = _Polled(*found)

    def _ask(self, ident: int, polled: _Polled, loop: Any, frame: FrameType) -> None:
        now_ns = time.monotonic_ns()
        key, owner = _uvloops(loop, frame) if polled.kind == "uvloop" else _hubs(ident, frame)
        lasting = polled.lasting
        if lasting is not None:
            if lasting.ponged_ns:
                self._finish(ident, polled, lasting.ponged_ns)
            elif key != lasting.key:
                self._finish(ident, polled, (lasting.seen_ns + now_ns) // 2)
            else:
                lasting.seen_ns = now_ns
        if not key:
            polled.clear_ns = now_ns
        elif polled.lasting is None:
            start_ns = (polled.clear_ns + now_ns) // 2 if polled.clear_ns else now_ns
            began = _Lasting(key, None if owner is None else ref(owner), start_ns, now_ns)
            if owner is not None:
                began.context = spancontext.context_of_task(owner)
            _ping(polled.kind, loop, began.pong)
            polled.lasting = began

    def _finish(self, ident: int, polled: _Polled, end_ns: int) -> None:
        lasting, loop = polled.lasting, polled.loop()
        polled.lasting = None
        polled.clear_ns = end_ns
        if lasting is not None and end_ns - lasting.start_ns >= self._limit_ns:
            self._ended(ident, _stretch_of(polled, lasting, loop), end_ns, lasting.waiting)


def _stretch_of(polled: _Polled, lasting: _Lasting, loop: Any) -> Stretch:
    owner = None if lasting.owner is None else lasting.owner()
    return Stretch(lasting.start_ns, owner, polled.kind, loop, lasting.context, polled=True)


def _uvloops(loop: Any, frame: FrameType) -> tuple[int, Any]:
    """A number for what a loop runs, 0 if it runs nothing; and the task, if it is one's step."""
    if not loop.is_running() or frame.f_code.co_filename.startswith(_OWN_FOLDER):
        return 0, None
    task = loops.current_task(loop)
    if task is not None:
        return id(task), task
    frames = stacks.walk(frame)
    if idle.waits_for_work(frames):
        return 0, None
    # The callback is below the function that runs the loop.
    at = next((at for at in range(len(frames) - 1) if _runs_loop(frames[at])), -1)
    return (id(frames[at + 1]), None) if at >= 0 else (0, None)


def _runs_loop(frame: FrameType) -> bool:
    return idle.called_name(frame) in idle.RUNNING_A_LOOP


def _hubs(ident: int, frame: FrameType) -> tuple[int, Any]:
    """A number for what a hub runs itself, in no greenlet; 0 if it runs nothing."""
    if steps.current(ident) is not None or frame.f_code.co_filename.startswith(_OWN_FOLDER):
        return 0, None
    frames = stacks.walk(frame)
    role = bridges.role_of(frames[0].f_code) if len(frames) > 1 else None
    return (id(frames[1]), None) if role is not None and role.part is Part.HUB else (0, None)


def _ping(kind: str, loop: Any, pong: Callable[[], None]) -> None:
    if kind == "uvloop":
        loop.call_soon_threadsafe(pong, context=Context())
    else:
        loop.loop.run_callback_threadsafe(pong)
