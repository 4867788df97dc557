"""The parts of `greenprof run --otlp`: destinations, what the program sends itself, causes, the wire."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from greenprof.cli.causes import cause_in
from greenprof.cli.otlp import HTTP, Destination, find_destination, is_endpoint, sends_to
from greenprof.cli.otlpjson import request_line
from greenprof.cli.wire import Packer, Unpacker
from greenprof.errors import OutputError
from tests.otlp_receiver import requests_in, spans_of

VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
)


def test_words_that_are_endpoints() -> None:
    for word in (
        "http://h",
        "localhost:4317",
        "10.0.0.1:80",
        "[::1]:4318",
        "my-host.local:1",
        "h:123456",
    ):
        assert is_endpoint(word), word
    for word in ("app.py", "-m", "--", "a/b:c", "module:app", "host:", "C:\\app.py", ":4317"):
        assert not is_endpoint(word), word


@pytest.mark.parametrize(
    ("typed", "env", "expected"),
    [
        ("", {}, (HTTP, "http://localhost:4318/v1/traces")),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("grpc", "http://localhost:4317")),
        ("h:4317", {}, ("grpc", "http://h:4317")),
        ("h:4318", {}, (HTTP, "http://h:4318/v1/traces")),
        ("https://h/base/", {}, (HTTP, "https://h/base/v1/traces")),
        ("http://h:4318/v1/traces", {}, (HTTP, "http://h:4318/v1/traces")),
        ("h:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}, (HTTP, "http://h:4317/v1/traces")),
        (
            "h:1",
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": HTTP,
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            },
            ("grpc", "http://h:1"),
        ),
        (
            "",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:1/x"},
            (HTTP, "http://e:1/x/v1/traces"),
        ),
        (
            "",
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:1",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:2/own",
            },
            (HTTP, "http://t:2/own"),
        ),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:4317"}, ("grpc", "http://e:4317")),
        ("h:1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:2"}, (HTTP, "http://h:1/v1/traces")),
    ],
)
def test_the_destination(
    monkeypatch: pytest.MonkeyPatch, typed: str, env: dict[str, str], expected: tuple[str, str]
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert find_destination(typed) == Destination(*expected)


def test_a_password_is_not_shown() -> None:
    assert Destination(HTTP, "http://me:secret@h:1/x").shown == "http://h:1/x"


@pytest.mark.parametrize("typed", ["ftp://h", "http://", "http://[x", "://"])
def test_endpoints_that_make_no_sense(typed: str) -> None:
    with pytest.raises(OutputError, match="give a URL, such as"):
        find_destination(typed)


@pytest.mark.parametrize("typed", ["localhost:99999", "h:123456", "h:0", "http://h:x", "me:no@h:0"])
def test_ports_that_are_none(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    with pytest.raises(OutputError, match="give a port from 1 to 65535") as of_words:
        find_destination(typed)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", typed)
    with pytest.raises(OutputError, match="give a port from 1 to 65535"):
        find_destination("")
    assert "me:no" not in str(of_words.value)


def test_who_sends_where() -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    here = Destination(HTTP, "http://localhost:4318/v1/traces")
    assert not sends_to(provider, here)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint="http://127.0.0.1:4318/v1/traces"))
    )
    try:
        assert sends_to(provider, here)
        assert sends_to(provider, Destination("grpc", "http://localhost:4317"))
        assert not sends_to(provider, Destination(HTTP, "http://localhost:9999/v1/traces"))
        assert not sends_to(provider, Destination(HTTP, "http://elsewhere:4318/v1/traces"))
        assert not sends_to(object(), here)
    finally:
        provider.shutdown()


def test_causes() -> None:
    for message, cause in (
        ("... [Errno 111] Connection refused')) encountered", "Connection refused"),
        ("Failed to export traces to h:1, error code: StatusCode.UNIMPLEMENTED, error details: x", "UNIMPLEMENTED"),
        ("Failed to export spans batch code: 503, reason: Service Unavailable", "HTTP status 503"),
        ("Failed to export spans batch code: None, reason: Invalid URL 'x'", "Invalid URL 'x'"),
        ("[Errno -2] Name or service not known'", "Name or service not known"),
    ):  # fmt: skip
        assert cause_in(message) == cause
    assert len(cause_in("x" * 1000)) < 200


class Named(str):
    """A value of a class of the program's own."""

    __slots__ = ()


def test_spans_come_over_the_wire_as_they_are() -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("app", "1.0", "https://schema", {"scope": True})
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))
    with (
        tracer.start_as_current_span(
            "parent", kind=SpanKind.SERVER, links=[Link(remote, {"a": 1})]
        ),
        tracer.start_as_current_span("ä", attributes={"n": 2**60, "f": 1.5}) as span,
    ):
        span.set_attribute("list", [1, 2])
        span.set_attribute("own", Named("x"))
        span.add_event("happened", {"why": "not"}, 123)
        span.set_status(Status(StatusCode.ERROR, "broken"))
    kept = memory.get_finished_spans()
    packer, unpacker = Packer(), Unpacker()
    data = b"".join(packer.pack(span, ("one", "two")) for span in kept)
    pairs = [pair for byte in data for pair in unpacker.unpack(bytes([byte]))]
    assert [names for _, names in pairs] == [("one", "two")] * 2
    assert request_line(span for span, _ in pairs) == request_line(kept)


def test_values_that_otlp_has_no_place_for(tmp_path: Path) -> None:
    """Both ways of giving them out take them, and they say the same."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    numbers = (2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**70)
    with provider.get_tracer("app").start_as_current_span("\udcff", start_time=2**65) as span:
        for number in numbers:
            span.set_attribute(str(number), number)
        span.set_attribute("list", [2**70])
        span.set_attribute("\ud800", "\ud800")
        span.add_event("\ud801", {"n": 2**64}, -5)
        span.add_event("late", None, 2**64)
        span.add_event("broken", None, 1.5)  # type: ignore[arg-type]
        span.set_status(Status(StatusCode.ERROR, "\udcff"))
    packer, unpacker = Packer(), Unpacker()
    (made,) = memory.get_finished_spans()
    spans = [span for span, _ in unpacker.unpack(packer.pack(made, ("one",)))]
    (tmp_path / "s.jsonl").write_bytes(request_line(spans))
    (request,) = requests_in(tmp_path / "s.jsonl")
    assert request == encode_spans(spans)
    (received,) = spans_of(request)
    assert (received.name, received.span.status.message) == ("\\udcff", "\\udcff")
    assert [received.attributes[str(number)] for number in numbers] == [
        *numbers[:2],
        *map(str, numbers[2:]),
    ]
    assert received.attributes["list"] == [str(2**70)]
    assert received.attributes["\\ud800"] == "\\ud800"
    assert received.span.start_time_unix_nano == 2**64 - 1
    assert [event.time_unix_nano for event in received.span.events] == [0, 2**64 - 1, 1]


def test_numbers_of_more_than_64_bits_are_text_in_a_line(tmp_path: Path) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("app").start_span("big", attributes={"n": 2**63}).end()
    (tmp_path / "s.jsonl").write_bytes(request_line(memory.get_finished_spans()))
    (request,) = requests_in(tmp_path / "s.jsonl")
    assert spans_of(request)[0].attributes == {"n": str(2**63)}
