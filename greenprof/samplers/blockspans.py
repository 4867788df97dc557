"""Events on OpenTelemetry spans: this span's task kept its loop.

The span that was current when the loop was kept has often ended before the loop went on: a request
that is answered without a further wait ends in the same step. So its end is waited for, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from greenprof import spancontext
from greenprof._native import time
from greenprof.interrupted import from_signal_handler

__all__ = ["EVENT", "SpanWatch"]

EVENT = "greenprof.loop.blocked"

#: Makes an event's attributes of the stretch's end.
Describe = Callable[[int], dict[str, Any]]


class SpanWatch:
    """The span that is current in one stretch, from a look during it until its end.

    `describe` is called with the time at which the stretch, or the span, has ended.
    """

    def __init__(self, start_ns: int, limit_ns: int, describe: Describe) -> None:
        self._start_ns = start_ns
        self._limit_ns = limit_ns
        self._describe = describe
        self._span: Any = None
        self._hook: Any = None
        self._said = False
        self._over = False

    def meet(self, context: Context | None) -> None:
        """Look which span is current in the stretch's context. From any thread."""
        if self._span is not None or context is None:
            return
        try:
            span = spancontext.current_span(context)
            if span is None or "end" in getattr(span, "__dict__", {"end": None}):
                return
            original = span.end

            def end(*args: Any, **kwargs: Any) -> Any:
                self._span_ends(span)
                return original(*args, **kwargs)

            self._span, self._hook = span, end
            span.end = end
            if self._over:  # it has ended meanwhile
                self._let_go()
        except Exception as error:  # a span of somebody's own, which has no such attributes
            if from_signal_handler(error):
                raise

    def _span_ends(self, span: Any) -> None:
        """Take note that the span ends before the stretch does. In the stretch."""
        over = self._over
        self._let_go()
        now_ns = time.monotonic_ns()
        if not over and now_ns - self._start_ns >= self._limit_ns:
            self._add(span, now_ns)

    def end(self, end_ns: int, context: Context | None) -> None:
        """Say that the stretch is over: the event goes to its span, or to the one above it."""
        self._over = True
        self._let_go()
        if self._said or end_ns - self._start_ns < self._limit_ns:
            return
        try:
            span = self._span
            if span is None or not span.is_recording():
                span = None if context is None else spancontext.current_span(context)
        except Exception as error:
            if from_signal_handler(error):
                raise
            return
        if span is not None:
            self._add(span, end_ns)
        self._span = None

    def cancel(self) -> None:
        """Forget the span."""
        self._over = True
        self._let_go()
        self._span = None

    def _let_go(self) -> None:
        hook, self._hook = self._hook, None
        try:
            if hook is not None and self._span.__dict__.get("end") is hook:
                del self._span.end
        except Exception as error:
            if from_signal_handler(error):
                raise

    def _add(self, span: Any, end_ns: int) -> None:
        self._said = True
        try:
            if span.is_recording():
                ago_ns = time.monotonic_ns() - end_ns
                span.add_event(EVENT, self._describe(end_ns), time.time_ns() - ago_ns)
        except Exception as error:
            if from_signal_handler(error):
                raise
