"""Where spans go wrong first: contexts that nobody thinks of, threads of old, samplers, patches."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from sqlalchemy.util import greenlet_spawn

import greenprof
from tests.running import run_python
from tests.sqlalchemy_programs import await_

# 2.1's name, and that of older ones.


async def leaf() -> None:
    await asyncio.sleep(0)


def sync() -> None:
    await_(leaf())


def recording() -> tuple[TracerProvider, InMemorySpanExporter]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def test_a_coroutine_gets_its_span_back_where_no_hub_was_ever_imported() -> None:
    """With a hub's library loaded every switch is told of; without, the greenlet's end has to be."""
    program = """
import asyncio, sys
import greenprof
from greenlet import getcurrent, greenlet
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

tracer = (provider := TracerProvider()).get_tracer("test")

async def as_async(function):
    child = greenlet(function)
    handed = child.switch()
    while not child.dead:
        handed = child.switch(await handed)

def sync():
    with tracer.start_as_current_span("sync"):
        getcurrent().parent.switch(asyncio.sleep(0))

async def main():
    with tracer.start_as_current_span("request"):
        await as_async(sync)
        print(trace.get_current_span().name)

with greenprof.trace(provider):
    asyncio.run(main())
assert not {"gevent", "eventlet", "greenletio", "playwright"} & set(sys.modules)
"""
    assert run_python("-c", program).stdout == "request\n"


def test_threads_are_followed_again_after_the_last_tracing_has_stopped() -> None:
    provider, _ = recording()
    steps: list[threading.Event] = [threading.Event() for _ in range(2)]
    done = threading.Event()

    def work() -> None:
        for step in steps:
            step.wait(20)
            asyncio.run(greenlet_spawn(sync))
            done.set()

    counts = []
    thread = threading.Thread(target=work)
    for number, step in enumerate(steps):
        with greenprof.trace(provider) as tracing:
            if number == 0:
                thread.start()
            done.clear()
            step.set()
            assert done.wait(20)
        counts.append(tracing.counts.awaits)
    thread.join()
    assert counts == [1, 1]


class Looks(SpanProcessor):
    """One that wants to see spans begin."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def test_a_sampler_is_asked_once_for_each_span() -> None:
    """A second time would leave a quarter of the spans where half were wanted."""
    provider = TracerProvider(ParentBased(TraceIdRatioBased(0.5)), shutdown_on_exit=False)
    looks = Looks()
    provider.add_span_processor(looks)

    def many() -> None:
        for _ in range(400):
            await_(leaf())

    with greenprof.trace(provider) as tracing:
        asyncio.run(greenlet_spawn(many))
    assert 140 < len(looks.ended) < 260
    assert looks.begun == len(looks.ended) == tracing.counts.recorded


def test_a_block_holds_in_requests_that_begin_with_a_context_of_their_own() -> None:
    """As instrumentors make them of a request's headers, empty without any."""
    provider, exporter = recording()

    async def request() -> None:
        token = context_api.attach(context_api.Context())
        await greenlet_spawn(sync)
        context_api.detach(token)

    async def main() -> None:
        async with greenprof.trace(provider, scope="context"):
            await asyncio.gather(request(), request())
        await request()

    asyncio.run(main())
    assert len(exporter.get_finished_spans()) == 2


def test_a_coroutine_without_a_context_of_its_own_leaves_none_behind() -> None:
    provider, exporter = recording()

    class Done:
        def __await__(self) -> Any:
            return iter(())

    def run() -> None:
        coroutine = greenlet_spawn(lambda: await_(Done()))
        try:
            coroutine.send(None)
        except StopIteration:
            return

    found = []

    def in_thread() -> None:
        with greenprof.trace(provider):
            run()
            found.append(trace.get_current_span())

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found == [trace.INVALID_SPAN]
    assert len(exporter.get_finished_spans()) == 1


def test_threads_that_ask_for_a_spans_ids_at_once_all_get_the_same() -> None:
    provider, exporter = recording()
    tracer = provider.get_tracer("test")

    def child() -> None:
        tracer.start_span("child").end()

    async def fetch() -> None:
        await asyncio.gather(*(asyncio.to_thread(child) for _ in range(4)))

    async def main() -> None:
        for _ in range(100):
            await greenlet_spawn(lambda: await_(fetch()))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with greenprof.trace(provider):
            asyncio.run(main())
    finally:
        sys.setswitchinterval(interval)
    spans = exporter.get_finished_spans()
    ids = {one.context.span_id for one in spans if one.context is not None}
    children = [one for one in spans if one.name == "child"]
    assert len(children) == 400
    assert all(one.parent is not None and one.parent.span_id in ids for one in children)


def test_what_sync_code_was_given_is_not_what_was_raised() -> None:
    """An exception among the arguments, and one that an await returned, say nothing."""
    provider, exporter = recording()

    async def fails() -> None:
        raise LookupError

    async def returns() -> Exception:
        return KeyError("found")

    def audit(_: BaseException) -> None:
        await_(returns())
        try:
            await_(fails())
        except LookupError:
            pass

    with greenprof.trace(provider):
        asyncio.run(greenlet_spawn(audit, asyncio.CancelledError()))
    last = dict(exporter.get_finished_spans()[-1].attributes or {})
    assert (last["greenprof.outcome"], last["error.type"]) == ("raised", "LookupError")


def test_an_exporter_on_a_patched_socket_sends_outside_of_the_switch() -> None:
    """gevent may have patched sockets and not threads: what waits in a switch would hang for good."""
    program = """
from gevent import monkey
monkey.patch_all(thread=False)
import gevent, socket
import greenprof
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

here, there = socket.socketpair()
def echo():
    while data := there.recv(1):
        there.sendall(data)
gevent.spawn(echo)

class Sends(SpanExporter):
    sent = 0
    def export(self, spans):
        here.sendall(b"x")
        assert here.recv(1) == b"x"
        Sends.sent += len(spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(Sends()))
with greenprof.trace(provider) as tracing:
    workers = [gevent.spawn(gevent.sleep, 0.01) for _ in range(5)]
    print(len(gevent.joinall(workers, timeout=20)))
    with gevent.Timeout(20):
        while Sends.sent < 5:
            gevent.sleep(0.01)
print(tracing.counts.dropped)
"""
    assert run_python("-c", program).stdout == "5\n{}\n"


def test_a_tracing_that_stops_in_mid_await_leaves_no_child_without_its_parent() -> None:
    provider, exporter = recording()
    tracer = provider.get_tracer("test")
    tracing = greenprof.trace(provider)

    async def fetch() -> None:
        with tracer.start_as_current_span("child"):
            await asyncio.sleep(0)
            tracing.stop()

    tracing.start()
    asyncio.run(greenlet_spawn(lambda: await_(fetch())))
    spans = {one.name: one for one in exporter.get_finished_spans()}
    assert len(spans) == 2
    child = spans.pop("child")
    (parent,) = spans.values()
    assert child.parent == parent.context


def test_what_the_sdks_spans_let_be_read() -> None:
    provider, _ = recording()
    seen: dict[str, Any] = {}

    async def reads() -> None:
        span: Any = trace.get_current_span()
        span.set_attribute("said", 1)
        for name in ("name", "attributes", "kind", "start_time", "end_time", "parent", "events"):
            seen[name] = getattr(span, name)
        seen["resource"] = span.resource is provider.resource
        assert span.context == span.get_span_context()

    with greenprof.trace(provider):
        asyncio.run(greenlet_spawn(lambda: await_(reads())))
    assert seen.pop("start_time") > 1e18
    assert seen.pop("name").endswith("reads")
    assert seen.pop("attributes") == {"said": 1}
    assert seen == {
        "kind": trace.SpanKind.INTERNAL,
        "end_time": None,
        "parent": None,
        "events": (),
        "resource": True,
    }
