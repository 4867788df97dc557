"""What the report's page knows of a profile, as JSON values: tables of columns that point to each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from greenprof.analysis import AwaitSite, function_key, origin_of, sample_sites, trace_table
from greenprof.exporters.headline import Fact, headline, reader_warnings
from greenprof.exporters.units import place
from greenprof.printable import printable
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, State

__all__ = ["MOST_LETTERS", "VERSION", "payload"]

VERSION = 1
MOST_LETTERS = 1_000
"""No text is longer: no screen shows as much, and a file may hold names of a megabyte."""

_KINDS = {kind: number for number, kind in enumerate(FrameKind)}
_ORIGINS = {origin: number for number, origin in enumerate(FrameOrigin)}
_STATES = {state: number for number, state in enumerate(State)}


def payload(profile: Profile, *, clock: str = "wall") -> dict[str, Any]:
    """Return the values that the page's scripts read; texts are printable and of bounded length."""
    functions = _Functions(profile.frames)
    sites, site_of_sample = sample_sites(profile)
    facts = headline(profile)
    samples = profile.samples
    return {
        "version": VERSION,
        "title": _text(profile.info.command) or "profile",
        "clock": clock,
        "header": _header(profile, [*facts.times, *facts.sampling, *facts.program]),
        "warnings": [_text(text) for text in reader_warnings(profile)],
        "kinds": list(FrameKind),
        "origins": list(FrameOrigin),
        "states": list(State),
        "paths": [_text(path, keep_end=True) for path in functions.paths],
        "places": [_text(place(path, 0), keep_end=True) for path in functions.paths],
        "functions": functions.columns(),
        "frames": {
            "function": functions.of_frame,
            "line": [frame.line for frame in profile.frames],
            "kind": [_KINDS[frame.kind] for frame in profile.frames],
            "crosses": [int(frame.crosses) for frame in profile.frames],
        },
        "nodes": {
            "parent": [parent for parent, _ in profile.nodes],
            "frame": [frame for _, frame in profile.nodes],
        },
        "groups": {
            "name": [_text(group.name) for group in profile.groups],
            "kind": [_text(group.kind) for group in profile.groups],
            "tasks": [group.count for group in profile.groups],
        },
        "threads": [_text(name) for name in profile.threads],
        "samples": {
            "group": [sample.group for sample in samples],
            "thread": [sample.thread for sample in samples],
            "node": [sample.stack for sample in samples],
            "state": [_STATES[sample.state] for sample in samples],
            "count": [sample.count for sample in samples],
            "wall": [sample.wall_ns for sample in samples],
            "cpu": [sample.cpu_ns for sample in samples],
            "site": site_of_sample,
        },
        "sites": _sites(sites, functions),
        **_traces(profile, clock),
    }


class _Functions:
    """The functions of a profile's frames, numbered as they come."""

    def __init__(self, frames: list[Frame]) -> None:
        self._numbers: dict[tuple[str, str, int], int] = {}
        self._first: list[Frame] = []
        self._path_numbers: dict[str, int] = {}
        self.of_frame: list[int] = []
        for frame in frames:
            number = self._numbers.setdefault(function_key(frame), len(self._first))
            if number == len(self._first):
                self._first.append(frame)
                self._path_numbers.setdefault(frame.path, len(self._path_numbers))
            self.of_frame.append(number)

    @property
    def paths(self) -> list[str]:
        return list(self._path_numbers)

    def number(self, name: str, path: str, first_line: int) -> int:
        return self._numbers.get((name, path, first_line), -1)

    def columns(self) -> dict[str, list[Any]]:
        return {
            "name": [_text(frame.name) for frame in self._first],
            "module": [_text(frame.module) for frame in self._first],
            "path": [self._path_numbers[frame.path] for frame in self._first],
            "line": [frame.first_line for frame in self._first],
            "origin": [_ORIGINS[origin_of(frame)] for frame in self._first],
        }


def _sites(sites: list[AwaitSite], functions: _Functions) -> dict[str, list[Any]]:
    return {
        "function": [_text(site.function) for site in sites],
        "fn": [functions.number(site.function, site.path, site.first_line) for site in sites],
        "place": [_text(place(site.path, site.line), keep_end=True) for site in sites],
        "line": [site.line for site in sites],
        "origin": [_ORIGINS[site.origin] for site in sites],
        "awaited": [_text(site.awaited) for site in sites],
    }


def _traces(profile: Profile, clock: str) -> dict[str, dict[str, list[Any]]]:
    """The traces with the most time first, and their parts of the samples in the same order."""
    rows = trace_table(profile, clock=clock)
    return {
        "traces": {
            "id": [row.trace_id for row in rows],
            "group": [row.group for row in rows],
            "spans": [row.spans for row in rows],
            "time": [row.time_ns for row in rows],
            "parts": [len(row.parts) for row in rows],
        },
        "parts": {
            "sample": [index for row in rows for index in row.parts],
            "count": [part.count for row in rows for part in row.parts.values()],
            "wall": [part.wall_ns for row in rows for part in row.parts.values()],
            "cpu": [part.cpu_ns for row in rows for part in row.parts.values()],
        },
    }


def _header(profile: Profile, facts: list[Fact]) -> list[list[str]]:
    recorded = _recorded(profile.info.started_at)
    shown = [*facts, Fact("recorded", recorded, recorded)] if recorded else facts
    return [[_text(text) for text in (fact.label, fact.value, fact.note)] for fact in shown]


def _recorded(started_at: str) -> str:
    try:
        moment = datetime.fromisoformat(started_at).astimezone(UTC)
    except (ValueError, OverflowError):
        return started_at
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _text(text: str, *, keep_end: bool = False) -> str:
    """Make a text from the profiled program safe to show, and cut it to MOST_LETTERS.

    A path keeps its end: there is the file's name.
    """
    shown = printable(text[-MOST_LETTERS:] if keep_end else text[:MOST_LETTERS])
    if len(text) <= MOST_LETTERS and len(shown) <= MOST_LETTERS:
        return shown
    return f"…{shown[1 - MOST_LETTERS :]}" if keep_end else f"{shown[: MOST_LETTERS - 1]}…"
