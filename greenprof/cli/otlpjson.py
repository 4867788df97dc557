"""Spans as OTLP's JSON, as collectors read it from files: one ExportTraceServiceRequest a line.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding says how it differs from protobuf's own
JSON: ids are hexadecimal, enumerations are numbers.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from greenprof.cli.wire import is_int64

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["request_line"]

Json = dict[str, Any]

# The parent's context is known to be a local or a remote one; it is remote.
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200


def request_line(spans: Iterable[ReadableSpan]) -> bytes:
    """The line, and its end, that holds these spans."""
    by_resource: dict[Any, dict[Any, list[Json]]] = {}
    for span in spans:
        scopes = by_resource.setdefault(span.resource, {})
        scopes.setdefault(span.instrumentation_scope, []).append(_span(span))
    request = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource.attributes)},
                "scopeSpans": [
                    {"scope": _scope(scope), "spans": made, **_schema(scope)}
                    for scope, made in scopes.items()
                ],
                **_schema(resource),
            }
            for resource, scopes in by_resource.items()
        ]
    }
    # ASCII, so that lone surrogates, which file names may have, are no obstacle.
    return json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"


def _scope(scope: Any) -> Json:
    if scope is None:
        return {}
    made = {"name": scope.name}
    if scope.version:
        made["version"] = scope.version
    if getattr(scope, "attributes", None):
        made["attributes"] = _attributes(scope.attributes)
    return made


def _schema(said: Any) -> Json:
    url = getattr(said, "schema_url", None)
    return {"schemaUrl": url} if url else {}


def _span(span: ReadableSpan) -> Json:
    made = {
        **_ids(span.get_span_context()),
        "name": span.name,
        "kind": span.kind.value + 1,  # 0 is UNSPECIFIED there
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes),
        "status": _status(span.status),
        "flags": _flags(span.parent),
    }
    if span.parent is not None:
        made["parentSpanId"] = span.parent.span_id.to_bytes(8, "big").hex()
    if span.events:
        made["events"] = [
            {
                "timeUnixNano": str(event.timestamp),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.links:
        made["links"] = [
            {
                **_ids(link.context),
                "attributes": _attributes(link.attributes),
                "flags": _flags(link.context),
            }
            for link in span.links
        ]
    for key in ("attributes", "events", "links"):
        if lost := getattr(span, f"dropped_{key}", 0):
            made[f"dropped{key.capitalize()}Count"] = lost
    return made


def _ids(context: Any) -> Json:
    # Bytes, for which an id may be too large, as it is for whoever reads the line.
    made = {
        "traceId": context.trace_id.to_bytes(16, "big").hex(),
        "spanId": context.span_id.to_bytes(8, "big").hex(),
    }
    if context.trace_state:
        made["traceState"] = context.trace_state.to_header()
    return made


def _flags(context: Any) -> int:
    return HAS_IS_REMOTE | (IS_REMOTE if context is not None and context.is_remote else 0)


def _status(status: Any) -> Json:
    if status is None or not status.status_code.value:
        return {}
    made = {"code": status.status_code.value}
    return {**made, "message": status.description} if status.description else made


def _attributes(attributes: Mapping[str, Any] | None) -> list[Json]:
    return [
        {"key": str(key), "value": _value(value)} for key, value in dict(attributes or {}).items()
    ]


def _value(value: Any) -> Json:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue" if is_int64(value) else "stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def _not_finite(value: float) -> str:
    """By protobuf's rules: JSON has no such numbers."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
