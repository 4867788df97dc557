"""Who records what is awaited: providers, samplers, and where a `trace` applies; over SQLAlchemy's bridge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from sqlalchemy.util import greenlet_spawn

import greenprof
from tests import span_trees
from tests.span_trees import Spans, attributes_of, short
from tests.sqlalchemy_programs import await_

spans = span_trees.spans
direct = span_trees.direct


def test_a_parent_that_is_not_sampled(spans: Spans) -> None:
    """Nothing of such a trace is recorded, and the driver below sees a parent that is not sampled."""
    unsampled = trace_api.NonRecordingSpan(
        trace_api.SpanContext(7, 8, True, trace_api.TraceFlags(0))
    )
    seen: list[trace_api.SpanContext] = []

    async def leaf() -> None:
        seen.append(trace_api.get_current_span().get_span_context())
        with spans.span("driver"):
            await asyncio.sleep(0)

    async def request() -> None:
        with trace_api.use_span(unsampled):
            await greenlet_spawn(lambda: await_(leaf()))

    with spans.trace():
        asyncio.run(request())
    assert spans.lines() == []
    assert [(one.trace_id, one.trace_flags.sampled) for one in seen] == [(7, False)]


@pytest.mark.parametrize(
    ("sampler", "recorded"),
    [
        (ALWAYS_ON, True),
        (ALWAYS_OFF, False),
        (ParentBased(ALWAYS_OFF), False),
        (TraceIdRatioBased(1.0), True),
        (TraceIdRatioBased(0.0), False),
        (ParentBased(TraceIdRatioBased(0.0)), False),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", span_trees.KINDS)
def test_samplers_decide(kind: str, sampler: Sampler, recorded: bool) -> None:
    spans = Spans(kind, sampler)

    async def leaf() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)

    with spans.trace():
        asyncio.run(greenlet_spawn(lambda: await_(leaf())))
    assert spans.lines() == (["await leaf", "  driver"] if recorded else [])
    span_trees.nothing_left()


class ByName(Sampler):
    """A sampler of somebody's own: it drops spans by name, and says something of the others."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, *_: Any, **__: Any
    ) -> SamplingResult:
        if name.endswith("health"):
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "name"})

    def get_description(self) -> str:
        return "by name"


@pytest.mark.parametrize("kind", span_trees.KINDS[:2])
def test_a_sampler_that_looks_at_names(kind: str) -> None:
    """It is asked by the name that the span will have, and what it says is on the span."""
    spans = Spans(kind, ByName())

    async def health() -> None:
        await asyncio.sleep(0)

    async def query() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)

    def sync() -> None:
        await_(health())
        await_(query())

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    assert spans.lines() == ["await query", "  driver"]
    assert attributes_of(spans.awaits()[0])["sampled.by"] == "name"
    span_trees.nothing_left()


def test_the_global_provider_counts_from_when_it_is_set(direct: Spans) -> None:
    """Nothing is recorded before, nothing is lost after, and greenprof never sets one itself."""
    before = trace_api._TRACER_PROVIDER
    once = trace_api._TRACER_PROVIDER_SET_ONCE

    async def leaf() -> None:
        await asyncio.sleep(0)

    try:
        trace_api._TRACER_PROVIDER = None
        with greenprof.trace() as tracing:
            asyncio.run(greenlet_spawn(lambda: await_(leaf())))
            assert trace_api._TRACER_PROVIDER is None
            assert tracing.counts.recorded == 0
            trace_api._TRACER_PROVIDER = direct.sdk
            asyncio.run(greenlet_spawn(lambda: await_(leaf())))
            assert tracing.counts.recorded == 1
    finally:
        trace_api._TRACER_PROVIDER = before
    assert trace_api._TRACER_PROVIDER_SET_ONCE is once
    assert direct.lines() == ["await leaf"]


def test_a_provider_that_is_asked_for_at_each_await(direct: Spans) -> None:
    """The command line's way: the provider may change while the program runs."""
    other = Spans()
    providers: list[TracerProvider | None] = [None, direct.sdk, other.sdk]

    async def leaf() -> None:
        await asyncio.sleep(0)

    with greenprof.trace(lambda: providers[0]):
        for _ in range(3):
            asyncio.run(greenlet_spawn(lambda: await_(leaf())))
            if len(providers) > 1:
                providers.pop(0)
    assert direct.lines() == ["await leaf"]
    assert other.lines() == ["await leaf"]


# Where tracing applies.


async def traced_leaf() -> None:
    await asyncio.sleep(0.001)


def traced_sync() -> None:
    await_(traced_leaf())


def test_scope_of_a_context(spans: Spans) -> None:
    """Awaits of the block's own context and of tasks that it starts; not those beside it."""
    first_is_open, second_is_over = asyncio.Event(), asyncio.Event()

    async def traced() -> None:
        with spans.span("traced"), spans.trace(scope="context"):
            await greenlet_spawn(traced_sync)
            first_is_open.set()
            await second_is_over.wait()
            await asyncio.create_task(greenlet_spawn(traced_sync))
        with spans.span("after"):
            await greenlet_spawn(traced_sync)

    async def not_traced() -> None:
        await first_is_open.wait()
        with spans.span("beside"):
            await greenlet_spawn(traced_sync)
        second_is_over.set()

    async def main() -> None:
        await asyncio.gather(traced(), not_traced())

    asyncio.run(main())
    assert sorted(spans.trees()) == [
        ("after",),
        ("beside",),
        ("traced", "  await traced_leaf", "  await traced_leaf"),
    ]


def test_scopes_nest_and_the_innermost_counts(direct: Spans) -> None:
    inner = Spans()

    async def main() -> None:
        async with direct.trace(scope="context"):
            await greenlet_spawn(traced_sync)
            async with inner.trace(scope="context"):
                await greenlet_spawn(traced_sync)
            await greenlet_spawn(traced_sync)

    process = Spans()
    with process.trace():
        asyncio.run(main())
        asyncio.run(greenlet_spawn(traced_sync))
    assert direct.lines() == ["await traced_leaf"] * 2
    assert inner.lines() == ["await traced_leaf"]
    assert process.lines() == ["await traced_leaf"]


def test_a_decorated_function_called_concurrently(spans: Spans) -> None:
    """One `trace` decorates a coroutine function that runs many times at once."""

    @spans.trace(scope="context")
    async def request(number: int) -> None:
        with spans.span("request"):
            await asyncio.sleep(number / 1000)
            await greenlet_spawn(traced_sync)

    async def main() -> None:
        await asyncio.gather(*map(request, range(10)))
        with spans.span("beside"):
            await greenlet_spawn(traced_sync)

    asyncio.run(main())
    assert sorted(spans.trees()) == [
        ("beside",),
        *[("request", "  await traced_leaf")] * 10,
    ]


def test_tracing_that_starts_and_stops_while_something_is_awaited(spans: Spans) -> None:
    """What was open at the start or at the stop is left out; the program's own spans stay right."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def leaf() -> None:
        inside.set()
        await go_on.wait()

    def sync() -> None:
        with spans.span("sync"):
            await_(leaf())
            with spans.span("after"):
                pass
            await_(asyncio.sleep(0))

    async def one(start: bool) -> None:
        inside.clear()
        go_on.clear()
        tracing = spans.trace()
        if not start:
            tracing.start()
        task = asyncio.create_task(greenlet_spawn(sync))
        await inside.wait()
        if start:
            tracing.start()
        else:
            tracing.stop()
        go_on.set()
        await task
        if start:
            tracing.stop()

    async def main() -> None:
        await one(start=True)
        await one(start=False)

    asyncio.run(main())
    began = ["sync", "  after", "  await asyncio.tasks.sleep"]
    assert spans.lines() == [*began, "sync", "  after"]


def test_what_is_said_after_tracing_stopped_in_mid_await(spans: Spans) -> None:
    """The await's span may still be current in the sync code: what that says is for its own span."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def leaf() -> None:
        inside.set()
        await go_on.wait()

    def sync() -> None:
        with spans.span("sync"):
            await_(leaf())
            current = trace_api.get_current_span()
            assert current.is_recording()
            current.set_attribute("rows", 3)
            current.add_event("done")
            current.update_name("sync of three")

    async def main() -> None:
        with spans.trace():
            task = asyncio.create_task(greenlet_spawn(sync))
            await inside.wait()
        go_on.set()
        await task

    asyncio.run(main())
    (span,) = spans.finished
    assert span.name == "sync of three"
    assert attributes_of(span) == {"rows": 3}
    assert [event.name for event in span.events] == ["done"]


def test_start_tracing_and_stop_tracing(spans: Spans) -> None:
    """For start-up hooks; a second call replaces the first one's options."""
    greenprof.start_tracing(spans.provider, min_duration=60)
    tracing = greenprof.start_tracing(spans.provider)
    asyncio.run(greenlet_spawn(traced_sync))
    greenprof.stop_tracing()
    greenprof.stop_tracing()
    assert not tracing.running
    asyncio.run(greenlet_spawn(traced_sync))
    assert spans.lines() == ["await traced_leaf"]


def test_stacks_on_spans(spans: Spans) -> None:
    """The unified stack down to the line that waited, across the bridge; of slow spans, or of all."""

    async def slow() -> None:
        await asyncio.sleep(0.1)

    def sync() -> None:
        await_(traced_leaf())
        await_(slow())

    async def endpoint() -> None:
        await greenlet_spawn(sync)

    for stack, expected in (("never", []), ("slow", ["slow"]), ("always", ["traced_leaf", "slow"])):
        spans.exporter.clear()
        with spans.trace(stack=stack, slow_duration=0.09):
            asyncio.run(endpoint())
        stacks = {
            short(one.name).removeprefix("await "): attributes_of(one)["code.stacktrace"]
            for one in spans.awaits()
            if "code.stacktrace" in attributes_of(one)
        }
        assert list(stacks) == expected
        for written in stacks.values():
            lines = [line.strip() for line in written.splitlines()]
            names = [line.rpartition(".<locals>.")[2] for line in lines]
            assert names.index("endpoint") < names.index("sync")
            assert "--- greenlet boundary ---" in lines[: names.index("sync")]
