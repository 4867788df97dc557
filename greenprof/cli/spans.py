"""The spans of a `greenprof run`: where they go, which tracer provider makes them, what is said at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as trace_api
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider

from greenprof import Tracing
from greenprof.cli.forks import starts_a_program
from greenprof.cli.otlp import Destination, sends_to
from greenprof.cli.sender import Sender, SpanOutput
from greenprof.cli.tally import Tally
from greenprof.cli.terminal import complain, say
from greenprof.errors import OutputError
from greenprof.printable import printable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Providers", "RunSpans", "SpanFile"]

# How long a program's end may be held up for the sake of its spans.
END_LIMIT_S = 2.0
OTLP, FILE = "otlp", "file"


@dataclass(frozen=True, slots=True)
class SpanFile:
    """`--spans`: a file of OTLP's JSON lines."""

    shown: str
    path: str
    force: bool


class Providers:
    """The provider that records awaits: the program's as soon as it has a global one, else greenprof's.

    greenprof's own is never made the global one: it would displace the program's, which comes later. To
    the program's the sender is added, so that it has its spans too.
    """

    def __init__(self, service: str) -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self.own: Any = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.adopted: Any = None
        self.refused = False
        """The program's provider takes no span processors."""
        self._sender: Sender | None = None
        self._in_child = False
        self._set_global: Callable[..., Any] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def feed(self, sender: Sender) -> None:
        """Give the sender all spans, whoever's they are."""
        self._sender = sender
        self.own.add_span_processor(sender)

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
        add(self._sender)

    def _forked(self) -> None:
        self._in_child = True


@dataclass(slots=True)
class RunSpans:
    """Records the spans of this process, from `start` to `finish`."""

    options: dict[str, Any]
    """For `Tracing`."""
    destination: Destination | None
    file: SpanFile | None
    service: str
    quiet: bool
    _sender: Sender | None = None
    _providers: Providers | None = None
    _tracing: Tracing | None = None
    _forked: bool = False

    def start(self) -> None:
        """Raises GreenprofError where spans cannot be had."""
        providers = Providers(self.service)
        tracing = Tracing(providers.current, **self.options)
        try:
            self._sender = Sender(self._outputs(providers), END_LIMIT_S)
        except Exception as error:
            raise OutputError(
                f"cannot start the process that gives spans out: {printable(str(error))};"
                " run without --otlp and --spans"
            ) from None
        providers.feed(self._sender)
        providers.watch()
        self._providers = providers
        if hasattr(os, "register_at_fork"):
            # Before, not after in the parent: nothing of Python's may run after the profiler's last hook.
            os.register_at_fork(before=self._before_fork)
        self._tracing = tracing.start()

    def _before_fork(self) -> None:
        self._forked = self._forked or not starts_a_program()

    def _outputs(self, providers: Providers) -> list[SpanOutput]:
        outputs = []
        if (to := self.destination) is not None:
            place = {"protocol": to.protocol, "endpoint": to.endpoint}
            outputs.append(
                SpanOutput(OTLP, place, lambda span: not providers.sends_itself(span, to))
            )
        if self.file is not None:
            arguments = {"path": self.file.path, "force": self.file.force}
            outputs.append(SpanOutput(FILE, arguments))
        return outputs

    def stop(self) -> None:
        """Record no more, and begin to get what is left out."""
        if self._providers is not None:
            self._providers.unwatch()
        if self._tracing is not None and self._tracing.running:
            self._tracing.stop()
        if self._sender is not None:
            self._sender.end()

    def finish(self) -> None:
        """Wait for what `stop` began, within its bound, and say what became of the spans."""
        if self._sender is None:
            return
        for name, tally in self._sender.finish().items():
            if tally.failed or tally.queue_full or not self.quiet:
                self._say(name, tally)
        self._say_lost()

    def discard(self) -> None:
        """Stop, and leave nothing: the program never began."""
        if self._sender is not None:
            self._sender.discard()
        self.stop()

    def _say(self, name: str, tally: Tally) -> None:
        shown, verb = "", "sent"
        if name == OTLP and self.destination is not None:
            shown = self.destination.shown
        elif self.file is not None:
            shown, verb = printable(self.file.shown), "wrote"
        total = tally.out + tally.failed + tally.queue_full
        number = f"{tally.out} of {total}" if total > tally.out else str(tally.out)
        words = [f"greenprof: {verb} {number} span{'s' * (total != 1)} to {shown}"]
        if self._forked:
            words.append(f"forked children {'send' if name == OTLP else 'write'} none")
        if tally.failed:
            words.append(f"{tally.failed} failed: {printable(tally.reason)}")
        if tally.queue_full:
            words.append(f"{tally.queue_full} dropped: queue full")
        if tally.left_out:
            words.append(f"{tally.left_out} left to the program, which sends there itself")
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
