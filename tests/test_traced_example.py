"""The traced example sends what its README says, by both protocols, in code and by the command."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.otlp_receiver import Received, Receiver, running_receiver
from tests.postgres import Postgres
from tests.running import REPOSITORY, Finished, run_python

FOLDER = REPOSITORY / "examples" / "traced_orders"
SERVICE = FOLDER / "service.py"
CUSTOMERS, ORDERS_EACH = 8, 5
STATEMENT = "GET /customers/{customer_id}/statement"
START = "fill the shop"
# What SQLAlchemy awaits for one: of 2.1, of 2.0 with aiosqlite, and with asyncpg.
QUERY = re.compile(r"_execute_async$|\.Cursor\.execute$|_prepare_and_execute$")
# Of the instrumentors that this suite has installed: those that the example does without.
OTHERS = "asgi,httpx,sqlalchemy"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def said(done: Finished) -> tuple[int, int]:
    """What the program printed: how many requests it answered, how many awaits were recorded."""
    serving, requests, awaits = done.stdout.splitlines()
    assert re.fullmatch(r"serving http://127\.0\.0\.1:\d+", serving)
    recorded = re.fullmatch(r"(\d+) of (\d+) awaits recorded, dropped: {}", awaits)
    assert recorded is not None
    assert recorded[1] == recorded[2]
    return int(requests.removesuffix(" requests")), int(recorded[1])


def of_service(spans: list[Received], name: str) -> list[Received]:
    return [span for span in spans if span.resource.get("service.name") == name]


def by_trace(spans: list[Received]) -> dict[str, list[Received]]:
    """The spans of each trace that a request began; every parent is there, and of the same trace."""
    known = {span.span_id: span for span in spans}
    traces: dict[str, list[Received]] = defaultdict(list)
    for span in spans:
        if span.parent_id:
            assert known[span.parent_id].trace_id == span.trace_id
        traces[span.trace_id].append(span)
    return {
        trace: found
        for trace, found in traces.items()
        if any(span.name.startswith("GET ") for span in found)
    }


def assert_whole(spans: list[Received]) -> None:
    """Every request has its own awaits, each at the line that waited."""
    traces = by_trace(spans)
    routes: Counter[str] = Counter()
    lazily: Counter[int] = Counter()
    for found in traces.values():
        [request] = [span for span in found if not span.parent_id]
        routes[request.name] += 1
        awaits = [span for span in found if span.scope == "greenprof"]
        assert {span.attributes["greenprof.bridge"] for span in awaits} == {"sqlalchemy"}
        queries = [span for span in awaits if QUERY.search(span.name)]
        assert queries
        for span in queries:
            assert span.parent_id == request.span_id
            assert span.span.start_time_unix_nano >= request.span.start_time_unix_nano
            assert span.span.end_time_unix_nano <= request.span.end_time_unix_nano
        in_service = [s for s in queries if s.attributes["code.file.path"] == str(SERVICE)]
        assert len({span.attributes["greenprof.task"] for span in in_service}) <= 1
        if request.name == STATEMENT:
            functions = Counter(span.attributes["code.function.name"] for span in in_service)
            assert set(functions) <= {"service.statement", "service.order_total"}
            lazily[functions["service.order_total"]] += 1
    assert routes == {STATEMENT: CUSTOMERS, "GET /customers": 1}
    # Half of the customers' orders are loaded eagerly, the others' lines one by one.
    assert lazily == {0: CUSTOMERS // 2, ORDERS_EACH: CUSTOMERS // 2}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_its_traces_arrive_whole(receiver: Receiver, protocol: str) -> None:
    name = f"by {protocol} {uuid4()}"  # not to meet what an earlier try sent
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    done = run_python(
        *("-W", "error", SERVICE),
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": name,
        },
    )
    requests, awaits = said(done)
    assert done.stderr == ""
    assert requests == CUSTOMERS + 1
    expected = awaits + requests + 1  # the start has a span too
    receiver.wait_until(lambda spans: len(of_service(spans, name)) >= expected)
    spans = of_service(receiver.spans, name)
    assert len(spans) == expected
    assert Counter(span.name for span in spans)[START] == 1
    assert_whole(spans)
    for span in spans:
        seconds = (span.span.end_time_unix_nano - span.span.start_time_unix_nano) / 1e9
        if span.scope == "greenprof":
            assert ("code.stacktrace" in span.attributes) is (seconds >= 0.02), span.name


def test_it_has_a_name_of_its_own(receiver: Receiver) -> None:
    run_python(SERVICE, env={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint})
    receiver.wait_until(lambda spans: bool(of_service(spans, "traced-orders")))


def test_it_serves_without_a_collector_and_ends_in_time() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening: connections are refused
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        began = time.monotonic()
        done = run_python(
            SERVICE,
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
        )
    assert time.monotonic() - began < 20
    assert said(done)[0] == CUSTOMERS + 1
    assert "Traceback" not in done.stderr
    assert "Failed to export" in done.stderr


BY_COMMAND = "import asyncio, service; asyncio.run(service.serve(0, forever=False))"


def by_command(receiver: Receiver, name: str, **variables: str) -> list[Received]:
    """Runs the service with `opentelemetry-instrument`, without `traced`; returns what arrived of it."""
    name = f"{name} {uuid4()}"
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    done = run_python(
        *(command, sys.executable, "-c", BY_COMMAND),
        cwd=FOLDER,
        env={
            "OTEL_SERVICE_NAME": name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": OTHERS,
            **variables,
        },
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == [f"{CUSTOMERS + 1} requests"]

    def complete(spans: list[Received]) -> bool:
        requests = [span for span in of_service(spans, name) if span.name.startswith("GET ")]
        return len([span for span in requests if not span.parent_id]) == CUSTOMERS + 1

    # They are sent in the order in which they ended: a request after its awaits.
    receiver.wait_until(complete)
    return of_service(receiver.spans, name)


def test_the_command_sends_the_same_traces(receiver: Receiver) -> None:
    assert_whole(by_command(receiver, "by the command"))


def test_a_drivers_spans_are_below_the_awaits(receiver: Receiver, postgres: Postgres) -> None:
    spans = by_command(receiver, "with a driver", DATABASE_URL=postgres.url("asyncpg"))
    assert_whole(spans)
    known = {span.span_id: span for span in spans}
    driver = [
        span
        for found in by_trace(spans).values()
        for span in found
        if span.scope == "opentelemetry.instrumentation.asyncpg"
    ]
    queries = [span for span in driver if span.name == "SELECT"]
    assert len(queries) >= CUSTOMERS
    for span in driver:
        parent = known[span.parent_id]
        assert parent.scope == "greenprof"
        assert parent.span.start_time_unix_nano <= span.span.start_time_unix_nano
        assert span.span.end_time_unix_nano <= parent.span.end_time_unix_nano
