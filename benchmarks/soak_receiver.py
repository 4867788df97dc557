"""Counts the spans that it gets by OTLP over gRPC: `python -m benchmarks.soak_receiver` says its port, and, once
standard input ends, how many there were.
"""

from __future__ import annotations

import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Counting(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans = 0

    def Export(  # noqa: N802  # gRPC calls it so
        self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.spans += sum(
            len(of_scope.spans)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
        )
        return ExportTraceServiceResponse()


def main() -> None:
    counting = Counting()
    # One thread: the count needs no lock.
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(counting, server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)
    print(counting.spans, flush=True)


if __name__ == "__main__":
    main()
