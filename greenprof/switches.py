"""Who runs now and who waits for whom: the sole owner of ``greenlet.settrace``.

greenlet has one tracer slot per thread. While somebody follows switches (`follow`), this module
holds the slot of every thread it can reach:

- the thread that calls `follow` or `adopt_thread`, at once;
- every thread started later through `threading`, by a profile hook that removes itself at that
  thread's first event.

A thread's tracer may rest (`Switches.rest`), where what it costs is more than it is worth.

Threads that ran before, and threads started below `threading`, are not followed; stacks there
are rebuilt from what the bridges' frames hold (see `greenprof.bridges`).

The callback cannot raise by itself. The one exception that can pass through it is the program's
own: a signal handler may run inside it, and what that raises must reach the program. greenlet
then removes the tracer and raises in the target, just where the program would have seen it;
`Switches.check` puts the tracer back.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Sized
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from itertools import compress
from types import CodeType, FrameType
from typing import Any, NamedTuple
from weakref import ref

from greenlet import getcurrent, gettrace, greenlet, settrace

from greenprof._native import allocate_lock, current_frames, get_ident, thread_local

Tracer = Callable[[str, Any], Any]
Listener = Callable[[str, greenlet, greenlet, "FrameType | None", bool], None]

CO_AWAITS = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR

# A program that keeps taking the slot away wins after this many attempts: a tug of war would
# pile up tracers in front of one another.
MAX_REINSTALLS = 8

# The tables are pruned of dead entries when they double; below this size nobody cares.
PRUNE_AT = 1024

# More functions than any program's bridges have.
MAX_BRIDGING = 1000


class _Layer(NamedTuple):
    """One callback of ours, the tracer that it found, and how to read what it saw."""

    callback: Tracer
    previous: Tracer | None
    read: Callable[[], tuple[int, ref[greenlet] | None]]


class Switches:
    """What the tracer saw in one thread.

    `waiting` maps ``id(bridge frame)`` to a weak reference to the greenlet that the frame awaits
    for; `born` maps ``id(greenlet)`` to a weak reference to each greenlet that was alive or began
    while the thread was followed. Neither keeps a greenlet or a frame alive; `awaited_by` tells
    an entry whose frame is gone from one that holds.
    """

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.waiting: dict[int, ref[greenlet]] = {}
        self.born: dict[int, ref[greenlet]] = {}
        #: Functions of the coroutines that were handed something, by the ids of their codes.
        self.bridging: dict[int, CodeType] = {}
        self.displaced = 0
        self.given_up = False
        # The other way about, id(greenlet) to id(bridge frame): ids are used again, and only
        # a greenlet's latest frame awaits for it.
        self._awaited_in: dict[int, int] = {}
        self._prune_at = PRUNE_AT
        self._active: _Layer | None = None
        self._layers: list[_Layer] = []
        self._interrupted = False
        self._earlier = 0
        #: Whether the tracer was taken out by `rest`.
        self.resting = False

    def position(self) -> tuple[int, ref[greenlet] | None]:
        """The number of switches so far, and the greenlet that runs (None: not known).

        Two equal counts around a look from another thread mean that no switch came between.
        """
        layer = self._active
        if layer is None:
            return self._earlier, None
        count, current = layer.read()
        return self._earlier + count, current

    def running(self) -> greenlet | None:
        """The greenlet that runs; None if it is not known."""
        reference = self.position()[1]
        return None if reference is None else reference()

    def count_from(self, number: int) -> None:
        """Begin the count of switches at `number`."""
        self._earlier += number

    def install(self) -> None:
        """Take this thread's slot, in front of whatever tracer is there."""
        previous: Any = gettrace()
        layer = self._make_layer(previous)
        self._layers.append(layer)
        self._activate(layer)
        settrace(layer.callback)

    def _activate(self, layer: _Layer | None) -> None:
        total, _ = self.position()
        self._earlier = total - (0 if layer is None else layer.read()[0])
        self._active = layer

    def uninstall(self) -> None:
        """Stop recording; give the slot back if it is still ours. In this thread only."""
        self.stop()
        slot = gettrace()
        for layer in self._layers:
            if slot is layer.callback:
                settrace(layer.previous)
                break
        self._layers.clear()

    def rest(self) -> bool:
        """Let switches pass unseen until `wake`; return whether it was possible. In this thread only.

        What is known of who waits for whom is forgotten, since it would soon be wrong; `born` stays.
        Not where another tool has taken the slot, or stands behind us: it may count on its place.
        """
        active = self._active
        if active is None or len(self._layers) != 1 or gettrace() is not active.callback:
            return False
        settrace(active.previous)
        self._layers.clear()
        self._activate(None)
        self.waiting.clear()
        self._awaited_in.clear()
        self.resting = True
        return True

    def wake(self) -> None:
        """See switches again after `rest`; nothing if it did not rest. In this thread only."""
        if self.resting:
            # What a callback noted that was interrupted when `rest` took it out.
            self.waiting.clear()
            self._awaited_in.clear()
            self.resting = False
            self.install()

    def note_born(self, found: greenlet) -> None:
        """Note a greenlet that begins while the tracer rests."""
        self.born[id(found)] = ref(found)
        if len(self.born) > self._prune_at:
            self.prune()

    def stop(self) -> None:
        """Stop recording; the callback stays, and does nothing but call the one it found."""
        self._activate(None)
        self.resting = False
        for table in (self.waiting, self.born, self._awaited_in):
            table.clear()

    def resume(self) -> bool:
        """Record again after `stop`, if a callback of ours has stayed. From any thread."""
        if not self._layers:
            return False
        self._activate(self._layers[-1])
        return True

    def check(self) -> bool:
        """Whether switches reach us; take the slot again if somebody displaced us.

        In this thread only. A tracer that calls the one it found (gevent's monitor does) still
        reaches us from behind; it is displaced in turn all the same, since whether it does
        cannot be told from here, and our older callback then only passes the call on.
        """
        active = self._active
        if active is None:
            return False
        if len(self.waiting) > self._prune_at:
            self.prune()
        slot = gettrace()
        if slot is active.callback:
            return True
        for at, layer in enumerate(self._layers):
            if slot is layer.callback:  # whoever came after it gave the slot back to it
                del self._layers[at + 1 :]
                self._activate(layer)
                return True
        if slot is None:
            if self._interrupted:
                self._interrupted = False
                settrace(active.callback)
                return True
            self._layers.clear()
        elif self.given_up or self.displaced >= MAX_REINSTALLS:
            self.given_up = True
            return False
        self.displaced += 1
        self.install()
        return True

    def _make_layer(self, previous: Tracer | None) -> _Layer:
        # Closure cells rather than attributes: the callback costs a switch's own time again, and
        # each attribute on the way would add a tenth of that.
        count = 0
        current: ref[greenlet] | None = ref(getcurrent())
        waiting = self.waiting
        awaited_in = self._awaited_in
        born = self.born
        bridging = self.bridging
        getframe = sys._getframe
        state = self

        def trace(event: str, args: Any) -> None:
            nonlocal count, current
            if previous is not None:
                previous(event, args)
            if state._active is not layer or (event != "switch" and event != "throw"):
                return
            try:
                origin, target = args
                # In this order: whoever sees the new count sees the new greenlet.
                try:
                    current = ref(target) if _recorders else None
                except TypeError as error:
                    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                        raise  # a signal handler of the program's raised it, not ref
                    return  # no greenlet: from another tool, which calls whomever it found
                count += 1
                frame: FrameType | None = None
                handed = awaits = False
                try:
                    frame = getframe(1)
                except ValueError as error:
                    if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                        raise  # a signal handler of the program's raised it, not getframe
                    born[id(target)] = ref(target)
                    if len(born) > state._prune_at:
                        state.prune()
                else:
                    if frame.f_code.co_flags & CO_AWAITS:
                        awaits = True
                        handed = not origin.dead
                        if handed and _recorders:
                            waiting[id(frame)] = ref(origin)
                            awaited_in[id(origin)] = id(frame)
                            code = frame.f_code
                            if id(code) not in bridging and len(bridging) < MAX_BRIDGING:
                                bridging[id(code)] = code
                listener = _listener  # another thread may take it away in between
                if listener is not None and (awaits or _open or frame is None):
                    try:
                        listener(event, origin, target, frame, handed)
                    except RecursionError:
                        pass  # the stack leaves no room for it
            except BaseException:
                state._interrupted = True
                raise

        layer = _Layer(trace, previous, lambda: (count, current))
        return layer

    def prune(self) -> None:
        """Drop what is gone. In place: the callback holds the tables."""
        for key, found in list(self.born.items()):
            if (born := found()) is None or born.dead:
                self.born.pop(key, None)
        alive = set()
        for key, found in list(self.waiting.items()):
            waiter = found()
            if waiter is None or waiter.dead or self._awaited_in.get(id(waiter)) != key:
                self.waiting.pop(key, None)
            else:
                alive.add(id(waiter))
        for key in list(self._awaited_in):
            if key not in alive:
                self._awaited_in.pop(key, None)
        self._prune_at = max(PRUNE_AT, 2 * len(self.born), 2 * len(self.waiting))

    def awaited_by(self, frame: FrameType) -> greenlet | None:
        """The live greenlet that `frame` awaits for, None if it is not a bridge frame."""
        found = self.waiting.get(id(frame))
        if found is None or self.resting:
            return None  # while it rests, nobody forgets what is over
        waiter = found()
        if waiter is None or waiter.dead or self._awaited_in.get(id(waiter)) != id(frame):
            return None
        return waiter

    def is_awaited_for(self, found: greenlet) -> bool:
        """Whether a live greenlet has handed over to a coroutine, which awaits on its behalf."""
        noted = self.waiting.get(self._awaited_in.get(id(found), 0))
        return noted is not None and noted() is found and not self.resting

    def seed(self) -> None:
        """Note the greenlets of this thread that began before it was followed.

        Looks at every object there is, so only where greenlets serve as threads: a bridge's are
        found through the tasks that they belong to.
        """
        if "gevent.greenlet" not in sys.modules and "eventlet.greenthread" not in sys.modules:
            return
        main = main_of(getcurrent())
        for found in all_greenlets():
            if found and found is not main and main_of(found) is main:
                self.born[id(found)] = ref(found)


def all_greenlets() -> list[greenlet]:
    """Every greenlet that the garbage collector knows, of all threads; slow (all objects)."""
    # By type, in C: for a million objects, or where each call is counted, anything else takes long. And
    # isinstance would run the properties of proxies that say they are of another class.
    kinds: set[type] = {greenlet}
    unasked: list[type] = [greenlet]
    while unasked:
        found: set[type] = set(type.__subclasses__(unasked.pop())) - kinds
        kinds |= found
        unasked += found
    objects = gc.get_objects()
    return list(compress(objects, map(kinds.__contains__, map(type, objects))))


def main_of(start: greenlet) -> greenlet:
    """The greenlet that a thread began with, of the thread that `start` belongs to."""
    found = start
    while (parent := found.parent) is not None:
        found = parent
    return found


_threads: dict[int, Switches] = {}
_left_behind: dict[int, Switches] = {}
_here = thread_local()
_lock = allocate_lock()
_followers = 0
_recorders = 0
_earlier_hook: Any = None
_listeners: tuple[tuple[Listener, Sized], ...] = ()
_listener: Listener | None = None
_open: Sized = ()


def add_listener(listener: Listener, wants: Sized = ()) -> None:
    """Have a function called at switches of followed threads, until `remove_listener`.

    It gets the event ("switch" or "throw"), the greenlets that were switched from and to, the
    frame that goes on there (None at a greenlet's first switch), and whether that is a coroutine's
    that is to await something for a live greenlet. It is called at switches to coroutines and at
    first switches, and at all others as long as there is anything in anybody's `wants`.

    It runs inside the tracer: it must be quick, must not switch, and raises nothing but what
    signal handlers raise in it.
    """
    _set_listeners((*_without(listener), (listener, wants)))


def remove_listener(listener: Listener) -> None:
    """Call a function no longer; nothing if it was not called."""
    _set_listeners(_without(listener))


def _without(listener: Listener) -> tuple[tuple[Listener, Sized], ...]:
    return tuple(one for one in _listeners if one[0] != listener)


def _set_listeners(listeners: tuple[tuple[Listener, Sized], ...]) -> None:
    global _listener, _listeners, _open
    # Replaced, not changed: another thread may be calling them.
    _listeners = listeners
    # One alone is called without a detour: that is what tracing in production has.
    if len(listeners) > 1:
        _listener, _open = _call_all, _AnyWants([wants for _, wants in listeners])
    else:
        _listener, _open = listeners[0] if listeners else (None, ())


class _AnyWants:
    """What several listeners want, together."""

    def __init__(self, wants: list[Sized]) -> None:
        self._wants = wants

    def __len__(self) -> int:
        return sum(map(len, self._wants))


def _call_all(
    event: str, origin: greenlet, target: greenlet, frame: FrameType | None, handed: bool
) -> None:
    for listener, wants in _listeners:
        # What wants nothing beyond the rest is not told of the rest, here neither.
        if frame is None or wants or frame.f_code.co_flags & CO_AWAITS:
            listener(event, origin, target, frame, handed)


def follow(*, record: bool = True) -> None:
    """Follow switches in this thread and in those started from now on. Counted: see `unfollow`.

    Without `record` nobody notes who runs and who waits for whom, which is half of what a switch
    costs; a listener is told of switches all the same.
    """
    global _followers, _earlier_hook, _recorders
    with _lock:
        _followers += 1
        if record:
            if not _recorders:
                # What was noted before the last one stopped may be wrong by now.
                for state in list(_threads.values()):
                    state.waiting.clear()
                    state._awaited_in.clear()
            _recorders += 1
        first = _followers == 1
        if first:
            _take_up_left_behind()
            _earlier_hook = threading.getprofile()
            threading.setprofile(_first_event)
    if first:
        adopt_thread()


def _take_up_left_behind() -> None:
    """Go on in other threads where our callbacks have stayed since the last `unfollow`."""
    alive = current_frames() or {}
    here = get_ident()
    for ident, state in list(_left_behind.items()):
        if ident == here:
            continue
        del _left_behind[ident]
        if ident in alive and state.resume():
            _threads[ident] = state


def unfollow(*, record: bool = True) -> None:
    """Take one `follow` of the same kind back; with the last one, give every slot back.

    Another thread's slot can only be given back from within: its callback stays there, passes
    calls on and does nothing else, until `release_thread` runs in that thread or it ends.
    """
    global _followers, _earlier_hook, _recorders
    with _lock:
        if _followers == 0:
            return
        _followers -= 1
        if record and _recorders:
            _recorders -= 1
        if _followers:
            return
        if threading.getprofile() is _first_event:
            threading.setprofile(_earlier_hook)
        _earlier_hook = None
        states = list(_threads.values())
        _threads.clear()
    for state in states:
        if state is getattr(_here, "state", None):
            _here.state = None
            state.uninstall()
        else:
            state.stop()
            _left_behind[state.ident] = state


def release_thread() -> None:
    """Give this thread's slot back, where `unfollow` ran in another thread."""
    state = getattr(_here, "state", None)
    if state is not None and _threads.get(state.ident) is not state:
        _here.state = None
        _left_behind.pop(state.ident, None)
        state.uninstall()


def following() -> bool:
    """Whether anybody follows switches in this process."""
    return _followers > 0


def wanted(followers: int, listeners: tuple[Listener, ...] = ()) -> bool:
    """Whether anybody wants switches beside so many followers and these listeners."""
    return _followers > followers or any(one not in listeners for one, _ in _listeners)


def adopt_thread() -> Switches:
    """Follow the calling thread, if it is not followed yet."""
    release_thread()
    state = getattr(_here, "state", None)
    if state is None:
        state = _adopt()
        state.seed()
    state.wake()
    return state


def _adopt() -> Switches:
    # A thread's identity is used again: what stands under it now may be of a thread that ended.
    state = _here.state = Switches(get_ident())
    state.install()
    ended = _threads.get(state.ident)
    if ended is not None:
        state.count_from(ended.position()[0])
    _threads[state.ident] = state
    return state


def of_thread(ident: int) -> Switches | None:
    """What is known of a thread, None if it is not followed."""
    return _threads.get(ident)


def forget_threads(alive: set[int]) -> int:
    """Drop the threads that ended, and return the number of switches that they made."""
    gone = 0
    for ident in [ident for ident in list(_threads) if ident not in alive]:
        gone += _threads.pop(ident).position()[0]
    for ident in [ident for ident in list(_left_behind) if ident not in alive]:
        _left_behind.pop(ident, None)
    return gone


def all_threads() -> list[Switches]:
    """Every followed thread."""
    return list(_threads.values())


def everywhere() -> Switches:
    """What is known of all threads' bridge frames, as of now; for a look at a task of any thread."""
    merged = Switches(0)
    for state in all_threads():
        if not state.resting:
            merged.waiting.update(state.waiting)
            merged._awaited_in.update(state._awaited_in)
    return merged


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
    if _followers and getattr(_here, "state", None) is None:
        state = _adopt()
        if not _followers:  # somebody stopped in the meantime
            _threads.pop(state.ident, None)
            release_thread()
    if earlier is not None:
        earlier(frame, event, arg)


def _after_fork_in_child() -> None:
    """A forked child follows nobody: the parent's profiler did not come along."""
    global _followers, _lock, _earlier_hook, _recorders
    _lock = allocate_lock()
    if not _followers:
        return
    _followers = _recorders = 0
    if threading.getprofile() is _first_event:
        threading.setprofile(_earlier_hook)
    _earlier_hook = None
    _threads.clear()
    _left_behind.clear()
    release_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
