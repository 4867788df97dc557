"""How an await ended: what was thrown into the sync code is not shown to whoever sees the switch.

The exception is alive, though, and young: the other side has just caught it, so its traceback
begins at the bridge frame, and the garbage collector has it among its youngest objects.
"""

from __future__ import annotations

import gc
import sys
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FrameType, TracebackType
from typing import Any

from greenlet import GreenletExit, greenlet

from greenprof import awaitables, loops, variables
from greenprof._native import time
from greenprof.handovers import names

__all__ = [
    "CANCELLED",
    "OTHER",
    "RAISED",
    "RETURNED",
    "error_type",
    "is_cancellation",
    "said_of",
    "thrown",
    "thrown_into",
]

RETURNED, RAISED, CANCELLED = "returned", "raised", "cancelled"
#: What OpenTelemetry's conventions say for an error without a name of its own.
OTHER = "_OTHER"
# Older ones are too many to look at.
_GENERATIONS = (0, 1)
# An exception that was made for a throw is among the last objects that were made.
_JUST_MADE = 64
#: The part of all time that searches for exceptions among all objects may take.
SEARCH_BUDGET = 0.01
#: What they may take one after another: a dozen in a process of a million objects.
MAX_CREDIT_NS = 250_000_000


def error_type(kind: type[BaseException]) -> str:
    """The value of the attribute `error.type` for an exception's class."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def is_cancellation(kind: type[BaseException]) -> bool:
    """Whether an exception says that the work is not wanted any more: no error."""
    if issubclass(kind, GreenletExit):
        return True
    for module in ("asyncio", "trio"):
        cancelled = getattr(sys.modules.get(module), "CancelledError", None) or getattr(
            sys.modules.get(module), "Cancelled", None
        )
        if isinstance(cancelled, type) and issubclass(kind, cancelled):
            return True
    return False


def thrown_into(
    frame: FrameType, origin: greenlet, hub: str, bridge_frame: int
) -> tuple[str, str | None, greenlet | None]:
    """How an await ended that was seen to end by a throw: outcome, error type, and who threw.

    `frame` is the sync code's, `origin` was switched from, `hub` is the library that it waited in
    or "", `bridge_frame` the id of the frame that awaited for it. It is not the other side that
    throws (None) where the greenlet is being destroyed.
    """
    top = origin.gr_frame
    if hub:
        return *said_of(thrown_by_hub(top)), origin
    if id(top) == bridge_frame:
        return *said_of(thrown(names.awaitable_in(frame, origin), top)), origin
    kind = thrown(names.awaitable_in(frame, None), None)
    return *((CANCELLED, None) if kind is None else said_of(kind)), None


def said_of(kind: type[BaseException] | None) -> tuple[str, str | None]:
    """The outcome and the error's type of an await that an exception ended (None: unknown)."""
    if kind is None:
        task = loops.current_task(loops.running_loop())
        if getattr(task, "cancelling", int)():
            return CANCELLED, None
        return RAISED, OTHER
    if is_cancellation(kind):
        return CANCELLED, None
    return RAISED, error_type(kind)


def thrown(awaitable: Any, bridge_frame: FrameType | None) -> type[BaseException] | None:
    """The type of the exception that was just thrown into a greenlet, None if it was not found.

    `bridge_frame` is where the greenlet that threw it is suspended.
    """
    if awaitables.is_future(awaitable):
        found = getattr(awaitable, "_exception", None)
        if found is not None:
            return type(found)
    if bridge_frame is None:
        return None
    for generation in _GENERATIONS:
        for one in reversed(gc.get_objects(generation)):
            if _is_exception(one) and _passed(one, bridge_frame):
                return type(one)
    return _named_in(bridge_frame) or _search.for_exception_in(bridge_frame)


def _passed(error: Any, frame: FrameType) -> bool:
    """Whether an exception has come through a frame."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame is frame:
            return True
        traceback = traceback.tb_next
    return False


def _named_in(bridge_frame: FrameType) -> type[BaseException] | None:
    """The type of the only exception that a frame has made a variable of: ``except X as error``.

    From Python 3.12 on it has no traceback while it is thrown by that name.
    """
    code = bridge_frame.f_code
    given = code.co_argcount + code.co_kwonlyargcount
    given += bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    arguments = code.co_varnames[:given]
    values = variables.all_of(bridge_frame).items()
    found = [one for name, one in values if name not in arguments and _is_exception(one)]
    return type(found[0]) if len(found) == 1 and found[0].__traceback__ is None else None


class _Search:
    """Asks the garbage collector who refers to a frame: for exceptions that are not young any more.

    It looks at all objects there are for that, so it is held to a part of all time.
    """

    def __init__(self) -> None:
        self._credit_ns = MAX_CREDIT_NS
        self._since_ns: int = time.monotonic_ns()

    def for_exception_in(self, frame: FrameType) -> type[BaseException] | None:
        """The type of an exception whose traceback begins in a frame."""
        began_ns = time.monotonic_ns()
        earned_ns = round((began_ns - self._since_ns) * SEARCH_BUDGET)
        self._credit_ns = min(self._credit_ns + earned_ns, MAX_CREDIT_NS)
        self._since_ns = began_ns
        if self._credit_ns <= 0:
            return None
        entries = [one for one in gc.get_referrers(frame) if type(one) is TracebackType]
        found = gc.get_referrers(*entries) if entries else []
        kind = next((type(one) for one in reversed(found) if _is_exception(one)), None)
        self._credit_ns -= time.monotonic_ns() - began_ns
        return kind


_search = _Search()


def thrown_by_hub(hub_frame: FrameType | None) -> type[BaseException] | None:
    """The type of the exception that was just thrown into a greenlet that waited in its hub.

    A timeout's is at hand where the hub stands. A kill makes one just then. None for what somebody
    made before and threw.
    """
    values = {} if hub_frame is None else variables.all_of(hub_frame)
    # gevent's Timeout._on_expiration has it as `ex`, eventlet's Timer.__call__ among its `args`.
    given = values.get("args")
    for one in (values.get("ex"), *(given if type(given) is tuple else ())):
        if _is_exception(one):
            return type(one)
        if isinstance(one, type) and issubclass(one, BaseException):
            return one
    for one in list(reversed(gc.get_objects(0)))[:_JUST_MADE]:
        if issubclass(type(one), GreenletExit) and one.__traceback__ is None:
            return type(one)
    return None


def _is_exception(one: object) -> bool:
    # Not isinstance: it would run the properties of proxies of another class.
    return issubclass(type(one), BaseException)
