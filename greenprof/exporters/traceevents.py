"""Writes events of the Trace Event Format: rows, slices that nest, arrows, marks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from greenprof.profiles import Slice, SliceKind

__all__ = ["Lane", "Placed", "Row", "Rows", "lanes"]

EXACT_BELOW_NS: Final = 10**15
"""Up to here (11 days) a double holds microseconds with three digits after the point."""
MAX_LANES: Final = 16
"""Rows that one track gets for slices that overlap; what does not fit then is cut short."""

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_ORDER: Final = {SliceKind.AWAIT: 0, SliceKind.BLOCK: 1, SliceKind.RUN: 2}


class Row(NamedTuple):
    """A row, by the numbers that events name it with."""

    process: int
    number: int


class Placed(NamedTuple):
    """A slice, and from when to when it is drawn."""

    one: Slice
    start_ns: int
    end_ns: int

    @property
    def leaves_ns(self) -> int:
        """When an arrow leaves it: where no slice is within it, and the one before it is over."""
        return min(self.start_ns + 1, self.end_ns - 1)


Lane = list[Placed]


def lanes(slices: Iterable[Slice]) -> list[Lane]:
    """Return the slices of one track as rows in which any two are apart, or one within the other.

    That is what the format asks for. Most tracks need one row.
    """
    found: list[Lane] = []
    open_in: list[list[Placed]] = []
    for one in sorted(slices, key=_order):
        start_ns, end_ns = one.start_ns, one.start_ns + one.duration_ns
        for lane, around in zip(found, open_in, strict=True):  # noqa: B007  # both go on below
            while around and around[-1].end_ns <= start_ns:
                around.pop()
            if not around or end_ns <= around[-1].end_ns:
                break
        else:
            if len(found) < MAX_LANES:
                found.append([])
                open_in.append([])
            lane, around = found[-1], open_in[-1]
        if around:
            outer = around[-1]
            # Room for an arrow's beginning, which belongs to the innermost slice of its time.
            earliest_ns = outer.start_ns + (2 if outer.one.flow else 0)
            end_ns = min(end_ns, outer.end_ns)
            start_ns = min(max(start_ns, earliest_ns), end_ns)
        placed = Placed(one, start_ns, end_ns)
        lane.append(placed)
        around.append(placed)
    return found


def _order(one: Slice) -> tuple[int, int, int]:
    return one.start_ns, -one.duration_ns, _ORDER[one.kind]


class Rows:
    """Events so far. Times are nanoseconds here, and microseconds in what `events` returns."""

    def __init__(self, last_ns: int = 0) -> None:
        """`last_ns`: the latest time there will be."""
        self._coarse = last_ns >= EXACT_BELOW_NS
        # As text at once: as objects they take about twice as much memory.
        self._described: list[str] = []
        self._events: list[str] = []
        # One count for both: the readers take a row for a process's main thread if they are equal.
        self._numbers = 0
        self._arrows = 0

    def process(self, name: str) -> int:
        """Return a new group of rows."""
        self._numbers += 1
        process = self._numbers
        row = Row(process, 0)
        self._describe(row, "process_name", name=name)
        self._describe(row, "process_sort_index", sort_index=process)
        return process

    def row(self, process: int, name: str) -> Row:
        """Return a new row below those that its process has."""
        self._numbers += 1
        row = Row(process, self._numbers)
        self._describe(row, "thread_name", name=name)
        self._describe(row, "thread_sort_index", sort_index=self._numbers)
        return row

    def _describe(self, row: Row, what: str, **args: str | int) -> None:
        event: dict[str, Any] = {"name": what, "ph": "M", "pid": row.process}
        if row.number:
            event["tid"] = row.number
        self._described.append(_encode({**event, "args": args}))

    def slice(
        self,
        row: Row,
        name: str,
        category: str,
        start_ns: int,
        end_ns: int,
        colour: str,
        args: dict[str, Any],
    ) -> None:
        """Add a stretch. `colour` is one of the names that chrome://tracing reserves."""
        start_ns, end_ns = self._rounded(start_ns), self._rounded(end_ns)
        event: dict[str, Any] = {"name": name, "cat": category, "ph": "X"}
        event["ts"] = _microseconds(start_ns)
        event["dur"] = _microseconds(end_ns - start_ns)
        event.update(pid=row.process, tid=row.number, cname=colour)
        if args:
            event["args"] = args
        self._events.append(_encode(event))

    def mark(self, row: Row, name: str, category: str, at_ns: int, args: dict[str, Any]) -> None:
        """Add a mark on a row."""
        at = _microseconds(self._rounded(at_ns))
        event: dict[str, Any] = {"name": name, "cat": category, "ph": "i", "s": "t", "ts": at}
        event.update(pid=row.process, tid=row.number)
        self._events.append(_encode({**event, "args": args} if args else event))

    def arrow(self, row: Row, at_ns: int, to_row: Row, to_ns: int) -> None:
        """Join the innermost slices that are open on two rows at certain times."""
        self._arrows += 1
        for phase, (process, number), ns in (("s", row, at_ns), ("f", to_row, to_ns)):
            event: dict[str, Any] = {"name": "awaits", "cat": "await", "ph": phase}
            event["id"] = self._arrows
            event.update(ts=_microseconds(self._rounded(ns)), pid=process, tid=number)
            if phase == "f":
                event["bp"] = "e"  # the slice that is open then, not the next one that begins
            self._events.append(_encode(event))

    def events(self) -> str:
        """Return all events as a JSON array, those that name processes and rows first."""
        return "[" + ",\n".join(self._described + self._events) + "]"

    def _rounded(self, ns: int) -> int:
        # Starts and ends alike, so that what nests goes on to.
        return ns // 1000 * 1000 if self._coarse else ns


def _microseconds(ns: int) -> int | float:
    whole, rest = divmod(ns, 1000)
    return whole if not rest else ns / 1000
