"""Signals, forks and the interpreter's end while something is awaited."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import greenlet
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from sqlalchemy.util import greenlet_spawn

import greenprof
from tests import span_trees
from tests.running import run_python
from tests.span_trees import Spans, current_name, short
from tests.sqlalchemy_programs import await_

direct = span_trees.direct


async def leaf() -> None:
    await asyncio.sleep(0)


loops_go_on = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="no loop goes on in a forked child from Python 3.14 on"
)


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


# A strike in a callback of the collector, of a library that other tests have loaded, is ignored there.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
                    # Again later: the interpreter keeps what strikes in somebody's finalizer.
                    signal.setitimer(signal.ITIMER_REAL, 0.001 + attempt * 0.00003, 0.5)
                    # In a context that ends with it, as a task's does.
                    contextvars.copy_context().run(run, -1)
                except kind:
                    signal.setitimer(signal.ITIMER_REAL, 0)
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
    span_trees.little_left_by_strikes(5)  # of 100


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


@loops_go_on
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


@loops_go_on
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
