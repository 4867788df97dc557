"""`greenprof run --spans`: the file's contents, and the rules it is written by."""

from __future__ import annotations

import dis
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.span import NonRecordingSpan, TraceState

from greenprof.cli.otlpjson import request_line
from greenprof.cli.sender import Sender, SpanOutput
from greenprof.errors import OutputError
from greenprof.output import GrowingOutput
from tests.cli_programs import contents, one_line_error, write_program
from tests.otlp_receiver import requests_in, spans_in
from tests.running import run_greenprof, run_python
from tests.span_programs import AWAITS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_program(
        tmp_path,
        "app.py",
        f"""{AWAITS}
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
awaits(1)
trace.set_tracer_provider(TracerProvider())
with trace.get_tracer("app").start_as_current_span("request"):
    awaits(2)
print("done")
sys.exit(3)
""",
    )
    return tmp_path


def test_the_file_has_the_whole_tree(folder: Path) -> None:
    finished = run_greenprof(
        "run", "-o", "app.gprof", "--spans", "spans.jsonl", "app.py", cwd=folder, expect=3
    )
    assert finished.stdout == "done\n"
    assert finished.stderr == (
        "greenprof: wrote app.gprof\ngreenprof: wrote 4 spans to spans.jsonl\n"
    )
    spans = spans_in(folder / "spans.jsonl")
    (request,) = [span for span in spans if span.name == "request"]
    awaits = [span for span in spans if span.name == "await app.work"]
    assert sorted(span.parent_id for span in awaits) == ["", request.span_id, request.span_id]
    assert {span.scope for span in awaits} == {"greenprof"}
    assert all(span.span.end_time_unix_nano > span.span.start_time_unix_nano for span in spans)


def test_both_outputs_at_once_get_the_same(folder: Path) -> None:
    from tests.otlp_receiver import running_receiver

    with running_receiver() as receiver:
        finished = run_greenprof(
            "run", "-o", "app.gprof", "--spans", "spans.jsonl", "--otlp", receiver.http_endpoint,
            "app.py", cwd=folder, expect=3,
        )  # fmt: skip
        arrived = {span.span_id for span in receiver.wait_for(4)}
    assert arrived == {span.span_id for span in spans_in(folder / "spans.jsonl")}
    assert finished.stderr.splitlines()[-2:] == [
        f"greenprof: sent 4 spans to {receiver.http_endpoint}/v1/traces",
        "greenprof: wrote 4 spans to spans.jsonl",
    ]


def test_no_spans_make_an_empty_file(tmp_path: Path) -> None:
    write_program(tmp_path, "app.py", "print('done')")
    run_greenprof("run", "-q", "-o", "app.gprof", "--spans", "s.jsonl", "app.py", cwd=tmp_path)
    assert (tmp_path / "s.jsonl").read_bytes() == b""


def test_the_file_is_where_the_command_line_was(tmp_path: Path) -> None:
    write_program(tmp_path, "app.py", f"{AWAITS}os.chdir('/')\nawaits(1)\n")
    run_greenprof("run", "-q", "-o", "app.gprof", "--spans", "s.jsonl", "app.py", cwd=tmp_path)
    assert len(spans_in(tmp_path / "s.jsonl")) == 1


def test_the_rules_of_outputs_hold(folder: Path) -> None:
    (folder / "there.jsonl").write_text("mine")
    (folder / "same").symlink_to(folder)
    (folder / "link").symlink_to("x.gprof")
    for words, said in (
        (["--spans", "there.jsonl"], "'there.jsonl' exists; choose another name"),
        (["--spans", "no/s.jsonl"], "there is no directory 'no'; create it first"),
        (["--spans", "."], "it is a directory; name a file in it"),
        (["--spans", ""], "not a file name"),
        (["--spans", "-"], "give a file name, not standard output"),
        (["-o", "x.gprof", "--spans", "x.gprof"], "x.gprof is given twice"),
        (["-o", "x.gprof", "--spans", "same/x.gprof"], "same/x.gprof is given twice"),
        (["-o", "x.gprof", "--spans", f"../{folder.name}/x.gprof"], "x.gprof is given twice"),
        (["-o", "x.gprof", "--spans", "link"], "link is given twice"),
        (["-o", "x.gprof", "-f", "--spans", "link"], "link is given twice"),
        (["-o", "x.gprof", "-o", "same/x.gprof", "--spans", "s"], "same/x.gprof is given twice"),
    ):
        assert said in one_line_error("run", *words, "app.py", cwd=folder)


def test_force_replaces_a_file_and_no_link_s_target(folder: Path) -> None:
    target = folder / "target"
    target.write_text("precious")
    (folder / "s.jsonl").symlink_to(target)
    run_greenprof(
        "run", "-q", "-f", "-o", "app.gprof", "--spans", "s.jsonl", "app.py", cwd=folder, expect=3
    )
    assert target.read_text() == "precious"
    assert len(spans_in(folder / "s.jsonl")) == 4


def test_a_file_that_comes_in_between_is_kept(tmp_path: Path) -> None:
    write_program(tmp_path, "app.py", f"{AWAITS}open('s.jsonl', 'w').write('mine')\nawaits(2)\n")
    finished = run_greenprof("run", "-o", "a.gprof", "--spans", "s.jsonl", "app.py", cwd=tmp_path)
    assert (tmp_path / "s.jsonl").read_text() == "mine"
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("greenprof: wrote 0 of 2 spans to s.jsonl; 2 failed: ")
    assert "exists" in line


def test_a_program_that_never_began_leaves_no_file(tmp_path: Path) -> None:
    before = contents(tmp_path)
    run_greenprof("run", "--spans", "s.jsonl", "-m", "no_such_module", cwd=tmp_path, expect=2)
    assert contents(tmp_path) == before


def test_a_file_may_be_one_that_the_shell_opened(folder: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with open(reading, encoding="utf-8") as stream:
        words = ["run", "-q", "-o", "app.gprof", "--spans", f"/dev/fd/{writing}", "app.py"]
        process = subprocess.Popen(
            [sys.executable, "-m", "greenprof", *words], cwd=folder, pass_fds=[writing]
        )
        os.close(writing)
        lines = stream.read().splitlines()
        assert process.wait(60) == 3
    assert sum(len(json.loads(line)["resourceSpans"]) for line in lines) >= 1


def test_only_the_parent_writes(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        "app.py",
        f"{AWAITS}awaits(1)\nif not os.fork():\n    awaits(5)\n    sys.exit()\nos.wait()\n",
    )
    finished = run_greenprof("run", "-o", "app.gprof", "--spans", "s.jsonl", "app.py", cwd=tmp_path)
    assert len(spans_in(tmp_path / "s.jsonl")) == 1
    assert finished.stderr.endswith("wrote 1 span to s.jsonl; forked children write none\n")


def test_only_the_parent_writes_where_gevent_forks(tmp_path: Path) -> None:
    source = """\
        from gevent import monkey
        monkey.patch_all()
        import subprocess
        subprocess.run(["true"], check=True)
    """
    write_program(tmp_path, "app.py", source)
    finished = run_greenprof("run", "-o", "app.gprof", "--spans", "s.jsonl", "app.py", cwd=tmp_path)
    written = len(spans_in(tmp_path / "s.jsonl"))
    assert finished.stderr.endswith(f"wrote {written} spans to s.jsonl\n")


def test_no_exporter_need_be_installed(folder: Path) -> None:
    finished = run_python(
        "-c",
        "import sys; sys.modules['opentelemetry.exporter'] = sys.modules['google'] = None;"
        " import greenprof.cli;"
        " sys.exit(greenprof.cli.main("
        "['run', '-q', '-o', 'app.gprof', '--spans', 's.jsonl', 'app.py']))",
        cwd=folder,
        expect=3,
    )
    assert finished.stderr == ""
    assert len(spans_in(folder / "s.jsonl")) == 4


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """Here the disk is full where a file may not grow any more."""
    source = """\
        import resource, signal, sys
        from greenprof.errors import OutputError
        from greenprof.output import GrowingOutput
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        output = GrowingOutput("s.jsonl")
        output.append(b"x" * 3000 + b"\\n")
        try:
            output.append(b"y" * 3000 + b"\\n")
        except OutputError as error:
            print(error)
        output.append(b"z" * 30 + b"\\n")
        output.close()
    """
    write_program(tmp_path, "app.py", source)
    assert "cannot write to 's.jsonl'" in run_python("app.py", cwd=tmp_path).stdout
    assert (tmp_path / "s.jsonl").read_bytes() == b"x" * 3000 + b"\n" + b"z" * 30 + b"\n"


def test_a_growing_file_has_the_umask_s_mode(tmp_path: Path) -> None:
    for force in (False, True):
        output = GrowingOutput(tmp_path / "s.jsonl", force=force)
        output.append(b"1\n")
        output.append(b"2\n")
        output.close()
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((tmp_path / "s.jsonl").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
    with pytest.raises(OutputError, match="exists"):
        GrowingOutput(tmp_path / "s.jsonl").append(b"")


def made_spans() -> list[ReadableSpan]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "app", "ports": [1, 2]}, "https://schema/1"),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("app", "1.0", "https://schema/2", {"scope": True})
    state = TraceState([("vendor", "x")])
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    context = set_span_in_context(NonRecordingSpan(remote))
    # Without a state, which OpenTelemetry's encoder leaves out of links.
    linked = SpanContext(7, 8, is_remote=False)
    with (
        tracer.start_as_current_span(
            "parent", context, kind=SpanKind.SERVER, links=[Link(linked, {"a": 1})]
        ),
        tracer.start_as_current_span("child", attributes={"n": 2**60, "f": 1.5}) as span,
    ):
        span.set_attribute("list", [1.0, 2.0])
        span.set_attribute("yes", True)
        span.set_attribute("bytes", b"\x00\xff")
        span.set_attribute("umlaut", "ä\n\u2028")
        span.add_event("happened", {"why": "not"}, 123)
        span.set_status(Status(StatusCode.ERROR, "broken"))
    with provider.get_tracer("other").start_as_current_span("root") as span:
        span.set_attribute("f", float("inf"))
    return list(memory.get_finished_spans())


def test_the_json_is_what_opentelemetry_s_own_encoder_says(tmp_path: Path) -> None:
    """Read by protobuf's rules, it is the message that the OTLP exporter would have sent."""
    spans = made_spans()
    line = request_line(spans)
    assert line.count(b"\n") == 1
    (tmp_path / "s.jsonl").write_bytes(line)
    (request,) = requests_in(tmp_path / "s.jsonl")
    assert request == encode_spans(spans)


def test_the_ids_in_the_file_are_hexadecimal() -> None:
    span = json.loads(request_line(made_spans()[:1]))["resourceSpans"][0]["scopeSpans"][0]["spans"][
        0
    ]
    assert span["traceId"] == f"{5:032x}"
    assert len(span["spanId"]) == 16
    assert span["kind"] == 1
    assert span["status"] == {"code": 2, "message": "broken"}


class Struck(dict[str, Any]):
    """Attributes during whose reading a signal comes, once."""

    def keys(self) -> Any:
        if self.pop("struck", None):
            signal.raise_signal(signal.SIGUSR1)
        return super().keys()


def test_what_a_signal_handler_raises_reaches_the_program(tmp_path: Path) -> None:
    """It takes one span with it, even the first, which says what all later ones refer to."""

    class StoppedError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StoppedError

    path = str(tmp_path / "s.jsonl")
    sender = Sender([SpanOutput("file", {"path": path, "force": False})], limit_s=20)
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        first, *others = made_spans()
        first._attributes = Struck(struck=True)
        with pytest.raises(StoppedError):
            sender.on_end(first)
        for span in others:
            sender.on_end(span)
        sender.end()
        tally = sender.finish()["file"]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tally.out, tally.failed) == (len(others), 1)
    (request,) = requests_in(tmp_path / "s.jsonl")
    assert request == encode_spans(others)


class Interrupted(BaseException):
    """What the signal handlers of the next test raise."""


class Strike:
    """A trace function that raises at the n-th place of a handing over where a signal handler may run.

    Handlers run once a call has returned, at a function's start, and at a loop's next round.
    """

    PLACES = ("CALL", "RESUME", "JUMP_BACKWARD")

    def __init__(self, number: int) -> None:
        self.left = number
        self._last: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Strike | None:
        code = frame.f_code
        if event == "call" and code.co_qualname not in {"Sender._hand_over", "Sender._write"}:
            return None
        # Python 3.13 asks for both.
        frame.f_trace, frame.f_trace_lines, frame.f_trace_opcodes = self, False, True
        if event == "opcode":
            last = self._last.get(frame, "")
            self._last[frame] = dis.opname[code.co_code[frame.f_lasti]]
            if last.startswith(self.PLACES):
                self.left -= 1
                if self.left < 0:
                    raise Interrupted
        return self


def test_a_signal_handler_that_raises_anywhere_stops_no_later_span(tmp_path: Path) -> None:
    """Not even right after a span's thread has become the one that hands over."""
    path = str(tmp_path / "s.jsonl")
    sender = Sender([SpanOutput("file", {"path": path, "force": False})], limit_s=20)
    struck, later = made_spans()[:2]

    def is_struck(number: int) -> bool:
        before = sys.gettrace()
        sys.settrace(Strike(number))
        try:
            sender.on_end(struck)
        except Interrupted:
            return True
        finally:
            sys.settrace(before)
        return False

    # In Python 3.12, a function's first call tells of no opcodes.
    assert not is_struck(sys.maxsize)
    number = 0
    while is_struck(number):
        sender.on_end(later)
        number += 1
    sender.end()
    tally = sender.finish()["file"]
    names = [span.name for span in spans_in(tmp_path / "s.jsonl")]
    assert names.count(later.name) == number
    assert tally.out == len(names)
    assert number >= 8
