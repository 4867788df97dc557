"""Exceptions, cancellation, task groups, generators and greenlets that end early: the trees stay right."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Generator
from typing import Any
from weakref import ref

import greenlet
import pytest
from sqlalchemy.util import greenlet_spawn

from greenprof.handovers import outcomes as spans_outcomes
from tests import span_trees
from tests.span_trees import Spans, attributes_of, current_name, short
from tests.sqlalchemy_programs import await_

spans = span_trees.spans
direct = span_trees.direct


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


def test_an_exception_that_is_old_when_it_is_thrown(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited while something was rolled back, say, and the collector has seen it since."""
    # Other tests may have used up what such searches may take, in a process with so many objects.
    monkeypatch.setattr(spans_outcomes, "_search", spans_outcomes._Search())

    async def fails(kind: type[BaseException]) -> None:
        try:
            raise kind
        except kind:
            for _ in range(3):
                gc.collect()
            raise

    def sync() -> None:
        for kind in (OrderError, asyncio.CancelledError):
            with pytest.raises(kind):
                await_(fails(kind))

    with spans.trace():
        asyncio.run(greenlet_spawn(sync))
    said = [attributes_of(one) for one in spans.awaits()]
    assert [(one["greenprof.outcome"], one.get("error.type")) for one in said] == [
        ("raised", f"{__name__}.OrderError"),
        ("cancelled", None),
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
