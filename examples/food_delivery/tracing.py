"""Spans of the whole service, of requests, views and what they await: into a file, or to a collector."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

import greenprof

COLLECTOR = "otlp"
ORDER = "POST /customers/<int:customer_id>/orders/"


@contextmanager
def traced(target: str) -> Iterator[None]:
    """Traces for as long as the context lasts, into a file (one span a line, JSON) or to a collector.

    At the end a request's tree is printed from the file: the order that took longest.
    """
    name = os.environ.get("OTEL_SERVICE_NAME", "food-delivery")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    with ExitStack() as stack:
        exporter: SpanExporter
        if target == COLLECTOR:
            exporter = otlp_exporter()
        else:
            file = stack.enter_context(open(target, "w", encoding="utf-8"))
            exporter = ConsoleSpanExporter(out=file, formatter=line)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        try:
            with greenprof.trace() as tracing:
                yield
        finally:
            provider.shutdown()  # sends what is left
    counts = tracing.counts
    print(f"{counts.recorded} of {counts.awaits} awaits recorded, dropped: {counts.dropped}")
    if target != COLLECTOR:
        with open(target, encoding="utf-8") as written:
            for text in slowest([json.loads(span) for span in written]):
                print(text)


def otlp_exporter() -> SpanExporter:
    """Sends to where the OTEL_EXPORTER_OTLP_ variables say, by the protocol that they name."""
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc

        return by_grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http

    return by_http.OTLPSpanExporter()


def line(span: Any) -> str:
    return str(span.to_json(indent=None)) + "\n"


def slowest(spans: list[dict[str, Any]], name: str = ORDER) -> Iterator[str]:
    """The longest of the requests with that name, as a tree of its spans, a line for each."""
    children = defaultdict(list)
    for span in spans:
        children[span["parent_id"]].append(span)
    requests = [span for span in spans if span["name"] == name]
    if not requests:
        return
    levels = [(max(requests, key=milliseconds), 0)]
    while levels:
        span, level = levels.pop()
        yield f"{milliseconds(span):9.1f} ms  {'  ' * level}{span['name']}"
        below = sorted(children[span["context"]["span_id"]], key=lambda child: child["start_time"])
        levels.extend((child, level + 1) for child in reversed(below))


def milliseconds(span: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(span[key]) for key in ("start_time", "end_time"))
    return (ended - began).total_seconds() * 1000
