"""Hands finished spans over where that can do no harm.

A tracer callback must not switch greenlets, nor wait. Span processors do not, as a rule: they put
a span into a queue. Where gevent or eventlet has patched the standard library, locks and sockets
switch, and there a greenlet of its own hands the spans over, a moment later; so for whoever waited
in a hub. What ends while an object is being destroyed, which may be in the middle of a processor,
waits for the next one.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from opentelemetry import context as api

from greenprof.interrupted import from_signal_handler
from greenprof.spans.counts import ERROR, QUEUE_FULL
from greenprof.spans.sinks import Finished

__all__ = ["Outbox", "is_patched", "soon"]

#: Spans that wait to be handed over; more are dropped, and counted.
MAX_WAITING = 8192


class Outbox:
    """Spans on their way to the tracer provider."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._waiting: deque[Finished] = deque()
        self._failed = failed
        self._scheduled = False

    def put(self, finished: Finished, *, at_once: bool) -> None:
        """Hand a span over; later, if it cannot be told that this is a good moment."""
        switching = is_patched() or bool(finished.span.hub)
        if at_once and not switching:
            if self._waiting:
                self.flush()
            self._deliver(finished)
            return
        if len(self._waiting) >= MAX_WAITING:
            finished.span.tracing.drop(QUEUE_FULL)
            return
        self._waiting.append(finished)
        if switching and not self._scheduled:
            self._scheduled = soon(self._flush_in_greenlet)

    def _flush_in_greenlet(self) -> None:
        self._scheduled = False
        # What exporters wait for themselves is nobody's request.
        token = api.attach(api.set_value(api._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            self.flush()
        finally:
            api.detach(token)

    def flush(self) -> None:
        """Hand over what waits. Not to be called where greenlets must not switch."""
        while self._waiting:
            try:
                finished = self._waiting.popleft()
            except IndexError:  # another thread took the last
                return
            if finished.span.sink.full():
                finished.span.tracing.drop(QUEUE_FULL)
            else:
                self._deliver(finished)

    def forget(self) -> None:
        """Drop what waits: it is another process's."""
        self._waiting.clear()
        self._scheduled = False

    def _deliver(self, finished: Finished) -> None:
        span = finished.span
        tracing: Any = span.tracing
        try:
            recorded = span.sink.put(finished)
        except Exception as error:  # a span processor of somebody's own
            if from_signal_handler(error):
                raise
            tracing.drop(ERROR)
            self._failed(error)
        else:
            if recorded:
                tracing.counts.did_record()


def is_patched() -> bool:
    """Whether gevent or eventlet has patched the standard library, so that waiting may switch."""
    for module, names in (("gevent.monkey", "saved"), ("eventlet.patcher", "already_patched")):
        patched: Any = getattr(sys.modules.get(module), names, None)
        if patched:
            return True
    return False


def soon(call: Callable[[], None]) -> bool:
    """Have this thread's hub run `call` in a greenlet of its own. False if there is no hub."""
    local: Any = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    if local is not None and local() is not None:
        sys.modules["gevent"].spawn_raw(call)
        return True
    local = getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None)
    if getattr(local, "hub", None) is not None:
        sys.modules["eventlet"].spawn_n(call)
        return True
    return False
