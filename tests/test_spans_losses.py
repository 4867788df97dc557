"""Callables, processors and exporters that fail, and limits: the program goes on, and what is lost is counted."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from sqlalchemy.util import greenlet_spawn

import greenprof
from tests import span_trees
from tests.span_trees import Spans, attributes_of
from tests.sqlalchemy_programs import await_

spans = span_trees.spans
direct = span_trees.direct


async def leaf() -> None:
    await asyncio.sleep(0)


class OrderError(Exception):
    """Of the program's own."""


def test_callables_that_fail(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """The span goes out without what they would have said; the log says so, once."""

    def fails(_: greenprof.AwaitInfo) -> Any:
        raise OrderError

    with caplog.at_level(logging.WARNING, "greenprof"), spans.trace(name=fails, attributes=fails):
        asyncio.run(greenlet_spawn(lambda: (await_(leaf()), await_(leaf()))))
    assert spans.lines() == ["await leaf", "await leaf"]
    assert len(caplog.records) <= 2


def test_callables_that_name_and_describe(spans: Spans) -> None:
    seen: list[greenprof.AwaitInfo] = []

    def name(info: greenprof.AwaitInfo) -> str:
        return info.awaited.rpartition(".")[2].upper()

    def attributes(info: greenprof.AwaitInfo) -> dict[str, Any]:
        seen.append(info)
        return {"app.tenant": "acme"}

    with spans.trace(name=name, attributes=attributes):
        asyncio.run(greenlet_spawn(lambda: await_(leaf())))
    (span,) = spans.awaits()
    assert span.name == "LEAF"
    assert attributes_of(span)["app.tenant"] == "acme"
    (info,) = seen
    assert (info.bridge, info.outcome, info.error) == ("sqlalchemy", "returned", None)
    assert info.path == __file__
    assert 0 < info.duration < 10


class FailingProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise OrderError


def test_a_processor_that_raises(direct: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """The program does not notice; the loss is counted."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FailingProcessor())
    with caplog.at_level(logging.CRITICAL), greenprof.trace(provider) as tracing:
        asyncio.run(greenlet_spawn(lambda: [await_(leaf()) for _ in range(3)]))
    assert tracing.counts.recorded == 0
    assert tracing.counts.dropped == {"error": 3}


class SlowExporter(SpanExporter):
    """A collector that does not answer, until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.exported = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.go_on.wait(60)
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


def test_a_collector_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The program goes on at its own pace; every span is either exported or counted as dropped."""
    exporter = SlowExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(
        exporter, max_queue_size=64, max_export_batch_size=16, schedule_delay_millis=10
    )
    provider.add_span_processor(processor)

    def sync() -> None:
        for _ in range(1000):
            await_(leaf())

    try:
        with greenprof.trace(provider) as tracing:
            asyncio.run(greenlet_spawn(sync))
        assert not exporter.go_on.is_set()
        counts = tracing.counts
    finally:
        exporter.go_on.set()
        provider.shutdown()
    assert counts.awaits == 1000
    assert counts.recorded + counts.dropped["queue full"] == 1000
    assert 64 <= counts.recorded <= 64 + 2 * 16
    assert exporter.exported == counts.recorded
    span_trees.nothing_left()


def test_a_limit_on_spans_a_second(direct: Spans) -> None:
    """What is over is counted; a span that has a child goes out in any case."""

    async def queries() -> None:
        with direct.span("driver"):
            await asyncio.sleep(0)

    def sync() -> None:
        for _ in range(500):
            await_(leaf())
        await_(queries())

    with direct.trace(max_spans_per_second=5) as tracing:
        asyncio.run(greenlet_spawn(sync))
    counts = tracing.counts
    assert counts.awaits == 501
    assert counts.recorded + counts.dropped["rate limit"] == 501
    assert counts.recorded < 100
    assert direct.lines()[-2:] == ["await queries", "  driver"]
