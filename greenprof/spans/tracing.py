"""What programs use: `greenprof.trace()`, `start_tracing()` and `stop_tracing()`."""

from __future__ import annotations

import atexit
import logging
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from opentelemetry import trace as trace_api

from greenprof import loops, switches
from greenprof._native import RLock, get_ident
from greenprof.checking import function_or_none, is_number, one_of
from greenprof.decorating import decorated
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.handovers import entries
from greenprof.handovers.names import AwaitInfo
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.spans import spawns
from greenprof.spans.awaits import Awaits
from greenprof.spans.complaints import complain_once
from greenprof.spans.contexts import VARIABLE, enter_scope, leave_scope
from greenprof.spans.counts import ERROR, RateLimit, SpanCounts
from greenprof.spans.delivery import Outbox
from greenprof.spans.finishing import cut_short, finish, finish_at_entry
from greenprof.spans.looplag import LoopLag
from greenprof.spans.sinks import Sink, sink_for

if TYPE_CHECKING:
    from greenprof.spans.metrics import AwaitMetrics

__all__ = ["AwaitInfo", "SpanCounts", "Tracing", "start_tracing", "stop_tracing", "trace"]

Function = TypeVar("Function", bound=Callable[..., Any])

SCOPES = ("process", "context")
STACKS = ("never", "slow", "always")
_SECONDS = "seconds, 0 or more"
#: How often each loop is asked whether its thread still has its tracer, in seconds.
GUARD_S = 1.0

_log = logging.getLogger("greenprof")


class Tracing:
    """Makes an OpenTelemetry span of every operation that sync code awaits over a bridge.

    Also of every wait of a gevent or eventlet greenlet in its hub. A context manager, plain and
    async, and a decorator of functions and coroutine functions.

    `tracer_provider` is where spans go: a provider, a callable that returns the one in effect, or
    None for the program's global one, whenever that is set. `scope` is "process", for every await
    in the process while it runs, or "context", for those made in the block's own context and in
    tasks that it starts. Of several at once the innermost of the context counts, else the process's
    latest.

    `min_duration` is in seconds: what is shorter makes no span, unless another span is its child.
    `stack` says whether spans carry the unified stack as ``code.stacktrace``: "never", "slow"
    (from `slow_duration` seconds on) or "always". `max_spans_per_second` bounds how many are made;
    what is over is counted in `counts`. `name` and `attributes` are called with an `AwaitInfo` and
    return the span's name, and attributes to add. `metrics` turns measurements on, by
    `meter_provider` or the global one.

    Raises OptionError for a value that makes no sense.
    """

    def __init__(
        self,
        tracer_provider: Any = None,
        *,
        scope: str = "process",
        min_duration: float = 0.0,
        stack: str = "never",
        slow_duration: float = 0.1,
        max_spans_per_second: float | None = None,
        name: Callable[[AwaitInfo], str | None] | None = None,
        attributes: Callable[[AwaitInfo], Mapping[str, Any]] | None = None,
        metrics: bool = False,
        meter_provider: Any = None,
    ) -> None:
        _check_provider(tracer_provider)
        self.scope = one_of("scope", scope, SCOPES)
        self.min_ns = round(_number("min_duration", min_duration, _SECONDS) * 1e9)
        #: Awaits that are shorter need no second look.
        self.look_ns = self.min_ns
        self._stack = one_of("stack", stack, STACKS)
        self._slow_duration = _number("slow_duration", slow_duration, _SECONDS)
        self._per_second = max_spans_per_second
        self.limit = None if max_spans_per_second is None else _limit(max_spans_per_second)
        self.name = function_or_none("name", name, "an AwaitInfo")
        self.attributes = function_or_none("attributes", attributes, "an AwaitInfo")
        self.asks = name is not None or attributes is not None
        self.metrics: AwaitMetrics | None = None
        self.running = False
        self.counts = SpanCounts()
        self._provider = tracer_provider
        self._wants_metrics = bool(metrics) or meter_provider is not None
        self._meter_provider = meter_provider
        self._sinks: tuple[Any, Sink | None] = (None, None)
        #: Where spans go in any case; None if that may change.
        self.fixed_sink: Sink | None = None
        self._users = 0

    # What the recording side asks.

    def sink(self) -> Sink | None:
        """Where spans go just now; None if nobody records any."""
        provider = self._provider
        if provider is None:
            provider = trace_api._TRACER_PROVIDER
        elif not hasattr(provider, "get_tracer"):
            try:
                provider = provider()
            except Exception as error:  # the program's
                if from_signal_handler(error):
                    raise
                complain_once("function `tracer_provider`", error)
                return None
        known, sink = self._sinks
        if known is not provider:
            sink = self._sink_of(provider)
        return sink

    def _sink_of(self, provider: Any) -> Sink | None:
        try:
            sink = sink_for(provider)
        except Exception as error:  # a provider of somebody's own
            if from_signal_handler(error):
                raise
            complain_once("tracer provider", error)
            sink = None
        self._sinks = provider, sink
        if provider is self._provider:
            self.fixed_sink = sink
        if sink is not None:
            # A provider ends its processors at exit, and ours have to come before that.
            atexit.unregister(_state.at_exit)
            atexit.register(_state.at_exit)
        return sink

    def wants_stack(self, seconds: float) -> bool:
        """Whether a span that took so long carries its stack."""
        kind = self._stack
        return kind != "never" and (kind == "always" or seconds >= self._slow_duration)

    def drop(self, reason: str, *, at_once: bool = True) -> None:
        """Count a span that was wanted and is lost; see `AwaitMetrics.await_ended` of `at_once`."""
        self.counts.drop(reason)
        metrics = self.metrics
        if metrics is not None:
            metrics.span_dropped(reason, at_once=at_once)

    # What programs call.

    def start(self) -> Self:
        """Start, from any thread. Raises ProfilerStateError if it runs already."""
        with _lock:
            if self.running:
                raise ProfilerStateError(
                    "this tracing runs already: stop it, or make another with greenprof.trace()"
                )
            if _state.follow(self):
                self.running = True
                self._measure()
        return self

    def stop(self) -> None:
        """Stop, from any thread. An await that is still open is left out, unless its span is used:
        that ends here.

        Raises ProfilerStateError if it does not run.
        """
        with _lock:
            if not self.running:
                raise ProfilerStateError("this tracing does not run: start it before stopping it")
            self.running = False
            self._users = 0
            metrics, self.metrics = self.metrics, None
            if metrics is not None:
                metrics.stop()
            _state.unfollow(self)

    def _measure(self) -> None:
        if self._wants_metrics:
            from greenprof.spans.metrics import AwaitMetrics

            self.metrics = AwaitMetrics(self._meter_provider)
            self.metrics.start()
            loop = loops.running_loop()
            if loop is not None:
                self.metrics.watch_loop(loop)
            self.look_ns = 0

    def __enter__(self) -> Self:
        with _lock:
            if self._users or not self.running:
                if not self._users:
                    self.start()
                self._users += 1
        if self.scope == "context":
            enter_scope(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.scope == "context":
            leave_scope(self)
        with _lock:
            if self._users:
                self._users -= 1
                if not self._users and self.running:
                    self.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Function) -> Function:
        """Trace the calls of a function.

        Raises OptionError for what is no function, or runs in pieces between those of its caller,
        as generator functions do.
        """
        return decorated(function, self._call, "trace()")

    def _call(self) -> Self:
        return self


def _take_tracer_back(_lag: float, _kind: str) -> None:
    """See that switches are followed still, in the thread of a loop.

    The tracer is out when a signal handler has raised in the middle of it, or when somebody else
    has put another one in its place.
    """
    state = switches.of_thread(get_ident())
    if state is not None:
        state.check()


class _State:
    """What the process traces: one watch on its switches for all tracings."""

    def __init__(self) -> None:
        self._running: list[Tracing] = []
        self._outbox = Outbox(self._say)
        self._awaits: Awaits | None = None
        self._said = False
        self._guard = LoopLag(_take_tracer_back, GUARD_S)

    def follow(self, tracing: Tracing) -> bool:
        if VARIABLE is None:
            _log.warning(
                "greenprof traces nothing: OTEL_PYTHON_CONTEXT names a context that is not made of "
                "context variables; unset it"
            )
            return False
        if not self._running:
            self._begin()
        # If it is followed already, it may have lost its tracer since.
        switches.adopt_thread().check()
        self._running.append(tracing)
        self._choose()
        return True

    def _begin(self) -> None:
        if trace_api._TRACER_PROVIDER is None:
            trace_api.get_tracer_provider()  # loads what OTEL_PYTHON_TRACER_PROVIDER names
        awaits = self._awaits = Awaits(
            partial(finish, self._outbox),
            partial(finish_at_entry, self._outbox),
            self._failed,
            self._met_library,
            self._guard.watch,
        )
        switches.follow(record=False)
        switches.add_listener(awaits.switched, awaits.open)
        awaits.begin()

    def _met_library(self) -> None:
        spawns.carry_contexts()
        if self._awaits is not None:
            entries.hook(self._awaits)

    def unfollow(self, tracing: Tracing) -> None:
        self._running = [one for one in self._running if one is not tracing]
        self._choose()
        if not self._running and self._awaits is not None:
            entries.unhook(self._awaits)
            spawns.leave()
            switches.remove_listener(self._awaits.switched)
            switches.unfollow(record=False)
            self._guard.stop()
            self._guard = LoopLag(_take_tracer_back, GUARD_S)
            for span in self._awaits.forget():
                if span.used:  # or its children would be without their parent
                    self._outbox.put(cut_short(span), at_once=False)
            self._awaits = None
        self._outbox.flush()

    def _choose(self) -> None:
        whole = [one for one in self._running if one.scope == "process"]
        if self._awaits is not None:
            self._awaits.tracing = whole[-1] if whole else None
            self._awaits.scoped = len(whole) < len(self._running)

    def _failed(self, error: Exception) -> None:
        """Count an await that greenprof did not get through."""
        for tracing in self._running[-1:]:
            tracing.drop(ERROR, at_once=False)
        self._say(error)

    def _say(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            # Its text, for whoever keeps log records would keep the error's frames.
            _log.warning("a span was lost to %s", reason(error))

    def at_exit(self) -> None:
        self._outbox.flush()

    def after_fork_in_child(self) -> None:
        """Go on in the child, without the awaits that are the parent's."""
        self._outbox.forget()
        if self._awaits is not None:
            self._awaits.forget()
            switches.follow(record=False)
            switches.add_listener(self._awaits.switched, self._awaits.open)


_lock = RLock()
_state = _State()
_started: list[Tracing] = []


def trace(tracer_provider: Any = None, **options: Any) -> Tracing:
    """Trace what is awaited in a block or a function; see `Tracing` for the options and errors.

    ::

        with greenprof.trace(min_duration=0.005):
            ...
    """
    return Tracing(tracer_provider, **options)


def start_tracing(tracer_provider: Any = None, **options: Any) -> Tracing:
    """Trace the whole process from now on, until `stop_tracing`: for a program's start.

    Takes the options of `Tracing`. A second call replaces the first one's options.
    """
    with _lock:
        tracing = Tracing(tracer_provider, **options).start()
        stop_tracing()
        _started.append(tracing)
    return tracing


def stop_tracing() -> None:
    """End what `start_tracing` began; nothing if it did not."""
    with _lock:
        while _started:
            tracing = _started.pop()
            if tracing.running:
                tracing.stop()


def _check_provider(provider: Any) -> None:
    if provider is not None and not hasattr(provider, "get_tracer") and not callable(provider):
        raise OptionError(
            f"tracer_provider is {provider!r}: give an OpenTelemetry tracer provider, or None for "
            "the global one"
        )


def _number(option: str, value: float, expected: str) -> float:
    if not is_number(value) or not 0 <= value < math.inf:
        raise OptionError(f"{option} is {value!r}: give {expected}")
    return float(value)


def _limit(per_second: float) -> RateLimit:
    if _number("max_spans_per_second", per_second, "a number above 0, or None for no limit") == 0:
        raise OptionError("max_spans_per_second is 0: give a number above 0, or None for no limit")
    return RateLimit(per_second)


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()
    _state.after_fork_in_child()


atexit.register(_state.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
