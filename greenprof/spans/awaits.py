"""Sees each await begin and end, as greenlets switch.

`Awaits.switched` runs inside the tracer, in the greenlet that was switched to. A switch to a
coroutine's frame is sync code that hands an awaitable over; a switch to a hub is a greenlet that
waits. Either is over when the one that waits is switched to again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet
from opentelemetry.context.context import Context

from greenprof import bridges
from greenprof._native import time
from greenprof.bridges import Part
from greenprof.interrupted import from_signal_handler
from greenprof.loops import running_loop
from greenprof.rawstack import walk
from greenprof.spans.contexts import (
    EMPTY,
    SCOPE,
    SPAN_KEY,
    SUPPRESS_KEY,
    VARIABLE,
    of_greenlet,
    restored,
    with_span,
)
from greenprof.spans.span import AwaitSpan

__all__ = ["Awaits"]

Finish = Callable[[AwaitSpan, str, greenlet, FrameType], None]

#: Awaits that are open are pruned of those whose greenlet is gone when there are so many.
PRUNE_AT = 4096
# Greenlets and functions that were looked at; the tables start anew here.
_CACHE_LIMIT = 20_000
# Libraries whose greenlets wait in a hub.
_WITH_HUBS = frozenset({"gevent.hub", "eventlet.hubs", "playwright.sync_api", "greenletio.core"})


class Awaits:
    """The awaits that are open, in all threads.

    `tracing` is the `Tracing` in effect where no block in the context says otherwise. `finish` is
    called with a span that has ended and may be recorded, the event, the greenlet that was switched from and the
    frame that goes on; `failed` with an error of ours; `met` when a library is there for the
    first time whose awaits do not begin with a switch, or that has a hub; `look_after` with the
    loops and hubs in which greenlets begin, in their threads.
    """

    def __init__(
        self,
        finish: Finish,
        failed: Callable[[Exception], None],
        met: Callable[[], None],
        look_after: Callable[[Any], None],
    ) -> None:
        if VARIABLE is None:
            raise RuntimeError("the OpenTelemetry context is not made of context variables")
        self.tracing: Any = None
        #: Whether there is any `trace(scope="context")` block.
        self.scoped = False
        self.failed = failed
        self._finish = finish
        self._met = met
        self._look_after = look_after
        self._variable = VARIABLE
        self._prune_at = PRUNE_AT
        #: id(greenlet that waits) -> its await. Anything in it means: tell of every switch, as
        #: where there are hubs; 0 is nobody's identity.
        self.open: dict[int, AwaitSpan | None] = {}
        # id(greenlet) -> (itself, weakly, the library whose hub it is or "")
        self._greenlets: dict[int, tuple[ref[greenlet], str]] = {}
        # id(code) -> itself, for those to which a switch says nothing: the await began before it.
        self._silent: dict[int, CodeType] = {}
        self._telling: dict[int, CodeType] = {}
        self.switched = self._make_switched()
        entries = {bridge.entry[0] for bridge in bridges.bridges() if bridge.entry is not None}
        self._last_loop: Callable[[], Any] = _nobody
        self._modules = 0
        # Modules of libraries that matter once they are imported.
        self._expected = sorted(entries | _WITH_HUBS)

    def _make_switched(
        self,
    ) -> Callable[[str, greenlet, greenlet, FrameType | None, bool], None]:
        # Closure cells rather than attributes, and no calls: it runs at each await twice.
        state = self
        variable = self._variable
        get, put = variable.get, variable.set
        opened = self.open
        telling = self._telling
        empty = EMPTY
        now = time.time_ns
        place = dict.__setitem__  # an OpenTelemetry context's own refuses
        finish = self._finish

        def switched(
            event: str,
            origin: greenlet,
            target: greenlet,
            frame: FrameType | None,
            handed: bool,
        ) -> None:
            """Take note of a switch; see `greenprof.switches.add_listener`."""
            try:
                if opened and (found := opened.pop(id(target), None)) is not None:
                    end_ns = now()
                    found.ended = True
                    if found.waiter() is target and frame is not None:
                        if get(empty) is found.inner:
                            put(found.outer)
                        else:
                            state._tidy()
                        if found.shared:
                            found.inner = None  # it holds the span that holds it
                        tracing = found.tracing
                        tracing.counts.saw()
                        if end_ns - found.start_ns >= tracing.look_ns or found._context is not None:
                            found.end_ns = end_ns
                            finish(found, event, origin, frame)
                    if not handed:
                        return
                if not handed or frame is None:
                    state._other(origin, target, frame)
                    return
                own = origin.gr_context
                shared = own is not None and own is target.gr_context
                outer = get(empty) if shared else of_greenlet(origin, variable)
                tracing = state.tracing
                parent: Any = outer.get(SPAN_KEY)
                if len(outer) > (parent is not None) and outer.get(SUPPRESS_KEY):
                    return
                if state.scoped:
                    tracing = _innermost(_scope_of(own), tracing)
                if tracing is None:
                    return
                sink = tracing.fixed_sink or tracing.sink()
                if sink is None:
                    return
                if type(parent) is AwaitSpan and parent.ended:
                    outer = restored(outer, AwaitSpan)
                    parent = outer.get(SPAN_KEY)
                if parent is not sink.refused_below:
                    code = frame.f_code
                    if id(code) not in telling and state._is_silent(code):
                        return
                    span = AwaitSpan(tracing, sink, outer, ref(origin), id(frame))
                    if parent is sink.wanted_below or sink.wants(span, parent):
                        if not shared:
                            span.shared = False
                            span.before = restored(get(empty), AwaitSpan, of_coroutine=True)
                        span.inner = inner = Context(outer)
                        place(inner, SPAN_KEY, span)
                        put(inner)
                        if len(opened) >= state._prune_at:
                            state._prune()
                        opened[id(origin)] = span
            except Exception as error:
                if from_signal_handler(error):
                    raise
                state.failed(error)

        return switched

    def begin(self) -> None:
        """Look which libraries are there already."""
        self._look_for_libraries()

    def forget(self) -> list[AwaitSpan]:
        """Let all open awaits be: they are another process's, or nobody wants them any more."""
        left = [span for span in list(self.open.values()) if span is not None]
        for span in left:
            span.end_ns = time.time_ns()
            span.ended = True
        hubs = {0: None} if 0 in self.open else {}
        self.open.clear()
        self.open.update(hubs)
        self._greenlets.clear()
        return left

    # Beginnings.

    def begin_at_entry(self) -> AwaitSpan | None:
        """Begin an await of the running greenlet, which does not end with a switch."""
        try:
            span = self._make(None, self._variable.get(EMPTY), SCOPE.get(), "")
            if span is not None:
                span.inner = with_span(span.outer, span)
                self._variable.set(span.inner)
        except Exception as error:
            if from_signal_handler(error):
                raise
            self.failed(error)
            return None
        return span

    def _make(self, origin: greenlet | None, outer: Any, scope: Any, hub: str) -> AwaitSpan | None:
        tracing = _innermost(scope, self.tracing)
        sink = None if tracing is None else tracing.sink()
        if sink is None or outer.get(SUPPRESS_KEY):
            return None
        outer = restored(outer, AwaitSpan)
        span = AwaitSpan(tracing, sink, outer, _nobody if origin is None else ref(origin), 0)
        span.hub = hub
        return span if sink.wants(span, outer.get(SPAN_KEY)) else None

    def _begin_in_hub(self, origin: greenlet, hub: str) -> None:
        outer = of_greenlet(origin, self._variable)
        span = self._make(origin, outer, _scope_of(origin.gr_context), hub)
        if span is not None:
            span.shared = False
            if len(self.open) >= self._prune_at:
                self._prune()
            self.open[id(origin)] = span

    def _other(self, origin: greenlet, target: greenlet, frame: FrameType | None) -> None:
        """Take note of a switch that hands nothing over."""
        if frame is None:
            self._begun(origin, target)
        elif origin.dead:
            self._tidy()
        elif 0 in self.open:
            known = self._greenlets.get(id(target))
            if known is None or known[0]() is not target:
                known = self._look_at_greenlet(target, frame)
            if known[1] and not self._is_hub(origin):
                self._begin_in_hub(origin, known[1])

    def _begun(self, origin: greenlet, target: greenlet) -> None:
        """A greenlet's first switch: the context of whoever started it goes on in it."""
        loop = running_loop()
        if loop is not None and self._last_loop() is not loop:
            self._last_loop = ref(loop)
            self._look_after(loop)
        if len(sys.modules) != self._modules:
            self._look_for_libraries()
        hub = _library_of_new_hub(target) if 0 in self.open else ""
        if hub:
            self._look_after(target)
            self._greenlets[id(target)] = ref(target), hub
            self._begin_in_hub(origin, hub)
            return
        variable = self._variable
        if origin.dead or (variable.get(EMPTY) and not self.scoped):
            return
        if self._is_hub(origin):
            spawned: Any = getattr(target, "spawning_greenlet", None)
            starter = None if spawned is None else spawned()
        else:
            starter = origin
        if starter is None:
            return
        context = restored(of_greenlet(starter, variable), AwaitSpan)
        if context and not variable.get(EMPTY):
            variable.set(context)
        scope = _scope_of(starter.gr_context)
        if scope is not None and SCOPE.get() is None:
            SCOPE.set(scope)

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
        span.inner = None

    def _tidy(self) -> None:
        """Take await spans that have ended out of the running context."""
        current = self._variable.get(EMPTY)
        span: Any = current.get(SPAN_KEY)
        if type(span) is AwaitSpan and span.ended:
            self._variable.set(restored(current, AwaitSpan, of_coroutine=True))

    def _prune(self) -> None:
        for key, span in list(self.open.items()):
            if span is None:
                continue
            waiter = span.waiter()
            if waiter is None or waiter.dead:
                span.ended = True
                self.open.pop(key, None)
        self._prune_at = max(PRUNE_AT, 2 * len(self.open))

    # What greenlets and functions are.

    def _look_for_libraries(self) -> None:
        """See which libraries were imported since the last time."""
        self._modules = len(sys.modules)
        found = [name for name in self._expected if name in sys.modules]
        if found:
            self._expected = [name for name in self._expected if name not in found]
            if not _WITH_HUBS.isdisjoint(found):
                self.open[0] = None
            self._met()

    def _is_silent(self, code: CodeType) -> bool:
        if id(code) in self._silent:
            return True
        for known in (self._silent, self._telling):
            if len(known) >= _CACHE_LIMIT:
                known.clear()
        silent = bridges.awaits_at_entry(code)
        (self._silent if silent else self._telling)[id(code)] = code
        return silent

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


def _nobody() -> None:
    """No greenlet: the await does not end with a switch."""


def _scope_of(context: Any) -> Any:
    """The innermost `trace(scope="context")` block in a greenlet's context."""
    return None if context is None else context.get(SCOPE)


def _innermost(scope: Any, tracing: Any) -> Any:
    """The tracing of the innermost block that still runs, else `tracing`."""
    while scope is not None:
        if scope.tracing.running:
            return scope.tracing
        scope = scope.above
    return tracing


def _library_of_new_hub(one: greenlet) -> str:
    """Name the library whose hub it is, also if it has no frames yet; "" if it is none."""
    kind = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if kind is not None and issubclass(type(one), kind):
        return "gevent"
    hubs = sys.modules.get("eventlet.hubs")
    hub = getattr(getattr(hubs, "_threadlocal", None), "hub", None)
    return "eventlet" if getattr(hub, "greenlet", None) is one else ""
