"""Samples are linked to the OpenTelemetry span that was current in whoever was looked at."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars
import gc
import hashlib
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy.util.concurrency import await_only, greenlet_spawn

import greenprof
from greenprof import spancontext
from greenprof.frames import FrameTable
from greenprof.profiler import Profiler
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, SpanRef, State
from greenprof.samplers import spanlinks
from greenprof.samplers.accounting import LOOKS, CpuAccount
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.spanlinks import SpanLinks
from tests.running import REPOSITORY, run_python

# What these measure depends on when they get the processor.
measuring = pytest.mark.flaky(reruns=3)


class Tracer:
    """A tracer, and the spans that it exported."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer(__name__)

    def span(self, name: str) -> Any:
        return self.tracer.start_as_current_span(name)

    @property
    def exported(self) -> dict[SpanRef, ReadableSpan]:
        found = {}
        for span in self.exporter.get_finished_spans():
            ids = spancontext.ids_of(trace.NonRecordingSpan(span.context))
            assert ids is not None
            found[SpanRef(*ids)] = span
        return found


@pytest.fixture
def traced() -> Tracer:
    return Tracer()


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))


def seconds(profile: Profile, traced: Tracer, *, clock: str = "wall_ns") -> dict[str, Counter[str]]:
    """The seconds of the samples by the name of their span and by state ("cpu": CPU time)."""
    names = {ref: span.name for ref, span in traced.exported.items()}
    found: dict[str, Counter[str]] = {name: Counter() for name in names.values()}
    for part in profile.span_samples:
        sums = found[names[profile.spans[part.span]]]
        sums[profile.samples[part.sample].state] += part.wall_ns / 1e9  # type: ignore[assignment]
        sums["cpu"] += part.cpu_ns / 1e9  # type: ignore[assignment]
    return found


def whole(profile: Profile) -> None:
    """The parts of no sample sum up to more than the sample."""
    for name in ("count", "wall_ns", "cpu_ns"):
        sums: Counter[int] = Counter()
        for part in profile.span_samples:
            sums[part.sample] += getattr(part, name)
        assert all(
            total <= getattr(profile.samples[sample], name) for sample, total in sums.items()
        )


class TestCurrentSpan:
    def test_here_and_in_another_context(self, traced: Tracer) -> None:
        assert spancontext.current_span() is None
        with traced.span("outer") as outer:
            kept = contextvars.copy_context()
            assert spancontext.current_span() is outer
            with traced.span("inner") as inner:
                assert spancontext.current_span() is inner
                assert spancontext.current_span(kept) is outer
            assert spancontext.current_span(contextvars.Context()) is None
        assert spancontext.current_span() is None
        # It is over, although it is current there still.
        assert spancontext.current_span(kept) is None
        context = outer.get_span_context()
        assert spancontext.ids_of(outer) == (
            format(context.trace_id, "032x"),
            format(context.span_id, "016x"),
        )

    def test_a_span_that_is_not_recorded_is_none(self) -> None:
        with Tracer(sampler=ALWAYS_OFF).span("unseen") as span:
            assert spancontext.current_span() is None
            assert spancontext.ids_of(span) is None

    @pytest.mark.parametrize("kind", ["c", "python"])
    def test_a_tasks_own_context(self, traced: Tracer, kind: str) -> None:
        async def work() -> None:
            with traced.span("work"):
                await asyncio.sleep(60)

        async def main() -> None:
            make = asyncio.tasks._PyTask if kind == "python" else asyncio.Task  # type: ignore[attr-defined]
            with traced.span("main"):
                task = make(work(), loop=asyncio.get_running_loop())
                # A callback has a context as well, which is not the task's.
                task.add_done_callback(lambda _: None, context=contextvars.copy_context())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            span = spancontext.current_span(spancontext.context_of_task(task))
            assert span.name == "work"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())

    def test_no_task_of_somebodys_own_breaks_it(self) -> None:
        class Strange:
            def get_context(self) -> str:
                return "none of yours"

        assert spancontext.context_of_task(Strange()) is None
        assert spancontext.context_of_task(object()) is None

    def test_an_await_span_that_stayed_behind_hides_nobody(self, traced: Tracer) -> None:
        with traced.span("outer") as outer:
            with traced.span("ended") as ended:
                pass
            ended.outer = otel_context.get_current()
            token = otel_context.attach(trace.set_span_in_context(ended))
            assert spancontext.current_span() is outer
            otel_context.detach(token)


def test_without_opentelemetry_none_is_imported() -> None:
    program = """
import sys, time, asyncio, greenprof
async def main():
    await asyncio.sleep(0.05)
with greenprof.profile(500) as p:
    asyncio.run(main())
assert p.profile.samples and not p.profile.spans
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run_python("-c", program, cwd=REPOSITORY).stdout.strip() == "[]"


async def fetch(traced: Tracer, wait_s: float) -> None:
    with traced.span("fetch"):
        await asyncio.sleep(wait_s)


def handler(traced: Tracer, wait_s: float) -> None:
    with traced.span("handler"):
        burn(wait_s)
        await_only(fetch(traced, wait_s))


async def request(traced: Tracer, wait_s: float) -> None:
    with traced.span("request"):
        await greenlet_spawn(handler, traced, wait_s)
        await asyncio.sleep(wait_s)


async def requests(traced: Tracer, count: int, wait_s: float) -> None:
    await asyncio.gather(*(request(traced, wait_s) for _ in range(count)))


@measuring
@pytest.mark.parametrize("where", ["main", "thread", "uvloop"])
def test_requests_side_by_side(traced: Tracer, where: str) -> None:
    """Each has its own trace; sync code, what it awaits and what comes after have their spans."""
    count, wait_s = 4, 0.15

    def run() -> None:
        new_loop = uvloop.new_event_loop if where == "uvloop" else None
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(requests(traced, count, wait_s))

    with greenprof.profile(200) as p:
        if where == "thread":
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        else:
            run()
    profile = p.profile
    whole(profile)
    found = seconds(profile, traced)
    assert found["handler"]["cpu"] == pytest.approx(count * wait_s, rel=0.3)
    assert found["handler"]["awaiting"] == 0
    for name in ("fetch", "request"):
        assert found[name]["awaiting"] == pytest.approx(count * wait_s, rel=0.3)
        assert found[name]["cpu"] < 0.1
    # One was computing while the timers of the others ended.
    assert found["fetch"]["ready"] > wait_s
    assert len({ref.trace_id for ref in profile.spans}) == count
    for ref in profile.spans:
        span = traced.exported[ref]
        [stacks] = [
            {frame.name for frame in profile.stack(profile.samples[part.sample].stack)}
            for part in profile.span_samples
            if profile.spans[part.span] == ref
        ][:1]
        assert "request" in stacks, span.name


@measuring
def test_a_call_that_keeps_the_main_thread_from_its_signals(traced: Tracer) -> None:
    """Only the sampling thread can look then, and the context is the main thread's alone."""
    data = bytes(200_000_000)
    with greenprof.profile(200) as p:
        began, cpu_began = time.monotonic(), time.thread_time()
        with traced.span("digest"):
            hashlib.sha256(data).digest()
        took_s, cpu_s = time.monotonic() - began, time.thread_time() - cpu_began
        with traced.span("sleep"):
            time.sleep(0.3)
        hashlib.sha256(data).digest()
    whole(p.profile)
    found = seconds(p.profile, traced)
    # On a busy machine it may look blocked: it got no processor.
    assert found["digest"]["on-cpu"] + found["digest"]["blocked"] == pytest.approx(took_s, rel=0.3)
    assert found["digest"]["cpu"] == pytest.approx(cpu_s, rel=0.4)
    assert found["sleep"]["blocked"] == pytest.approx(0.3, rel=0.3)
    # The second one is in no span.
    total_ns = sum(sample.cpu_ns for sample in p.profile.samples)
    assert sum(sums["cpu"] for sums in found.values()) < 0.75 * total_ns / 1e9


@measuring
def test_a_plain_threads_span_is_not_known(traced: Tracer) -> None:
    def work() -> None:
        with traced.span("work"):
            burn(0.1)

    with greenprof.profile(200) as p, traced.span("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    found = seconds(p.profile, traced)
    assert found["work"] == Counter()
    assert sum(sample.cpu_ns for sample in p.profile.samples) > 0.05e9


@measuring
def test_gevents_greenlets_have_contexts_of_their_own() -> None:
    program = """
import json, sys, time, gevent
sys.path.insert(0, {repository!r})
import greenprof
from collections import Counter
from tests.test_span_samples import Tracer, seconds, whole
traced = Tracer()
def work(name):
    with traced.span(name):
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            sum(range(100))
        gevent.sleep(0.3)
with greenprof.profile(200) as p:
    with traced.span("main"):
        gevent.joinall([gevent.spawn(work, name) for name in ("one", "two")])
whole(p.profile)
print(json.dumps(seconds(p.profile, traced)))
"""
    import json

    printed = run_python("-c", program.format(repository=str(REPOSITORY)))
    found = json.loads(printed.stdout)
    for name in ("one", "two"):
        assert found[name]["cpu"] == pytest.approx(0.1, rel=0.5)
        assert found[name]["awaiting"] == pytest.approx(0.3, rel=0.5)
    assert found["main"]["awaiting"] > 0.3


class TestProfileId:
    def test_it_is_known_while_a_profiler_runs(self) -> None:
        assert spancontext.profile_id() is None
        with greenprof.profile() as p:
            known = spancontext.profile_id()
        assert spancontext.profile_id() is None
        assert known is not None
        assert p.profile.info.profile_id == known
        with greenprof.profile() as another:
            pass
        assert another.profile.info.profile_id not in ("", known)

    @measuring
    def test_a_part_of_a_run_has_the_runs_and_only_its_own_spans(self, traced: Tracer) -> None:
        outer = Profiler(500, outermost=True).start()
        try:
            with traced.span("before"):
                burn(0.05)
            with greenprof.profile() as p, traced.span("within"):
                known = spancontext.profile_id()
                burn(0.05)
            assert spancontext.profile_id() == known
        finally:
            profile = outer.stop()
        assert p.profile.info.profile_id == profile.info.profile_id == known
        inner = seconds(p.profile, traced)
        # What was seen at the end of one may be divided within the other.
        assert inner["within"]["cpu"] > inner["before"]["cpu"]
        both = seconds(profile, traced)
        assert min(both["before"]["cpu"], both["within"]["cpu"]) == pytest.approx(0.05, rel=0.6)
        whole(p.profile)


class AwaitSpanLike(trace.Span):
    """What `recorded_context` promises, and nothing else."""

    def __init__(self, stands_for: trace.SpanContext | None) -> None:
        self.stands_for: trace.SpanContext | None = None
        self.final = stands_for
        self.recording = True

    def end(self, end_time: int | None = None) -> None:
        self.recording = False
        self.stands_for = self.final

    def recorded_context(self) -> trace.SpanContext | None:
        return self.stands_for

    def get_span_context(self) -> trace.SpanContext:
        raise AssertionError("it would count as used, and be exported")

    def is_recording(self) -> bool:
        return self.recording

    def set_attributes(self, attributes: Any) -> None: ...
    def set_attribute(self, key: str, value: Any) -> None: ...
    def add_event(self, *arguments: Any, **options: Any) -> None: ...
    def update_name(self, name: str) -> None: ...
    def set_status(self, *arguments: Any) -> None: ...
    def record_exception(self, *arguments: Any, **options: Any) -> None: ...


def context_with(number: int, trace_number: int = 0) -> trace.SpanContext:
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(trace_number or number, number, is_remote=False, trace_flags=sampled)


def ref_of(number: int, trace_number: int = 0) -> SpanRef:
    return SpanRef(format(trace_number or number, "032x"), format(number, "016x"))


@pytest.fixture
def current() -> Iterator[Callable[[trace.Span], None]]:
    """Makes a span current, for the length of a test."""
    tokens = []

    def attach(span: trace.Span) -> None:
        tokens.append(otel_context.attach(trace.set_span_in_context(span)))

    yield attach
    for token in reversed(tokens):
        otel_context.detach(token)


KEY = (0, 0, -1, State.ON_CPU)


def linked(links: SpanLinks) -> dict[SpanRef, int]:
    """The observations of each span."""
    found: Counter[SpanRef] = Counter()
    for ref, _, (count, _, _) in links.parts():
        found[ref] += count
    return dict(found)


class TestLinks:
    def test_an_await_span_is_what_stands_for_it_in_the_end(
        self, current: Callable[[trace.Span], None]
    ) -> None:
        links = SpanLinks()
        exported, short, dropped = (
            AwaitSpanLike(context) for context in (context_with(1, 9), context_with(2, 9), None)
        )
        for span in (exported, short, short, dropped):
            current(span)
            links.add(links.here(), KEY, 1, 5, 5)
        assert linked(links) == {}
        for span in (exported, short, dropped):
            span.end()
        assert linked(links) == {ref_of(1, 9): 1, ref_of(2, 9): 2}

    def test_await_spans_that_ended_are_let_go_of(
        self, current: Callable[[trace.Span], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spanlinks, "SETTLE_AT", 4)
        links = SpanLinks()
        references = []
        for number in range(1, 21):
            span = AwaitSpanLike(context_with(number))
            references.append(weakref.ref(span))
            token = otel_context.attach(trace.set_span_in_context(span))
            links.add(links.here(), KEY, 1, 5, 5)
            otel_context.detach(token)
            span.end()
        del span, token
        gc.collect()
        assert sum(reference() is not None for reference in references) <= 5
        assert linked(links) == {ref_of(number): 1 for number in range(1, 21)}

    def test_over_the_cap_the_heaviest_traces_and_the_last_ones_stay(self) -> None:
        links = SpanLinks(max_spans=80, max_parts=400)
        slow = 7
        for number in range(1, 1001):
            span = trace.NonRecordingSpan(context_with(number, slow if number < 4 else 0))
            links.add(links._number(span), KEY, 1, 1000 if number < 4 else number % 5, 0)
            links.prune()
        found = linked(links)
        assert {ref_of(1, slow), ref_of(2, slow), ref_of(3, slow)} <= found.keys()
        assert ref_of(1000) in found
        assert len(found) < 80
        assert links.lost == 1000 - len(found)
        assert any(f"{links.lost} samples are not linked" in text for text in links.warnings)

    def test_nobody_makes_room_for_more_than_there_may_be(self) -> None:
        links = SpanLinks(max_spans=10, max_parts=15)
        for number in range(1, 31):
            span = trace.NonRecordingSpan(context_with(number))
            for state in (State.ON_CPU, State.AWAITING):
                spot = links._number(span)
                if spot >= 0:
                    links.add(spot, (0, 0, -1, state), 1, 1, 1)
        assert sum(linked(links).values()) == 15
        assert links.lost == 60 - 15

    def test_a_call_whose_span_is_told_later(self, current: Callable[[trace.Span], None]) -> None:
        links = SpanLinks()
        first, second, never = links.later(), links.later(), links.later()
        for number in (first, second, never):
            links.add(number, KEY, 1, 5, 5)
        assert linked(links) == {}
        current(trace.NonRecordingSpan(context_with(1)))
        links.tell(first, links._number(trace.NonRecordingSpan(context_with(1))))
        waits = AwaitSpanLike(context_with(2))
        current(waits)
        links.tell(second, links.here())
        links.tell(never, -1)
        waits.end()
        assert linked(links) == {ref_of(1): 1, ref_of(2): 1}

    def test_a_span_that_cannot_be_asked_is_none_and_is_told_of(
        self, current: Callable[[trace.Span], None]
    ) -> None:
        class Broken(trace.NonRecordingSpan):
            def is_recording(self) -> bool:
                raise RuntimeError("not today")

        links = SpanLinks()
        current(Broken(context_with(1)))
        assert links.here() == -1
        assert "RuntimeError: not today" in links.warnings[0]


def test_cpu_time_that_is_divided_later_goes_to_the_span_of_its_look() -> None:
    recorder = Recorder()
    group, thread = recorder.group("g", "asyncio"), recorder.thread("t")
    numbers = [
        recorder.spans._number(trace.NonRecordingSpan(context_with(number))) for number in (1, 2)
    ]
    account = CpuAccount(recorder)
    for look in range(LOOKS - 1):
        account.saw(group, thread, -1, 1, [*numbers, -1][look % 3])
    account.used(1000 * (LOOKS - 1))
    account.settle()
    builder = ProfileBuilder()
    recorder.fill(builder, FrameTable())
    profile = builder.build(ProfileInfo())
    assert [sample.cpu_ns for sample in profile.samples] == [1000 * (LOOKS - 1)]
    each = 1000 * (LOOKS // 3)
    found = {profile.spans[part.span]: part.cpu_ns for part in profile.span_samples}
    assert found == {
        ref_of(1): pytest.approx(each, abs=1000),
        ref_of(2): pytest.approx(each, abs=1000),
    }


def test_samples_over_the_recorders_cap_keep_their_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprof.samplers.recorder.MIN_SAMPLES", 2)
    recorder = Recorder(max_nodes=1)
    thread = recorder.thread("t")
    number = recorder.spans._number(trace.NonRecordingSpan(context_with(1)))
    for group in range(5):
        recorder.add(recorder.group(f"g{group}", "asyncio"), thread, -1, State.ON_CPU, 7, 0, number)
    builder = ProfileBuilder()
    recorder.fill(builder, FrameTable())
    profile = builder.build(ProfileInfo())
    assert sum(part.wall_ns for part in profile.span_samples) == 35
    whole(profile)


def test_a_snapshot_while_the_spans_are_open(traced: Tracer) -> None:
    profiler = Profiler(500).start()
    try:
        with traced.span("open") as span:
            burn(0.1)
            snapshot = profiler.snapshot()
    finally:
        profile = profiler.stop()
    ids = spancontext.ids_of(span)
    assert ids is not None
    assert snapshot.spans == profile.spans == [SpanRef(*ids)]
    for one in (snapshot, profile, profile.subtract(snapshot)):
        whole(one)


@measuring
def test_samples_of_awaits_point_to_spans_that_were_exported(traced: Tracer) -> None:
    """An await too short to be exported leaves its samples to the span of the code that awaits."""

    async def io(wait_s: float) -> None:
        await asyncio.sleep(wait_s)

    def statements() -> None:
        with traced.span("statements"):
            await_only(io(0.2))
            for _ in range(20):
                await_only(io(0.01))

    async def main() -> None:
        await asyncio.gather(*(greenlet_spawn(statements) for _ in range(3)))

    with greenprof.profile(500) as p, greenprof.trace(traced.provider, min_duration=0.15):
        asyncio.run(main())
    profile, exported = p.profile, traced.exported
    whole(profile)
    assert set(profile.spans) <= exported.keys()
    awaits = [span for span in exported.values() if span.name.startswith("await ")]
    ids = {(span.attributes or {}).get("greenprof.profile.id") for span in awaits}
    assert ids == {profile.info.profile_id}
    waited: Counter[str] = Counter()
    for part in profile.span_samples:
        waited[exported[profile.spans[part.span]].name.partition(" ")[0]] += part.wall_ns
    assert waited["await"] / 1e9 == pytest.approx(3 * 0.2, rel=0.4)
    assert waited["statements"] / 1e9 > 3 * 20 * 0.01 * 0.6
