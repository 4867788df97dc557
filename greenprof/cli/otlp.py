"""Where `--otlp` sends spans, and by which protocol: as it was typed, else as the OTEL_ variables say."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from greenprof.errors import OutputError
from greenprof.printable import printable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Destination", "find_destination", "is_endpoint", "sends_to"]

GRPC, HTTP = "grpc", "http/protobuf"
DEFAULTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318/v1/traces"}
# The two doors of one collector, by OpenTelemetry's defaults.
USUAL_PORTS = frozenset({4317, 4318})
TRACES_PATH = "v1/traces"
EXPORTERS = {
    GRPC: "opentelemetry.exporter.otlp.proto.grpc",
    HTTP: "opentelemetry.exporter.otlp.proto.http",
}
HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d+")


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver of OTLP."""

    protocol: str
    endpoint: str

    @property
    def shown(self) -> str:
        """The endpoint without a password that may be in it."""
        parts = _split(self.endpoint)
        return printable(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())

    def exporter(self) -> SpanExporter:
        """OpenTelemetry's exporter for it, which reads headers, certificates and so on from OTEL_ variables.

        It imports, logs and starts what no profiled program should find in its process.
        """
        if self.protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

            return grpc.OTLPSpanExporter(endpoint=self.endpoint)
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        return http.OTLPSpanExporter(endpoint=self.endpoint)


def is_endpoint(word: str) -> bool:
    """Whether the word after `--otlp` is an endpoint; a program's name otherwise."""
    return "://" in word or HOST_AND_PORT.fullmatch(word) is not None


def find_destination(typed: str) -> Destination:
    """The destination that was typed, or else the one of the environment; `typed` may be empty.

    Raises OutputError where it makes no sense, or where the exporter for it is not installed.
    """
    if typed and "://" not in typed:
        typed = f"http://{typed}"
    of_traces = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    of_all = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    given = typed or of_traces or of_all
    parts = _split(given)
    if typed and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise OutputError(
            f"cannot send spans to '{printable(typed)}': give a URL, such as http://localhost:4318"
        )
    if given and not _has_good_port(parts):
        raise OutputError(
            f"cannot send spans to '{Destination(HTTP, given).shown}': give a port from 1 to 65535"
        )
    protocol = _protocol(_port(parts))
    if not given:
        endpoint = DEFAULTS[protocol]
    elif protocol == HTTP and given != of_traces and not parts.path.endswith(TRACES_PATH):
        endpoint = parts._replace(path=f"{parts.path.rstrip('/')}/{TRACES_PATH}").geturl()
    else:
        endpoint = given
    _check_installed(protocol)
    return Destination(protocol, endpoint)


def _protocol(port: int | None) -> str:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        value = os.environ.get(name, "").strip()
        if value in EXPORTERS:
            return value
        if value:
            raise OutputError(
                f"{name} is '{printable(value)}': greenprof sends spans by {GRPC} or {HTTP}"
            )
    return GRPC if port == 4317 else HTTP


def _check_installed(protocol: str) -> None:
    try:
        found = importlib.util.find_spec(EXPORTERS[protocol]) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise OutputError(
            f"--otlp needs OpenTelemetry's exporter for {protocol}: pip install 'greenprof[otlp]'"
        )


def sends_to(provider: Any, destination: Destination) -> bool:
    """Whether a tracer provider of the SDK has an OTLP exporter of its own for that destination.

    One that sends to the same host by the other of the two usual ports is taken for one that does.
    """
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    wanted = _place(destination.endpoint)
    for processor in processors:
        exporter = getattr(processor, "span_exporter", None)
        endpoint = getattr(exporter, "_endpoint", None)
        if not isinstance(endpoint, str) or ".otlp." not in type(exporter).__module__:
            continue
        found = _place(endpoint)
        if found == wanted:
            return True
        if found[0] == wanted[0] and {found[1], wanted[1]} <= USUAL_PORTS:
            return True
    return False


def _place(endpoint: str) -> tuple[str, int]:
    parts = _split(endpoint)
    host = parts.hostname or ""
    port = _port(parts) or (443 if parts.scheme == "https" else 80)
    return ("localhost" if host in {"127.0.0.1", "::1"} else host), port


def _split(endpoint: str) -> SplitResult:
    try:
        return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    except ValueError:  # brackets of an address that is none
        return SplitResult("", "", "", "", "")


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None
