"""Who runs now and who waits for whom: the sole owner of ``greenlet.settrace``.

greenlet has one tracer slot per thread. While somebody follows switches (`follow`), this module
holds the slot of every thread it can reach:

- the thread that calls `follow` or `adopt_thread`, at once;
- every thread started later through `threading`, by a profile hook that removes itself at that
  thread's first event.

Threads that ran before, and threads started below `threading`, are not followed; stacks there
are rebuilt from what the bridges' frames hold (see `greenprof.bridges`).

The callback cannot raise by itself. The one exception that can pass through it is the program's
own: a signal handler may run inside it, and what that raises must reach the program. greenlet
then removes the tracer and raises in the target, just where the program would have seen it;
`Switches.check` puts the tracer back.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from types import FrameType
from typing import Any
from weakref import ref

from greenlet import getcurrent, gettrace, greenlet, settrace

from greenprof._native import allocate_lock, get_ident

Tracer = Callable[[str, Any], Any]

CO_AWAITS = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR

# A program that keeps taking the slot away wins after this many attempts: a tug of war would
# pile up tracers in front of one another.
MAX_REINSTALLS = 8

# The tables are pruned of dead entries when they double; below this size nobody cares.
PRUNE_AT = 1024


class Switches:
    """What the tracer saw in one thread.

    `waiting` maps ``id(bridge frame)`` to a weak reference to the greenlet that the frame awaits
    for; `born` maps ``id(greenlet)`` to a weak reference to each greenlet that started running
    while the thread was followed. Neither keeps a greenlet or a frame alive; an entry whose
    frame is gone is harmless, because frames are looked up by those found on a live stack.
    """

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.waiting: dict[int, ref[greenlet]] = {}
        self.born: dict[int, ref[greenlet]] = {}
        self.displaced = 0
        self.given_up = False
        self._prune_at = PRUNE_AT
        self._tracer: Tracer | None = None
        self._ours: list[tuple[Tracer, Tracer | None]] = []
        self._read: Callable[[], tuple[int, ref[greenlet] | None]] = lambda: (0, None)
        self._earlier = 0

    def position(self) -> tuple[int, ref[greenlet] | None]:
        """The number of switches so far, and the greenlet that runs (None: not known yet).

        Two equal counts around a look from another thread mean that no switch came between.
        """
        count, current = self._read()
        return self._earlier + count, current

    def install(self) -> None:
        """Take this thread's slot, in front of whatever tracer is there."""
        previous = gettrace()
        self._earlier, _ = self.position()
        tracer, self._read = self._make_tracer(previous)
        self._tracer = tracer
        self._ours.append((tracer, previous))
        settrace(tracer)

    def uninstall(self) -> None:
        """Stop recording; give the slot back if it is still ours."""
        self._earlier, _ = self.position()
        self._read = lambda: (0, None)
        self._tracer = None
        current = gettrace()
        for tracer, previous in self._ours:
            if current is tracer:
                settrace(previous)
                break
        self._ours.clear()
        self.waiting.clear()
        self.born.clear()

    def check(self) -> bool:
        """Whether the slot is ours; take it again if somebody displaced us. This thread only.

        A tracer that calls the one it found (gevent's monitor does) still reaches us from
        behind; it is displaced in turn all the same, since whether it does cannot be told from
        here, and our older callback then only passes the call on.
        """
        tracer = self._tracer
        if tracer is None:
            return False
        current = gettrace()
        if current is tracer:
            return True
        for older, _ in self._ours:
            if current is older:  # whoever came after gave the slot back to it
                self._earlier, _ = self.position()
                self._ours = self._ours[: [ours for ours, _ in self._ours].index(older)]
                settrace(self._ours_previous(older))
                self.install()
                return True
        if self.given_up:
            return False
        if current is not None:  # None: an exception passed through us, nobody displaced us
            self.displaced += 1
            if self.displaced > MAX_REINSTALLS:
                self.given_up = True
                return False
        self.install()
        return True

    def _ours_previous(self, tracer: Tracer) -> Tracer | None:
        return next((previous for ours, previous in self._ours if ours is tracer), None)

    def _make_tracer(
        self, previous: Tracer | None
    ) -> tuple[Tracer, Callable[[], tuple[int, ref[greenlet] | None]]]:
        # Closure cells rather than attributes: the callback costs a switch's own time again, and
        # each attribute on the way would add a tenth of that.
        count = 0
        current: ref[greenlet] | None = ref(getcurrent())
        waiting = self.waiting
        born = self.born
        getframe = sys._getframe
        state = self

        def trace(event: str, args: Any) -> None:
            nonlocal count, current
            if previous is not None:
                previous(event, args)
            if state._tracer is not trace or (event != "switch" and event != "throw"):
                return
            origin, target = args
            count += 1
            current = ref(target)
            try:
                frame = getframe(1)
            except ValueError as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                    raise  # a signal handler of the program's raised it, not getframe
                born[id(target)] = current
                if len(born) > state._prune_at:
                    state.prune()
                return
            if frame.f_code.co_flags & CO_AWAITS:
                if origin.dead:
                    waiting.pop(id(frame), None)
                else:
                    waiting[id(frame)] = ref(origin)

        return trace, lambda: (count, current)

    def prune(self) -> None:
        """Drop what died. In place: the callback holds both tables."""
        for table in (self.waiting, self.born):
            for key, greenlet_ref in list(table.items()):
                found = greenlet_ref()
                if found is None or found.dead:
                    table.pop(key, None)
        self._prune_at = max(PRUNE_AT, 2 * len(self.born), 2 * len(self.waiting))

    def awaited_by(self, frame: FrameType) -> greenlet | None:
        """The live greenlet that `frame` awaits for, None if it is not a bridge frame."""
        found = self.waiting.get(id(frame))
        if found is None:
            return None
        waiter = found()
        return None if waiter is None or waiter.dead else waiter


_threads: dict[int, Switches] = {}
_lock = allocate_lock()
_followers = 0
_earlier_hook: Any = None


def follow() -> None:
    """Follow switches in this thread and in those started from now on. Counted: see `unfollow`."""
    global _followers, _earlier_hook
    with _lock:
        _followers += 1
        first = _followers == 1
        if first:
            _earlier_hook = threading.getprofile()
            threading.setprofile(_first_event)
    if first:
        adopt_thread()


def unfollow() -> None:
    """Take one `follow` back; with the last one, give every slot back.

    Another thread's slot can only be given back from within: its callback stays there, passes
    calls on and does nothing else, until `release_thread` runs in that thread or it ends.
    """
    global _followers, _earlier_hook
    with _lock:
        _followers -= 1
        if _followers:
            return
        if threading.getprofile() is _first_event:
            threading.setprofile(_earlier_hook)
        _earlier_hook = None
        here = get_ident()
        states = list(_threads.values())
        _threads.clear()
    for state in states:
        if state.ident == here:
            state.uninstall()
        else:
            state._tracer = None
            _left_behind[state.ident] = state


_left_behind: dict[int, Switches] = {}


def release_thread() -> None:
    """Give this thread's slot back, where `unfollow` ran in another thread."""
    state = _left_behind.pop(get_ident(), None)
    if state is not None:
        state.uninstall()


def following() -> bool:
    """Whether anybody follows switches in this process."""
    return _followers > 0


def adopt_thread() -> Switches:
    """Follow the calling thread, if it is not followed yet."""
    release_thread()
    ident = get_ident()
    state = _threads.get(ident)
    if state is None:
        state = _threads[ident] = Switches(ident)
        state.install()
    return state


def of_thread(ident: int) -> Switches | None:
    """What is known of a thread, None if it is not followed."""
    return _threads.get(ident)


def forget_threads(alive: set[int]) -> int:
    """Drop the threads that ended, and return the number of switches that they made."""
    gone = 0
    for ident in [ident for ident in _threads if ident not in alive]:
        gone += _threads.pop(ident).position()[0]
    for ident in [ident for ident in _left_behind if ident not in alive]:
        _left_behind.pop(ident, None)
    return gone


def all_threads() -> list[Switches]:
    """Every followed thread."""
    return list(_threads.values())


def leave_patched_threading() -> None:
    """Take the hook for new threads out once gevent or eventlet has replaced `threading`.

    What it calls a thread then is a greenlet of a thread that is followed already, and the hook
    would take away that thread's own profile function.
    """
    if threading.getprofile() is _first_event and threading.get_ident() != get_ident():
        threading.setprofile(_earlier_hook)


def _first_event(frame: FrameType, event: str, arg: Any) -> None:
    """A new thread's profile hook: take its slot, then leave the hook to whoever had it."""
    earlier = _earlier_hook
    sys.setprofile(earlier)
    if _followers:
        adopt_thread()
    if earlier is not None:
        earlier(frame, event, arg)


def _after_fork_in_child() -> None:
    """A forked child follows nobody: the parent's profiler did not come along."""
    global _followers, _lock
    _lock = allocate_lock()
    if not _followers:
        return
    _followers = 0
    if threading.getprofile() is _first_event:
        threading.setprofile(_earlier_hook)
    here = get_ident()
    states = list(_threads.values())
    _threads.clear()
    _left_behind.clear()
    for state in states:
        if state.ident == here:
            state.uninstall()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
