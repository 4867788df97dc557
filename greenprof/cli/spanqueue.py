"""Spans on their way out of a profiled program: kept in a queue, written out by a thread, counted.

OpenTelemetry's BatchSpanProcessor does much the same. It may hold a program's end for half a minute, its
thread comes back in every forked child, it is gevent's where gevent patched threads, and it does not tell
what became of the spans.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.trace import SpanProcessor

from greenprof._native import allocate_lock, start_new_thread, time
from greenprof.cli.otlpjson import request_line

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["SpanQueue", "Tally", "Target"]

# How much longer than its bound the end may take for the threads' and processes' own sake.
GRACE_S = 0.2
NOT_IN_TIME = "no answer in time"


@dataclass(slots=True)
class Tally:
    """What became of the spans that a queue was given."""

    out: int = 0
    failed: int = 0
    reason: str = ""
    """Why the last of the failed ones did."""
    queue_full: int = 0
    left_out: int = 0
    """Not wanted by the queue's `wants`."""


class Target(Protocol):
    """What takes spans out of the process, for the queue's thread to call."""

    def put(self, line: bytes) -> None:
        """Take a line of OTLP's JSON. May wait. Raises whatever exception says why it cannot."""

    def finish(self, limit_s: float) -> Tally | None:
        """Let go of everything; says what became of the spans if `put` could not know."""

    def abandon(self) -> None:
        """Let go of it in a forked child, where it is not used."""


class SpanQueue(SpanProcessor):
    """Hands ended spans to a target, in a thread of its own.

    It never waits for the target but in `finish`, and there with a bound. `shutdown` and `force_flush`,
    which are the program's to call where the provider is the program's, do nothing: a program ends its
    provider before it ends itself, and greenprof's outputs are not what it means to wait for. Forked
    children give nothing out.
    """

    def __init__(
        self, target: Target, wants: Callable[[ReadableSpan], bool] = lambda _span: True
    ) -> None:
        self._target = target
        self._wants = wants
        self._spans: deque[ReadableSpan] = deque()
        self._max_queue = setting("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._max_batch = min(setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self._max_queue)
        # Shorter than OpenTelemetry's: a program that is killed loses what is still in here.
        self._delay_s = setting("OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000
        self._overflow = count()
        self._tally = Tally()
        self._under_way = 0
        self._open = True
        self._deadline: float | None = None
        # Locks as signals between threads: held means not yet. Unlike those of `threading`, a signal
        # handler may use them whatever it interrupted.
        self._wake, self._ended = allocate_lock(), allocate_lock()
        self._wake.acquire()
        self._ended.acquire()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)
        start_new_thread(self._work, ())

    # A span processor's part. What is not here does nothing.

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; drop it where the queue is full."""
        context = span.context
        if not self._open or context is None or not context.trace_flags.sampled:
            return
        waiting = len(self._spans)
        if waiting >= self._max_queue:
            next(self._overflow)
            return
        self._spans.append(span)
        if waiting + 1 >= self._max_batch:
            self._signal()

    # The end.

    def end_within(self, limit_s: float) -> None:
        """Take no more spans, and get what is left out before the limit. Returns at once."""
        self._open = False
        self._deadline = time.monotonic() + limit_s
        self._signal()

    def finish(self) -> Tally:
        """Wait for the end that `end_within` began, and tell what became of the spans."""
        if self._deadline is None:
            self.end_within(0)
        left_s = (self._deadline or 0) - time.monotonic()
        self._ended.acquire(timeout=max(left_s, 0) + GRACE_S)
        tally = replace(self._tally, queue_full=self._tally.queue_full + next(self._overflow))
        if left := self._under_way + len(self._spans):
            tally.failed += left
            tally.reason = tally.reason or NOT_IN_TIME
        return tally

    def _signal(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:  # it is awake
            return

    def _in_child(self) -> None:
        if self._open:
            self._open = False
            self._target.abandon()
        self._spans.clear()

    # The thread.

    def _work(self) -> None:
        while self._deadline is None:
            self._wake.acquire(timeout=self._delay_s)
            self._empty()
        self._empty()
        self._under_way = self._tally.out
        try:
            tally = self._target.finish(self._deadline - time.monotonic())
        except Exception as error:
            self._failed(self._tally.out, error)
            self._tally.out = 0
        else:
            if tally is not None:
                self._add(tally)
        self._under_way = 0
        self._ended.release()

    def _empty(self) -> None:
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(len(self._spans), self._max_batch))]
            self._under_way = len(batch)
            wanted = [span for span in batch if self._wants(span)]
            self._tally.left_out += len(batch) - len(wanted)
            if wanted:
                self._under_way = len(wanted)
                self._put(wanted)
            self._under_way = 0

    def _put(self, spans: list[ReadableSpan]) -> None:
        try:
            self._target.put(request_line(spans))
        except Exception as error:
            # Whatever goes wrong is told at the end, and the program goes on.
            self._failed(len(spans), error)
        else:
            self._tally.out += len(spans)

    def _failed(self, number: int, error: Exception) -> None:
        self._tally.failed += number
        self._tally.reason = str(error) or type(error).__name__

    def _add(self, later: Tally) -> None:
        """Of what went out of here, what came to where it should."""
        tally = self._tally
        unknown = tally.out - later.out - later.failed - later.queue_full
        tally.out = later.out
        tally.failed += later.failed + unknown
        tally.queue_full += later.queue_full
        tally.reason = later.reason or tally.reason or NOT_IN_TIME


def setting(name: str, default: int) -> int:
    """One of OpenTelemetry's settings of batches; its default where it is no number above 0."""
    try:
        value = int(os.environ.get(name, default))
    except ValueError:
        return default
    return value if value > 0 else default
