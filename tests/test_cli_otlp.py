"""`greenprof run --otlp`: where spans are sent, what the program notices of it, and what is said at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_programs import one_line_error, write_program
from tests.otlp_receiver import Received, Receiver, running_receiver, spans_in
from tests.running import Finished, run_greenprof, run_python
from tests.span_programs import AWAITS, free_endpoint


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def run(folder: Path, source: str, *options: str, expect: int = 0, **env: str) -> Finished:
    """Runs a program with the options; the profile is out of the way."""
    write_program(folder, "app.py", source)
    return run_greenprof(
        "run", "-f", "-o", "app.gprof", *options, "app.py", cwd=folder, expect=expect, env=env
    )


def last_line(finished: Finished) -> str:
    return finished.stderr.splitlines()[-1]


# What is typed, and what the environment says.


def test_the_environment_counts(tmp_path: Path, receiver: Receiver) -> None:
    finished = run(
        tmp_path,
        f"{AWAITS}awaits(2)\n",
        "--otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="x-key=abc",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME="orders",
    )
    assert last_line(finished) == f"greenprof: sent 2 spans to {receiver.http_endpoint}/v1/traces"
    assert {span.resource["service.name"] for span in receiver.wait_for(2)} == {"orders"}
    assert receiver.headers[0]["x-key"] == "abc"
    assert receiver.headers[0]["content-encoding"] == "gzip"


def test_a_sampler_of_the_environment_counts(tmp_path: Path, receiver: Receiver) -> None:
    finished = run(
        tmp_path,
        f"{AWAITS}awaits(2)\n",
        f"--otlp={receiver.http_endpoint}",
        OTEL_TRACES_SAMPLER="always_off",
    )
    assert last_line(finished) == f"greenprof: sent 0 spans to {receiver.http_endpoint}/v1/traces"


def test_without_a_service_s_name_it_is_the_program_s(tmp_path: Path, receiver: Receiver) -> None:
    run(tmp_path, f"{AWAITS}awaits(1)\n", "--otlp", receiver.http_endpoint)
    (span,) = receiver.wait_for(1)
    assert span.resource["service.name"] == "app"
    assert span.attributes["code.function.name"].endswith("handler")
    assert span.attributes["greenprof.outcome"] == "returned"


def test_options_of_spans(tmp_path: Path, receiver: Receiver) -> None:
    source = f"{AWAITS}awaits(2)\nawaits(1, 0.2)\n"
    options = ("--otlp", receiver.http_endpoint, "--span-min", "100ms", "--span-stack", "150ms")
    run(tmp_path, source, *options)
    (span,) = receiver.wait_for(1)
    assert "handler" in span.attributes["code.stacktrace"]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    write_program(tmp_path, "app.py", "print('ran')")
    for words, said in (
        (["--otlp", "ftp://h", "app.py"], "cannot send spans to 'ftp://h': give a URL"),
        (
            ["--otlp", "localhost:99999", "app.py"],
            "'http://localhost:99999': give a port from 1 to",
        ),
        (["--otlp"], "no program given"),
        (["--otlp", "h:4317"], "no program given"),
        (["--span-min", "5ms", "app.py"], "--span-min is about spans: add --otlp or --spans FILE"),
        (["--otlp", "--span-min", "5", "app.py"], "'5' is no duration; give one with its unit"),
        (["--otlp", "--span-stack", "often", "app.py"], "'often' is none of never, slow, always"),
        (["--otlp", "--span-stack", "5 days", "app.py"], "'5 days' is no duration"),
    ):
        assert said in one_line_error("run", *words, cwd=tmp_path)
    said = one_line_error(
        "run", "--otlp", "app.py", cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_PROTOCOL": "thrift"}
    )
    assert said.startswith("greenprof run: OTEL_EXPORTER_OTLP_PROTOCOL is 'thrift'")


@pytest.mark.parametrize("endpoint", ["h:4317", "h:4318"])
def test_without_the_exporter_one_line_says_what_to_install(tmp_path: Path, endpoint: str) -> None:
    write_program(tmp_path, "app.py", "print('ran')")
    finished = run_python(
        "-c",
        "import sys; sys.modules['opentelemetry.exporter.otlp.proto'] = None; import greenprof.cli;"
        f" sys.exit(greenprof.cli.main(['run', '--otlp', '{endpoint}', 'app.py']))",
        cwd=tmp_path,
        expect=2,
    )
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.endswith("pip install 'greenprof[otlp]'\n")


def test_settings_that_the_exporter_refuses_are_told(tmp_path: Path, receiver: Receiver) -> None:
    finished = run(
        tmp_path,
        f"{AWAITS}awaits(1)\n",
        "--otlp",
        receiver.grpc_endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_TIMEOUT="soon",
    )
    assert "1 failed: could not convert string to float" in last_line(finished)


# The program's own tracer provider.

PROVIDER = """\
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
awaits(1)
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "greenprof set one"
tracer = trace.get_tracer("app")
provider = TracerProvider()
{setup}
trace.set_tracer_provider(provider)
with tracer.start_as_current_span("early"):
    pass
with tracer.start_as_current_span("request"):
    awaits(2)
assert trace.get_tracer_provider() is provider
"""


def test_the_program_s_own_provider_wins(tmp_path: Path, receiver: Receiver) -> None:
    """What it sets later is found by the tracer it got earlier, and all of its spans are sent."""
    setup = (
        "from opentelemetry.sdk.trace.export import *\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "memory = InMemorySpanExporter()\n"
        "provider.add_span_processor(SimpleSpanProcessor(memory))"
    )
    source = AWAITS + PROVIDER.format(setup=setup)
    source += "print([span.name for span in memory.get_finished_spans()])\n"
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint)
    assert finished.stdout == "['early', 'await app.work', 'await app.work', 'request']\n"
    spans = receiver.wait_for(5)
    assert Counter(span.name for span in spans) == {"await app.work": 3, "early": 1, "request": 1}
    (request,) = [span for span in spans if span.name == "request"]
    inside = [span for span in spans if span.parent_id == request.span_id]
    assert [span.name for span in inside] == ["await app.work"] * 2
    assert len({span.resource["service.name"] for span in spans}) == 2


def test_what_the_program_sends_itself_is_not_sent_twice(
    tmp_path: Path, receiver: Receiver
) -> None:
    setup = (
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter\n"
        f"exporter = OTLPSpanExporter(endpoint='{receiver.http_endpoint}/v1/traces')\n"
        "provider.add_span_processor(BatchSpanProcessor(exporter))"
    )
    finished = run(
        tmp_path, AWAITS + PROVIDER.format(setup=setup), "--otlp", receiver.http_endpoint
    )
    assert last_line(finished) == (
        f"greenprof: sent 1 span to {receiver.http_endpoint}/v1/traces;"
        " 4 left to the program, which sends there itself"
    )
    spans = receiver.wait_for(5)
    assert len({span.span_id for span in spans}) == len(spans) == 5


def test_a_provider_that_takes_no_processors_gets_the_spans_alone(
    tmp_path: Path, receiver: Receiver
) -> None:
    source = f"""{AWAITS}
from opentelemetry import trace
class Tracer(trace.NoOpTracer):
    def start_span(self, name, *args, **options):
        print(name)
        return super().start_span(name, *args, **options)
class Provider(trace.TracerProvider):
    def get_tracer(self, *args, **options):
        return Tracer()
trace.set_tracer_provider(Provider())
awaits(1)
"""
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint)
    assert finished.stdout == "await app.work\n"
    assert "the program's tracer provider takes no span processors" in last_line(finished)


# What the program notices: nothing.


def test_the_program_s_process_stays_what_it_is(tmp_path: Path, receiver: Receiver) -> None:
    source = f"""{AWAITS}
import threading
awaits(3)
# Some releases of libffi, by which ctypes calls, keep their own file open.
held = sum("libffi" in os.path.realpath(f"/proc/self/fd/{{fd}}") for fd in range(3, 9))
file = open(os.devnull)
heavy = {{"grpc", "requests", "urllib3", "google.protobuf", "ssl"}}
print(threading.active_count(), len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1)
print(file.fileno() - held, sorted(heavy & set(sys.modules) - {{"ssl"}}))
try:
    os.wait()
except ChildProcessError:
    print("no children")
"""
    write_program(tmp_path, "app.py", source)
    plain = run_python("app.py", cwd=tmp_path)
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint)
    without = run(tmp_path, source)
    assert finished.stdout == without.stdout
    assert (
        finished.stdout.splitlines()[1:] == plain.stdout.splitlines()[1:] == ["3 []", "no children"]
    )


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_program_that_forks(tmp_path: Path, receiver: Receiver, protocol: str) -> None:
    """The children make no spans of greenprof's, and end as they would; and no thread comes."""
    source = f"""{AWAITS}
awaits(1)
for _ in range(3):
    child = os.fork()
    if not child:
        awaits(2)
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
awaits(1)
"""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    finished = run(tmp_path, source, "-q", "--otlp", endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    # Where Python warns of forks in a process of several threads, it does for the same ones without.
    without = run(tmp_path, source, "-q")
    assert without_pids(finished.stderr) == without_pids(without.stderr)
    assert len(receiver.wait_for(2)) == 2


def test_that_children_send_nothing_is_said(tmp_path: Path, receiver: Receiver) -> None:
    """Of children that go on with the program, not of other programs that it starts."""
    to = f"greenprof: sent 1 span to {receiver.http_endpoint}/v1/traces"
    starts = "import subprocess\nsubprocess.run(['true'], preexec_fn=lambda: None, check=True)\n"
    finished = run(tmp_path, f"{AWAITS}awaits(1)\n{starts}", "--otlp", receiver.http_endpoint)
    assert last_line(finished) == to
    forks = "if not os.fork():\n    awaits(2)\n    sys.exit()\nos.wait()\n"
    finished = run(tmp_path, f"{AWAITS}awaits(1)\n{forks}", "--otlp", receiver.http_endpoint)
    assert last_line(finished) == f"{to}; forked children send none"


def test_a_span_that_cannot_be_sent_is_lost_alone(tmp_path: Path, receiver: Receiver) -> None:
    source = """\
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        tracer = trace.get_tracer("app")
        for number in range(20):
            tracer.start_span(f"span {number}").end()
        context = trace.SpanContext(2**130, 2**70, is_remote=True)
        tracer.start_span("odd", links=[trace.Link(context, {"a": 1})]).end()
        with tracer.start_as_current_span("early", start_time=-1) as span:
            span.add_event("late", {"big": 2**70}, 2**64)
    """
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint, "--spans", "s.jsonl")
    sent, wrote = finished.stderr.splitlines()[-2:]
    assert "sent 21 of 22 spans" in sent
    assert "wrote 21 of 22 spans" in wrote
    assert "1 failed: " in sent
    written = {span.span_id for span in spans_in(tmp_path / "s.jsonl")}
    assert written == {span.span_id for span in receiver.wait_for(21)}
    early = next(span.span for span in receiver.wait_for(21) if span.name == "early")
    assert (early.start_time_unix_nano, early.events[0].time_unix_nano) == (0, 2**64 - 1)
    assert early.events[0].attributes[0].value.string_value == str(2**70)


def without_pids(printed: str) -> str:
    return re.sub(r"pid=\d+", "pid", printed)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_program_that_gevent_patches(tmp_path: Path, receiver: Receiver, protocol: str) -> None:
    """gevent warns of an ssl imported too early where urllib3 is there as well: as by an exporter in here."""
    source = """\
        from gevent import monkey
        monkey.patch_all()
        import gevent, time, urllib3
        gevent.joinall([gevent.spawn(time.sleep, 0.01) for _ in range(3)])
    """
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    finished = run(tmp_path, source, "-q", "--otlp", endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert finished.stderr == ""
    sleeps = receiver.wait_until(lambda spans: count_of("await gevent.hub.sleep", spans) == 3)
    assert {span.attributes["greenprof.bridge"] for span in sleeps} == {"gevent"}


def count_of(name: str, spans: list[Received]) -> int:
    return sum(span.name == name for span in spans)


def test_a_program_that_closes_all_files(tmp_path: Path, receiver: Receiver) -> None:
    """Its own files get the numbers of greenprof's; nothing of ours is written into them."""
    source = f"""{AWAITS}
awaits(1)
os.closerange(3, 256)
files = [os.open(f"file{{i}}", os.O_CREAT | os.O_RDWR) for i in range(200)]
awaits(2)
print({{os.fstat(file).st_size for file in files}})
"""
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint)
    assert finished.stdout == "{0}\n"
    assert "the program closed greenprof's connection" in last_line(finished)


def test_a_program_to_which_sigpipe_is_deadly(tmp_path: Path, receiver: Receiver) -> None:
    """The sending process may die; the program does not."""
    source = f"""{AWAITS}
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
import subprocess
awaits(1)
listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
for line in listed.splitlines():
    if "greenprof.cli.sending" in line and "{receiver.http_port}" in line:
        os.kill(int(line.split()[0]), signal.SIGKILL)
        print("killed")
time.sleep(0.2)
awaits(2)
print("lives")
"""
    finished = run(tmp_path, source, "--otlp", receiver.http_endpoint, expect=0)
    assert finished.stdout == "killed\nlives\n"
    assert "failed: " in last_line(finished)


@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGKILL, False)]
)
def test_signals(tmp_path: Path, receiver: Receiver, number: signal.Signals, ended: bool) -> None:
    """Also to the whole group, as from a terminal. What was made before a SIGKILL is sent all the same."""
    write_program(
        tmp_path, "app.py", f"{AWAITS}awaits(3)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    words = ["run", "-o", "app.gprof", "--otlp", receiver.http_endpoint, "app.py"]
    with subprocess.Popen(
        [sys.executable, "-m", "greenprof", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert len(receiver.wait_for(3)) == 3
    assert err.endswith("sent 3 spans to " + receiver.http_endpoint + "/v1/traces\n") is ended


def test_os_exit_loses_no_spans(tmp_path: Path, receiver: Receiver) -> None:
    run(tmp_path, f"{AWAITS}awaits(3)\nos._exit(7)\n", "--otlp", receiver.http_endpoint, expect=7)
    assert len(receiver.wait_for(3)) == 3


def test_nothing_to_say_is_nothing_said(tmp_path: Path, receiver: Receiver) -> None:
    source = f"{AWAITS}awaits(3)\n"
    assert run(tmp_path, source, "-q", "--otlp", receiver.http_endpoint).stderr == ""
    failed = run(tmp_path, source, "-q", "--otlp", free_endpoint())
    assert failed.stderr.startswith("greenprof: sent 0 of 3 spans to http://127.0.0.1:")
    assert failed.stderr.count("\n") == 1


def test_a_receiver_that_refuses(tmp_path: Path, receiver: Receiver) -> None:
    finished = run(
        tmp_path,
        f"{AWAITS}awaits(3)\n",
        "--otlp",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.http_endpoint}/elsewhere",
    )
    assert last_line(finished).endswith("3 failed: HTTP status 404")


def test_more_spans_than_may_wait_are_counted(tmp_path: Path) -> None:
    finished = run(
        tmp_path,
        f"{AWAITS}awaits(50, 0)\n",
        "--otlp",
        free_endpoint(),
        OTEL_BSP_MAX_QUEUE_SIZE="10",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5",
    )
    line = last_line(finished)
    assert "sent 0 of 50 spans" in line
    assert "dropped: queue full" in line


def test_many_spans_arrive_all(tmp_path: Path, receiver: Receiver) -> None:
    finished = run(tmp_path, f"{AWAITS}awaits(5000, 0)\n", "--otlp", receiver.http_endpoint)
    assert (
        last_line(finished) == f"greenprof: sent 5000 spans to {receiver.http_endpoint}/v1/traces"
    )
    assert len({span.span_id for span in receiver.wait_for(5000)}) == 5000
