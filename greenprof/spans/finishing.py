"""What becomes of an await that is over: a span, a measurement, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple, Protocol

from greenlet import getcurrent, greenlet
from opentelemetry.trace import Status, StatusCode

from greenprof import loops, spancontext, stacks, switches
from greenprof._native import get_ident
from greenprof.frames import position_of
from greenprof.handovers import names, outcomes
from greenprof.interrupted import from_signal_handler
from greenprof.spans.complaints import complain_once
from greenprof.spans.counts import QUEUE_FULL, RATE_LIMIT, RateLimit, SpanCounts
from greenprof.spans.delivery import Outbox
from greenprof.spans.fitting import fit, fit_all
from greenprof.spans.metrics import AwaitMetrics
from greenprof.spans.sinks import Finished
from greenprof.spans.span import AwaitSpan

__all__ = ["Ended", "cut_short", "finish", "finish_at_entry", "record", "stack_text"]

_ERROR = StatusCode.ERROR
# Frames of a stack that are sent; a collector cuts what is longer.
_MAX_FRAMES = 200


class Tracing(Protocol):
    """What `greenprof.spans.tracing.Tracing` says of the spans that are wanted."""

    running: bool
    min_ns: int
    limit: RateLimit | None
    metrics: AwaitMetrics | None
    counts: SpanCounts
    asks: bool
    name: Callable[[names.AwaitInfo], str | None] | None
    attributes: Callable[[names.AwaitInfo], Mapping[str, Any]] | None

    def wants_stack(self, seconds: float) -> bool:
        """Whether a span that took so long carries its stack."""

    def drop(self, reason: str, *, at_once: bool = True) -> None:
        """Count a span that was wanted and is lost."""


class Ended(NamedTuple):
    """How an await ended, and where.

    `frame` is the sync code's, `waiter` its greenlet, `other` the one that awaited for it; `awaitable` and `bridge`
    are given where frames do not tell them.
    """

    frame: FrameType
    other: greenlet | None
    outcome: str
    error: str | None
    waiter: greenlet | None
    awaitable: Any = None
    bridge: str | None = None


def finish(outbox: Outbox, span: AwaitSpan, event: str, origin: greenlet, frame: FrameType) -> None:
    """Record a span that was seen to end by a switch back to `frame`."""
    if not span.tracing.running and not span.used:
        return
    other: greenlet | None = origin
    outcome, error, at_once = outcomes.RETURNED, None, True
    if event == "throw":
        outcome, error, other = outcomes.thrown_into(frame, origin, span.hub, span.bridge_frame)
        # Else it is not the other side that throws: the greenlet is being destroyed.
        at_once = other is not None
    record(outbox, span, Ended(frame, other, outcome, error, span.waiter()), at_once=at_once)


def cut_short(span: AwaitSpan) -> Finished:
    """A span whose end nobody waits for."""
    end_ns = max(span.end_ns, span.start_ns)
    return Finished(span, fit(names.name_of_waiting(span)), {}, None, end_ns)


def finish_at_entry(
    outbox: Outbox,
    span: AwaitSpan,
    raised: type[BaseException] | None,
    awaitable: Any,
    frame: FrameType,
    bridge: str,
) -> None:
    """Record a span of an await that ended in the function that awaitables are handed to."""
    outcome, error = (outcomes.RETURNED, None) if raised is None else outcomes.said_of(raised)
    ended = Ended(frame, None, outcome, error, getcurrent(), awaitable, bridge)
    record(outbox, span, ended, at_once=True)


def record(outbox: Outbox, span: AwaitSpan, ended: Ended, *, at_once: bool) -> None:
    """Measure an await, and make its span if it is long enough, or used."""
    tracing = span.tracing
    span.end_ns = max(span.end_ns, span.start_ns)
    long_enough = tracing.running and span.end_ns - span.start_ns >= tracing.min_ns
    is_wanted = (span.used or long_enough) and _may_be_sent(tracing, span, at_once=at_once)
    metrics = tracing.metrics
    if metrics is None and not is_wanted:
        return
    awaited, bridge, function, path, line = names.info_of(
        span, ended.frame, ended.other, ended.awaitable, ended.bridge
    )
    task = "" if ended.waiter is None else names.task_name(ended.waiter)
    seconds = (span.end_ns - span.start_ns) / 1e9
    attributes: dict[str, Any] = {
        "code.function.name": fit(function),
        "code.file.path": fit(path),
        "code.line.number": line,
        "greenprof.bridge": bridge,
        "greenprof.task": fit(task),
        "greenprof.outcome": ended.outcome,
    }
    if ended.error is not None:
        attributes["error.type"] = fit(ended.error)
    if metrics is not None:
        if at_once:  # a finalizer may have interrupted the loop
            _watch_loop(metrics, span, ended)
        metrics.await_ended(seconds, attributes, at_once=at_once)
        if not is_wanted:
            return
    profile = spancontext.profile_id()
    if profile is not None:
        attributes["greenprof.profile.id"] = profile
    if tracing.wants_stack(seconds):
        attributes["code.stacktrace"] = stack_text(ended.frame)
    name = f"await {fit(awaited)}"
    if tracing.asks:
        info = names.AwaitInfo(
            awaited,
            bridge,
            function,
            path,
            line,
            task,
            seconds,
            ended.outcome,
            ended.error,
        )
        name = _name_by(tracing, info) or name
        attributes.update(_attributes_by(tracing, info))
    status = (
        None if ended.outcome != outcomes.RAISED else Status(_ERROR, attributes.get("error.type"))
    )
    outbox.put(Finished(span, name, attributes, status, span.end_ns), at_once=at_once)


def _watch_loop(metrics: AwaitMetrics, span: AwaitSpan, ended: Ended) -> None:
    loop = ended.other if span.hub else loops.running_loop()
    if loop is not None:
        metrics.watch_loop(loop)


def _may_be_sent(tracing: Tracing, span: AwaitSpan, *, at_once: bool) -> bool:
    """Whether a span keeps within the limits. The rate's is not for one that is used, or others
    would lose their parent.
    """
    if tracing.limit is not None and not span.used and not tracing.limit.take():
        tracing.drop(RATE_LIMIT, at_once=at_once)
        return False
    if span.sink.full():
        tracing.drop(QUEUE_FULL, at_once=at_once)
        return False
    return True


def _name_by(tracing: Tracing, info: names.AwaitInfo) -> str | None:
    if tracing.name is None:
        return None
    try:
        name = tracing.name(info)
        return None if name is None else fit(str(name))
    except Exception as error:  # the program's
        if from_signal_handler(error):
            raise
        complain_once("function `name`", error)
        return None


def _attributes_by(tracing: Tracing, info: names.AwaitInfo) -> Mapping[str, Any]:
    if tracing.attributes is None:
        return {}
    try:
        return fit_all(tracing.attributes(info))
    except Exception as error:  # the program's
        if from_signal_handler(error):
            raise
        complain_once("function `attributes`", error)
        return {}


def stack_text(frame: FrameType) -> str:
    """The unified stack down to `frame` as lines of a traceback, innermost last."""
    task = loops.current_task(loops.running_loop())
    raw, _ = stacks.running(frame, getcurrent(), switches.of_thread(get_ident()), task)
    lines = []
    left_out = len(raw.frames) - _MAX_FRAMES
    if left_out > 0:
        lines.append(f"  ({left_out} frames above are left out)")
    kinds = raw.kinds()
    for at in range(max(left_out, 0), len(raw.frames)):
        if kinds[at][1]:
            lines.append("  --- greenlet boundary ---")
        one = raw.frames[at]
        code, _ = position_of(one)
        path, function = fit(code.co_filename), fit(code.co_qualname)
        lines.append(f'  File "{path}", line {one.f_lineno}, in {function}')
    return "\n".join(lines) + "\n"
