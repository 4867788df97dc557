"""Names and objects that are out to do harm: seen in no output as more than escaped letters, and nothing fails."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import pstats
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import greenprof
from greenprof.capture import Stack
from greenprof.cli.main import main
from greenprof.cli.otlpjson import request_line
from greenprof.exporters import exporters, find_exporter
from greenprof.printable import MOST_LETTERS, printable, reason, shown
from greenprof.profiler import Profiler
from greenprof.profiles import Frame, FrameKind, Profile, State
from greenprof.spans import complaints
from greenprof.spans.fitting import fit, fit_all
from tests.hostile_names import NAMES, Hostile, RaisesError, everything
from tests.profiles import profiles

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
TEXT_FORMATS = [each for each in exporters() if not each.binary]


def is_harmless(text: str) -> bool:
    """Whether a terminal shows it as it is: lines of printable letters, and nothing turned round."""
    return all(line.isprintable() for line in text.split("\n"))


@given(any_text, st.booleans())
def test_what_is_shown_is_one_printable_line_of_bounded_length(text: str, keep_end: bool) -> None:
    found = shown(text * 40, keep_end=keep_end)
    assert found.isprintable()
    assert len(found) <= MOST_LETTERS
    assert shown(text).encode() == printable(text).encode()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_stack_as_text_has_a_line_for_each_frame(name: str) -> None:
    frame = Frame(name, name, 3, 3, FrameKind.AWAITED)
    text = Stack((frame, frame), name, "asyncio", State.READY, error=name).text(2)
    assert is_harmless(text)
    assert text.count("\n") == 4
    assert len(text) < 8 * MOST_LETTERS


@settings(max_examples=30, deadline=None)
@given(profiles())
def test_no_text_format_has_a_control_character(profile: Profile) -> None:
    for exporter in TEXT_FORMATS:
        text = exporter.render(profile)
        assert isinstance(text, str)
        assert is_harmless(text), exporter.name
        text.encode()  # no lone surrogates


@settings(max_examples=50, deadline=None)
@given(profiles())
def test_a_collapsed_line_is_levels_and_a_number_whatever_they_are_called(
    profile: Profile,
) -> None:
    levels = 2 + max((len(profile.frame_ids(one.stack)) for one in profile.samples), default=0)
    for line in str(find_exporter("collapsed").render(profile)).splitlines():
        stack, _, weight = line.rpartition(" ")
        assert weight.isdecimal()
        assert len(stack.split(";")) <= levels


@given(any_text)
def test_names_for_spans_can_be_encoded(text: str) -> None:
    fit(text).encode()  # no lone surrogates
    assert len(fit(text * 100)) <= 8 * MOST_LETTERS
    assert fit_all({text: [text, 1], "b": text, "c": 1.5})["c"] == 1.5
    assert json.dumps(fit_all({text: (text,)}), ensure_ascii=False).encode()


def test_an_error_without_a_message_that_can_be_read() -> None:
    assert reason(RaisesError()) == "RaisesError: its message cannot be read"
    assert reason(ValueError("a\n\x1b[2J")) == "ValueError: a\\n\\x1b[2J"


def test_a_callable_of_the_programs_that_fails_with_such_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints._said.discard("test")
    with caplog.at_level(logging.WARNING, "greenprof"):
        complaints.complain_once("test", RaisesError())
    assert "RaisesError: its message cannot be read" in caplog.text


class Recorded:
    """What a run of the hostile program gave."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.pages: list[str] = []
        self.failed: list[Any] = []
        tracing = greenprof.trace(
            provider, stack="always", attributes=lambda info: {"said": info.path, "\ud800": "\udfff"}
        )  # fmt: skip
        with tracing, Profiler(**options) as profiler:
            asyncio.run(self._main())
        self.profile = profiler.profile
        self.spans = exporter.get_finished_spans()
        provider.shutdown()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        # What is raised into the loop, and not into the program, would be seen here alone.
        loop.set_exception_handler(lambda _, context: self.failed.append(context))
        looking = asyncio.create_task(self._look())
        await everything()
        looking.cancel()

    async def _look(self) -> None:
        while True:
            file = io.StringIO()
            greenprof.dump(file)
            self.pages.append(file.getvalue() + greenprof.format_stack())
            # To look for greenlets is a million calls, which the exact engine counts.
            await asyncio.sleep(0.05 if self._options.get("engine") != "exact" else 60)


@pytest.fixture(scope="module", params=["sampling", "exact"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    if request.param == "exact":
        return Recorded(engine="exact")
    return Recorded(rate_hz=1000.0, timeline=float("inf"), block_limit=0.01, awaits=True)


def test_the_program_runs_as_without_greenprof(recorded: Recorded) -> None:
    """Nothing that its objects raise gets back to it, nor makes the profiler lose an await."""
    assert recorded.failed == []
    assert not [text for text in recorded.profile.info.warnings if "RaisesError" in text]
    assert sum(stats.count for stats in recorded.profile.awaits) == 2 * (2 * len(NAMES) + 2)


def test_all_that_is_said_of_it_is_harmless(
    recorded: Recorded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = recorded.profile
    assert Profile.from_bytes(profile.to_bytes()) == profile
    assert max(len(frame.name) for frame in profile.frames) <= 4200
    for exporter in TEXT_FORMATS:
        text = exporter.render(profile)
        assert isinstance(text, str)
        assert is_harmless(text), exporter.name
    assert gzip.decompress(find_exporter("pprof").render(profile))  # type: ignore[arg-type]
    (tmp_path / "x.pstats").write_bytes(find_exporter("pstats").render(profile))  # type: ignore[arg-type]
    pstats.Stats(str(tmp_path / "x.pstats"), stream=io.StringIO()).print_stats()
    profile.save(tmp_path / "x.gprof")
    for words in (["show"], ["show", "--tree"], ["diff", str(tmp_path / "x.gprof")]):
        assert main([*words, str(tmp_path / "x.gprof")]) == 0
        written = capfd.readouterr()
        assert is_harmless(written.out)
        assert written.err == ""


def test_stacks_that_were_printed_are_harmless(recorded: Recorded) -> None:
    assert recorded.pages
    assert all(is_harmless(page) for page in recorded.pages)
    assert max(map(len, recorded.pages)) < 200_000


def test_spans_are_such_as_receivers_take(recorded: Recorded) -> None:
    """Protobuf refuses lone surrogates, and with the one span all that are sent with it."""
    assert len(recorded.spans) == 2 * (2 * len(NAMES) + 2)
    assert encode_spans(recorded.spans).SerializeToString()
    assert json.loads(request_line(recorded.spans))
    for span in recorded.spans:
        assert len(span.name) < 1100
        values = dict(span.attributes or {})
        stack = str(values.pop("code.stacktrace"))
        assert stack.encode()
        assert len(stack) < 20_000
        values.pop("said")  # the program's own, which is not cut
        assert max(len(str(value)) for value in values.values()) <= MOST_LETTERS


def test_an_awaitable_that_lies_about_its_class_can_be_looked_at() -> None:
    async def waits() -> None:
        task = asyncio.create_task(_await(Hostile(5)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "_await" in greenprof.format_stack(task)
        task.cancel()

    asyncio.run(waits())


async def _await(awaitable: Hostile) -> None:
    await awaitable
