"""What became of the awaits that a `Tracing` saw, and how many spans a second it may make."""

from __future__ import annotations

from itertools import count

from greenprof._native import time

__all__ = ["ERROR", "QUEUE_FULL", "RATE_LIMIT", "RateLimit", "SpanCounts"]

#: Why spans were dropped.
RATE_LIMIT, QUEUE_FULL, ERROR = "rate limit", "queue full", "error"


class _Counter:
    """Counts from any thread without a lock: one step in C."""

    def __init__(self) -> None:
        self._count = count()

        self.add = self._count.__next__

    @property
    def value(self) -> int:
        return int(repr(self._count)[len("count(") : -1])


class SpanCounts:
    """Awaits seen, spans recorded and spans dropped since the tracing was made."""

    def __init__(self) -> None:
        self._awaits = _Counter()
        self._recorded = _Counter()
        self._dropped = {reason: _Counter() for reason in (RATE_LIMIT, QUEUE_FULL, ERROR)}
        self.saw = self._awaits.add
        self.did_record = self._recorded.add

    def drop(self, reason: str) -> None:
        """Count a span that was wanted and is lost."""
        self._dropped[reason].add()

    @property
    def awaits(self) -> int:
        """Awaits that ended, of those that might have been recorded."""
        return self._awaits.value

    @property
    def recorded(self) -> int:
        """Spans that were handed to the tracer provider."""
        return self._recorded.value

    @property
    def dropped(self) -> dict[str, int]:
        """Spans that were wanted and lost, by reason; reasons that never were are left out."""
        values = {reason: counter.value for reason, counter in self._dropped.items()}
        return {reason: value for reason, value in values.items() if value}

    def __repr__(self) -> str:
        return f"SpanCounts(awaits={self.awaits}, recorded={self.recorded}, dropped={self.dropped})"


class RateLimit:
    """At most so many a second on the average, and as many at once."""

    def __init__(self, per_second: float) -> None:
        self._per_ns = per_second / 1e9
        self._capacity = max(per_second, 1.0)
        self._left = self._capacity
        self._since_ns: int = time.monotonic_ns()

    def take(self) -> bool:
        """Whether one more may be."""
        now_ns: int = time.monotonic_ns()
        left = min(self._capacity, self._left + (now_ns - self._since_ns) * self._per_ns)
        self._since_ns = now_ns
        allowed = left >= 1.0
        self._left = left - 1.0 if allowed else left
        return allowed
