"""OpenTelemetry metrics: how long awaits take, how late loops are, what switches and is dropped.

Through the API's meter only, as any library's: a program that has no meter provider pays for a
call that does nothing. Two kinds of attributes stay out of all of it, since each value of an
attribute is a time series for ever: names of tasks, and whatever a program adds to its spans.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.context.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context
from opentelemetry.trace.span import INVALID_SPAN

from greenprof import switches
from greenprof._native import RLock, thread_local
from greenprof._version import __version__
from greenprof.interrupted import from_signal_handler
from greenprof.spans import delivery
from greenprof.spans.looplag import INTERVAL_S, LoopLag

__all__ = ["AwaitMetrics"]

SCOPE = "greenprof"
AWAIT_DURATION = "greenprof.await.duration"
LOOP_LAG = "greenprof.loop.lag"
SPANS_DROPPED = "greenprof.spans.dropped"
GREENLET_SWITCHES = "greenprof.greenlet.switches"

# Of a span's attributes, those that say where and how: the site, the bridge, the end.
KEPT = (
    "code.function.name",
    "code.file.path",
    "code.line.number",
    "greenprof.bridge",
    "greenprof.outcome",
    "error.type",
)
# Seconds, from a look-up in a warm cache to a time-out. The SDK's own are meant for milliseconds.
BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Measurements that wait for the next collection; of more, the oldest are not counted.
MAX_WAITING = 10_000
MANY_WAITING = 1_000

# Says "no span": without it, the SDK asks the current span for its ids, to name one beside the
# measurement, and a span whose ids were asked for counts as a parent and has to be exported.
_NO_SPAN = set_span_in_context(INVALID_SPAN, Context())

_log = logging.getLogger("greenprof")

#: A method of an instrument, and its arguments.
_Measurement = tuple[Any, ...]


class _Instruments(NamedTuple):
    duration: metrics.Histogram
    lag: metrics.Histogram
    dropped: metrics.Counter


class AwaitMetrics:
    """What one `Tracing` measures, while it is started.

    `meter_provider` None is the program's global one, which may be set later as well. Nothing
    raises into the program; the first measurement that fails is logged.
    """

    def __init__(
        self,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        lag_interval_s: float = INTERVAL_S,
    ) -> None:
        self._provider = meter_provider
        self._lag_interval_s = lag_interval_s
        self._instruments: _Instruments | None = None
        self._loop_lag: LoopLag | None = None
        self._here = thread_local()
        self._waiting: deque[_Measurement] = deque()
        self._failed = False

    def start(self) -> None:
        """Begin to measure; a second start does nothing."""
        if self._instruments is not None:
            return
        try:
            self._instruments = _instruments_of(self._provider or metrics.get_meter_provider())
        except Exception as error:  # a provider of somebody's own
            if from_signal_handler(error):
                raise
            self._fail(f"the meter provider raised {error!r}")
            return
        self._loop_lag = LoopLag(self._loop_was_late, self._lag_interval_s)
        _started.add(self)
        _switch_count.begin()

    def stop(self) -> None:
        """Measure no more; what was counted stays with the provider.

        Before `switches.unfollow`, which forgets the counts of switches.
        """
        if self._instruments is None:
            return
        self._instruments = None
        _started.discard(self)
        self.flush()
        if self._loop_lag is not None:
            self._loop_lag.stop()
            self._loop_lag = None
        _switch_count.end()

    def await_ended(
        self,
        seconds: float,
        attributes: Mapping[str, Any],
        span_context: SpanContext | None = None,
        *,
        at_once: bool = True,
    ) -> None:
        """Count one await that took so long; `attributes` may be its span's.

        With the context of the span that was exported for it, backends lead from the histogram to
        that span (an exemplar).

        Takes locks of the SDK. Finalizers, which may interrupt whoever has them, say
        `at_once=False`: it is counted a little later, in time for the next collection.
        """
        instruments = self._instruments
        if instruments is None:
            return
        context = (
            _NO_SPAN
            if span_context is None
            else set_span_in_context(NonRecordingSpan(span_context), _NO_SPAN)
        )
        kept = {key: attributes[key] for key in KEPT if key in attributes}
        self._measure((instruments.duration.record, seconds, kept, context), at_once=at_once)

    def span_dropped(self, reason: str, *, at_once: bool = True) -> None:
        """Count a span that is wanted but not handed over: "rate limit", "queue full", "error"."""
        instruments = self._instruments
        if instruments is not None:
            attributes = {"greenprof.reason": reason}
            self._measure((instruments.dropped.add, 1, attributes, _NO_SPAN), at_once=at_once)

    def watch_loop(self, loop: Any) -> None:
        """Measure how late a loop is, until `stop`: an asyncio or uvloop loop, or a gevent hub.

        In the loop's own thread. Cheap when it is watched already, and for loops of other kinds.
        """
        loop_lag = self._loop_lag
        if loop_lag is not None:
            loop_lag.watch(loop)

    def _loop_was_late(self, seconds: float, kind: str) -> None:
        instruments = self._instruments
        if instruments is not None:
            attributes = {"greenprof.loop": kind}
            self._measure((instruments.lag.record, seconds, attributes, _NO_SPAN), at_once=True)

    def _measure(self, measurement: _Measurement, *, at_once: bool) -> None:
        # A thread that is inside of the SDK already may hold a lock that it would wait for once
        # more; and where gevent or eventlet has patched threads, waiting for a lock switches
        # greenlets, which neither a tracer nor a hub may do.
        patched = delivery.is_patched()
        self._waiting.append(measurement)
        waiting = len(self._waiting)
        if at_once and not patched and not self._is_measuring():
            self.flush()
        elif patched and waiting % MANY_WAITING == 0:
            delivery.soon(self.flush)
        elif waiting > MAX_WAITING:
            try:
                self._waiting.popleft()
            except IndexError:  # somebody flushed
                return
            self._fail("more than it can keep between two collections: collect more often")

    def _is_measuring(self) -> bool:
        return getattr(self._here, "measuring", False)

    def flush(self) -> None:
        """Record what waits. Every collection calls it; not where greenlets must not switch."""
        if self._is_measuring():
            return  # the call further up goes on with it
        self._here.measuring = True
        try:
            self._record_waiting()
        finally:
            self._here.measuring = False

    def forget(self) -> None:
        """Drop what waits: it is another process's."""
        self._waiting.clear()

    def _record_waiting(self) -> None:
        while self._waiting:
            try:
                call, *arguments = self._waiting.popleft()
            except IndexError:  # another thread had the last one
                return
            try:
                call(*arguments)
            except Exception as error:  # a view, a reader or an SDK of somebody's own
                if from_signal_handler(error):
                    raise
                self._fail(f"the meter provider raised {error!r}")

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            _log.warning("greenprof's metrics lack something, which is said once: %s", reason)


_made: WeakKeyDictionary[Any, _Instruments] = WeakKeyDictionary()


def _instruments_of(provider: metrics.MeterProvider) -> _Instruments:
    """A provider's instruments: made once, however often a program starts and stops to trace."""
    found = _made.get(provider)
    if found is None:
        meter = provider.get_meter(SCOPE, __version__)
        found = _made[provider] = _Instruments(
            duration=meter.create_histogram(
                AWAIT_DURATION,
                unit="s",
                description="Duration of the operations that sync code awaited over a bridge.",
                explicit_bucket_boundaries_advisory=BOUNDARIES,
            ),
            lag=meter.create_histogram(
                LOOP_LAG,
                unit="s",
                description="How late the event loop came round to a timer.",
                explicit_bucket_boundaries_advisory=BOUNDARIES,
            ),
            dropped=meter.create_counter(
                SPANS_DROPPED,
                unit="{span}",
                description="Spans of awaits that were wanted but not handed to the processors.",
            ),
        )
        meter.create_observable_counter(
            GREENLET_SWITCHES,
            callbacks=[_observe_switches],
            unit="{switch}",
            description="Switches between greenlets, in the threads that greenprof follows.",
        )
    return found


class _SwitchCount:
    """How many switches there were while anybody measured; each thread's own count only grows."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._measuring = 0
        self._total = 0
        self._last: dict[int, int] = {}

    def begin(self) -> None:
        with self._lock:
            if self._measuring == 0:
                self._last = self._positions()
            self._measuring += 1

    def end(self) -> None:
        with self._lock:
            self._look()
            self._measuring -= 1

    def total(self) -> int:
        with self._lock:
            self._look()
            return self._total

    def _look(self) -> None:
        if self._measuring == 0:
            return
        now = self._positions()
        for ident, count in now.items():
            before = self._last.get(ident, 0)
            # Less than before: everybody had stopped following in the meantime.
            self._total += count - before if count >= before else count
        self._last = now

    @staticmethod
    def _positions() -> dict[int, int]:
        return {state.ident: state.position()[0] for state in switches.all_threads()}

    def after_fork_in_child(self) -> None:
        # Nobody is followed there any more; who follows again begins at nought.
        self._lock = RLock()
        self._last = {}


_switch_count = _SwitchCount()


_started: WeakSet[AwaitMetrics] = WeakSet()


def _observe_switches(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
    """Called at each collection, before the other instruments are read."""
    for each in list(_started):
        each.flush()
    return [metrics.Observation(_switch_count.total())]


def _after_fork_in_child() -> None:
    _switch_count.after_fork_in_child()
    for each in list(_started):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
