"""A small OTLP receiver on loopback: takes what exporters and collectors send, by either protocol.

It runs in a process of its own (`python -m tests.otlp_receiver`): gRPC leaves threads behind for good, which
tests that fork could not do with.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S = 20.0


@dataclass(frozen=True)
class Received:
    """A span as it arrived."""

    span: Span
    scope: str
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.span.attributes)


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: value_of(each.value) for each in attributes}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [value_of(each) for each in found.values]
    if kind == "kvlist_value":
        return {each.key: value_of(each.value) for each in found.values}
    return found


def spans_of(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(span, of_scope.scope.name, plain(of_resource.resource.attributes))
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def requests_in(path: Path) -> list[ExportTraceServiceRequest]:
    """A file of OTLP's JSON lines, read by protobuf's own rules but for the ids, which are hexadecimal."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        json_format.Parse(
            json.dumps(_with_base64_ids(json.loads(line))), ExportTraceServiceRequest()
        )
        for line in lines
    ]


def spans_in(path: Path) -> list[Received]:
    return [span for request in requests_in(path) for span in spans_of(request)]


def _with_base64_ids(made: Any) -> Any:
    if isinstance(made, list):
        return [_with_base64_ids(each) for each in made]
    if not isinstance(made, dict):
        return made
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode()
        if key in {"traceId", "spanId", "parentSpanId"}
        else _with_base64_ids(value)
        for key, value in made.items()
    }


@dataclass
class Receiver:
    """What has arrived so far."""

    http_port: int = 0
    grpc_port: int = 0
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def http_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    def take(self, lines: IO[str]) -> None:
        """Take what the process prints, until it ends."""
        for line in lines:
            said = json.loads(line)
            request = ExportTraceServiceRequest.FromString(base64.b64decode(said["request"]))
            with self.changed:
                self.spans.extend(spans_of(request))
                self.headers.append({key.lower(): value for key, value in said["headers"].items()})
                self.changed.notify_all()

    def wait_for(self, number: int, limit_s: float = WAIT_S) -> list[Received]:
        """The spans, once there are so many; fails where they do not come."""
        return self.wait_until(lambda spans: len(spans) >= number, limit_s)

    def wait_until(
        self, enough: Callable[[list[Received]], bool], limit_s: float = WAIT_S
    ) -> list[Received]:
        deadline = time.monotonic() + limit_s
        with self.changed:
            while not enough(self.spans):
                left = deadline - time.monotonic()
                assert left > 0, f"arrived within {limit_s} s: {[span.name for span in self.spans]}"
                self.changed.wait(left)
            return list(self.spans)


@contextlib.contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver on free ports, for as long as the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.otlp_receiver"],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        receiver = Receiver(**ports)
        reader = threading.Thread(target=receiver.take, args=(process.stdout,))
        reader.start()
        try:
            yield receiver
        finally:
            process.stdin.close()
            reader.join()


# From here on in the process.

_printing = threading.Lock()


def _tell(request: bytes, headers: dict[str, str]) -> None:
    said = {"request": base64.b64encode(request).decode(), "headers": headers}
    with _printing:
        print(json.dumps(said), flush=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        known = self.path == "/v1/traces"
        if known:
            _tell(data, dict(self.headers))
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: pytest shows what a test asserts."""


def _serve() -> None:
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

    class Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(  # noqa: N802  # gRPC calls it so
            self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
            _tell(request.SerializeToString(), metadata)
            return ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(Traces(), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(json.dumps({"http_port": http.server_port, "grpc_port": grpc_port}), flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    _serve()
