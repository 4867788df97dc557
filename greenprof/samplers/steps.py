"""Exact stretches in which somebody had a loop's thread: a task's step, a callback, a greenlet.

Of asyncio's own loops each callback is timed as it runs (`asyncio.events.Handle._run` is replaced
while anybody listens); of gevent's and eventlet's hubs, the time from a hub's switch to a greenlet
until one comes back to it. uvloop runs its callbacks in C, and nothing can be put round them.

The time in which a loop waits for events is in no stretch.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextvars import Context, copy_context
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import awaitables, loops, switches
from greenprof._native import RLock, get_ident, time
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.samplers.hubs import Hub, find_hub
from greenprof.samplers.importwatch import ImportWatch

__all__ = ["Listener", "Stretch", "add_listener", "current", "lasting", "remove_listener"]

#: Called with the kind of loop ("asyncio", "gevent", "eventlet"), the thread's identity, the loop
#: or hub, the task, greenlet or callback that had the thread, and from when to when, by
#: `time.monotonic_ns`.
Listener = Callable[[str, int, Any, Any, int, int], None]


class Stretch(NamedTuple):
    """A stretch that lasts: since when, by `time.monotonic_ns`, and who has the thread.

    `context` is the one that it runs in, where that can be told. `below` is the code of the frame
    that everything in the stretch is called by; None where there is none to be found. `polled`:
    it was found by asking, so that `current` does not know it.
    """

    start_ns: int
    owner: Any
    kind: str
    loop: Any
    context: Context | None = None
    below: CodeType | None = None
    polled: bool = False


_lock = RLock()
_listeners: tuple[tuple[Listener, int], ...] = ()
_shortest = 0
# Thread -> what its loop runs just now: since when, the handle, its callback. None between two.
_callbacks: dict[int, tuple[int, Any, Any] | None] = {}
# Thread -> what its hub has switched to, and when.
_switched: dict[int, tuple[int, ref[greenlet], Hub]] = {}
# Thread -> its hub; None where there is none.
_hubs: dict[int, Hub | None] = {}
_wants: list[str] = []
_original: Any = None
_problem: str | None = None


def add_listener(listener: Listener, min_ns: int = 0) -> None:
    """Have a function called at the end of each stretch of at least `min_ns`, in its own thread.

    It must be quick and must not switch greenlets; what it raises is noted (`problem`) and goes
    no further.
    """
    global _problem
    with _lock:
        first = not _listeners
        if first:
            _problem = None
        _set_listeners((*_without(listener), (listener, min_ns)))
    if first:
        switches.follow(record=False)
        switches.add_listener(_on_switch, _wants)
        _hook_asyncio()
        _begin_here()


def remove_listener(listener: Listener) -> None:
    """Call a function no longer; nothing if it was not called."""
    with _lock:
        before = _listeners
        _set_listeners(_without(listener))
        last = bool(before) and not _listeners
    if last:
        _unhook_asyncio()
        switches.remove_listener(_on_switch)
        switches.unfollow(record=False)
        _forget()


def current(ident: int) -> Stretch | None:
    """The stretch that lasts in a thread, None if there is none. From any thread."""
    found = _callbacks.get(ident)
    if found is not None and not _is_hubs(ident, getattr(found[1], "_loop", None)):
        start_ns, handle, callback = found
        loop, context = getattr(handle, "_loop", None), getattr(handle, "_context", None)
        if type(handle) is not _Entered:
            owner = _owner_of(callback)
            return Stretch(start_ns, owner, "asyncio", loop, context, _RUNNING)
        # The loop may never have come to another callback.
        lasts = loop is not None and loop.is_running()
        return Stretch(start_ns, callback, "asyncio", loop, context) if lasts else None
    running = _switched.get(ident)
    if running is None:
        return None
    start_ns, owner, hub = running
    found_hub = hub.greenlet()
    return None if found_hub is None else Stretch(start_ns, owner(), hub.kind, found_hub)


def lasting(start_ns: int) -> list[int]:
    """The threads in which a stretch lasts that began before `start_ns`. From any thread."""
    # Copied in C: stretches begin and end meanwhile.
    found = [i for i, one in list(_callbacks.items()) if one is not None and one[0] < start_ns]
    found += [i for i, two in list(_switched.items()) if two[0] < start_ns and i not in found]
    return found


def hub_of(ident: int) -> tuple[greenlet, str] | None:
    """A thread's hub and its library, None if it has none that is known."""
    hub = _hubs.get(ident)
    found = None if hub is None else hub.greenlet()
    return None if hub is None or found is None else (found, hub.kind)


def forget_threads(alive: set[int]) -> None:
    """Drop the threads that ended."""
    for table in (_callbacks, _switched, _hubs):
        for ident in [ident for ident in list(table) if ident not in alive]:
            table.pop(ident, None)


def problem() -> str | None:
    """What a listener raised last, in one line; None if none ever did."""
    return _problem


def _without(listener: Listener) -> tuple[tuple[Listener, int], ...]:
    # Not by identity: a bound method is made anew each time.
    return tuple(one for one in _listeners if one[0] != listener)


def _set_listeners(listeners: tuple[tuple[Listener, int], ...]) -> None:
    global _listeners, _shortest
    # Replaced, not changed: another thread may be calling them.
    _listeners = listeners
    _shortest = min((min_ns for _, min_ns in listeners), default=0)


def _forget() -> None:
    for ident, running in list(_callbacks.items()):
        # One that was timed from its beginning goes on being so, for whoever listens next.
        if running is None or type(running[1]) is _Entered:
            _callbacks.pop(ident, None)
    _switched.clear()
    _hubs.clear()
    _wants.clear()


def _tell(kind: str, ident: int, loop: Any, owner: Any, start_ns: int, end_ns: int) -> None:
    global _problem
    for listener, min_ns in _listeners:
        if end_ns - start_ns < min_ns:
            continue
        try:
            listener(kind, ident, loop, owner, start_ns, end_ns)
        except Exception as error:
            if from_signal_handler(error):
                raise
            try:
                _problem = reason(error)
            except RecursionError:  # it was raised at the limit, and still holds
                _problem = type(error).__name__


# asyncio.


def _owner_of(callback: Any) -> Any:
    """The task whose step a callback is, else the callback."""
    owner = getattr(callback, "__self__", None)
    return owner if owner is not None and awaitables.is_task(owner) else callback


def _timed(original: Callable[[Any], None]) -> Callable[[Any], None]:
    # Closure cells rather than globals, and nothing that is not needed: it runs at each callback.
    running, here, now = _callbacks, get_ident, time.monotonic_ns

    @functools.wraps(original)
    def run(handle: Any) -> None:
        ident = here()
        if ident not in running:
            _meet_thread(ident)
        # A loop may run within another one's callback.
        outer = running.get(ident)
        callback = handle._callback
        start_ns = now()
        if outer is not None and type(outer[1]) is _Entered:
            _leave_step(ident, outer, start_ns)
            outer = None
        try:
            running[ident] = start_ns, handle, callback
            original(handle)
        finally:
            running[ident] = outer
            end_ns = now()
            if end_ns - start_ns >= _shortest and _listeners and _is_programs(ident, handle):
                _tell("asyncio", ident, handle._loop, _owner_of(callback), start_ns, end_ns)

    return run


# From 3.14 on, what computes a function's annotations is code of its own, beside it.
_RUNNING: Final = next(
    code
    for code in _timed.__code__.co_consts
    if isinstance(code, CodeType) and code.co_name == "run"
)


class _Entered:
    """Stands for the handle of a step that ran already when somebody began to listen."""

    __slots__ = ("_context", "_loop")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._context = copy_context()


def _enter_step(ident: int) -> None:
    """Begin in the middle of a step of this thread's loop.

    Its end is the begin of the loop's next callback, which is why it gets one: with a callback to
    run, a loop does not wait for events in between.
    """
    loop = loops.running_loop()
    if not isinstance(loop, _asyncio_loop()) or _callbacks.get(ident) or _is_hubs(ident, loop):
        return
    _callbacks[ident] = time.monotonic_ns(), _Entered(loop), loops.current_task(loop)
    loop.call_soon(_come_round, context=Context())


def _asyncio_loop() -> Any:
    return getattr(sys.modules.get("asyncio.base_events"), "BaseEventLoop", ())


def _come_round() -> None:
    """Be the loop's next callback."""


def _leave_step(ident: int, entered: tuple[int, Any, Any], end_ns: int) -> None:
    start_ns, handle, owner = entered
    if end_ns - start_ns >= _shortest:
        _tell("asyncio", ident, handle._loop, owner, start_ns, end_ns)


def _meet_thread(ident: int) -> None:
    """Follow the switches of a thread that runs a loop, also if it was started long ago."""
    _callbacks[ident] = None
    try:
        if switches.following():
            switches.adopt_thread()
    except Exception as error:
        if from_signal_handler(error):
            raise


def _is_programs(ident: int, handle: Any) -> bool:
    """Whether a callback is the program's: not ours, nor a hub's."""
    return handle._callback is not _come_round and not _is_hubs(ident, handle._loop)


def _is_hubs(ident: int, loop: Any) -> bool:
    """Whether a thread's hub is all that a loop runs."""
    hub = _hubs.get(ident)
    return hub is not None and hub.loop is not None and hub.loop() is loop


def _hook_asyncio() -> None:
    global _original
    with _lock:
        if not _listeners or _original is not None:
            return
        kind = getattr(sys.modules.get("asyncio.events"), "Handle", None)
        # One that is still being imported has a handle of which nobody has an instance yet.
        if kind is None or getattr(kind, "_run", None) is None:
            _import_watch.begin()
            return
        _original = kind, kind._run, _timed(kind._run)
        kind._run = _original[2]
    _import_watch.end()


# A program that does not use asyncio is not made to import it.
_import_watch = ImportWatch("asyncio.", _hook_asyncio)


def _unhook_asyncio() -> None:
    global _original
    _import_watch.end()
    if _original is None:
        return
    kind, before, ours = _original
    _original = None
    if kind._run is ours:
        kind._run = before


# Hubs.


def _begin_here() -> None:
    """Begin in the middle: with a hub that is there, and the greenlet that runs."""
    if "gevent.hub" in sys.modules or "eventlet.hubs" in sys.modules:
        _wants.append("hubs")
    ident, running = get_ident(), getcurrent()
    hub = _hubs[ident] = find_hub()
    try:
        _enter_step(ident)
    except Exception as error:  # a loop of somebody's own
        if from_signal_handler(error):
            raise
    if hub is not None and hub.greenlet() is not running:
        _switched[ident] = time.monotonic_ns(), ref(running), hub


def _make_on_switch() -> switches.Listener:
    # Closure cells rather than globals: it runs at each switch.
    hubs, switched, here, now = _hubs, _switched, get_ident, time.monotonic_ns

    def on_switch(
        _event: str, origin: greenlet, target: greenlet, frame: FrameType | None, _handed: bool
    ) -> None:
        """Take note of a switch; see `greenprof.switches.add_listener`."""
        try:
            ident = here()
            hub = hubs.get(ident)
            if frame is None or (hub is None and ident not in hubs):
                hub = _meet_hub(ident)  # at its first switch at the latest
            if hub is None:
                return
            main = hub.greenlet()
            if origin is main:
                switched[ident] = now(), ref(target), hub
            elif target is main:
                running = switched.pop(ident, None)
                if running is not None:
                    end_ns = now()
                    if end_ns - running[0] >= _shortest:
                        owner = running[1]()
                        owner = origin if owner is None else owner
                        _tell(hub.kind, ident, main, owner, running[0], end_ns)
        except Exception as error:
            if from_signal_handler(error):
                raise

    return on_switch


def _meet_hub(ident: int) -> Hub | None:
    hub = _hubs[ident] = find_hub()
    if hub is not None and not _wants:
        _wants.append("hubs")
    return hub


_on_switch = _make_on_switch()


def _after_fork_in_child() -> None:
    """A forked child has no listeners: those who listened did not come along."""
    global _lock, _listeners
    _lock = RLock()
    _unhook_asyncio()
    if _listeners:
        _listeners = ()
        switches.remove_listener(_on_switch)
        _forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
