"""Prints, as Markdown, what a span of an await costs: `python -m benchmarks.spans`.

Awaits over SQLAlchemy's bridge, traced in several ways and not at all, in turns within one process, so
that whatever else the machine does hits all of them alike; beside the SDK's own span with the same
attributes, and beside a real `select 1`. Takes about half a minute; needs the test extra, which brings its
own PostgreSQL. With `--into docs/opentelemetry.md` the table takes the place of the one between the file's
two marks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, use_span
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.util import concurrency, greenlet_spawn

import greenprof
from benchmarks.figures import put_into
from tests.postgres import running_postgres

# 2.1 renamed it.
await_: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only


PLAIN, RECORDED, SDK = "no greenprof", "`trace()`, recorded", "SDK: `start_span()` and `end()`"
IN_SDKS = "in one span of the SDK's"
# The first is what one leaves on in production.
QUERIES_TRACED: dict[str, dict[str, float]] = {
    "`trace(min_duration=0.005)`": {"min_duration": 0.005},
    "`trace()`, all recorded": {},
}


class Drops(SpanProcessor):
    """Takes every span and keeps none: what is measured is the making."""

    def __init__(self) -> None:
        self.taken = 0

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002
        self.taken += 1


def recording() -> tuple[TracerProvider, Drops]:
    provider, drops = TracerProvider(shutdown_on_exit=False), Drops()
    provider.add_span_processor(drops)
    return provider, drops


async def nothing() -> None:
    pass


def await_many(times: int) -> float:
    """Seconds for one await, in a greenlet of SQLAlchemy's."""
    start = time.perf_counter()
    for _ in range(times):
        await_(nothing())
    return (time.perf_counter() - start) / times


class Way(NamedTuple):
    """One row: what is measured, in which context, and what it may cost at most, in microseconds."""

    name: str
    context: Callable[[], AbstractContextManager[Any]]
    aim_us: float | None = None


@contextlib.contextmanager
def below(span: trace_api.Span, tracing: greenprof.Tracing) -> Iterator[None]:
    with use_span(span), tracing:
        yield


def ways() -> list[Way]:
    provider, _ = recording()
    unsampled = TracerProvider(sampler=ParentBased(TraceIdRatioBased(1.0)), shutdown_on_exit=False)
    dropped_above = trace_api.NonRecordingSpan(
        trace_api.SpanContext(1, 2, True, trace_api.TraceFlags(0))
    )
    request = provider.get_tracer("program").start_span("request")
    return [
        Way(PLAIN, contextlib.nullcontext),
        Way("`trace()`, no provider set", greenprof.trace, 1.5),
        Way(
            "`trace()`, the request is not sampled",
            lambda: below(dropped_above, greenprof.trace(unsampled)),
            1.5,
        ),
        Way(
            "`trace(min_duration=0.005)`, shorter",
            lambda: below(request, greenprof.trace(provider, min_duration=0.005)),
            3.0,
        ),
        Way(RECORDED, lambda: below(request, greenprof.trace(provider))),
        Way(
            "`trace(max_spans_per_second=100)`, over it",
            lambda: below(request, greenprof.trace(provider, max_spans_per_second=100)),
        ),
        Way(
            '`trace(stack="always")`, recorded',
            lambda: below(request, greenprof.trace(provider, stack="always")),
        ),
    ]


def begin_sdks_own(tracer: trace_api.Tracer) -> trace_api.Span:
    """A span of the SDK's that says what an await's does."""
    return tracer.start_span(
        "await benchmarks.spans.nothing",
        kind=SpanKind.INTERNAL,
        attributes={
            "code.function.name": "benchmarks.spans.await_many",
            "code.file.path": __file__,
            "code.line.number": 70,
            "greenprof.bridge": "sqlalchemy",
            "greenprof.task": "Task-1",
            "greenprof.outcome": "returned",
        },
    )


def sdks_own(provider: TracerProvider, times: int) -> float:
    """Seconds for one span of the SDK's, begun and ended."""
    tracer = provider.get_tracer("greenprof")
    start = time.perf_counter()
    for _ in range(times):
        begin_sdks_own(tracer).end()
    return (time.perf_counter() - start) / times


async def selects(
    connection: AsyncConnection, times: int, tracer: trace_api.Tracer | None = None
) -> float:
    """Seconds for one `select 1`, awaited over the bridge as SQLAlchemy does it.

    With a tracer, in a span of the SDK's own.
    """
    statement = text("select 1")
    start = time.perf_counter()
    for _ in range(times):
        span = None if tracer is None else begin_sdks_own(tracer)
        (await connection.execute(statement)).scalar_one()
        if span is not None:
            span.end()
    return (time.perf_counter() - start) / times


class Query(NamedTuple):
    """A `select 1` on one database: seconds by how it was traced, and how many awaits it makes."""

    times: dict[str, list[float]]
    awaits: list[float]


class Figures(NamedTuple):
    """Seconds, one figure a round."""

    awaits: dict[str, list[float]]
    queries: dict[str, Query]


async def measure(rounds: int, times: int, urls: dict[str, str]) -> Figures:
    """Each figure once a round; every other round goes through them backwards."""
    found = Figures({}, {name: Query({}, []) for name in urls})
    provider, _ = recording()
    tracer = provider.get_tracer("program")
    request = tracer.start_span("request")
    connections: dict[str, AsyncConnection] = {}

    async def one_way(way: Way) -> None:
        with way.context():
            await greenlet_spawn(await_many, times // 10)
            seconds = await greenlet_spawn(await_many, times)
        found.awaits.setdefault(way.name, []).append(seconds)

    async def one_sdk() -> None:
        with use_span(request):
            seconds = sdks_own(provider, times)
        found.awaits.setdefault(SDK, []).append(seconds)

    async def one_query(name: str) -> None:
        query, number = found.queries[name], max(times // 20, 50)
        hows = [PLAIN, *QUERIES_TRACED, IN_SDKS]
        for how in hows if len(query.times.get(PLAIN, ())) % 2 == 0 else reversed(hows):
            tracing = greenprof.trace(provider, **QUERIES_TRACED.get(how, {}))
            context = below(request, tracing) if how in QUERIES_TRACED else use_span(request)
            own = tracer if how == IN_SDKS else None
            with context:
                await selects(connections[name], number // 10, own)
                seconds = await selects(connections[name], number, own)
            query.times.setdefault(how, []).append(seconds)
            if how in QUERIES_TRACED:
                query.awaits.append(tracing.counts.awaits / (number + number // 10))

    steps: list[Callable[[], Awaitable[None]]] = [partial(one_way, way) for way in ways()]
    steps += [one_sdk, *(partial(one_query, name) for name in urls)]
    async with contextlib.AsyncExitStack() as stack:
        for name, url in urls.items():
            engine = create_async_engine(url)
            stack.push_async_callback(engine.dispose)
            connections[name] = await stack.enter_async_context(engine.connect())
            await selects(connections[name], 200)
        gc.collect()
        gc.freeze()
        for at in range(rounds):
            for step in steps if at % 2 == 0 else reversed(steps):
                await step()
        gc.unfreeze()
    return found


def table(found: Figures) -> Iterator[str]:
    """Medians; and ratios within the same rounds, which a busy machine leaves alone."""
    plain, sdk = found.awaits[PLAIN], found.awaits[SDK]
    yield "| an await over SQLAlchemy's bridge | takes | tracing's part | aim | of the SDK's span |"
    yield "|---|--:|--:|--:|--:|"
    for way in ways():
        times = found.awaits[way.name]
        own = [one - base for one, base in zip(times, plain, strict=True)]
        aim = "" if way.aim_us is None else f"{way.aim_us:g} us"
        cells = ("", "", "") if way.name == PLAIN else (us(own), aim, share(own, sdk))
        yield "| {} | {} | {} | {} | {} |".format(way.name, us(times), *cells)
    yield f"| {SDK} | {us(sdk)} | | | 100% |"
    yield ""
    yield f"| a query | awaits | {PLAIN} | {' | '.join(QUERIES_TRACED)} | {IN_SDKS} |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, query in found.queries.items():
        plain = query.times[PLAIN]
        traced = []
        for how in (*QUERIES_TRACED, IN_SDKS):
            times = query.times[how]
            own = [one - base for one, base in zip(times, plain, strict=True)]
            traced.append(f"{us(times)} (+{share(own, plain)})")
        awaits = f"{statistics.median(query.awaits):.0f}"
        yield f"| `select 1`, {name} | {awaits} | {us(plain)} | {' | '.join(traced)} |"


def us(values: list[float]) -> str:
    return f"{statistics.median(values) * 1e6:.2f} us"


def share(values: list[float], of: list[float]) -> str:
    return f"{statistics.median(one / base for one, base in zip(values, of, strict=True)):.0%}"


def lines(rounds: int, times: int) -> Iterator[str]:
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        urls = {
            "asyncpg and PostgreSQL": postgres.url("asyncpg"),
            "aiosqlite": f"sqlite+aiosqlite:///{folder}/one.sqlite",
        }
        found = asyncio.run(measure(rounds, times, urls))
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    yield f"CPython {platform.python_version()}, medians of {rounds} rounds of {times:,}, {day}:\n"
    yield from table(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--times", type=int, default=4_000, help="awaits of each kind a round")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its table")
    options = parser.parse_args()
    written = []
    for line in lines(options.rounds, options.times):
        written.append(line)
        print(line, flush=True)
    if options.into is not None:
        put_into(options.into, "benchmarks.spans", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
