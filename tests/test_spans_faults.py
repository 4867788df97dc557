"""What may go wrong while something is awaited: nothing is left behind, and the program's faults stay its own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any
from weakref import ref

import greenback
import greenlet
import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from sqlalchemy.util import concurrency, greenlet_spawn

import greenprof
from tests import span_trees
from tests.running import run_python
from tests.span_trees import Spans, attributes_of, await_spans_alive, current_name, short

spans = span_trees.spans
direct = span_trees.direct

# 2.1 renamed it.
await_: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only


def outcomes(spans: Spans) -> dict[str, tuple[str, str, str | None]]:
    """Status, outcome and type of error by what was awaited."""
    return {
        short(one.name).removeprefix("await "): (
            one.status.status_code.name,
            attributes_of(one)["greenprof.outcome"],
            attributes_of(one).get("error.type"),
        )
        for one in spans.awaits()
    }


async def leaf() -> None:
    await asyncio.sleep(0)


async def hangs() -> None:
    await asyncio.sleep(60)


class OrderError(Exception):
    """Of the program's own."""


def test_exceptions(spans: Spans) -> None:
    """With their type and status; the program's spans after them are where they belong."""

    async def fails() -> None:
        with spans.span("driver"):
            await asyncio.sleep(0)
            raise OrderError

    async def fails_at_once() -> None:
        raise KeyError(17)

    def sync() -> None:
        with spans.span("sync"):
            for awaited in (fails, fails_at_once):
                with pytest.raises((OrderError, KeyError)):
                    await_(awaited())
                assert current_name() == "sync"
            with spans.span("after"):
                pass

    async def request() -> None:
        await greenlet_spawn(sync)
        assert current_name() == ""

    with spans.trace():
        asyncio.run(request())
    assert spans.lines() == [
        "sync",
        "  await fails",
        "    driver",
        "  await fails_at_once",
        "  after",
    ]
    assert outcomes(spans) == {
        "fails": ("ERROR", "raised", f"{__name__}.OrderError"),
        "fails_at_once": ("ERROR", "raised", "KeyError"),
    }


def test_an_exception_that_a_task_or_a_future_holds(spans: Spans) -> None:
    """What is awaited is no coroutine there, and has failed before, or in another task."""

    async def fails() -> None:
        raise OrderError

    def sync() -> None:
        loop = asyncio.get_running_loop()
        failed = loop.create_future()
        failed.set_exception(KeyError(17))
        for awaited in (asyncio.ensure_future(fails()), failed):
            with pytest.raises((OrderError, KeyError)):
                await_(awaited)

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    assert [attributes_of(one).get("error.type") for one in spans.awaits()] == [
        f"{__name__}.OrderError",
        "KeyError",
    ]


def test_timeouts_and_cancellation_are_no_errors(spans: Spans) -> None:
    async def cancelled(task: asyncio.Task[Any]) -> None:
        await asyncio.sleep(0.01)
        task.cancel()

    def sync() -> None:
        with spans.span("sync"):
            await_(hangs())

    async def times_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await greenlet_spawn(sync)
        assert current_name() == ""

    async def is_cancelled() -> None:
        task = asyncio.create_task(greenlet_spawn(sync))
        await cancelled(task)
        with pytest.raises(asyncio.CancelledError):
            await task

    with spans.trace():
        asyncio.run(times_out())
        asyncio.run(is_cancelled())
    assert spans.lines() == ["sync", "  await hangs"] * 2
    assert [attributes_of(one)["greenprof.outcome"] for one in spans.awaits()] == ["cancelled"] * 2
    assert {one.status.status_code.name for one in spans.awaits()} == {"UNSET"}
    assert not [one for one in spans.awaits() if "error.type" in attributes_of(one)]


def test_a_cancellation_that_the_awaited_code_turns_into_an_error(spans: Spans) -> None:
    async def closes() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OrderError from None

    async def main() -> None:
        task = asyncio.create_task(greenlet_spawn(lambda: await_(closes())))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(OrderError):
            await task

    with spans.trace():
        asyncio.run(main())
    assert outcomes(spans) == {"closes": ("ERROR", "raised", f"{__name__}.OrderError")}


def test_task_groups(spans: Spans) -> None:
    """One task fails, its siblings are cancelled in mid-await; each tree is whole."""

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise OrderError

    def sync(number: int) -> None:
        with spans.span(f"sync {number}"):
            await_(fails() if number == 0 else hangs())

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(greenlet_spawn(sync, number))

    async def main() -> None:
        with spans.span("request"), pytest.raises(ExceptionGroup):
            await group()
        assert current_name() == ""

    with spans.trace():
        asyncio.run(main())
    assert spans.lines() == [
        "request",
        "  sync 0",
        "    await fails",
        *(line for number in range(1, 5) for line in (f"  sync {number}", "    await hangs")),
    ]
    assert outcomes(spans) == {
        "fails": ("ERROR", "raised", f"{__name__}.OrderError"),
        "hangs": ("UNSET", "cancelled", None),
    }


def test_task_groups_inside_of_what_is_awaited(spans: Spans) -> None:
    """Its tasks are the await's children, and so is what they await over bridges of their own."""

    def inner(number: int) -> None:
        with spans.span(f"inner {number}"):
            await_(leaf())

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(greenlet_spawn(inner, number))

    def sync() -> None:
        await_(group())

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)

    with spans.trace():
        asyncio.run(request())
    assert spans.lines() == [
        "request",
        "  await group",
        *(line for n in range(3) for line in (f"    inner {n}", "      await leaf")),
    ]


def test_a_generator_that_is_closed_early(spans: Spans) -> None:
    """It awaits between its items and as it is closed, each time below what is current then."""

    def rows() -> Generator[int]:
        try:
            for number in range(10):
                await_(leaf())
                yield number
        finally:
            await_(leaf())

    def sync() -> None:
        generator = rows()
        with spans.span("first"):
            next(generator)
        with spans.span("second"):
            next(generator)
        with spans.span("close"):
            generator.close()
            assert current_name() == "close"

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    assert spans.lines() == [
        "first",
        "  await leaf",
        "second",
        "  await leaf",
        "close",
        "  await leaf",
    ]


def test_an_async_generator_that_is_closed_early(spans: Spans) -> None:
    """The span that it keeps open from step to step is closed in another await than it began in."""
    kept: list[Any] = []

    async def rows() -> AsyncIterator[int]:
        manager = spans.tracer.start_span("cursor")
        kept.append(manager)
        try:
            for number in range(10):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)
            manager.end()

    def sync() -> None:
        generator: Any = rows()
        for number in range(2):
            assert await_(generator.__anext__()) == number
        await_(generator.aclose())
        assert current_name() == "request"

    async def request() -> None:
        with spans.span("request"):
            await greenlet_spawn(sync)

    with spans.trace():
        asyncio.run(request())
    kept.clear()
    lines = spans.lines()
    assert lines[:4] == ["request", "  await rows", "    cursor", "  await rows"]
    assert len(lines) == 5
    assert lines[4].startswith("  await ")


def test_a_greenlet_that_dies_suspended(spans: Spans) -> None:
    """Nobody ever goes on with it: it ends as it is collected, and takes its await along."""
    died: list[str] = []

    async def forever() -> None:
        await asyncio.Event().wait()

    def sync() -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        waited_for = forever()
        try:
            with spans.span("sync"):
                parent.switch(waited_for)
        except greenlet.GreenletExit:
            died.append(current_name())
            raise
        finally:
            waited_for.close()

    async def starts() -> ref[greenlet.greenlet]:
        child = greenlet.greenlet(sync)
        child.switch()
        return ref(child)

    with spans.trace() as tracing:
        for _ in range(20):
            child = asyncio.run(starts())
            gc.collect()
            assert child() is None
            assert current_name() == ""
    assert died == [""] * 20
    assert tracing.counts.dropped == {}
    assert spans.lines() == ["sync", "  await forever"] * 20
    assert set(outcomes(spans).values()) == {("UNSET", "cancelled", None)}


def test_asyncio_run_several_times(spans: Spans) -> None:
    """Loops come and go in one process, and each run's spans are its own."""

    def sync() -> None:
        with spans.span("sync"):
            await_(leaf())

    with spans.trace():
        for _ in range(5):
            asyncio.run(greenlet_spawn(sync))
            assert current_name() == ""
    assert spans.lines() == ["sync", "  await leaf"] * 5


def test_a_loop_that_is_closed_while_tasks_wait(spans: Spans) -> None:
    """`asyncio.run` cancels what is left; a loop that is dropped leaves its tasks to the collector."""
    waiting: list[Any] = []

    async def main() -> None:
        waiting.extend(asyncio.create_task(greenlet_spawn(lambda: await_(hangs()))) for _ in "123")
        await asyncio.sleep(0.01)

    with spans.trace():
        asyncio.run(main())
    waiting.clear()
    assert outcomes(spans) == {"hangs": ("UNSET", "cancelled", None)}
    assert len(spans.lines()) == 3


def test_a_deep_recursion_is_the_programs_own(direct: Spans) -> None:
    """There is no room for greenprof on such a stack: the program gets its own error, no other."""

    def recurse(depth: int) -> int:
        await_(leaf())
        return recurse(depth + 1)

    def sync() -> None:
        with pytest.raises(RecursionError):
            recurse(0)
        await_(leaf())

    with direct.trace():
        asyncio.run(greenlet_spawn(sync))
    assert len(direct.lines()) > 100
    assert current_name() == ""


class Interrupted(BaseException):
    """What the program's signal handler raises."""


class Alarm(Exception):  # noqa: N818  # as a program would call it
    """The same, of the kind that code catches which means its own errors."""


class Names(SpanProcessor):
    """Keeps the names of spans, and catches nothing."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(short(span.name))


@pytest.mark.parametrize("kind", [Interrupted, Alarm])
def test_signal_handlers_that_raise(kind: type[BaseException]) -> None:
    """Wherever it strikes, inside of greenprof as well, it reaches the program, and nothing is left."""
    names = Names()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(names)

    def raises(*_: object) -> None:
        raise kind

    class Done:
        def __await__(self) -> Iterator[None]:
            return iter(())

    def sync(times: int) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        while times:
            parent.switch(Done())
            times -= 1

    # A raw bridge: SQLAlchemy's greenlets refer to themselves, and stay for good where one is left.
    async def as_async(times: int) -> None:
        child = greenlet.greenlet(sync)
        handed = child.switch(times)
        while not child.dead:
            handed = child.switch(await handed)

    def run(times: int) -> None:
        # Without a loop: asyncio's own would keep what strikes between two of its callbacks.
        coroutine = as_async(times)
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        finally:
            coroutine.close()

    before = signal.signal(signal.SIGALRM, raises)
    struck = 0
    try:
        for attempt in range(100):
            with greenprof.trace(provider) as tracing:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.001 + attempt * 0.00003)
                    # In a context that ends with it, as a task's does.
                    contextvars.copy_context().run(run, -1)
                except kind:
                    struck += 1
                assert current_name() == ""
                assert tracing.counts.dropped == {}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck == 100
    assert len(names.ended) > 1_000
    names.ended.clear()
    with greenprof.trace(provider):
        run(1)
    assert names.ended == ["await Done"]
    span_trees.nothing_left()


@pytest.mark.parametrize("other", [None, lambda *_: None], ids=["none", "another"])
def test_a_tracer_that_was_lost_is_taken_back(direct: Spans, other: Any) -> None:
    """To a signal that struck in it, or to somebody's own; a loop that runs on notices."""
    seen: list[int] = []

    async def main() -> None:
        with direct.trace() as tracing:
            await greenlet_spawn(lambda: await_(leaf()))
            assert tracing.counts.awaits == 1
            greenlet.settrace(other)
            async with asyncio.timeout(20):
                while tracing.counts.awaits == 1:
                    await asyncio.sleep(0.02)
                    await greenlet_spawn(lambda: await_(leaf()))
            seen.append(tracing.counts.awaits)

    try:
        asyncio.run(main())
    finally:
        greenlet.settrace(None)
    assert seen == [2]
    assert direct.lines() == ["await leaf"] * 2


# Callables, processors and exporters that fail.


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


# Processes.


FORK = """
import asyncio, json, os, sys
sys.path.insert(0, {repository!r})
from sqlalchemy.util import concurrency, greenlet_spawn
from tests.span_trees import Spans, current_name
await_ = getattr(concurrency, "await_", None) or concurrency.await_only
spans = Spans()

async def leaf():
    with spans.span("driver"):
        await asyncio.sleep(0)

async def forks():
    await asyncio.sleep(0)
    return os.fork()

def sync():
    with spans.span("sync"):
        child = await_(forks()) if {inside} else os.fork()
        who = "parent" if child else "child"
        with spans.span(who):
            await_(leaf())
    return child

async def request():
    with spans.span("request"):
        return await greenlet_spawn(sync)

with spans.trace():
    read, write = os.pipe()
    child = asyncio.run(request())
    if child == 0:
        os.close(read)
        os.write(write, json.dumps(spans.lines()).encode())
        os._exit(0)
os.close(write)
from_child = b""
while part := os.read(read, 65536):
    from_child += part
os.waitpid(child, 0)
print(json.dumps([spans.lines(), json.loads(from_child)]))
"""


def test_fork() -> None:
    """Both processes go on with the spans that are open in them, each on its own."""
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = FORK.format(repository=repository, inside=False)
    finished = run_python("-W", "ignore::DeprecationWarning", "-c", program)
    parent, child = json.loads(finished.stdout)
    for who, lines in (("parent", parent), ("child", child)):
        assert lines == [
            "request",
            "  sync",
            f"    {who}",
            "      await leaf",
            "        driver",
        ], finished


def test_fork_inside_of_what_is_awaited() -> None:
    """The await is the parent's: the child does not export it a second time."""
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    program = FORK.format(repository=repository, inside=True)
    finished = run_python("-W", "ignore::DeprecationWarning", "-c", program)
    parent, child = json.loads(finished.stdout)
    below = ["      await leaf", "        driver"]
    assert parent == ["request", "  sync", "    await forks", "    parent", *below], finished
    assert child == ["request", "  sync", "    child", *below], finished


def test_the_interpreters_end() -> None:
    """Tracing that nobody stopped, awaits that are open: the program ends as it would have."""
    program = """
import asyncio, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from sqlalchemy.util import concurrency, greenlet_spawn
import greenprof
await_ = getattr(concurrency, "await_", None) or concurrency.await_only
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda s: s.name + "\\n")))
greenprof.start_tracing(provider)
async def leaf():
    await asyncio.sleep(0)
async def hangs():
    await asyncio.sleep(60)
loop = asyncio.new_event_loop()
loop.run_until_complete(greenlet_spawn(lambda: await_(leaf())))
task = loop.create_task(greenlet_spawn(lambda: await_(hangs())))
loop.run_until_complete(asyncio.sleep(0.01))
sys.exit(7)
"""
    finished = run_python("-c", program, expect=7)
    assert finished.stdout == "await leaf\n"
    assert "greenprof" not in finished.stderr, finished


# Leaks.


class Watching:
    """Weak references to the spans that were current in what was awaited."""

    def __init__(self) -> None:
        self.seen: list[ref[Any]] = []

    async def leaf(self) -> None:
        self.seen.append(ref(trace_api.get_current_span()))
        await asyncio.sleep(0)


def test_no_span_outlives_its_await() -> None:
    """Not a single one, whether it was recorded, left out as too short, or cancelled."""
    provider = TracerProvider(shutdown_on_exit=False)
    context = Watching()

    async def times_out() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await greenlet_spawn(lambda: await_(hangs()))

    for minimum in (0.0, 60.0):
        with greenprof.trace(provider, min_duration=minimum):
            asyncio.run(greenlet_spawn(lambda: [await_(context.leaf()) for _ in range(100)]))
            asyncio.run(times_out())
    gc.collect()
    alive = [found for one in context.seen if type(found := one()).__name__ == "AwaitSpan"]
    assert len(context.seen) == 200
    assert alive == []
    span_trees.nothing_left()


class Counting(SpanProcessor):
    """Keeps nothing."""

    def __init__(self) -> None:
        self.ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


async def done() -> None:
    pass


async def over_sqlalchemy(times: int) -> None:
    def sync(number: int) -> None:
        for _ in range(number):
            await_(done())

    await greenlet_spawn(sync, times // 2)
    # Greenlets and tasks that come and go.
    for _ in range(times // 100):
        await asyncio.gather(*(greenlet_spawn(sync, 1) for _ in range(50)))


async def over_raw_greenlets(times: int) -> None:
    """Their contexts are their own, and greenprof writes to them."""

    def sync(number: int) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        for _ in range(number):
            parent.switch(done())

    async def as_async(number: int) -> None:
        child = greenlet.greenlet(sync)
        handed = child.switch(number)
        while not child.dead:
            handed = child.switch(await handed)

    await as_async(times // 2)
    for _ in range(times // 100):
        await asyncio.gather(*(as_async(1) for _ in range(50)))


async def over_greenback(times: int) -> None:
    def sync(number: int) -> None:
        for _ in range(number):
            greenback.await_(done())

    async def as_task(number: int) -> None:
        await greenback.ensure_portal()
        sync(number)

    await as_task(times // 2)
    for _ in range(times // 100):
        await asyncio.gather(*(as_task(1) for _ in range(50)))


@pytest.mark.parametrize("program", [over_sqlalchemy, over_raw_greenlets, over_greenback])
@pytest.mark.parametrize("minimum", [0.0, 60.0], ids=["recorded", "too short"])
def test_a_hundred_thousand_awaits_leave_nothing(
    program: Callable[[int], Coroutine[Any, Any, None]], minimum: float
) -> None:
    """After the first ones, memory and the number of objects stay where they are."""
    processor = Counting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)

    def measure(times: int) -> tuple[int, int]:
        asyncio.run(program(times))
        gc.collect()
        gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects())

    with greenprof.trace(provider, min_duration=minimum) as tracing:
        for _ in range(2):
            blocks, objects = measure(5_000)
        blocks_after, objects_after = measure(100_000)
        alive = await_spans_alive()
    counts = tracing.counts
    assert counts.awaits == 110_000
    assert processor.ended == counts.recorded == (110_000 if minimum == 0 else 0)
    assert counts.dropped == {}
    assert alive == 0
    # A leak of anything at all with each await, or with each hundredth, would be thousands.
    assert blocks_after - blocks < 1_000
    assert objects_after - objects < 300
    span_trees.nothing_left()


def test_contexts_that_end_while_an_await_is_open(direct: Spans) -> None:
    """A chain of awaits, each begun inside of what the last one left behind, does not grow."""
    depth: list[int] = []

    async def enters(number: int) -> Any:
        manager = direct.span(f"kept {number}")
        manager.__enter__()
        return manager

    async def leaves(manager: Any) -> None:
        manager.__exit__(None, None, None)

    def chain() -> int:
        from greenprof.spans.contexts import SPAN_KEY, VARIABLE
        from greenprof.spans.span import AwaitSpan

        assert VARIABLE is not None
        count, current = 0, VARIABLE.get(None)
        while current is not None:
            span: Any = current.get(SPAN_KEY)
            current = span.outer if type(span) is AwaitSpan else None
            count += 1
        return count

    def sync() -> None:
        for number in range(200):
            manager = await_(enters(number))
            await_(leaf())
            await_(leaves(manager))
            depth.append(chain())

    with direct.trace():
        asyncio.run(greenlet_spawn(sync))
    assert max(depth) <= 2
    assert await_spans_alive() == 0
