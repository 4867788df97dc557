"""The `.gprof` file format: a magic, a version, and the profile as zlib-compressed JSON columns.

    bytes 0-7    magic  89 47 50 52 4F 46 0D 0A   (a transfer that changes line ends breaks it)
    bytes 8-9    major version, big endian        (a reader refuses a newer one)
    bytes 10-11  minor version, big endian        (a reader ignores what a newer one added)
    bytes 12-    zlib stream of one JSON object

An autosave may go on with later parts, each like a file of its own: samples and tasks that came since
add up, and of everything else the last part has it all. The last one may be cut short.

A minor version may add members, kinds and origins; a new state or a changed meaning is a major one.
Times are integer nanoseconds. Names are stored once, in `strings`; the other tables point there.
1.1 added `spans`, `span_samples` and `info.profile_id`. 1.2 added `awaits`, `await_durations`,
`repeats`, `blocks`, `tracks`, `slices`, and to `info` what the exact engine measured and its bounds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

from greenprof.columns import BadDataError, ints, list_at, members, rows, table_at, texts
from greenprof.errors import ProfileFileError
from greenprof.event_columns import event_columns, events_in
from greenprof.events import Events
from greenprof.model import (
    MAX_NUMBER,
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    ProfileInfo,
    Repeat,
    Sample,
    Slice,
    SpanRef,
    SpanSample,
    State,
    TaskGroup,
    Track,
)

__all__ = [
    "MAGIC",
    "MAJOR",
    "MAX_FILE_BYTES",
    "MAX_INFLATED_BYTES",
    "MAX_LATER_PARTS",
    "MINOR",
    "Tables",
    "decode",
    "encode",
]

MAGIC: Final = b"\x89GPROF\r\n"
MAJOR: Final = 1
MINOR: Final = 2
MAX_INFLATED_BYTES: Final = 128 << 20
"""A few kilobytes can inflate to gigabytes; no profile within greenprof's caps comes near this."""
MAX_FILE_BYTES: Final = MAX_INFLATED_BYTES + (1 << 20)
"""Of the file itself: what is stored uncompressed is a little longer."""
MAX_RATIO: Final = 100
"""How many bytes one byte may inflate to. Profiles have 5 to 30; zlib's most is some 1,000."""

MAX_LATER_PARTS: Final = 100
MAX_LATER_BYTES: Final = 32 << 20
"""All later parts together, inflated."""

_VERSION = struct.Struct(">HH")
_HEADER_SIZE = len(MAGIC) + _VERSION.size
# So much may come of any file: small ones that repeat themselves are no danger.
_ANY_RATIO_BYTES = 8 << 20
_STEP_BYTES = 1 << 20
_STORED = 0
# What json makes of so many values takes a fraction of a millisecond.
_PIECE_VALUES = 2_000
# JSON's brackets and quotes become Python objects of some 60 bytes each, its numbers of some 40: a
# bound on what a hostile file can make of its inflated bytes.
_MAX_TOKENS = 8_000_000
_MAX_VALUES = 24_000_000

_ID_PATTERNS: Final = {
    "trace_id": re.compile("[0-9a-f]{32}"),
    "span_id": re.compile("[0-9a-f]{16}"),
}

# What later minor versions added to `info`.
_LATER_INFO: Final = frozenset(
    {
        "profile_id",
        "engine",
        "clock",
        "block_limit_ns",
        "repeat_min",
        "lost_awaits",
        "lost_slices",
    }
)


class Tables(NamedTuple):
    """What is in a file."""

    info: ProfileInfo
    frames: list[Frame]
    nodes: list[tuple[int, int]]
    groups: list[TaskGroup]
    threads: list[str]
    samples: list[Sample]
    spans: list[SpanRef]
    span_samples: list[SpanSample]
    awaits: list[AwaitStats]
    repeats: list[Repeat]
    blocks: list[Block]
    tracks: list[Track]
    slices: list[Slice]


def encode(tables: Tables, pause: Callable[[], None] | None = None) -> bytes:
    """Return the tables as the bytes of a `.gprof` file. Raises ProfileFileError if too large.

    `pause` is called every millisecond or so, or every few where the interpreter lock is not held.
    """
    strings: dict[str, int] = {}

    def text(value: str) -> int:
        return strings.setdefault(value, len(strings))

    events = Events(tables.awaits, tables.repeats, tables.blocks, tables.tracks, tables.slices)
    document = {
        "info": dataclasses.asdict(tables.info),
        "frames": {
            "name": [text(frame.name) for frame in tables.frames],
            "path": [text(frame.path) for frame in tables.frames],
            "module": [text(frame.module) for frame in tables.frames],
            "kind": [text(frame.kind) for frame in tables.frames],
            "origin": [text(frame.origin) for frame in tables.frames],
            "line": [frame.line for frame in tables.frames],
            "first_line": [frame.first_line for frame in tables.frames],
            "crosses": [int(frame.crosses) for frame in tables.frames],
        },
        "nodes": {
            "parent": [parent for parent, _ in tables.nodes],
            "frame": [frame for _, frame in tables.nodes],
        },
        "groups": {
            "name": [text(group.name) for group in tables.groups],
            "kind": [text(group.kind) for group in tables.groups],
            "count": [group.count for group in tables.groups],
        },
        "threads": [text(thread) for thread in tables.threads],
        "samples": {
            "group": [sample.group for sample in tables.samples],
            "thread": [sample.thread for sample in tables.samples],
            "stack": [sample.stack for sample in tables.samples],
            "state": [text(sample.state) for sample in tables.samples],
            "count": [sample.count for sample in tables.samples],
            "wall_ns": [sample.wall_ns for sample in tables.samples],
            "cpu_ns": [sample.cpu_ns for sample in tables.samples],
        },
        "spans": {
            "trace_id": [text(span.trace_id) for span in tables.spans],
            "span_id": [text(span.span_id) for span in tables.spans],
        },
        "span_samples": {
            "span": [part.span for part in tables.span_samples],
            "sample": [part.sample for part in tables.span_samples],
            "count": [part.count for part in tables.span_samples],
            "wall_ns": [part.wall_ns for part in tables.span_samples],
            "cpu_ns": [part.cpu_ns for part in tables.span_samples],
        },
        **event_columns(events, text),
        "strings": list(strings),
    }
    payload = _paced(_json_of(document), pause)
    if len(payload) > MAX_INFLATED_BYTES or _has_too_many_values(payload):
        raise ProfileFileError(
            f"this profile is too large to save ({len(payload) >> 20} MiB, the limit is "
            f"{MAX_INFLATED_BYTES >> 20} MiB and {_MAX_VALUES // 1_000_000} million values); "
            "record a shorter time, or merge fewer profiles"
        )
    packed = _paced(_packed(payload), pause)
    if _inflates_absurdly(len(payload), len(packed)):
        packed = zlib.compress(payload, _STORED)
    return MAGIC + _VERSION.pack(MAJOR, MINOR) + packed


def _paced(pieces: Iterable[bytes], pause: Callable[[], None] | None) -> bytes:
    if pause is None:
        return b"".join(pieces)
    made = []
    for piece in pieces:
        made.append(piece)
        pause()
    return b"".join(made)


def _json_of(value: Any) -> Iterator[bytes]:
    """JSON in pieces: making it holds the interpreter lock, which others wait for."""
    if isinstance(value, dict):
        before = "{"
        for name, member in value.items():
            yield f"{before}{json.dumps(name)}:".encode("ascii")
            yield from _json_of(member)
            before = ","
        yield b"}"
    elif isinstance(value, list) and len(value) > _PIECE_VALUES:
        for start in range(0, len(value), _PIECE_VALUES):
            text = json.dumps(value[start : start + _PIECE_VALUES], separators=(",", ":"))
            yield f"{',' if start else '['}{text[1:-1]}".encode("ascii")
        yield b"]"
    else:
        yield json.dumps(value, separators=(",", ":")).encode("ascii")


def _packed(payload: bytes) -> Iterator[bytes]:
    stream, rest = zlib.compressobj(), memoryview(payload)
    for start in range(0, len(rest), _STEP_BYTES):
        yield stream.compress(rest[start : start + _STEP_BYTES])
    yield stream.flush()


def decode(data: bytes, source: str) -> list[Tables]:
    """Return the tables in the bytes of a `.gprof` file: those of its parts, mostly one.

    `source` is what error messages call it. Every index of the result is within its table, and no
    number is negative. Raises ProfileFileError for anything else; but a later part that is cut short
    is left out.
    """
    if not data:
        raise ProfileFileError(f"{source} is empty; record the profile again")
    rest, later_bytes = memoryview(data), 0
    parts: list[Tables] = []
    while rest:
        try:
            payload, unused = _inflate(
                rest, source, MAX_LATER_BYTES - later_bytes if parts else MAX_INFLATED_BYTES
            )
        except _CutShortError:
            if not parts:
                raise
            break
        if parts:
            later_bytes += len(payload)
        rest = rest[len(rest) - unused :]
        if rest and (not _begins_file(rest) or len(parts) == MAX_LATER_PARTS):
            raise ProfileFileError(
                f"{source} is damaged ({unused} bytes after its end); copy or record it again"
            )
        try:
            parts.append(_tables(_parse(payload)))
        except (BadDataError, ValueError, RecursionError) as error:
            raise ProfileFileError(
                f"{source} is damaged ({_short(error)}); copy or record it again"
            ) from None
    return parts


class _CutShortError(ProfileFileError):
    pass


def _cut(source: str) -> ProfileFileError:
    return _CutShortError(f"{source} is cut short; copy or record it again")


def _begins_file(data: memoryview) -> bool:
    return bytes(data[: len(MAGIC)]) == MAGIC[: len(data)]


def _short(error: Exception) -> str:
    if isinstance(error, BadDataError):
        return str(error)
    return "too deeply nested" if isinstance(error, RecursionError) else "no JSON inside"


def _check_header(data: memoryview, source: str) -> None:
    if not _begins_file(data):
        raise ProfileFileError(f"{source} is not a greenprof profile; give a .gprof file")
    if len(data) < _HEADER_SIZE:
        raise _cut(source)
    major, minor = _VERSION.unpack_from(data, len(MAGIC))
    if major > MAJOR:
        raise ProfileFileError(
            f"{source} has format {major}.{minor} and this greenprof reads up to {MAJOR}.x; "
            "open it with a newer greenprof"
        )
    if major < 1:
        raise ProfileFileError(
            f"{source} is damaged (format {major}.{minor}); copy or record it again"
        )


def _inflate(data: memoryview, source: str, most_bytes: int) -> tuple[bytes, int]:
    """Inflate a part's inside step by step, and no further than a profile goes.

    Returns it, and how many bytes come after the part.
    """
    _check_header(data, source)
    stream = zlib.decompressobj()
    packed = data[_HEADER_SIZE:]
    steps: list[bytes] = []
    inflated = fed = 0
    rest = b""
    while not stream.eof:
        # Not all of it at once: each step would copy what is left for the next one.
        piece = rest or packed[fed : fed + _STEP_BYTES]
        fed += 0 if rest else len(piece)
        try:
            step = stream.decompress(piece, _STEP_BYTES)
        except zlib.error:
            raise ProfileFileError(
                f"{source} is damaged (its compressed data do not decompress); "
                "copy or record it again"
            ) from None
        if not piece and not step:
            raise _cut(source)
        rest = stream.unconsumed_tail
        steps.append(step)
        inflated += len(step)
        if inflated > most_bytes:
            raise _absurd(source, f"to more than {MAX_INFLATED_BYTES >> 20} MiB")
        if _inflates_absurdly(inflated, len(packed)):
            raise _absurd(source, f"to more than {MAX_RATIO} times its size")
    return b"".join(steps), len(stream.unused_data) + len(packed) - fed


def _absurd(source: str, what: str) -> ProfileFileError:
    return ProfileFileError(f"{source} inflates {what}, which no profile does; do not trust it")


def _inflates_absurdly(inflated: int, compressed: int) -> bool:
    return inflated > _ANY_RATIO_BYTES and inflated > compressed * MAX_RATIO


def _has_too_many_values(payload: bytes) -> bool:
    tokens = sum(payload.count(token) for token in (b"[", b"{", b'"'))
    return tokens > _MAX_TOKENS or payload.count(b",") > _MAX_VALUES


def _parse(payload: bytes) -> dict[str, Any]:
    if _has_too_many_values(payload):
        raise BadDataError("too many values")

    def refuse(constant: str) -> NoReturn:
        raise BadDataError(f"{constant} as a number")

    document = json.loads(payload, parse_constant=refuse)
    if not isinstance(document, dict):
        raise BadDataError("no object inside")
    return document


def _tables(document: dict[str, Any]) -> Tables:
    strings = list_at(document, "strings", "")
    if not set(map(type, strings)) <= {str}:
        raise BadDataError("strings")
    info = _info(table_at(document, "info"))
    frames = _frames(table_at(document, "frames"), strings)
    nodes = _nodes(table_at(document, "nodes"), len(frames))
    groups = _groups(table_at(document, "groups"), strings)
    threads = texts(document, "threads", strings)
    limits = (len(groups), len(threads), len(nodes))
    samples = _samples(table_at(document, "samples"), strings, limits)
    # Members that a later minor version added are not in older files.
    spans = _spans(table_at(document, "spans"), strings) if "spans" in document else []
    parts: list[SpanSample] = []
    if "span_samples" in document:
        parts = _span_samples(table_at(document, "span_samples"), len(spans), len(samples))
    events = events_in(document, strings, limits)
    return Tables(info, frames, nodes, groups, threads, samples, spans, parts, *events)


def _info(table: dict[str, Any]) -> ProfileInfo:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(ProfileInfo):
        if field.name in _LATER_INFO and field.name not in table:
            continue
        value: Any = table.get(field.name)
        if field.name == "pids":
            good = isinstance(value, list) and all(
                type(pid) is int and 0 <= pid <= MAX_NUMBER for pid in value
            )
        elif field.name == "warnings":
            good = isinstance(value, list) and all(type(text) is str for text in value)
        elif field.type == "str":
            good = type(value) is str
        elif field.type == "float":
            good = type(value) in (int, float) and 0 <= value <= MAX_NUMBER and math.isfinite(value)
        else:
            good = type(value) is int and 0 <= value <= MAX_NUMBER
        if not good:
            raise BadDataError(f"info.{field.name}")
        values[field.name] = float(value) if field.type == "float" else value
    return ProfileInfo(**values)


def _frames(table: dict[str, Any], strings: list[str]) -> list[Frame]:
    columns = (
        texts(table, "name", strings),
        texts(table, "path", strings),
        ints(table, "line"),
        ints(table, "first_line"),
        members(FrameKind, texts(table, "kind", strings), FrameKind.PYTHON),
        members(FrameOrigin, texts(table, "origin", strings), FrameOrigin.LIBRARY),
        texts(table, "module", strings),
        map(bool, ints(table, "crosses", high=1)),
    )
    return [Frame(*row) for row in rows("frames", *columns)]


def _nodes(table: dict[str, Any], frames: int) -> list[tuple[int, int]]:
    parents = ints(table, "parent", low=-1)
    nodes: list[tuple[int, int]] = list(
        rows("nodes", parents, ints(table, "frame", high=frames - 1))
    )
    if any(parent >= index for index, parent in enumerate(parents)):
        raise BadDataError("nodes.parent")
    return nodes


def _groups(table: dict[str, Any], strings: list[str]) -> list[TaskGroup]:
    names, kinds = texts(table, "name", strings), texts(table, "kind", strings)
    return [TaskGroup(*row) for row in rows("groups", names, kinds, ints(table, "count"))]


def _samples(
    table: dict[str, Any], strings: list[str], limits: tuple[int, int, int]
) -> list[Sample]:
    groups, threads, nodes = limits
    try:
        states = [State(text) for text in texts(table, "state", strings)]
    except ValueError:
        raise BadDataError("samples.state") from None
    columns = (
        ints(table, "group", high=groups - 1),
        ints(table, "thread", high=threads - 1),
        ints(table, "stack", low=-1, high=nodes - 1),
        states,
        ints(table, "count"),
        ints(table, "wall_ns"),
        ints(table, "cpu_ns"),
    )
    return [Sample(*row) for row in rows("samples", *columns)]


def _spans(table: dict[str, Any], strings: list[str]) -> list[SpanRef]:
    columns = []
    for key, pattern in _ID_PATTERNS.items():
        ids = texts(table, key, strings)
        if not all(map(pattern.fullmatch, ids)):
            raise BadDataError(f"spans.{key}")
        columns.append(ids)
    return [SpanRef(*row) for row in rows("spans", *columns)]


def _span_samples(table: dict[str, Any], spans: int, samples: int) -> list[SpanSample]:
    columns = (
        ints(table, "span", high=spans - 1),
        ints(table, "sample", high=samples - 1),
        ints(table, "count"),
        ints(table, "wall_ns"),
        ints(table, "cpu_ns"),
    )
    return [SpanSample(*row) for row in rows("span_samples", *columns)]
