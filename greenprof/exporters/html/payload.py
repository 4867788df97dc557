"""What the report's page knows of a profile, as JSON values: tables of columns that point to each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from greenprof.analysis import (
    AwaitRow,
    AwaitSite,
    BlockRow,
    RepeatRow,
    await_rows,
    block_rows,
    function_key,
    is_exact,
    origin_of,
    repeat_rows,
    sample_sites,
    trace_table,
)
from greenprof.exporters.headline import Fact, headline, reader_warnings, running_word
from greenprof.exporters.units import place
from greenprof.printable import MOST_LETTERS
from greenprof.printable import shown as _text
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, State

__all__ = ["MOST_LETTERS", "VERSION", "payload"]

VERSION = 1

_KINDS = {kind: number for number, kind in enumerate(FrameKind)}
_ORIGINS = {origin: number for number, origin in enumerate(FrameOrigin)}
_STATES = {state: number for number, state in enumerate(State)}


def payload(
    profile: Profile,
    *,
    clock: str = "wall",
    sites: tuple[list[AwaitSite], list[int]] | None = None,
    awaits: list[AwaitRow] | None = None,
) -> dict[str, Any]:
    """Return the values that the page's scripts read; texts are printable and of bounded length.

    `sites` and `awaits` stand in for what `sample_sites` and `await_rows` would say of the profile.
    """
    functions = _Functions(profile.frames)
    shown_sites, site_of_sample = sample_sites(profile) if sites is None else sites
    facts = headline(profile)
    samples = profile.samples
    exact = is_exact(profile)
    waits = any(sample.state is not State.ON_CPU for sample in samples)
    return {
        "version": VERSION,
        "title": _text(profile.info.command) or "profile",
        # There is no other than the one that was measured.
        "clock": "cpu" if exact and not waits else clock,
        "exact": exact,
        "running": running_word(profile),
        "blockLimit": profile.info.block_limit_ns,
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
        "sites": _sites(shown_sites, functions),
        **_counted(profile, functions, await_rows(profile) if awaits is None else awaits),
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


def _counted(
    profile: Profile, functions: _Functions, awaits: list[AwaitRow]
) -> dict[str, dict[str, list[Any]]]:
    """What was counted, not sampled: awaits, repeats, and stretches in which a loop stood still."""
    repeats, blocks = repeat_rows(profile), block_rows(profile)
    return {
        "awaits": {
            **_lines(awaits, functions),
            **_awaited(awaits),
            "count": [row.count for row in awaits],
            "total": [row.total_ns for row in awaits],
            "mean": [row.mean_ns for row in awaits],
            "min": [row.min_ns for row in awaits],
            "p50": [row.percentile_ns(50) for row in awaits],
            "p95": [row.percentile_ns(95) for row in awaits],
            "p99": [row.percentile_ns(99) for row in awaits],
            "max": [row.max_ns for row in awaits],
            "errors": [row.errors for row in awaits],
            "cancelled": [row.cancelled for row in awaits],
        },
        "repeats": {
            **_lines(repeats, functions),
            **_awaited(repeats),
            "awaited": [_text(row.operations) for row in repeats],
            "operations": [_text(", ".join([row.awaited, *row.others])) for row in repeats],
            "units": [row.units for row in repeats],
            "each": [row.per_unit for row in repeats],
            "most": [row.most for row in repeats],
            "total": [row.total_ns for row in repeats],
            "whole": [row.units_ns for row in repeats],
        },
        "blocks": {
            **_lines(blocks, functions),
            "inside": [_text(row.inside) for row in blocks],
            "thread": [row.thread for row in blocks],
            "loop": [_text(row.loop) for row in blocks],
            "count": [row.count for row in blocks],
            "total": [row.total_ns for row in blocks],
            "worst": [row.worst_ns for row in blocks],
            "waiting": [row.waiting for row in blocks],
        },
    }


def _lines(
    rows: list[AwaitRow] | list[RepeatRow] | list[BlockRow], functions: _Functions
) -> dict[str, list[Any]]:
    """The lines that rows are about, their tasks and the ways to them."""
    sites = [row.site for row in rows]
    return {
        "function": [_text(site.name) for site in sites],
        "fn": [functions.number(*function_key(site)) for site in sites],
        "place": [_text(place(site.path, site.line), keep_end=True) for site in sites],
        "origin": [_ORIGINS[origin_of(site)] for site in sites],
        "group": [row.group for row in rows],
        "node": [row.stack for row in rows],
    }


def _awaited(rows: list[AwaitRow] | list[RepeatRow]) -> dict[str, list[Any]]:
    return {
        "awaited": [_text(row.awaited) for row in rows],
        "over": [_text(row.bridge) for row in rows],
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
