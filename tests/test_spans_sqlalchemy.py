"""Spans of what sync code awaits over SQLAlchemy's bridge: parents in both directions, what a span says."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy.util import greenlet_spawn

from greenprof._version import __version__
from tests import span_trees
from tests.nested_spans import TREE, Program
from tests.span_trees import Spans, attributes_of, current_name, line_of, short
from tests.sqlalchemy_programs import await_

spans = span_trees.spans


def test_parents_are_right_in_both_directions(spans: Spans) -> None:
    """Down into what is awaited, and after it the sync code's own span is current again."""
    program = Program(spans, greenlet_spawn, await_)
    with spans.trace() as tracing:
        asyncio.run(program.endpoint())
    assert spans.lines() == TREE
    program.check()
    assert (tracing.counts.awaits, tracing.counts.recorded, tracing.counts.dropped) == (3, 3, {})


def test_what_one_span_says(spans: Spans) -> None:
    """Name, kind, scope, the line that waited, the bridge, the task, and the real start and end."""
    marks: dict[str, int] = {}

    async def slow_query() -> None:
        marks["begun"] = time.time_ns()
        await asyncio.sleep(0.02)
        marks["over"] = time.time_ns()

    def load_order() -> None:
        marks["before"] = time.time_ns()
        await_(slow_query())  # the line that waits
        marks["after"] = time.time_ns()

    async def main() -> None:
        task = asyncio.create_task(greenlet_spawn(load_order), name="order 17")
        await task

    with spans.trace():
        asyncio.run(main())
    span = spans.named("slow_query")
    here = "tests.test_spans_sqlalchemy.test_what_one_span_says.<locals>"
    assert span.name == f"await {here}.slow_query"
    assert span.kind is SpanKind.INTERNAL
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.version == __version__
    assert span.status.status_code is StatusCode.UNSET
    assert attributes_of(span) == {
        "code.function.name": f"{here}.load_order",
        "code.file.path": __file__,
        "code.line.number": line_of(test_what_one_span_says, "the line that waits"),
        "greenprof.bridge": "sqlalchemy",
        "greenprof.task": "order 17",
        "greenprof.outcome": "returned",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert marks["before"] <= span.start_time <= marks["begun"]
    assert marks["over"] <= span.end_time <= marks["after"]
    assert span.resource == spans.sdk.resource
    assert span.context.is_valid
    assert not span.context.is_remote


def test_fifty_requests_at_once_do_not_mix(spans: Spans) -> None:
    """Each number is seen by its own request's spans only, whatever the order of the awaits."""

    async def leaf(number: int, pauses: list[float]) -> None:
        with spans.span(f"driver {number}"):
            for pause in pauses:
                await asyncio.sleep(pause)

    def sync(number: int, made: random.Random) -> None:
        for at in range(3):
            with spans.span(f"sync {number}.{at}"):
                await_(leaf(number, [made.random() / 100, 0]))
                assert current_name() == f"sync {number}.{at}"

    async def request(number: int) -> None:
        made = random.Random(number)
        with spans.span(f"request {number}"):
            await asyncio.sleep(made.random() / 100)
            await greenlet_spawn(sync, number, made)

    async def main() -> None:
        await asyncio.gather(*map(request, range(50)))

    with spans.trace():
        asyncio.run(main())
    expected = [
        (
            f"request {number}",
            *(
                line
                for at in range(3)
                for line in (
                    f"  sync {number}.{at}",
                    "    await leaf",
                    f"      driver {number}",
                )
            ),
        )
        for number in range(50)
    ]
    assert sorted(spans.trees()) == sorted(expected)


def test_loops_in_several_threads_at_once(spans: Spans) -> None:
    """Threads that start while tracing runs are traced, and one's spans are not another's."""
    program = [Program(spans, greenlet_spawn, await_) for _ in range(4)]
    together = threading.Barrier(4)

    def run(one: Program) -> None:
        together.wait(10)
        asyncio.run(one.endpoint())

    with spans.trace():
        threads = [threading.Thread(target=run, args=(one,)) for one in program]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert spans.trees() == [tuple(TREE)] * 4


def test_tasks_that_the_awaited_code_starts(spans: Spans) -> None:
    """A task belongs to where it was started: inside of the await, or before it by the sync code."""

    async def work(name: str) -> None:
        with spans.span(name):
            await asyncio.sleep(0.001)

    async def starts_two() -> None:
        await asyncio.gather(work("inside 1"), work("inside 2"))

    def sync() -> None:
        await_(starts_two())
        await_(asyncio.gather(work("before 1"), work("before 2")))
        await_(asyncio.ensure_future(work("before 3")))

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)

    with spans.trace():
        asyncio.run(request())
    # What was handed over is named by what it is: a gathering future, a task's coroutine.
    (tree,) = spans.trees()
    assert sorted(tree) == sorted(
        (
            "request",
            "  await starts_two",
            "    inside 1",
            "    inside 2",
            "  await asyncio.gather",
            "  before 1",
            "  before 2",
            "  await work",
            "  before 3",
        )
    )
    assert tree[1:4] == ("  await starts_two", "    inside 1", "    inside 2")


def test_a_task_that_outlives_the_await_that_started_it(spans: Spans) -> None:
    """Its spans stay the await's children; what it awaits later as well."""
    left: list[asyncio.Task[None]] = []
    go_on = asyncio.Event()

    async def leaf() -> None:
        await asyncio.sleep(0)

    async def later() -> None:
        await go_on.wait()
        with spans.span("later"):
            await greenlet_spawn(lambda: await_(leaf()))
        await greenlet_spawn(lambda: await_(leaf()))

    async def starts() -> None:
        with spans.span("starts"):
            left.append(asyncio.create_task(later()))

    def sync() -> None:
        await_(starts())

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)
        go_on.set()
        await left[0]

    with spans.trace():
        asyncio.run(request())
    left.clear()
    assert spans.lines() == [
        "request",
        "  await starts",
        "    starts",
        "      later",
        "        await leaf",
        "      await leaf",
    ]


def test_a_span_that_awaited_code_opens_and_later_awaited_code_closes(spans: Spans) -> None:
    """As async context managers do that sync code enters: the token goes back where it came from."""
    kept: list[Any] = []
    current: list[str] = []

    async def enter() -> None:
        manager = spans.span("transaction")
        kept.append(manager)
        manager.__enter__()
        await asyncio.sleep(0)

    async def leave() -> None:
        await asyncio.sleep(0)
        kept.pop().__exit__(None, None, None)

    async def query() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)

    def sync() -> None:
        await_(enter())
        current.append(current_name())
        await_(query())
        current.append(current_name())
        await_(leave())
        current.append(current_name())
        await_(query())

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)
        current.append(current_name())

    with spans.trace():
        asyncio.run(request())
    assert current == ["transaction", "transaction", "request", ""]
    assert spans.lines() == [
        "request",
        "  await enter",
        "    transaction",
        "      await query",
        "        driver",
        "      await leave",
        "  await query",
        "    driver",
    ]


def test_short_awaits_make_no_span_unless_somebody_is_its_child(spans: Spans) -> None:
    """No orphans: whoever asked for the ids finds the span; what nobody asked for is not there."""

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def queries() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)

    async def slow() -> None:
        await asyncio.sleep(0.5)

    def sync() -> None:
        await_(nothing())
        await_(queries())
        await_(nothing())
        await_(slow())

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)

    with spans.trace(min_duration=0.4) as tracing:
        asyncio.run(request())
    assert spans.lines() == ["request", "  await queries", "    driver", "  await slow"]
    assert tracing.counts.awaits == 4
    assert tracing.counts.recorded == 2
    assert tracing.counts.dropped == {}


def test_a_child_of_awaits_that_nobody_asked_for(spans: Spans) -> None:
    """Each await on the way up to a span that was asked for is exported, and no other."""

    async def leaf() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)

    def inner() -> None:
        await_(leaf())

    async def between() -> None:
        await greenlet_spawn(inner)
        await greenlet_spawn(lambda: await_(asyncio.sleep(0)))

    def outer() -> None:
        await_(between())
        await_(asyncio.sleep(0))

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(outer)

    with spans.trace(min_duration=60):
        asyncio.run(request())
    assert spans.lines() == ["request", "  await between", "    await leaf", "      driver"]


def test_what_awaited_code_says_of_its_current_span(spans: Spans) -> None:
    """Attributes, events, links, name and status given inside are on the span of the await."""
    other = trace_api.SpanContext(1, 2, False, trace_api.TraceFlags(1))

    async def leaf() -> None:
        span = trace_api.get_current_span()
        assert span.is_recording()
        span.set_attribute("rows", 3)
        span.add_event("first row", {"after": 0.5})
        span.add_link(other, {"why": "batch"})
        span.set_status(StatusCode.ERROR, "truncated")
        span.update_name("query")
        await asyncio.sleep(0)

    with spans.trace():
        asyncio.run(greenlet_spawn(lambda: await_(leaf())))
    (span,) = spans.awaits()
    assert span.name == "query"
    assert attributes_of(span)["rows"] == 3
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("first row", {"after": 0.5})
    ]
    (link,) = span.links
    assert (link.context.span_id, dict(link.attributes or {})) == (2, {"why": "batch"})
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "truncated")


def test_baggage_and_other_context_values_go_both_ways(spans: Spans) -> None:
    """Not only the span: what the sync code attached is there in what it awaits."""
    key = context_api.create_key("tenant")
    seen: list[Any] = []

    async def leaf() -> None:
        seen.append(context_api.get_value(key))
        await asyncio.sleep(0)
        seen.append(context_api.get_value(key))

    def sync() -> None:
        token = context_api.attach(context_api.set_value(key, "acme"))
        await_(leaf())
        seen.append(context_api.get_value(key))
        context_api.detach(token)

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    assert seen == ["acme", "acme", "acme"]


class Nothing:
    """An awaitable of no coroutine."""

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()


async def numbers() -> Any:
    await asyncio.sleep(0)
    yield 1


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (Nothing, "await Nothing"),
        (lambda: numbers().__anext__(), "await numbers"),
        (lambda: asyncio.ensure_future(asyncio.sleep(0)), "await asyncio.tasks.sleep"),
        (lambda: asyncio.wait_for(asyncio.sleep(0), 10), "await asyncio.tasks.wait_for"),
        (asyncio.Event().wait, "await asyncio.locks.Event.wait"),
    ],
)
def test_names_of_awaitables(spans: Spans, made: Callable[[], Any], name: str) -> None:
    """Of whatever can be awaited: objects, async generators' steps, tasks."""

    def sync() -> None:
        loop = asyncio.get_running_loop()
        awaitable = made()
        owner = getattr(getattr(awaitable, "cr_frame", None), "f_locals", {}).get("self")
        if isinstance(owner, asyncio.Event):
            loop.call_soon(owner.set)
        await_(awaitable)

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    assert [short(one.name) for one in spans.awaits()] == [name]
