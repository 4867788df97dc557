"""Runs a program with `greenprof.trace()` on, as one that exports its spans has it: python under_trace.py MS SCRIPT ...

A provider of OpenTelemetry's SDK, a batch processor, and an exporter that throws away what it gets: what sending
costs depends on who receives.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import greenprof


class Discarding(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def main() -> None:
    shortest_ms, script, *rest = sys.argv[1:]
    sys.argv = [script, *rest]
    sys.path[0] = os.path.dirname(script)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discarding()))
    with greenprof.trace(provider, min_duration=float(shortest_ms) / 1000, stack="slow"):
        runpy.run_path(script, run_name="__main__")
    provider.shutdown()


if __name__ == "__main__":
    main()
