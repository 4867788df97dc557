"""GreenprofInstrumentor: by `opentelemetry-instrument`, by code, and what the environment says."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy.util import await_only, greenlet_spawn

from greenprof.errors import OptionError
from greenprof.integrations.opentelemetry import GreenprofInstrumentor
from tests.running import Finished, run_python

VARIABLES = ("MIN_DURATION", "STACK", "SLOW_DURATION", "MAX_SPANS_PER_SECOND", "METRICS")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"GREENPROF_{name}", raising=False)


@pytest.fixture
def instrumentor() -> Iterator[GreenprofInstrumentor]:
    made = GreenprofInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()


class Collected:
    """A tracer provider and what was recorded with it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def awaits(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith("await ")]


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.provider.shutdown()


async def look_up() -> None:
    await asyncio.sleep(0.001)


def sync_code(times: int) -> None:
    for _ in range(times):
        await_only(look_up())


def work(times: int = 1) -> None:
    """Sync code that awaits, so often, over SQLAlchemy's bridge."""

    async def main() -> None:
        await greenlet_spawn(sync_code, times)

    asyncio.run(main())


def test_it_traces_from_instrument_to_uninstrument(
    instrumentor: GreenprofInstrumentor, collected: Collected
) -> None:
    work()
    instrumentor.instrument(tracer_provider=collected.provider)
    with collected.provider.get_tracer("test").start_as_current_span("request") as request:
        work(2)
    instrumentor.uninstrument()
    work()
    assert [span.name for span in collected.awaits] == [f"await {__name__}.look_up"] * 2
    for span in collected.awaits:
        assert span.parent == request.get_span_context()


def test_it_can_be_turned_on_again(
    instrumentor: GreenprofInstrumentor, collected: Collected
) -> None:
    for _ in range(2):
        instrumentor.instrument(tracer_provider=collected.provider)
        work()
        instrumentor.uninstrument()
    assert len(collected.awaits) == 2


def test_turned_on_twice_it_traces_once_and_says_so(
    instrumentor: GreenprofInstrumentor, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor.instrument(tracer_provider=collected.provider)
    instrumentor.instrument(tracer_provider=collected.provider)
    work()
    assert len(collected.awaits) == 1
    assert "already instrumented" in caplog.text


def test_options_in_code_go_before_the_environment(
    instrumentor: GreenprofInstrumentor, collected: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENPROF_MIN_DURATION", "60")
    monkeypatch.setenv("GREENPROF_STACK", "always")
    instrumentor.instrument(tracer_provider=collected.provider, min_duration=0.0)
    work()
    [span] = collected.awaits
    assert "code.stacktrace" in (span.attributes or {})


def test_a_bad_option_in_code_is_an_error_and_leaves_it_off(
    instrumentor: GreenprofInstrumentor,
) -> None:
    with pytest.raises(OptionError, match="stack is 'sometimes'"):
        instrumentor.instrument(stack="sometimes")
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_what_other_instrumentors_are_told_is_ignored_with_a_word(
    instrumentor: GreenprofInstrumentor, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor.instrument(tracer_provider=collected.provider, excluded_urls="/health")
    work()
    assert len(collected.awaits) == 1
    [record] = [record for record in caplog.records if record.name == "greenprof"]
    assert "ignores excluded_urls" in record.getMessage()
    assert "min_duration" in record.getMessage()


def stacks(spans: list[ReadableSpan]) -> list[bool]:
    return ["code.stacktrace" in (span.attributes or {}) for span in spans]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [False] * 5),
        ({"MIN_DURATION": "60"}, []),
        ({"STACK": "always"}, [True] * 5),
        ({"STACK": " slow "}, [False] * 5),
        ({"STACK": "slow", "SLOW_DURATION": "1e-6"}, [True] * 5),
        ({"MAX_SPANS_PER_SECOND": "1"}, [False]),
        ({"MAX_SPANS_PER_SECOND": "", "STACK": ""}, [False] * 5),
    ],
)
def test_the_environment_chooses(
    instrumentor: GreenprofInstrumentor,
    collected: Collected,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    expected: list[bool],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"GREENPROF_{name}", value)
    instrumentor.instrument(tracer_provider=collected.provider)
    work(5)
    assert stacks(collected.awaits) == expected
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MIN_DURATION", "5ms", "it is left at 0.0"),
        ("MIN_DURATION", "-1", "give seconds, 0 or more; it is left at 0.0"),
        ("MIN_DURATION", "nan", "give seconds, 0 or more; it is left at 0.0"),
        ("STACK", "sometimes", "give one of 'never', 'slow', 'always'; it is left at 'never'"),
        ("SLOW_DURATION", "inf", "give seconds, 0 or more; it is left at 0.1"),
        ("MAX_SPANS_PER_SECOND", "0", "give a number above 0, or None for no limit"),
        ("MAX_SPANS_PER_SECOND", "many", "give a number above 0, or None for no limit"),
        ("METRICS", "perhaps", "give true or false; it is left at False"),
    ],
)
def test_a_variable_that_makes_no_sense_is_said_once_and_the_default_counts(
    instrumentor: GreenprofInstrumentor,
    collected: Collected,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(f"GREENPROF_{variable}", value)
    instrumentor.instrument(tracer_provider=collected.provider)
    work(2)
    assert stacks(collected.awaits) == [False] * 2
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith(f"GREENPROF_{variable}: ")
    assert repr(value) in message or value in message
    assert said in message


@pytest.mark.parametrize(
    ("variable", "expected"), [("true", True), ("1", True), ("False", False), ("0", False)]
)
def test_the_environment_turns_metrics_on_or_off(
    instrumentor: GreenprofInstrumentor,
    collected: Collected,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    expected: bool,
) -> None:
    monkeypatch.setenv("GREENPROF_METRICS", variable)
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    try:
        instrumentor.instrument(tracer_provider=collected.provider, meter_provider=meters)
        work()
        data: Any = reader.get_metrics_data()
    finally:
        meters.shutdown()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
    assert ("greenprof.await.duration" in {metric.name for metric in metrics}) is expected
    assert len(collected.awaits) == 1


def test_it_needs_no_library_to_be_installed(instrumentor: GreenprofInstrumentor) -> None:
    assert list(instrumentor.instrumentation_dependencies()) == []


def test_its_entry_point_leads_to_it() -> None:
    [found] = importlib.metadata.entry_points(group="opentelemetry_instrumentor", name="greenprof")
    assert found.load() is GreenprofInstrumentor


def test_without_opentelemetrys_package_it_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['opentelemetry.instrumentation'] = None\n"
        "import greenprof.integrations.opentelemetry\n"
    )
    done = run_python("-c", code, expect=1)
    assert done.stderr.splitlines()[-1].endswith("pip install 'greenprof[instrumentor]'")


APP = """
import asyncio, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from opentelemetry import trace

async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    with trace.get_tracer("app").start_as_current_span("request"):
        async with engine.connect() as connection:
            answer = (await connection.execute(text("select 42"))).scalar()
    await engine.dispose()
    return answer

print("the answer is", asyncio.run(main()), file=sys.stderr)
sys.exit(3)
"""


def instrumented(tmp_path: Path, program: str, **variables: str) -> Finished:
    """Runs a program with `opentelemetry-instrument`, spans on its standard output."""
    app = tmp_path / "app.py"
    app.write_text(program, encoding="utf-8")
    chosen = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        # What this suite has installed for its other tests stays out of this program.
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "asgi,asyncpg,fastapi,httpx,sqlalchemy",
        **variables,
    }
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    return run_python(command, sys.executable, app, env=chosen, expect=None)


def printed(done: Finished) -> list[dict[str, Any]]:
    """The spans, or metrics, that the console exporter wrote: one JSON document after another."""
    decoder = json.JSONDecoder()
    found, rest = [], done.stdout.strip()
    while rest:
        span, end = decoder.raw_decode(rest)
        found.append(span)
        rest = rest[end:].lstrip()
    return found


def test_the_command_traces_a_program_that_knows_nothing_of_it(tmp_path: Path) -> None:
    done = instrumented(tmp_path, APP)
    assert done.returncode == 3
    assert done.stderr.splitlines() == ["the answer is 42"]
    spans = printed(done)
    [request] = [span for span in spans if span["name"] == "request"]
    # What SQLAlchemy awaits for one: of 2.1, and of 2.0.
    ends = ("_execute_async", ".Cursor.execute")
    queries = [span for span in spans if span["name"].endswith(ends)]
    assert queries
    for span in queries:
        assert span["parent_id"] == request["context"]["span_id"]
        assert span["attributes"]["greenprof.bridge"] == "sqlalchemy"
        assert span["attributes"]["code.file.path"] == str(tmp_path / "app.py")


def test_the_command_leaves_it_out_when_told_to(tmp_path: Path) -> None:
    off = "greenprof,asgi,asyncpg,fastapi,httpx,sqlalchemy"
    done = instrumented(tmp_path, APP, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=off)
    assert done.returncode == 3
    assert [span["name"] for span in printed(done)] == ["request"]


def test_the_command_runs_a_program_in_spite_of_bad_variables(tmp_path: Path) -> None:
    done = instrumented(
        tmp_path, APP, GREENPROF_MIN_DURATION="soon", GREENPROF_MAX_SPANS_PER_SECOND="-3"
    )
    assert done.returncode == 3
    warnings = [line for line in done.stderr.splitlines() if "GREENPROF_" in line]
    assert len(warnings) == 2
    assert len(done.stderr.splitlines()) == 3
    assert len(printed(done)) > 1


def test_the_command_exports_metrics_if_asked_to(tmp_path: Path) -> None:
    done = instrumented(
        tmp_path,
        APP,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="console",
        GREENPROF_METRICS="true",
    )
    assert done.returncode == 3
    text = json.dumps(printed(done))
    assert '"greenprof.greenlet.switches"' in text
    assert '"greenprof.await.duration"' in text


GEVENT_APP = """
from gevent import monkey; monkey.patch_all()
import sys, time
import gevent
from opentelemetry import trace

def visit(number):
    with trace.get_tracer("app").start_as_current_span(f"visit {number}"):
        time.sleep(0.01)

gevent.joinall([gevent.spawn(visit, number) for number in range(3)])
print("visited", file=sys.stderr)
"""


def test_the_command_traces_a_program_that_gevent_patches_later(tmp_path: Path) -> None:
    done = instrumented(tmp_path, GEVENT_APP)
    assert done.returncode == 0
    spans = printed(done)
    visits = {
        span["context"]["span_id"]: span for span in spans if span["name"].startswith("visit ")
    }
    assert len(visits) == 3
    waited = [span["parent_id"] for span in spans if span["parent_id"] in visits]
    assert sorted(waited) == sorted(visits)
