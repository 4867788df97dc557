"""Spans recorded in memory, and as trees that tests compare: a line for each, indented below its parent."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

import greenprof
from greenprof import switches
from greenprof.spans.span import AwaitSpan

INDENT = "  "


class LooksAtBeginnings(SpanProcessor):
    """Sees every span begin, as processors do that copy baggage: so each has to be begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.begun.append(span.name)


class OtherProvider(trace_api.TracerProvider):
    """A provider of which only the API is known: what it records ends up in the SDK's all the same."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace_api.Tracer:
        return OtherTracer(self._provider.get_tracer(*args, **kwargs))


class OtherTracer(trace_api.Tracer):
    def __init__(self, tracer: trace_api.Tracer) -> None:
        self._tracer = tracer

    def start_span(self, *args: Any, **kwargs: Any) -> trace_api.Span:
        return self._tracer.start_span(*args, **kwargs)

    @contextlib.contextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Iterator[trace_api.Span]:  # type: ignore[override]
        with self._tracer.start_as_current_span(*args, **kwargs) as span:
            yield span


#: How spans reach their provider. Each has its own way inside of greenprof, and the same trees.
KINDS = ("finished spans only", "spans that begin", "the API only")


class Spans:
    """A program's spans: a provider to record into, and the trees of what it got."""

    def __init__(self, kind: str = KINDS[0], sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.sdk = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.sdk.add_span_processor(SimpleSpanProcessor(self.exporter))
        if kind == "spans that begin":
            self.sdk.add_span_processor(LooksAtBeginnings())
        self.provider: trace_api.TracerProvider = self.sdk
        if kind == "the API only":
            self.provider = OtherProvider(self.sdk)
        self.tracer = self.provider.get_tracer("program")

    def span(self, name: str) -> Any:
        """A span of the program's own round a block."""
        return self.tracer.start_as_current_span(name)

    def trace(self, **options: Any) -> greenprof.Tracing:
        """What records awaits beside the program's spans."""
        return greenprof.trace(self.provider, **options)

    @property
    def finished(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def awaits(self) -> list[ReadableSpan]:
        """The spans of greenprof's."""
        return [one for one in self.finished if scope_of(one) == "greenprof"]

    def named(self, end: str) -> ReadableSpan:
        """The one span whose name ends so."""
        found = [one for one in self.finished if one.name.endswith(end)]
        assert len(found) == 1, (end, [one.name for one in self.finished])
        return found[0]

    def lines(self) -> list[str]:
        """All trees, one after the other, in the order in which spans began."""
        return [line for tree in self.trees() for line in tree]

    def trees(self) -> list[tuple[str, ...]]:
        """Each root span's tree as lines. Fails for a span whose parent was never recorded."""
        return trees_of(self.finished)


def scope_of(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return "" if scope is None else scope.name


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids_of(span: ReadableSpan) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def short(name: str) -> str:
    """Without the module and the functions that what was awaited is defined in."""
    verb, space, awaited = name.rpartition("await ")
    if not space:
        return name
    awaited = awaited.rpartition("<locals>.")[2]
    if awaited.startswith("tests."):
        awaited = awaited.split(".", 2)[2]
    return f"{verb}{space}{awaited}"


def trees_of(spans: Sequence[ReadableSpan]) -> list[tuple[str, ...]]:
    recorded = Counter(map(ids_of, spans))
    twice = [short(one.name) for one in spans if recorded[ids_of(one)] > 1]
    assert not twice, f"recorded more than once: {twice}"
    children: dict[tuple[int, int] | None, list[ReadableSpan]] = {}
    for one in sorted(spans, key=lambda span: span.start_time or 0):
        parent = None if one.parent is None else (one.parent.trace_id, one.parent.span_id)
        assert parent is None or parent in recorded, f"{one.name} has a parent nobody recorded"
        assert parent is None or parent[0] == one.context.trace_id, f"{one.name} changes the trace"
        children.setdefault(parent, []).append(one)

    def below(span: ReadableSpan, depth: int) -> Iterator[str]:
        yield INDENT * depth + short(span.name)
        for child in children.get(ids_of(span), []):
            yield from below(child, depth + 1)

    found = [tuple(below(root, 0)) for root in children.get(None, [])]
    assert sum(map(len, found)) == len(spans), "spans that are one another's parents"
    return found


def current_name() -> str:
    """The name of the current span, "" if there is none."""
    return str(getattr(trace_api.get_current_span(), "name", ""))


def await_spans_alive() -> int:
    """Spans of open or finished awaits that something still holds, after a collection if need be."""
    found = _await_spans()
    if found:
        gc.collect()
        found = _await_spans()
    return found


def _await_spans() -> int:
    # Each refers to its class. To look at every object from Python instead takes ten times as long.
    return sum(type(one) is AwaitSpan for one in gc.get_referrers(AwaitSpan))


def nothing_left(alive_before: int = 0) -> None:
    """Fails if tracing, now over, has left a hook, a current context or a span behind."""
    assert context_api.get_current() == {}
    assert not switches.following()
    assert switches._listener is None
    assert await_spans_alive() <= max(alive_before, _struck)


_struck = 0


def little_left_by_strikes(most: int) -> None:
    """As `nothing_left`, where signal handlers have raised anywhere: also where something is taken
    apart, which the interpreter then leaves as it is.
    """
    global _struck
    _struck = max(_struck, most)
    nothing_left()
    _struck = await_spans_alive()


@pytest.fixture(params=KINDS)
def spans(request: pytest.FixtureRequest) -> Iterator[Spans]:
    """Recorded each way that spans reach a provider; what a test leaves behind fails it."""
    alive = await_spans_alive()
    yield Spans(request.param)
    nothing_left(alive)


@pytest.fixture
def direct() -> Iterator[Spans]:
    """Recorded the common way: finished spans go to an exporter. For what takes long."""
    alive = await_spans_alive()
    yield Spans()
    nothing_left(alive)


def line_of(function: Callable[..., Any], text: str) -> int:
    """The number of the line of a function's file that ends in a comment with this text."""
    path = function.__code__.co_filename
    with open(path, encoding="utf-8") as file:
        numbers = [n for n, line in enumerate(file, 1) if line.rstrip().endswith(f"# {text}")]
    assert len(numbers) == 1, (text, numbers)
    return numbers[0]
