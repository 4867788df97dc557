"""Events of loop blockers on the OpenTelemetry span that is current in the task that blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from opentelemetry import trace
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.util import await_only, greenlet_spawn

from tests.blocking_programs import LIMIT_S, burn, watching
from tests.running import REPOSITORY, run_python

pytestmark = pytest.mark.flaky(reruns=3)


class Recorded:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def events(self) -> dict[str, list[Event]]:
        """The events of each span that has any."""
        return {name: list(span.events) for name, span in self.spans().items() if span.events}


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def computes() -> None:
    burn(3 * LIMIT_S)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
each_loop = pytest.mark.parametrize("loop", LOOPS)


def run(main: Any, loop: str = "asyncio") -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


def seconds_of(event: Event) -> float:
    duration = (event.attributes or {})["greenprof.block.duration"]
    assert isinstance(duration, float)
    return duration


@each_loop
def test_a_span_that_goes_on(recorded: Recorded, loop: str) -> None:
    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await asyncio.sleep(0.02)
            computes()
            await asyncio.sleep(0.02)

    with watching() as watched:
        run(main(), loop)
    (event,) = recorded.events()["request"]
    (one,) = watched.told
    assert event.name == "greenprof.loop.blocked"
    assert event.attributes is not None
    said = dict(event.attributes)
    assert abs(seconds_of(event) - one.duration) < LIMIT_S / 2
    assert said.pop("greenprof.block.duration")
    assert said.pop("greenprof.block.waiting") == one.waiting
    assert str(said.pop("code.function.name")).endswith("blocking_programs.burn")
    assert said.pop("code.file.path") == one.path
    assert said.pop("code.line.number") == one.line
    stack = str(said.pop("code.stacktrace"))
    assert "in test_a_span_that_goes_on.<locals>.main" in stack
    assert "in computes" in stack
    assert said == {}
    span = recorded.spans()["request"]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time < event.timestamp < span.end_time


@each_loop
def test_a_span_that_ends_in_the_same_step(recorded: Recorded, loop: str) -> None:
    """As that of a request does which is answered without a further wait: told of its part."""

    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await asyncio.sleep(0.02)
            computes()
        computes()

    with watching() as watched:
        run(main(), loop)
    (event,) = recorded.events()["request"]
    (one,) = watched.told
    assert 2 * LIMIT_S < seconds_of(event) < one.duration - 2 * LIMIT_S


def test_a_span_that_ends_before_the_limit_has_no_part_in_it(recorded: Recorded) -> None:
    """The one above it, which is current when the loop goes on, has."""

    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await asyncio.sleep(0)
            with recorded.tracer.start_as_current_span("short"):
                burn(0.7 * LIMIT_S)
            computes()
            await asyncio.sleep(0)

    with watching():
        run(main())
    assert list(recorded.events()) == ["request"]


def test_no_span_no_event(recorded: Recorded) -> None:
    async def blocks() -> None:
        await asyncio.sleep(0)
        computes()

    async def other() -> None:
        with recorded.tracer.start_as_current_span("other's"):
            await asyncio.sleep(5 * LIMIT_S)

    async def main() -> None:
        await asyncio.gather(blocks(), other())

    with watching() as watched:
        run(main())
    assert len(watched.told) == 1
    assert recorded.events() == {}


def test_sync_code_over_a_bridge(recorded: Recorded) -> None:
    def report() -> None:
        with recorded.tracer.start_as_current_span("report"):
            await_only(asyncio.sleep(0))
            computes()
            await_only(asyncio.sleep(0))

    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await greenlet_spawn(report)

    with watching():
        run(main())
    assert {name: len(events) for name, events in recorded.events().items()} == {"report": 1}


def test_not_where_it_is_not_wanted(recorded: Recorded) -> None:
    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await asyncio.sleep(0)
            computes()

    with watching(events=False) as watched:
        run(main())
    assert len(watched.told) == 1
    assert recorded.events() == {}


@each_loop
def test_spans_are_as_they_were_afterwards(recorded: Recorded, loop: str) -> None:
    """The span's `end` is replaced while the loop is kept, and no longer."""
    during: list[bool] = []
    after: list[bool] = []

    async def main() -> None:
        with recorded.tracer.start_as_current_span("request") as span:
            await asyncio.sleep(0.02)
            computes()
            during.append("end" in vars(span))
            await asyncio.sleep(3 * LIMIT_S)
            after.append("end" in vars(span))

    with watching():
        run(main(), loop)
    assert (during, after) == ([True], [False])


def test_one_that_lasts_when_watching_ends_lets_its_span_go(recorded: Recorded) -> None:
    async def main() -> None:
        with recorded.tracer.start_as_current_span("request") as span:
            await asyncio.sleep(0)
            with watching():
                computes()
            assert "end" not in vars(span)

    run(main())


def test_spans_that_refuse_are_let_be() -> None:
    """Of somebody's own, without attributes, or with errors: the program is none the wiser."""

    class Span(trace.NonRecordingSpan):
        __slots__ = ()

        def is_recording(self) -> bool:
            return True

        def add_event(self, *_: Any, **__: Any) -> None:
            raise LookupError("a span's own")

    async def main() -> str:
        with trace.use_span(Span(trace.INVALID_SPAN_CONTEXT)):
            await asyncio.sleep(0)
            computes()
            await asyncio.sleep(0)
            return "result"

    with watching() as watched:
        assert asyncio.run(main()) == "result"
    assert len(watched.told) == 1
    assert watched.blocks.warnings == []


def test_await_spans_get_events(recorded: Recorded) -> None:
    """What blocks is awaited by sync code, under a span that greenprof itself has made."""
    import greenprof

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def fetch() -> None:
        await asyncio.sleep(0)
        computes()
        await asyncio.sleep(0)

    def report() -> None:
        await_only(fetch())

    async def main() -> None:
        with recorded.tracer.start_as_current_span("request"):
            await greenlet_spawn(report)

    with watching(), greenprof.trace(provider):
        run(main())
    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["greenprof.loop.blocked"]
    assert recorded.events() == {}


GEVENT = """
import json, sys
sys.path.insert(0, {repository!r})
import gevent
from opentelemetry import trace
from tests.blocking_programs import LIMIT_S, burn, watching
from tests.test_blocks_spans import Recorded, seconds_of
recorded = Recorded()
def request(name):
    with recorded.tracer.start_as_current_span(name):
        gevent.sleep(0.01)
        burn(3 * LIMIT_S)
        gevent.sleep(0.01)
with watching():
    gevent.joinall([gevent.spawn(request, name) for name in ("one", "two")])
events = recorded.events()
print(json.dumps({{name: [seconds_of(one) / LIMIT_S for one in events[name]] for name in events}}))
"""


def test_gevent() -> None:
    finished = run_python("-c", GEVENT.format(repository=str(REPOSITORY)))
    assert finished.stderr == "", str(finished)
    found = json.loads(finished.stdout)
    assert sorted(found) == ["one", "two"]
    for events in found.values():
        (limits,) = events
        assert 3 <= limits < 9


def test_without_opentelemetry_nothing_is_imported() -> None:
    finished = run_python(
        "-c",
        f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import asyncio
from tests.blocking_programs import LIMIT_S, burn, watching
async def main():
    await asyncio.sleep(0)
    burn(2 * LIMIT_S)
with watching() as watched:
    asyncio.run(main())
print(len(watched.told), [name for name in sys.modules if name.startswith("opentelemetry")])
""",
    )
    assert finished.stdout.strip() == "1 []", str(finished)
