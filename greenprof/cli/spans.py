"""The spans of a `greenprof run`: where they go, which tracer provider makes them, what is said at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as trace_api
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider

from greenprof import Tracing
from greenprof.cli.otlp import Destination, sends_to
from greenprof.cli.sender import Sender
from greenprof.cli.spanqueue import SpanQueue, Tally
from greenprof.cli.terminal import complain, say
from greenprof.errors import OutputError
from greenprof.output import GrowingOutput
from greenprof.printable import printable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Providers", "RunSpans", "SpanFile"]

# How long a program's end may be held up for the sake of its spans.
END_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class SpanFile:
    """`--spans`: a file of OTLP's JSON lines."""

    shown: str
    path: str
    force: bool


class FileTarget:
    """Writes lines to a file as they come."""

    def __init__(self, file: SpanFile) -> None:
        self._output = GrowingOutput(file.path, force=file.force)
        self.wanted = True
        """Whether there is to be a file where there were no spans."""

    def put(self, line: bytes) -> None:
        """Append a line."""
        self._output.append(line)

    def finish(self, _limit_s: float) -> Tally | None:
        """Close the file."""
        if self.wanted:
            self._output.append(b"")
        self._output.close()
        return None

    def abandon(self) -> None:
        """The parent writes it."""


class Providers:
    """The provider that records awaits: the program's as soon as it has a global one, else greenprof's.

    greenprof's own is never made the global one: it would displace the program's, which comes later. To
    the program's the queues are added, so that they have its spans too.
    """

    def __init__(self, service: str) -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self.own: Any = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.adopted: Any = None
        self.refused = False
        """The program's provider takes no span processors."""
        self._queues: list[SpanQueue] = []
        self._in_child = False
        self._set_global: Callable[..., Any] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def add(self, queue: SpanQueue) -> None:
        """Give a queue all spans, whoever's they are."""
        self._queues.append(queue)
        self.own.add_span_processor(queue)

    def current(self) -> Any:
        """The provider for a span that begins now; None in a forked child without one of its own."""
        provider = trace_api._TRACER_PROVIDER
        if provider is None:
            return None if self._in_child else self.own
        if provider is not self.adopted:
            self._adopt(provider)
        return provider

    def watch(self) -> None:
        """Adopt the program's provider when it sets one, not only at its first await after that."""
        self._set_global = set_global = getattr(trace_api, "_set_tracer_provider", None)
        if set_global is None:
            return

        def adopting(*arguments: Any, **options: Any) -> Any:
            result = set_global(*arguments, **options)
            self.current()
            return result

        trace_api._set_tracer_provider = adopting

    def unwatch(self) -> None:
        """Leave the program's providers alone."""
        if self._set_global is not None:
            trace_api._set_tracer_provider = self._set_global

    def sends_itself(self, span: ReadableSpan, destination: Destination) -> bool:
        """Whether the program's provider made the span, and sends its spans there without us."""
        if self.adopted is None or span.resource is self.own.resource:
            return False
        return sends_to(self.adopted, destination)

    def _adopt(self, provider: Any) -> None:
        # First, so that another thread that comes here meanwhile does not do it too.
        self.adopted = provider
        if self._in_child:
            return
        add = getattr(provider, "add_span_processor", None)
        if add is None:
            self.refused = True
            return
        for queue in self._queues:
            add(queue)

    def _forked(self) -> None:
        self._in_child = True


@dataclass(slots=True)
class Way:
    """One output, and what is said about it."""

    queue: SpanQueue
    shown: str
    verb: str
    left_out: str = ""


@dataclass(slots=True)
class RunSpans:
    """Records the spans of this process, from `start` to `finish`."""

    options: dict[str, Any]
    """For `Tracing`."""
    destination: Destination | None
    file: SpanFile | None
    service: str
    quiet: bool
    _ways: list[Way] = field(default_factory=list)
    _file: FileTarget | None = None
    _providers: Providers | None = None
    _tracing: Tracing | None = None

    def start(self) -> None:
        """Raises GreenprofError where spans cannot be had."""
        providers = self._providers = Providers(self.service)
        tracing = Tracing(providers.current, **self.options)
        if self.destination is not None:
            self._ways.append(self._way_to(self.destination, providers))
        if self.file is not None:
            self._file = FileTarget(self.file)
            queue = SpanQueue(self._file)
            self._ways.append(Way(queue, printable(self.file.shown), "wrote"))
        for way in self._ways:
            providers.add(way.queue)
        providers.watch()
        self._tracing = tracing.start()

    def _way_to(self, destination: Destination, providers: Providers) -> Way:
        try:
            sender = Sender(destination)
        except Exception as error:
            raise OutputError(
                f"cannot start the process that sends spans: {printable(str(error))}; use --spans FILE"
            ) from None
        queue = SpanQueue(sender, lambda span: not providers.sends_itself(span, destination))
        return Way(queue, destination.shown, "sent", "the program sends there itself")

    def stop(self) -> None:
        """Record no more, and begin to get what is left out."""
        if self._providers is not None:
            self._providers.unwatch()
        if self._tracing is not None and self._tracing.running:
            self._tracing.stop()
        for way in self._ways:
            way.queue.end_within(END_LIMIT_S)

    def finish(self) -> None:
        """Wait for what `stop` began, within its bound, and say what became of the spans."""
        for way in self._ways:
            tally = way.queue.finish()
            failed = tally.failed or tally.queue_full
            if failed or not self.quiet:
                self._say(way, tally)
        self._say_lost()

    def _say(self, way: Way, tally: Tally) -> None:
        total = tally.out + tally.failed + tally.queue_full
        number = f"{tally.out} of {total}" if total > tally.out else str(tally.out)
        words = [f"greenprof: {way.verb} {number} span{'s' * (total != 1)} to {way.shown}"]
        if tally.failed:
            words.append(f"{tally.failed} failed: {printable(tally.reason)}")
        if tally.queue_full:
            words.append(f"{tally.queue_full} dropped: queue full")
        if tally.left_out:
            words.append(f"{tally.left_out} left out: {way.left_out}")
        say("; ".join(words))

    def _say_lost(self) -> None:
        dropped = self._tracing.counts.dropped if self._tracing is not None else {}
        if dropped:
            reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
            complain(f"{sum(dropped.values())} spans of awaits were not recorded: {reasons}")
        if self._providers is not None and self._providers.refused:
            complain(
                "the program's tracer provider takes no span processors: it got the spans of awaits,"
                " --otlp and --spans did not"
            )

    def discard(self) -> None:
        """Stop, and leave nothing: the program never began."""
        if self._file is not None:
            self._file.wanted = False
        self.stop()
        for way in self._ways:
            way.queue.finish()
