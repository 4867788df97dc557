"""Sees each await begin and end, and puts its span into the context of what is awaited.

`Awaits.switched` runs inside the tracer, in the greenlet that was switched to.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet
from opentelemetry.context.context import Context

from greenprof._native import time
from greenprof.handovers.watching import Handovers, Switched, nobody
from greenprof.interrupted import from_signal_handler
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
FinishAtEntry = Callable[[AwaitSpan, "type[BaseException] | None", Any, FrameType, str], None]


class Awaits(Handovers):
    """The awaits that are open, in all threads, each with its span.

    `tracing` is the `Tracing` in effect where no block in the context says otherwise. `finish` is
    called with a span that has ended and may be recorded, the event, the greenlet that was switched from and the
    frame that goes on; `finish_at_entry` with one that `end_at_entry` ended, and what that was told. See `Handovers` for the rest.
    """

    def __init__(
        self,
        finish: Finish,
        finish_at_entry: FinishAtEntry,
        failed: Callable[[Exception], None],
        met: Callable[[], None],
        look_after: Callable[[Any], None],
    ) -> None:
        if VARIABLE is None:
            raise RuntimeError("the OpenTelemetry context is not made of context variables")
        self.tracing: Any = None
        #: Whether there is any `trace(scope="context")` block.
        self.scoped = False
        self._finish = finish
        self._finish_at_entry = finish_at_entry
        self._variable = VARIABLE
        super().__init__(met, look_after, failed)

    def _make_switched(self) -> Switched:
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

    def forget(self) -> list[AwaitSpan]:
        """Let all open awaits be: they are another process's, or nobody wants them any more."""
        left = [span for span in list(self.open.values()) if span is not None]
        for span in left:
            span.end_ns = time.time_ns()
            span.ended = True
        self._clear()
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
        span = AwaitSpan(tracing, sink, outer, nobody if origin is None else ref(origin), 0)
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
        super()._other(origin, target, frame)
        if frame is not None and origin.dead:
            self._tidy()

    def _begun(self, origin: greenlet, target: greenlet) -> bool:
        """A greenlet's first switch: the context of whoever started it goes on in it."""
        if super()._begun(origin, target):
            return True
        variable = self._variable
        if origin.dead or (variable.get(EMPTY) and not self.scoped):
            return False
        if self._is_hub(origin):
            spawned: Any = getattr(target, "spawning_greenlet", None)
            starter = None if spawned is None else spawned()
        else:
            starter = origin
        if starter is None:
            return False
        context = restored(of_greenlet(starter, variable), AwaitSpan)
        if context and not variable.get(EMPTY):
            variable.set(context)
        scope = _scope_of(starter.gr_context)
        if scope is not None and SCOPE.get() is None:
            SCOPE.set(scope)
        return False

    # Ends.

    def end_at_entry(
        self,
        begun: AwaitSpan,
        raised: type[BaseException] | None,
        awaitable: Any,
        frame: FrameType,
        bridge: str,
    ) -> None:
        """End what `begin_at_entry` began."""
        begun.end_ns = time.time_ns()
        if begun.ended:  # in a forked child
            return
        begun.ended = True
        self._leave(begun)
        begun.tracing.counts.saw()
        self._finish_at_entry(begun, raised, awaitable, frame, bridge)

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

    def _prune(self) -> list[Any]:
        gone = super()._prune()
        for span in gone:
            span.ended = True
        return gone

    def _waiter_of(self, entry: Any) -> greenlet | None:
        waiter: greenlet | None = entry.waiter()
        return waiter


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
