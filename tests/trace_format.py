"""Reads a file of the Trace Event Format, and complains of all that its description does not allow.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

PHASES = {"X", "i", "M", "s", "t", "f"}
METADATA = {
    "process_name": "name",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}
# https://github.com/catapult-project/catapult/blob/main/tracing/tracing/base/color_scheme.html
COLOURS = {
    "thread_state_iowait",
    "thread_state_running",
    "thread_state_runnable",
    "thread_state_sleeping",
    "terrible",
}


@dataclass(frozen=True)
class Drawn:
    """A slice as it is drawn: on which row, from when to when, how deep within others."""

    row: str
    name: str
    category: str
    start_ns: int
    end_ns: int
    depth: int
    colour: str
    args: dict[str, Any] = field(compare=False)


@dataclass
class Trace:
    """What a reader of the format finds in a file."""

    document: dict[str, Any]
    processes: list[str]
    rows: dict[tuple[int, int], str]
    slices: list[Drawn]
    arrows: list[tuple[Drawn, Drawn]]
    marks: list[tuple[str, str, int]]

    def named(self, row: str) -> list[Drawn]:
        """The slices of the rows of one name."""
        assert row in self.rows.values(), f"no row {row!r} among {list(self.rows.values())}"
        return [one for one in self.slices if one.row == row]


def read(text: str) -> Trace:
    """Read a file; AssertionError if it is none."""
    document = json.loads(text, parse_float=Decimal)
    assert isinstance(document, dict)
    assert document["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in document["otherData"].values())
    events = document["traceEvents"]
    assert isinstance(events, list)
    for event in events:
        assert event["ph"] in PHASES, event
        assert type(event["pid"]) is int, event
        _check_text(event)
    described = [event for event in events if event["ph"] == "M"]
    assert events[: len(described)] == described, "names come first"
    processes, rows = _names(described)
    slices: list[Drawn] = []
    by_row: dict[tuple[int, int], list[Drawn]] = {}
    for row in rows:
        by_row[row] = _nested(rows[row], [e for e in events if e["ph"] == "X" and _row(e) == row])
        slices += by_row[row]
    assert len(slices) == sum(event["ph"] == "X" for event in events), "a slice on no row"
    marks = []
    for event in events:
        if event["ph"] == "i":
            assert event["s"] == "t"
            marks.append((rows[_row(event)], event["name"], _ns(event["ts"])))
    return Trace(document, processes, rows, slices, list(_arrows(events, by_row)), marks)


def _names(described: list[Any]) -> tuple[list[str], dict[tuple[int, int], str]]:
    processes: dict[int, str] = {}
    rows: dict[tuple[int, int], str] = {}
    order: list[tuple[int, int]] = []
    for event in described:
        assert set(event["args"]) == {METADATA[event["name"]]}, event
        if event["name"] == "process_name":
            assert event["pid"] not in processes, "two processes of one number"
            processes[event["pid"]] = event["args"]["name"]
        elif event["name"] == "thread_name":
            assert _row(event) not in rows, "two rows of one number"
            assert event["pid"] in processes
            rows[_row(event)] = event["args"]["name"]
        elif event["name"] == "thread_sort_index":
            order.append((event["args"]["sort_index"], event["tid"]))
    assert order == sorted(order)
    numbers = [number for _, number in rows]
    assert len({*numbers, *processes}) == len(numbers) + len(processes), (
        "readers mix up rows and processes of one number"
    )
    return list(processes.values()), rows


def _nested(row: str, events: list[Any]) -> list[Drawn]:
    """The slices of a row with their depths; any two are apart, or one within the other."""
    found = []
    around: list[int] = []
    # In the order of the file where two are alike: the first is the outer one.
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        start_ns, end_ns = _ns(event["ts"]), _ns(event["ts"]) + _ns(event["dur"])
        assert start_ns >= 0
        assert end_ns >= start_ns
        assert event["cname"] in COLOURS
        while around and around[-1] <= start_ns:
            around.pop()
        assert not around or end_ns <= around[-1], f"{row}: {event} overlaps another slice"
        args = event.get("args", {})
        assert isinstance(args, dict)
        found.append(
            Drawn(
                row,
                event["name"],
                event["cat"],
                start_ns,
                end_ns,
                len(around),
                event["cname"],
                args,
            )
        )
        around.append(end_ns)
    return found


def _arrows(
    events: list[Any], by_row: dict[tuple[int, int], list[Drawn]]
) -> Iterator[tuple[Drawn, Drawn]]:
    ends: dict[Any, list[Any]] = {}
    for event in events:
        if event["ph"] in "stf":
            ends.setdefault((event["cat"], event["name"], event["id"]), []).append(event)
    for number, (start, end) in ends.items():
        assert (start["ph"], end["ph"], end["bp"]) == ("s", "f", "e"), number
        assert start["ts"] <= end["ts"], number
        yield _open_at(by_row, start), _open_at(by_row, end)


def _open_at(by_row: dict[tuple[int, int], list[Drawn]], event: Any) -> Drawn:
    """The innermost slice that is open when an arrow begins or ends."""
    at_ns = _ns(event["ts"])
    found = [one for one in by_row[_row(event)] if one.start_ns <= at_ns < one.end_ns]
    assert found, f"{event} is on no slice"
    return max(found, key=lambda one: one.depth)


def _row(event: Any) -> tuple[int, int]:
    assert type(event["tid"]) is int, event
    return event["pid"], event["tid"]


def _ns(microseconds: int | Decimal) -> int:
    ns = microseconds * 1000
    assert ns == int(ns), f"{microseconds} is no whole number of nanoseconds"
    return int(ns)


def _check_text(value: Any) -> None:
    if isinstance(value, str):
        assert value.isprintable(), repr(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key)
            _check_text(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_text(inner)
