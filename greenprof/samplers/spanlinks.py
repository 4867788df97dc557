"""The OpenTelemetry spans that samples were taken in, and their parts of the samples.

The span is found in the `contextvars.Context` of whoever is looked at: the running one for code
that a signal interrupts, a task's or a greenlet's own for those that are suspended or run in
another thread. A plain thread's cannot be had from outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from typing import Any

from greenprof import spancontext
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.profiles import SpanRef, State

#: What is kept at most: some 400 bytes each.
MAX_SPANS = 5_000
MAX_PARTS = 15_000
#: Await spans are kept until it is certain which span stands for them; so many before the first look.
SETTLE_AT = 512

SampleKey = tuple[int, int, int, State]
"""Group, thread, node and state."""


class SpanLinks:
    """Which part of which sample belongs to which span. One writer at a time.

    A span is a number here, -1 without one, and its parts go by (number, sample). When there are
    too many, `prune` keeps the traces with the most time and what came last; until it was called,
    new ones are not linked. `lost` counts the observations of spans that were dropped or never linked.
    """

    def __init__(self, max_spans: int = MAX_SPANS, max_parts: int = MAX_PARTS) -> None:
        self._max_spans = max_spans
        self._max_parts = max_parts
        self._next = 0
        # Trace id and span id -> number, and back; an await span that was not exported has none.
        self._numbers: dict[tuple[int, int], int] = {}
        self._ids: dict[int, tuple[int, int]] = {}
        # id(span), or ~number if told later -> number, span: await spans that may still come to
        # be exported, or not.
        self._open: dict[int, tuple[int, Any]] = {}
        self._settle_at = SETTLE_AT
        # (number, sample) -> [count, wall_ns, cpu_ns]
        self._parts: dict[tuple[int, SampleKey], list[int]] = {}
        self._prune_at = 3 * max_spans // 4, 3 * max_parts // 4
        self.lost = 0
        self.error = ""

    # Looks.

    def here(self) -> int:
        """The number of the span that is current in the running context."""
        return self._look(None) if spancontext.is_loaded() else -1

    def of_task(self, task: Any) -> int:
        """The number of the span that is current in a task."""
        if not spancontext.is_loaded():
            return -1
        context = spancontext.context_of_task(task)
        return -1 if context is None else self._look(context)

    def of_greenlet(self, greenlet: Any) -> int:
        """The number of the span that is current in a greenlet that is suspended."""
        if greenlet is None or not spancontext.is_loaded():
            return -1
        context = spancontext.context_of_greenlet(greenlet)
        return -1 if context is None else self._look(context)

    def later(self) -> int:
        """A number for a span that cannot be told yet; `tell` says which it was."""
        if not spancontext.is_loaded():
            return -1
        self._next += 1
        return self._next - 1

    def tell(self, number: int, span: int) -> None:
        """Say which span a number that `later` gave stands for (-1: none, or nobody knows)."""
        if span in self._ids:
            self._ids[number] = self._ids[span]
            return
        for known, found in list(self._open.values()):
            if known == span:
                self._open[~number] = number, found

    def _look(self, context: Context | None) -> int:
        try:
            span = spancontext.current_span(context)
            return -1 if span is None else self._number(span)
        except Exception as error:  # a span of somebody's own
            if from_signal_handler(error):
                raise
            try:
                self.error = reason(error)
            except RecursionError:  # it was raised at the limit, and still holds
                self.error = type(error).__name__
            return -1

    def _number(self, span: Any) -> int:
        if hasattr(type(span), "recorded_context"):
            found = self._open.get(id(span))
            if found is not None:
                return found[0]
            if len(self._open) >= self._settle_at:
                self._settle()
            number = self._new()
            if number >= 0:
                self._open[id(span)] = number, span
            return number
        context = spancontext.exported_context(span)
        if context is None:
            return -1
        ids = context.trace_id, context.span_id
        number = self._numbers.get(ids, -1)
        if number < 0:
            number = self._new()
            if number >= 0:
                self._ids[number] = ids
                self._numbers[ids] = number
        return number

    def _new(self) -> int:
        if len(self._ids) + len(self._open) >= self._max_spans:
            self.lost += 1
            return -1
        self._next += 1
        return self._next - 1

    def _settle(self) -> None:
        """Find the ids of await spans that have ended, and let go of those."""
        for key, (number, span) in list(self._open.items()):
            if span.is_recording():
                continue
            context = spancontext.exported_context(span)
            if context is not None:
                self._ids[number] = context.trace_id, context.span_id
            self._open.pop(key, None)
        self._settle_at = max(SETTLE_AT, 2 * len(self._open))

    # Parts.

    def add(self, span: int, sample: SampleKey, count: int, wall_ns: int, cpu_ns: int) -> None:
        """Say that so much of a sample belongs to a span. After it was added to the sample."""
        part = self._parts.get((span, sample))
        if part is None:
            if len(self._parts) >= self._max_parts:
                self.lost += count
                return
            part = self._parts[span, sample] = [0, 0, 0]
        part[0] += count
        part[1] += wall_ns
        part[2] += cpu_ns

    def prune(self) -> None:
        """Make room if there soon is none. Slow for a signal handler (milliseconds)."""
        spans = len(self._ids) + len(self._open)
        if spans < self._prune_at[0] and len(self._parts) < self._prune_at[1]:
            return
        self._settle()
        open_ = {number for number, _ in self._open.values()}
        stay = self._heaviest() | open_
        parts = {}
        for (number, sample), part in self._parts.items():
            if number in stay:
                parts[number, sample] = part
            elif number in self._ids:
                self.lost += part[0]
        self._parts = parts
        self._ids = {number: ids for number, ids in self._ids.items() if number in stay}
        self._numbers = {ids: number for ids, number in self._numbers.items() if number in stay}
        # Where most of them stay, another time would not help either.
        self._prune_at = (
            max(3 * self._max_spans // 4, len(stay) + self._max_spans // 8),
            max(3 * self._max_parts // 4, len(parts) + self._max_parts // 8),
        )

    def _heaviest(self) -> set[int]:
        """The spans of the traces with the most time, and those that came last."""
        times: dict[int, int] = {}
        sizes: dict[int, int] = {}
        for (number, _), (_, wall_ns, cpu_ns) in self._parts.items():
            ids = self._ids.get(number)
            if ids is not None:
                times[ids[0]] = times.get(ids[0], 0) + wall_ns + cpu_ns
                sizes[ids[0]] = sizes.get(ids[0], 0) + 1
        # In parts, of which each span has one at least.
        room = min(self._max_parts, self._max_spans) // 3
        kept = set()
        recent = self._next - self._max_spans // 8
        for trace in sorted(sizes, key=lambda trace: -times[trace]):
            room -= sizes[trace]
            if room < 0:
                break
            kept.add(trace)
        return {number for number, ids in self._ids.items() if ids[0] in kept or number >= recent}

    # What came of it.

    def parts(self) -> Iterator[tuple[SpanRef, SampleKey, tuple[int, int, int]]]:
        """Each part, with the span that stands for it by now. To be copied before the samples."""
        parts = [(key, tuple(part)) for key, part in list(self._parts.items())]
        spans = dict(list(self._open.values()))
        refs: dict[int, SpanRef | None] = {}
        for (number, sample), (count, wall_ns, cpu_ns) in parts:
            if number not in refs:
                refs[number] = self._ref(number, spans.get(number))
            ref = refs[number]
            if ref is not None:
                yield ref, sample, (count, wall_ns, cpu_ns)

    def _ref(self, number: int, span: Any) -> SpanRef | None:
        if span is not None:
            found = spancontext.ids_of(span)
            return None if found is None else SpanRef(*found)
        ids = self._ids.get(number)
        if ids is None:
            return None
        return SpanRef(format(ids[0], "032x"), format(ids[1], "016x"))

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        found = []
        if self.lost:
            found.append(
                f"{self.lost} samples are not linked to their spans: there were too many spans; "
                "those of the traces with the most time are linked"
            )
        if self.error:
            found.append(f"samples are not linked to spans that cannot be asked: {self.error}")
        return found
