"""Spans as they go from the profiled program to the process that gives them out: plain values, framed.

In the program this is the cost of a span that is exported: `marshal` takes a tenth of what JSON would.
Values that OTLP has no place for are made fit where they are read: one of them would make its receivers
reject all the spans that are sent or written with it.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Packer", "Unpacker", "is_int64"]

LENGTH = struct.Struct("!I")
MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
MAX_TIME_NS = (1 << 64) - 1
# What kinds of messages there are: a resource or a scope that later spans name by its number, a span, and
# that nothing is to be given out.
RESOURCE, SCOPE, SPAN, FORGET = range(4)


class Packer:
    """Turns spans into bytes. Not for several threads at once."""

    def __init__(self) -> None:
        # By identity, which is quicker than their hashes; kept, so that it stays theirs.
        self._known: dict[int, tuple[int, Any]] = {}

    def pack(self, span: ReadableSpan, outputs: tuple[str, ...]) -> bytes:
        """A span for the outputs of these names."""
        data = b""
        numbers = []
        for kind, what in ((RESOURCE, span.resource), (SCOPE, span.instrumentation_scope)):
            number, said = self._known.get(id(what), (-1, None))
            if number < 0:
                number, said = len(self._known), what
                self._known[id(what)] = number, said
                data += _framed((kind, number, *_described(what)))
            numbers.append(number)
        status = span.status
        parent = span.parent
        return data + _framed(
            (
                SPAN,
                outputs,
                *numbers,
                span.name,
                _context(span.context),
                None if parent is None else _context(parent),
                span.kind.value,
                span.start_time,
                span.end_time,
                dict(span.attributes or ()),
                [(each.name, each.timestamp, dict(each.attributes or ())) for each in span.events],
                [(_context(each.context), dict(each.attributes or ())) for each in span.links],
                (status.status_code.value, status.description),
            )
        )

    def forget(self) -> bytes:
        """That the program never began."""
        return _framed((FORGET,))


def _described(what: Any) -> tuple[Any, ...]:
    if what is None:
        return "", None, None, {}
    attributes = dict(getattr(what, "attributes", None) or ())
    return getattr(what, "name", ""), getattr(what, "version", None), what.schema_url, attributes


def _context(context: Any) -> tuple[Any, ...]:
    state = context.trace_state
    return (
        context.trace_id,
        context.span_id,
        context.is_remote,
        int(context.trace_flags),
        state.to_header() if state else "",
    )


def _framed(message: tuple[Any, ...]) -> bytes:
    try:
        data = marshal.dumps(message)
    except ValueError:  # a value of a class of somebody's own
        data = marshal.dumps(_plain(message))
    return LENGTH.pack(len(data)) + data


def _plain(value: Any) -> Any:
    if value is None or type(value) in {bool, int, float, str, bytes}:
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    kinds: tuple[Any, ...] = (str, bytes, bool, int, float)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return str(value)


def is_int64(value: int) -> bool:
    """Whether OTLP has the number as one; others go as text."""
    return MIN_INT <= value <= MAX_INT


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if is_int64(value) else str(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): _fit(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(each) for each in value]
    return value


def _text(text: str) -> str:
    """Without lone surrogates, which file names may have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _time_ns(value: Any) -> int:
    try:
        return min(max(int(value), 0), MAX_TIME_NS)
    except (TypeError, ValueError, OverflowError):
        return 0


class Unpacker:
    """Turns bytes back into spans, however they are cut; what these hold is fit for OTLP."""

    def __init__(self) -> None:
        self._rest = b""
        self._known: dict[int, Any] = {}
        self.forgotten = False

    def unpack(self, data: bytes) -> Iterator[tuple[ReadableSpan, tuple[str, ...]]]:
        """The spans that are complete by now, each with the names of the outputs it is for."""
        data = self._rest + data
        start = 0
        while len(data) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, start)
            end = start + LENGTH.size + length
            if end > len(data):
                break
            kind, *said = marshal.loads(data[start + LENGTH.size : end])  # noqa: S302  # our own
            start = end
            if kind == SPAN:
                outputs, *rest = said
                yield self._span(*rest), tuple(outputs)
            elif kind == FORGET:
                self.forgotten = True
            else:
                self._define(kind, *said)
        self._rest = data[start:]

    def _define(
        self,
        kind: int,
        number: int,
        name: str,
        version: str | None,
        url: str | None,
        attributes: Any,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        if kind == RESOURCE:
            self._known[number] = Resource(_fit(attributes), url)
        else:
            self._known[number] = InstrumentationScope(
                _fit(name), _fit(version), url, _fit(attributes)
            )

    def _span(
        self,
        resource: int,
        scope: int,
        name: str,
        context: Any,
        parent: Any,
        kind: int,
        start_ns: int,
        end_ns: int,
        attributes: Any,
        events: Any,
        links: Any,
        status: Any,
    ) -> ReadableSpan:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import Link, SpanKind, Status, StatusCode

        code, description = status
        return ReadableSpan(
            _text(str(name)),
            _read_context(*context),
            None if parent is None else _read_context(*parent),
            # What a signal's handler raised may have stopped its message, long ago.
            self._known.get(resource) or Resource({}),
            _fit(attributes),
            [
                Event(_text(str(said)), _fit(fields), _time_ns(when))
                for said, when, fields in events
            ],
            [Link(_read_context(*linked), _fit(fields)) for linked, fields in links],
            SpanKind(kind),
            None,
            Status(StatusCode(code), _fit(description)),
            _time_ns(start_ns),
            _time_ns(end_ns),
            self._known.get(scope),
        )


def _read_context(trace_id: int, span_id: int, is_remote: bool, flags: int, state: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    found = TraceState.from_header([state]) if state else None
    return SpanContext(trace_id, span_id, is_remote, TraceFlags(flags), found)
