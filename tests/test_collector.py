"""Spans of a real program, through a real collector, to a receiver behind it; and what is said where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenprof.profiles import Profile
from tests import collector as rotel
from tests.cli_programs import write_program
from tests.collector import Collector, running_collector
from tests.otlp_receiver import Receiver, running_receiver
from tests.running import run_greenprof
from tests.span_programs import AWAITS, free_endpoint

# The bound of greenprof's, and what a busy machine adds.
END_S = 2.0 + 10.0
PROTOCOLS = ("http", "grpc")

WITH_SPANS_OF_ITS_OWN = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
tracer = trace.get_tracer("app")
with tracer.start_as_current_span("request"):
    awaits(3)
print("done")
sys.exit(3)
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def collector(receiver: Receiver, tmp_path: Path) -> Iterator[Collector]:
    if not rotel.available():
        pytest.skip(rotel.SKIP_REASON)
    folder = tmp_path / "collector"
    folder.mkdir()
    with running_collector(receiver, folder) as running:
        yield running


def endpoint_of(collector: Collector, protocol: str) -> str:
    return collector.http_endpoint if protocol == "http" else collector.grpc_endpoint


def environment(protocol: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc" if protocol == "grpc" else "http/protobuf"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_trace_arrives_through_a_collector(
    tmp_path: Path, receiver: Receiver, collector: Collector, protocol: str
) -> None:
    write_program(tmp_path, "app.py", AWAITS + WITH_SPANS_OF_ITS_OWN)
    endpoint = endpoint_of(collector, protocol)
    finished = run_greenprof(
        "run", "-o", "app.gprof", "--otlp", endpoint, "app.py",
        cwd=tmp_path, expect=3, env=environment(protocol),
    )  # fmt: skip
    assert finished.stdout == "done\n"
    shown = f"{endpoint}/v1/traces" if protocol == "http" else endpoint
    assert finished.stderr == f"greenprof: wrote app.gprof\ngreenprof: sent 4 spans to {shown}\n"
    spans = receiver.wait_for(4)
    (request,) = [span for span in spans if span.name == "request"]
    awaits = [span for span in spans if span.name == "await app.work"]
    assert len(awaits) == 3
    assert {span.parent_id for span in awaits} == {request.span_id}
    assert {span.trace_id for span in spans} == {request.trace_id}
    assert {span.scope for span in awaits} == {"greenprof"}
    profile = Profile.load(tmp_path / "app.gprof")
    assert profile.samples


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_stopped_midway(
    tmp_path: Path, receiver: Receiver, collector: Collector, protocol: str
) -> None:
    write_program(
        tmp_path,
        "app.py",
        AWAITS + "awaits(3)\nprint('ready', flush=True)\nsys.stdin.readline()\nawaits(2)\n"
        "print('done', flush=True)\nsys.exit(3)\n",
    )
    endpoint = endpoint_of(collector, protocol)
    with program(tmp_path, "--otlp", endpoint, protocol=protocol) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert [span.name for span in receiver.wait_for(3)] == ["await app.work"] * 3
        collector.stop()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        since = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - since < END_S
    assert process.returncode == 3
    assert f"greenprof: sent 3 of 5 spans to {endpoint}" in err
    assert err.splitlines()[-1].lower().endswith("2 failed: connection refused"), err
    assert len(receiver.spans) == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_was_never_started(tmp_path: Path, protocol: str) -> None:
    write_program(
        tmp_path, "app.py", AWAITS + "awaits(3)\nprint('done', flush=True)\nsys.exit(3)\n"
    )
    endpoint = free_endpoint()
    with program(tmp_path, "--otlp", endpoint, protocol=protocol) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        since = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - since < END_S
    assert process.returncode == 3
    assert f"greenprof: sent 0 of 3 spans to {endpoint}" in err
    assert err.splitlines()[-1].lower().endswith("3 failed: connection refused"), err
    assert Profile.load(tmp_path / "app.gprof").samples


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_takes_connections_and_says_nothing(tmp_path: Path, protocol: str) -> None:
    write_program(tmp_path, "app.py", AWAITS + "awaits(3)\nprint('done', flush=True)\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with program(tmp_path, "--otlp", endpoint, protocol=protocol) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "done\n"
            since = time.monotonic()
            _, err = process.communicate(timeout=60)
    assert time.monotonic() - since < END_S
    assert process.returncode == 0
    assert err.splitlines()[-1].endswith("3 failed: no answer in time"), err


def test_where_a_collector_has_to_be_there_is_one() -> None:
    """Otherwise the tests above would be skipped everywhere, for nothing."""
    if not rotel.expected():
        pytest.skip(rotel.SKIP_REASON)
    assert rotel.available()


def program(
    folder: Path, *options: str, protocol: str, name: str = "app.py"
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "greenprof", "run", "-o", "app.gprof", *options, name],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment(protocol)},
    )
