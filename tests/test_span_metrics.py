"""Metrics of awaits, loops, switches and dropped spans, as a program's meter provider sees them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import ref

import greenlet
import pytest
import uvloop
from opentelemetry import context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy.util import await_only, greenlet_spawn

import greenprof
from greenprof import switches
from greenprof.spans import metrics as span_metrics
from greenprof.spans.looplag import LoopLag
from greenprof.spans.metrics import AwaitMetrics
from tests.running import run_python

LIMIT_S = 20.0
OFTEN_S = 0.02
SITE = {
    "code.function.name": "shop.reports.sales",
    "code.file.path": "/srv/shop/reports.py",
    "code.line.number": 12,
    "greenprof.bridge": "sqlalchemy",
    "greenprof.outcome": "returned",
}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Measured:
    """A meter provider, and what was measured with it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)
        self.begun: list[AwaitMetrics] = []

    def begin(self, **options: Any) -> AwaitMetrics:
        begun = AwaitMetrics(self.provider, **options)
        self.begun.append(begun)
        begun.start()
        return begun

    def all(self) -> dict[str, Metric]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for each in data.resource_metrics for scope in each.scope_metrics]
        assert {(each.scope.name, each.scope.version) for each in scopes} <= {
            ("greenprof", greenprof.__version__)
        }
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[Any]:
        metric = self.all().get(name)
        return [] if metric is None else list(metric.data.data_points)

    def number(self, name: str) -> int:
        [point] = self.points(name)
        value = point.value
        assert isinstance(value, int)
        return value


@pytest.fixture
def measured() -> Iterator[Measured]:
    measured = Measured()
    yield measured
    for begun in measured.begun:
        begun.stop()
    measured.provider.shutdown()


@pytest.fixture(params=sorted(LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = LOOPS[request.param]()
    yield made
    made.close()


def span_context(number: int) -> SpanContext:
    return SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(1))


def test_awaits_are_measured_by_site_bridge_and_outcome(measured: Measured) -> None:
    ours = measured.begin()
    ours.await_ended(0.004, SITE)
    ours.await_ended(0.3, SITE)
    ours.await_ended(0.02, {**SITE, "greenprof.outcome": "raised", "error.type": "TimeoutError"})
    assert measured.all()["greenprof.await.duration"].unit == "s"
    points = measured.points("greenprof.await.duration")
    by_outcome = {point.attributes["greenprof.outcome"]: point for point in points}
    assert set(by_outcome) == {"returned", "raised"}
    returned = by_outcome["returned"]
    assert dict(returned.attributes) == SITE
    assert returned.count == 2
    assert returned.sum == pytest.approx(0.304)
    assert by_outcome["raised"].attributes["error.type"] == "TimeoutError"


def test_milliseconds_and_seconds_fall_into_buckets_of_their_own(measured: Measured) -> None:
    ours = measured.begin()
    lengths = (0.0004, 0.002, 0.02, 0.2, 2.0, 20.0)
    for seconds in lengths:
        ours.await_ended(seconds, SITE)
    [point] = measured.points("greenprof.await.duration")
    assert [count for count in point.bucket_counts if count] == [1] * len(lengths)


def test_names_of_tasks_and_attributes_of_the_programs_own_make_no_series(
    measured: Measured,
) -> None:
    ours = measured.begin()
    for number in range(10):
        own = {"greenprof.task": f"Task-{number}", "customer": number, "code.stacktrace": "..."}
        ours.await_ended(0.001, {**SITE, **own})
    [point] = measured.points("greenprof.await.duration")
    assert dict(point.attributes) == SITE
    assert point.count == 10


class AskedSpan(NonRecordingSpan):
    """A span that counts how often its ids were asked for."""

    asked = 0

    def get_span_context(self) -> SpanContext:
        self.asked += 1
        return super().get_span_context()


def test_an_exported_span_stands_beside_its_measurement_and_the_current_one_is_left_alone(
    measured: Measured,
) -> None:
    ours = measured.begin()
    current = AskedSpan(span_context(1))
    token = context.attach(trace.set_span_in_context(current))
    try:
        ours.await_ended(0.004, SITE, span_context(2))
        ours.await_ended(0.004, SITE)
        ours.span_dropped("queue full")
    finally:
        context.detach(token)
    assert current.asked == 0
    [point] = measured.points("greenprof.await.duration")
    assert [(found.trace_id, found.span_id) for found in point.exemplars] == [(2, 2)]


def test_dropped_spans_are_counted_by_reason(measured: Measured) -> None:
    ours = measured.begin()
    ours.span_dropped("queue full", at_once=False)
    for _ in range(2):
        ours.span_dropped("rate limit")
    counts = {
        point.attributes["greenprof.reason"]: point.value
        for point in measured.points("greenprof.spans.dropped")
    }
    assert counts == {"rate limit": 2, "queue full": 1}


def test_nothing_is_measured_before_the_start_and_after_the_stop(measured: Measured) -> None:
    ours = AwaitMetrics(measured.provider)
    ours.await_ended(1.0, SITE)
    ours.span_dropped("error")
    ours.start()
    ours.stop()
    ours.stop()
    ours.await_ended(1.0, SITE)
    assert measured.points("greenprof.await.duration") == []
    assert measured.points("greenprof.spans.dropped") == []


def switch(times: int) -> None:
    """Switches into a greenlet and back, so often."""

    def come_and_go() -> None:
        while True:
            main.switch()

    main = greenlet.getcurrent()
    other = greenlet.greenlet(come_and_go)
    for _ in range(times):
        other.switch()
    other.throw()


def test_switches_are_counted_from_the_start_to_the_stop(measured: Measured) -> None:
    switches.follow()
    try:
        switch(100)
        before = measured_switches(measured)
        ours = measured.begin()
        switch(50)
        assert 100 <= measured_switches(measured) - before <= 104
        ours.stop()
        between = measured_switches(measured)
        switch(100)
        assert measured_switches(measured) == between
        ours.start()
        switch(50)
        assert 100 <= measured_switches(measured) - between <= 104
    finally:
        for begun in measured.begun:
            begun.stop()
        switches.unfollow()


def measured_switches(measured: Measured) -> int:
    """The counter as it is now; it shows up with the first start."""
    points = measured.points("greenprof.greenlet.switches")
    return points[0].value if points else span_metrics._switch_count.total()


def test_the_count_of_switches_never_falls(measured: Measured) -> None:
    seen = []
    for _ in range(3):
        switches.follow()
        ours = measured.begin()
        worker = threading.Thread(target=switch, args=(30,))
        worker.start()
        worker.join()
        switch(10)
        ours.stop()
        switches.unfollow()
        seen.append(measured.number("greenprof.greenlet.switches"))
    assert seen[1] - seen[0] >= 80
    assert seen[2] - seen[1] >= 80


def test_two_readers_and_two_providers_see_one_count() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    first, second = Measured(), Measured()
    two = MeterProvider(metric_readers=readers, shutdown_on_exit=False)
    switches.follow()
    begun = [AwaitMetrics(provider) for provider in (two, first.provider, second.provider)]
    for each in begun:
        each.start()
    try:
        switch(20)
        counts: set[Any] = {measured_switches(first), measured_switches(second)}
        for reader in readers:
            data = reader.get_metrics_data()
            assert data is not None
            [metric] = data.resource_metrics[0].scope_metrics[0].metrics
            [point] = metric.data.data_points
            counts.add(point.value)  # type: ignore[union-attr]
        assert len(counts) == 1
    finally:
        for each in begun:
            each.stop()
        switches.unfollow()
        for provider in (two, first.provider, second.provider):
            provider.shutdown()


async def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def lag_of(measured: Measured) -> tuple[int, float, Mapping[str, Any]]:
    """How often a loop's lag was measured, the longest one, and the attributes."""
    points = measured.points("greenprof.loop.lag")
    if not points:
        return 0, 0.0, {}
    [point] = points
    return point.count, point.max, dict(point.attributes)


def kind_of(loop: asyncio.AbstractEventLoop) -> str:
    return "uvloop" if isinstance(loop, uvloop.Loop) else "asyncio"


def test_a_blocked_loop_is_late(measured: Measured, loop: asyncio.AbstractEventLoop) -> None:
    ours = measured.begin(lag_interval_s=OFTEN_S)

    async def main() -> None:
        ours.watch_loop(loop)
        await until(lambda: lag_of(measured)[0] >= 2)
        seen = lag_of(measured)[0]
        loop.call_soon(time.sleep, 0.3)
        await until(lambda: lag_of(measured)[0] > seen)

    loop.run_until_complete(main())
    count, longest, attributes = lag_of(measured)
    assert count >= 3
    assert 0.2 <= longest < LIMIT_S
    assert attributes == {"greenprof.loop": kind_of(loop)}
    assert measured.all()["greenprof.loop.lag"].unit == "s"


def test_a_watched_loop_has_no_more_tasks_and_ends_when_its_program_does(
    measured: Measured, loop: asyncio.AbstractEventLoop
) -> None:
    ours = measured.begin(lag_interval_s=3600)

    async def main() -> set[Any]:
        ours.watch_loop(loop)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert loop.run_until_complete(main()) == set()


def test_a_loop_is_watched_once(measured: Measured) -> None:
    ours = measured.begin()

    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        for _ in range(5):
            ours.watch_loop(loop)
        return len(loop._scheduled)

    assert asyncio.run(main()) == 1


def test_a_loop_that_was_stopped_for_a_while_is_not_late(
    measured: Measured, loop: asyncio.AbstractEventLoop
) -> None:
    ours = measured.begin(lag_interval_s=OFTEN_S)

    async def main(times: int) -> None:
        ours.watch_loop(loop)
        before = lag_of(measured)[0]
        await until(lambda: lag_of(measured)[0] >= before + times)

    loop.run_until_complete(main(2))
    time.sleep(2.0)
    loop.run_until_complete(main(2))
    assert lag_of(measured)[1] < 1.5


def test_the_stop_takes_the_timer_away(measured: Measured) -> None:
    ours = measured.begin(lag_interval_s=3600)

    async def main() -> list[Any]:
        loop: Any = asyncio.get_running_loop()
        ours.watch_loop(loop)
        [handle] = loop._scheduled
        ours.stop()
        return [handle.cancelled(), *(each for each in loop._scheduled if not each.cancelled())]

    assert asyncio.run(main()) == [True]


def test_a_stop_from_another_thread_ends_it(
    measured: Measured, loop: asyncio.AbstractEventLoop
) -> None:
    watched, stopped = threading.Event(), asyncio.Event()
    reports: list[float] = []
    lag = LoopLag(lambda seconds, kind: reports.append(seconds), OFTEN_S)

    async def main() -> int:
        lag.watch(loop)
        await until(lambda: len(reports) >= 1)
        watched.set()
        await stopped.wait()
        seen = len(reports)
        await asyncio.sleep(10 * OFTEN_S)
        return len(reports) - seen

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(main())))
    thread.start()
    assert watched.wait(LIMIT_S)
    lag.stop()
    loop.call_soon_threadsafe(stopped.set)
    thread.join()
    assert results == [0]


def test_a_loop_can_be_watched_again_after_a_stop(
    measured: Measured, loop: asyncio.AbstractEventLoop
) -> None:
    ours = measured.begin(lag_interval_s=OFTEN_S)

    async def main() -> None:
        ours.watch_loop(loop)
        ours.stop()
        ours.start()
        ours.watch_loop(loop)
        await until(lambda: lag_of(measured)[0] >= 2)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", sorted(LOOPS))
def test_loops_and_requests_are_not_kept_alive(measured: Measured, kind: str) -> None:
    class Request:
        pass

    ours = measured.begin(lag_interval_s=OFTEN_S)
    variable: contextvars.ContextVar[Request] = contextvars.ContextVar("request")

    async def serve(loop: asyncio.AbstractEventLoop) -> ref[Request]:
        request = Request()
        variable.set(request)
        ours.watch_loop(loop)
        return ref(request)

    async def main(loop: asyncio.AbstractEventLoop) -> ref[Request]:
        found = await loop.create_task(serve(loop))
        await asyncio.sleep(0)  # until then the loop has the task at hand
        gc.collect()
        assert found() is None, "the timer keeps the context of the request that began it"
        await until(lambda: lag_of(measured)[0] >= 1)
        return found

    loop = LOOPS[kind]()
    loop.run_until_complete(main(loop))
    loop.close()
    gone = ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_loops_of_another_kind_are_left_alone(measured: Measured) -> None:
    class Workflow:
        """A loop whose timers are events of a history."""

        def __init__(self) -> None:
            self.history: list[float] = []

        def call_later(self, delay: float, *arguments: Any, **options: Any) -> None:
            self.history.append(delay)

    loop = Workflow()
    ours = measured.begin()
    for other in (loop, loop, object(), None):
        ours.watch_loop(other)
    assert loop.history == []


def test_a_closed_loop_is_no_error(measured: Measured, loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    measured.begin().watch_loop(loop)


class BrokenProvider(metrics.MeterProvider):
    def get_meter(self, *arguments: Any, **options: Any) -> metrics.Meter:
        raise RuntimeError("out of meters")


def test_a_provider_that_breaks_is_said_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = AwaitMetrics(BrokenProvider())
    with caplog.at_level(logging.WARNING, "greenprof"):
        ours.start()
        ours.start()
        ours.await_ended(1.0, SITE)
        ours.span_dropped("error")
        ours.stop()
    [record] = caplog.records
    assert "out of meters" in record.getMessage()


class OwnHistogram(metrics.NoOpHistogram):
    """Calls whom it is told to under a lock, as the SDK's do whatever runs in a garbage collection."""

    def __init__(self) -> None:
        super().__init__("own")
        self.lock = threading.Lock()
        self.inside: Callable[[], None] = lambda: None
        self.amounts: list[float] = []

    def record(self, amount: float, *arguments: Any, **options: Any) -> None:
        assert self.lock.acquire(timeout=1), "the program would stand still for ever"
        try:
            self.inside()
            self.amounts.append(amount)
        finally:
            self.lock.release()


class OwnProvider(metrics.MeterProvider):
    def __init__(self) -> None:
        self.histogram = OwnHistogram()

    def get_meter(self, *arguments: Any, **options: Any) -> metrics.Meter:
        histogram = self.histogram

        class Meter(metrics.NoOpMeter):
            def create_histogram(self, *arguments: Any, **options: Any) -> metrics.Histogram:
                return histogram

        return Meter("own")


def test_an_await_that_ends_within_a_measurement_is_measured_after_it() -> None:
    provider = OwnProvider()
    ours = AwaitMetrics(provider)
    ours.start()
    more = iter((2.0, 3.0))

    def inside() -> None:
        for seconds in more:
            ours.await_ended(seconds, SITE)

    provider.histogram.inside = inside
    ours.await_ended(1.0, SITE)
    ours.stop()
    assert provider.histogram.amounts == [1.0, 2.0, 3.0]


def test_what_a_finalizer_measures_is_in_time_for_the_next_collection(measured: Measured) -> None:
    measured.begin().await_ended(1.0, SITE, at_once=False)
    [point] = measured.points("greenprof.await.duration")
    assert point.count == 1


def test_what_a_finalizer_measures_is_recorded_with_the_next_or_at_the_stop() -> None:
    provider = OwnProvider()
    ours = AwaitMetrics(provider)
    ours.start()
    with provider.histogram.lock:
        ours.await_ended(1.0, SITE, at_once=False)
    ours.await_ended(2.0, SITE)
    assert provider.histogram.amounts == [1.0, 2.0]
    ours.await_ended(3.0, SITE, at_once=False)
    ours.stop()
    assert provider.histogram.amounts[2:] == [3.0]


def test_a_measurement_that_raises_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    provider = OwnProvider()
    ours = AwaitMetrics(provider)
    ours.start()

    def fail() -> None:
        raise ValueError("no such view")

    provider.histogram.inside = fail
    with caplog.at_level(logging.WARNING, "greenprof"):
        ours.await_ended(1.0, SITE)
        ours.await_ended(1.0, SITE)
        provider.histogram.inside = lambda: None
        ours.await_ended(2.0, SITE)
        ours.stop()
    assert provider.histogram.amounts == [2.0]
    [record] = caplog.records
    assert "no such view" in record.getMessage()


def test_a_provider_is_not_kept_alive() -> None:
    provider = MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)
    ours = AwaitMetrics(provider)
    ours.start()
    ours.await_ended(1.0, SITE)
    ours.stop()
    provider.shutdown()
    gone = ref(provider)
    del provider, ours
    gc.collect()
    assert gone() is None


GLOBAL_PROVIDER = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from greenprof.spans.metrics import AwaitMetrics

def names():
    data = reader.get_metrics_data()
    scopes = data.resource_metrics[0].scope_metrics if data else []
    return sorted(metric.name for scope in scopes for metric in scope.metrics)

ours = AwaitMetrics()
ours.start()
ours.await_ended(1.0, {})
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
ours.await_ended(1.0, {})
print(names())
ours.stop()
ours.start()
ours.span_dropped("error")
print(names())
ours.stop()
"""


def test_the_programs_provider_may_come_after_the_start() -> None:
    done = run_python("-W", "error", "-c", GLOBAL_PROVIDER)
    assert done.stdout.splitlines() == [
        "['greenprof.await.duration', 'greenprof.greenlet.switches']",
        "['greenprof.await.duration', 'greenprof.greenlet.switches', 'greenprof.spans.dropped']",
    ]
    assert done.stderr == ""


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, time
import gevent
from gevent._hub_local import get_hub
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from greenprof import _native
from greenprof.spans.metrics import AwaitMetrics

reader = InMemoryMetricReader()
ours = AwaitMetrics(MeterProvider(metric_readers=[reader]), lag_interval_s=0.02)

def lag():
    data = reader.get_metrics_data()
    for scope in data.resource_metrics[0].scope_metrics if data else []:
        for metric in scope.metrics:
            if metric.name == "greenprof.loop.lag":
                [point] = metric.data.data_points
                return point
    return None

def until(reached):
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        gevent.sleep(0.005)

ours.start()
ours.watch_loop(get_hub())
ours.watch_loop(get_hub())
until(lambda: lag() is not None and lag().count >= 2)
seen = lag().count
_native.time.sleep(0.3)  # holds the hub up
until(lambda: lag().count > seen)
print(dict(lag().attributes), 0.2 <= lag().max < 20)
assert gevent.wait(timeout=10) is True, "the timer counts as something to wait for"
ours.stop()
seen = lag().count
gevent.sleep(0.1)
print(lag().count - seen)
ours.start()
ours.watch_loop(get_hub())
"""


def test_the_hub_of_gevent_is_watched_and_ends_with_its_program() -> None:
    done = run_python("-W", "error", "-c", GEVENT)
    assert done.stdout.splitlines() == ["{'greenprof.loop': 'gevent'} True", "0"]
    assert done.stderr == ""


GEVENT_MANY = """
from gevent import monkey; monkey.patch_all()
import logging, sys
import gevent
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from greenprof.spans.metrics import AwaitMetrics

logging.basicConfig()
reader = InMemoryMetricReader()
ours = AwaitMetrics(MeterProvider(metric_readers=[reader]))
ours.start()
for number in range(int(sys.argv[1])):
    ours.await_ended(0.001, {})
    if number % 100 == 99:
        gevent.sleep(0)
[scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
[point] = [each for each in scope.metrics if each.name == "greenprof.await.duration"][0].data.data_points
print(point.count)
"""


def test_under_gevent_none_of_many_measurements_is_lost() -> None:
    done = run_python("-c", GEVENT_MANY, "30050")
    assert done.stdout == "30050\n"
    assert done.stderr == ""


def test_what_too_many_finalizers_measure_is_dropped_with_a_word(
    measured: Measured, caplog: pytest.LogCaptureFixture
) -> None:
    ours = measured.begin()
    with caplog.at_level(logging.WARNING, "greenprof"):
        for _ in range(span_metrics.MAX_WAITING + 5):
            ours.await_ended(0.001, SITE, at_once=False)
    [record] = caplog.records
    assert "collect more often" in record.getMessage()
    [point] = measured.points("greenprof.await.duration")
    assert point.count == span_metrics.MAX_WAITING


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_measures_on(measured: Measured) -> None:
    ours = measured.begin()
    ours.await_ended(1.0, SITE, at_once=False)
    taken, released = threading.Event(), threading.Event()

    def collect() -> None:
        with span_metrics._switch_count._lock:
            taken.set()
            released.wait(LIMIT_S)

    collecting = threading.Thread(target=collect)
    collecting.start()
    assert taken.wait(LIMIT_S)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            ours.await_ended(2.0, SITE)
            [point] = measured.points("greenprof.await.duration")
            ours.stop()
            code = 0 if point.sum == 2.0 else 2
        finally:
            os._exit(code)
    released.set()
    collecting.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    [point] = measured.points("greenprof.await.duration")
    assert point.sum == 1.0


# Together with what ends awaits: `greenprof.trace(metrics=True)`.


async def look_up() -> None:
    await asyncio.sleep(0.002)


async def fail() -> None:
    raise LookupError("no such customer")


def sync_code(times: int) -> None:
    for _ in range(times):
        await_only(look_up())
    with contextlib.suppress(LookupError):
        await_only(fail())


def traced_tasks(measured: Measured, tasks: int, times: int, **options: Any) -> int:
    """Tasks that await over SQLAlchemy's bridge, all at once; returns the number of spans exported."""
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(greenlet_spawn(sync_code, times))
        await until(lambda: lag_of(measured)[0] >= 1)

    with greenprof.trace(tracers, metrics=True, meter_provider=measured.provider, **options):
        asyncio.run(main())
    tracers.shutdown()
    return len(exporter.get_finished_spans())


def test_a_traced_program_is_measured(measured: Measured) -> None:
    assert traced_tasks(measured, tasks=5, times=4) == 25
    points = measured.points("greenprof.await.duration")
    counts = {
        (point.attributes["greenprof.outcome"], point.attributes.get("error.type")): point.count
        for point in points
    }
    assert counts == {("returned", None): 20, ("raised", "LookupError"): 5}
    assert {point.attributes["code.function.name"] for point in points} == {f"{__name__}.sync_code"}
    assert {point.attributes["code.file.path"] for point in points} == {__file__}
    assert len({point.attributes["code.line.number"] for point in points}) == 2
    assert {point.attributes["greenprof.bridge"] for point in points} == {"sqlalchemy"}
    [returned] = [each for each in points if each.attributes["greenprof.outcome"] == "returned"]
    assert returned.min >= 0.001
    assert lag_of(measured)[0] >= 1
    # There and back for each await, and for each task's greenlet.
    assert measured.number("greenprof.greenlet.switches") >= 2 * 25


def test_awaits_too_short_for_a_span_are_measured(measured: Measured) -> None:
    assert traced_tasks(measured, tasks=2, times=3, min_duration=60.0) == 0
    assert sum(point.count for point in measured.points("greenprof.await.duration")) == 8
    assert measured.points("greenprof.spans.dropped") == []


def test_spans_over_the_limit_are_counted_as_dropped(measured: Measured) -> None:
    exported = traced_tasks(measured, tasks=5, times=4, max_spans_per_second=1)
    [point] = measured.points("greenprof.spans.dropped")
    assert dict(point.attributes) == {"greenprof.reason": "rate limit"}
    assert point.value == 25 - exported
    assert exported < 25


GEVENT_TRACED = """
from gevent import monkey; monkey.patch_all()
import time
import gevent
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
import greenprof

reader = InMemoryMetricReader()
meters = MeterProvider(metric_readers=[reader])

def visit():
    for _ in range(5):
        time.sleep(0.002)
    time.sleep(0.6)

with greenprof.trace(TracerProvider(), meter_provider=meters):
    gevent.joinall([gevent.spawn(visit) for _ in range(10)])
[scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
for metric in sorted(scope.metrics, key=lambda metric: metric.name):
    points = metric.data.data_points
    lines = sorted({str(point.attributes.get("code.function.name")) for point in points})
    print(metric.name, sum(getattr(point, "count", 0) for point in points), *lines)
"""


def test_a_traced_gevent_program_is_measured() -> None:
    done = run_python("-W", "error", "-c", GEVENT_TRACED)
    durations, switched, lag = done.stdout.splitlines()
    name, count, *functions = durations.split()
    assert name == "greenprof.await.duration"
    assert int(count) >= 60  # the wait for all of them is one too
    assert "__main__.visit" in functions or "visit" in functions
    assert switched.startswith("greenprof.greenlet.switches ")
    assert lag.startswith("greenprof.loop.lag ")
    assert int(lag.split()[1]) >= 1
    assert done.stderr == ""
