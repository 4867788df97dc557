"""Sees each await begin and end, as greenlets switch.

`switched` runs at every switch of a followed thread, in the greenlet that was switched to. A
switch to a coroutine's frame is sync code that hands an awaitable over; a switch to a hub is a
greenlet that waits. Either is over when the one that waits is switched to again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet

from greenprof import bridges
from greenprof._native import time
from greenprof.bridges import Part
from greenprof.interrupted import from_signal_handler
from greenprof.rawstack import walk
from greenprof.spans.contexts import (
    EMPTY,
    SCOPE_KEY,
    SPAN_KEY,
    SUPPRESS_KEY,
    VARIABLE,
    of_greenlet,
    restored,
    with_span,
)
from greenprof.spans.span import AwaitSpan
from greenprof.switches import CO_AWAITS

__all__ = ["Awaits"]

#: Awaits that are open are pruned of those whose greenlet is gone when there are so many.
PRUNE_AT = 4096
# Greenlets and functions that were looked at; the tables start anew here.
_CACHE_LIMIT = 20_000


class Awaits:
    """The awaits that are open, in all threads.

    `tracing` says which `Tracing` is in effect where no block in the context says otherwise;
    `finish` is called with a span that has ended, the event, the greenlet that was switched from
    and the frame that goes on.
    """

    def __init__(
        self,
        finish: Callable[[AwaitSpan, str, greenlet, FrameType], None],
        failed: Callable[[Exception], None],
    ) -> None:
        if VARIABLE is None:
            raise RuntimeError("the OpenTelemetry context is not made of context variables")
        self.tracing: Any = None
        self._variable = VARIABLE
        self._finish = finish
        self.failed = failed
        self._open: dict[int, AwaitSpan] = {}
        self._prune_at = PRUNE_AT
        # id(greenlet) -> (itself, weakly, the library whose hub it is or "")
        self._greenlets: dict[int, tuple[ref[greenlet], str]] = {}
        # id(code) -> (itself, whether awaits begin before a switch to it, so that it says nothing)
        self._codes: dict[int, tuple[CodeType, bool]] = {}

    def switched(
        self, event: str, origin: greenlet, target: greenlet, frame: FrameType | None
    ) -> None:
        """Take note of a switch. `frame` is None at a greenlet's first."""
        try:
            found = self._open.pop(id(target), None)
            if found is not None:
                self._end(found, event, origin, target, frame)
            if frame is None:
                self._begun(origin, target)
            elif frame.f_code.co_flags & CO_AWAITS:
                if origin.dead:
                    self._tidy()
                else:
                    self._begin(origin, target, id(frame), frame.f_code)
            elif not origin.dead:
                self._begin_in_hub(origin, target, frame)
        except Exception as error:
            if from_signal_handler(error):
                raise
            self.failed(error)

    def forget(self) -> None:
        """Let all open awaits be: they are another process's, or nobody wants them any more."""
        for span in list(self._open.values()):
            span.ended = True
        self._open.clear()
        self._greenlets.clear()
        self._codes.clear()

    # Beginnings.

    def _begin(self, origin: greenlet, target: greenlet, bridge_frame: int, code: CodeType) -> None:
        known = self._codes.get(id(code))
        if known is None:
            known = self._look_at_code(code)
        if known[1]:
            return
        variable = self._variable
        own = origin.gr_context
        shared = own is target.gr_context
        if shared:
            outer = variable.get(EMPTY)
        else:
            outer = EMPTY if own is None else own.get(variable, EMPTY)
        span = self._make(origin, outer, bridge_frame, shared, "")
        if span is None:
            return
        if shared:
            span.inner = with_span(span.outer, span)
        else:
            # The other side's own context is put back when it runs on without an await of ours.
            before = restored(variable.get(EMPTY), AwaitSpan)
            span.inner = with_span(span.outer, span)
            span.before = before
        variable.set(span.inner)

    def _make(
        self, origin: greenlet | None, outer: Any, bridge_frame: int, shared: bool, hub: str
    ) -> AwaitSpan | None:
        tracing = self.tracing
        scope: Any = outer.get(SCOPE_KEY)
        while scope is not None:
            if scope.tracing.running:
                tracing = scope.tracing
                break
            scope = scope.above
        if tracing is None:
            return None
        sink = tracing.sink()
        if sink is None:
            return None
        parent = outer.get(SPAN_KEY)
        if type(parent) is AwaitSpan and parent.ended:
            outer = restored(outer, AwaitSpan)
            parent = outer.get(SPAN_KEY)
        if SUPPRESS_KEY in outer:
            return None
        waiter = None if origin is None else ref(origin)
        span = AwaitSpan(tracing, sink, outer, waiter, bridge_frame, shared=shared, hub=hub)
        if not sink.wants(span, parent):
            return None
        if origin is None:
            return span
        if len(self._open) >= self._prune_at:
            self._prune()
        self._open[id(origin)] = span
        return span

    def _begin_in_hub(self, origin: greenlet, target: greenlet, frame: FrameType) -> None:
        known = self._greenlets.get(id(target))
        if known is None or known[0]() is not target:
            known = self._look_at_greenlet(target, frame)
        hub = known[1]
        if not hub or self._is_hub(origin):
            return
        self._make(origin, of_greenlet(origin, self._variable), 0, False, hub)

    def _begun(self, origin: greenlet, target: greenlet) -> None:
        """A greenlet's first switch: the context of whoever started it goes on in it."""
        hub = _library_of_new_hub(target)
        if hub:
            self._greenlets[id(target)] = ref(target), hub
            self._make(origin, of_greenlet(origin, self._variable), 0, False, hub)
            return
        variable = self._variable
        if origin.dead or variable.get(EMPTY):
            return
        if self._is_hub(origin):
            spawned: Any = getattr(target, "spawning_greenlet", None)
            starter = None if spawned is None else spawned()
        else:
            starter = origin
        if starter is None:
            return
        context = restored(of_greenlet(starter, variable), AwaitSpan)
        if context:
            variable.set(context)

    def begin_at_entry(self) -> AwaitSpan | None:
        """Begin an await of the running greenlet, which does not end with a switch."""
        try:
            outer = self._variable.get(EMPTY)
            span = self._make(None, outer, 0, True, "")
            if span is not None:
                span.inner = with_span(span.outer, span)
                self._variable.set(span.inner)
        except Exception as error:
            if from_signal_handler(error):
                raise
            self.failed(error)
            return None
        return span

    # Ends.

    def end_at_entry(self, span: AwaitSpan) -> bool:
        """End what `begin_at_entry` began; return whether it may be recorded."""
        span.end_ns = time.time_ns()
        if span.ended:  # in a forked child
            return False
        span.ended = True
        self._leave(span)
        span.tracing.counts.saw()
        return True

    def _leave(self, span: AwaitSpan) -> None:
        if self._variable.get(EMPTY) is span.inner:
            self._variable.set(span.outer)
        else:
            self._tidy()

    def _end(
        self,
        span: AwaitSpan,
        event: str,
        origin: greenlet,
        target: greenlet,
        frame: FrameType | None,
    ) -> None:
        waiter = span.waiter
        if frame is None or waiter is None or waiter() is not target:
            span.ended = True
            return  # of another greenlet that had the same identity
        span.end_ns = time.time_ns()
        span.ended = True
        if span.shared:
            self._leave(span)
        self._finish(span, event, origin, frame)

    def _tidy(self) -> None:
        """Take await spans that have ended out of the running context."""
        current = self._variable.get(EMPTY)
        span: Any = current.get(SPAN_KEY)
        if type(span) is AwaitSpan and span.ended:
            before = None if span.shared else span.before
            self._variable.set(restored(current, AwaitSpan) if before is None else before)

    def _prune(self) -> None:
        for key, span in list(self._open.items()):
            waiter = None if span.waiter is None else span.waiter()
            if waiter is None or waiter.dead:
                span.ended = True
                self._open.pop(key, None)
        self._prune_at = max(PRUNE_AT, 2 * len(self._open))

    # What greenlets and functions are.

    def _look_at_code(self, code: CodeType) -> tuple[CodeType, bool]:
        if len(self._codes) >= _CACHE_LIMIT:
            self._codes.clear()
        found = self._codes[id(code)] = code, bridges.awaits_at_entry(code)
        return found

    def _is_hub(self, one: greenlet) -> bool:
        known = self._greenlets.get(id(one))
        return known is not None and bool(known[1]) and known[0]() is one

    def _look_at_greenlet(self, one: greenlet, frame: FrameType) -> tuple[ref[greenlet], str]:
        if len(self._greenlets) >= _CACHE_LIMIT:
            self._greenlets.clear()
        hub = _library_of_new_hub(one)
        if not hub:
            root = walk(frame)[0].f_code
            role = bridges.role_of(root)
            if role is not None and role.part is Part.HUB:
                hub = bridges.bridge_of(root) or ""
        found = self._greenlets[id(one)] = ref(one), hub
        return found


def _library_of_new_hub(one: greenlet) -> str:
    """Name the library whose hub it is, also if it has no frames yet; "" if it is none."""
    kind = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if kind is not None and issubclass(type(one), kind):
        return "gevent"
    hubs = sys.modules.get("eventlet.hubs")
    hub = getattr(getattr(hubs, "_threadlocal", None), "hub", None)
    return "eventlet" if getattr(hub, "greenlet", None) is one else ""
