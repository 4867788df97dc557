"""What the exact engine recorded, as columns of a `.gprof` file. Files before 1.2 have none of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from greenprof.columns import BadDataError, ints, rows, table_at, texts
from greenprof.durations import MAX_BUCKET
from greenprof.events import Events
from greenprof.model import AwaitStats, Block, Repeat, Slice, SliceKind, Track

__all__ = ["event_columns", "events_in"]

_AWAIT_NUMBERS = ("count", "total_ns", "min_ns", "max_ns", "errors", "cancelled")
_REPEAT_NUMBERS = ("units", "awaits", "most", "total_ns", "units_ns")
_BLOCK_NUMBERS = ("count", "total_ns", "worst_ns", "waiting")


def event_columns(events: Events, text: Callable[[str], int]) -> dict[str, dict[str, list[int]]]:
    """Return the tables of a file; `text` gives the number of a string."""
    awaits, repeats, blocks, tracks, slices = events
    durations = [
        (site, bucket, count)
        for site, stats in enumerate(awaits)
        for bucket, count in stats.durations.items()
    ]
    return {
        "awaits": {
            "group": [stats.group for stats in awaits],
            "stack": [stats.stack for stats in awaits],
            "awaited": [text(stats.awaited) for stats in awaits],
            "bridge": [text(stats.bridge) for stats in awaits],
            **_numbers(awaits, _AWAIT_NUMBERS),
        },
        "await_durations": {
            "site": [site for site, _, _ in durations],
            "bucket": [bucket for _, bucket, _ in durations],
            "count": [count for _, _, count in durations],
        },
        "repeats": {
            "site": [repeat.site for repeat in repeats],
            **_numbers(repeats, _REPEAT_NUMBERS),
        },
        "blocks": {
            "group": [block.group for block in blocks],
            "thread": [block.thread for block in blocks],
            "stack": [block.stack for block in blocks],
            "loop": [text(block.loop) for block in blocks],
            **_numbers(blocks, _BLOCK_NUMBERS),
        },
        "tracks": {
            "name": [text(track.name) for track in tracks],
            "group": [track.group for track in tracks],
            "thread": [track.thread for track in tracks],
        },
        "slices": {
            "track": [one.track for one in slices],
            "kind": [text(one.kind) for one in slices],
            "start_ns": [one.start_ns for one in slices],
            "duration_ns": [one.duration_ns for one in slices],
            "stack": [one.stack for one in slices],
            "name": [text(one.name) for one in slices],
            "flow": [one.flow for one in slices],
        },
    }


def events_in(document: dict[str, Any], strings: list[str], limits: tuple[int, int, int]) -> Events:
    """Return the events in a file; `limits` are the numbers of groups, threads and nodes in it.

    A table that is not there is empty. Raises BadDataError.
    """
    groups, threads, nodes = limits
    awaits = _awaits(_own(document, "awaits"), strings, groups, nodes)
    if "await_durations" in document:
        _add_durations(table_at(document, "await_durations"), awaits)
    tracks = _tracks(_own(document, "tracks"), strings, groups, threads)
    return Events(
        awaits,
        _repeats(_own(document, "repeats"), len(awaits)),
        _blocks(_own(document, "blocks"), strings, limits),
        tracks,
        _slices(_own(document, "slices"), strings, len(tracks), nodes),
    )


def _numbers(records: list[Any], names: tuple[str, ...]) -> dict[str, list[int]]:
    return {name: [getattr(record, name) for record in records] for name in names}


def _own(document: dict[str, Any], key: str) -> dict[str, Any] | None:
    return table_at(document, key) if key in document else None


def _awaits(
    columns: dict[str, Any] | None, strings: list[str], groups: int, nodes: int
) -> list[AwaitStats]:
    if columns is None:
        return []
    found = rows(
        "awaits",
        ints(columns, "group", high=groups - 1),
        ints(columns, "stack", low=-1, high=nodes - 1),
        texts(columns, "awaited", strings),
        texts(columns, "bridge", strings),
        *(ints(columns, name) for name in _AWAIT_NUMBERS),
    )
    return [AwaitStats(*row) for row in found]


def _add_durations(columns: dict[str, Any], awaits: list[AwaitStats]) -> None:
    found = rows(
        "await_durations",
        ints(columns, "site", high=len(awaits) - 1),
        ints(columns, "bucket", high=MAX_BUCKET),
        ints(columns, "count"),
    )
    for site, bucket, count in found:
        durations = awaits[site].durations
        if bucket in durations:
            raise BadDataError("await_durations.bucket")
        durations[bucket] = count


def _repeats(columns: dict[str, Any] | None, awaits: int) -> list[Repeat]:
    if columns is None:
        return []
    found = rows(
        "repeats",
        ints(columns, "site", high=awaits - 1),
        *(ints(columns, name) for name in _REPEAT_NUMBERS),
    )
    return [Repeat(*row) for row in found]


def _blocks(
    columns: dict[str, Any] | None, strings: list[str], limits: tuple[int, int, int]
) -> list[Block]:
    if columns is None:
        return []
    groups, threads, nodes = limits
    found = rows(
        "blocks",
        ints(columns, "group", high=groups - 1),
        ints(columns, "thread", high=threads - 1),
        ints(columns, "stack", low=-1, high=nodes - 1),
        *(ints(columns, name) for name in _BLOCK_NUMBERS),
        texts(columns, "loop", strings),
    )
    return [Block(*row) for row in found]


def _tracks(
    columns: dict[str, Any] | None, strings: list[str], groups: int, threads: int
) -> list[Track]:
    if columns is None:
        return []
    found = rows(
        "tracks",
        texts(columns, "name", strings),
        ints(columns, "group", high=groups - 1),
        ints(columns, "thread", high=threads - 1),
    )
    return [Track(*row) for row in found]


def _slices(
    columns: dict[str, Any] | None, strings: list[str], tracks: int, nodes: int
) -> list[Slice]:
    if columns is None:
        return []
    known = {kind.value: kind for kind in SliceKind}
    # A kind that a newer version added is nothing that this one could show.
    kinds = [known.get(text) for text in texts(columns, "kind", strings)]
    found = rows(
        "slices",
        ints(columns, "track", high=tracks - 1),
        kinds,
        ints(columns, "start_ns"),
        ints(columns, "duration_ns"),
        ints(columns, "stack", low=-1, high=nodes - 1),
        texts(columns, "name", strings),
        ints(columns, "flow"),
    )
    slices = [Slice(*row) for row in found if row[1] is not None]
    places = [(one.track, one.start_ns, -one.duration_ns) for one in slices]
    if any(one > other for one, other in itertools.pairwise(places)):
        raise BadDataError("slices: not in the order of their tracks and starts")
    return slices
