"""The span that is current while an operation is awaited, made cheaply and built only if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from greenlet import greenlet
from opentelemetry.context.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.span import INVALID_SPAN, INVALID_SPAN_CONTEXT

from greenprof._native import RLock, time
from greenprof.handovers.names import name_of_waiting
from greenprof.interrupted import from_signal_handler
from greenprof.spans.contexts import SPAN_KEY

__all__ = ["MAX_EVENTS", "AwaitSpan"]

#: Events and links kept of one span, as by OpenTelemetry's default limits; so many attributes too.
MAX_EVENTS = 128


_identifying = RLock()


class AwaitSpan(Span):
    """One awaited operation.

    Its ids are made when somebody asks for them, as each child does: it is *used* then, and will
    be exported however short it was. `waiter` gives the greenlet that waits. `outer` is the
    OpenTelemetry context of the sync code, `inner` that of what is awaited; `shared` says whether both run in one `contextvars.Context`, `before` is what the other side had if not; `hub` the library whose hub it waits in, if it is one.
    """

    # Defaults of the class's: each attribute set for every await would cost as much as a call.
    before: Context | None = None
    ended = False
    end_ns = 0
    extra: Mapping[str, Any] | None = None
    hub = ""
    inner: Context | None = None
    real: Span | None = None
    sampled = True
    shared = True
    _context: SpanContext | None = None
    _noted = False

    def __init__(
        self,
        tracing: Any,
        sink: Any,
        outer: Context,
        waiter: Callable[[], greenlet | None],
        bridge_frame: int,
    ) -> None:
        self.tracing = tracing
        self.sink = sink
        self.outer = outer
        self.waiter = waiter
        self.bridge_frame = bridge_frame
        self.start_ns: int = time.time_ns()

    # What code inside the await may do with its current span.

    def get_span_context(self) -> SpanContext:
        """Its ids. Asked while it is open, they are those of a span that will be exported."""
        if self._context is None:
            if self.ended:
                return self._of_parent()
            try:
                with _identifying:  # of several threads that ask at once, all get the same
                    if self._context is None:
                        self._context = self.sink.identify(self)
            except Exception as error:  # an id generator or a tracer of somebody's own
                if from_signal_handler(error):
                    raise
                return self._of_parent()
        return self._context or INVALID_SPAN_CONTEXT

    def recorded_context(self) -> SpanContext | None:
        """The context of the recorded span that stands for it; final once it has ended.

        Its own, if it is exported; else that of the nearest span above. None without either.
        Does not count as use.
        """
        if self._context is not None:
            return self._context
        found = self._of_parent()
        return found if found.is_valid else None

    def _of_parent(self) -> SpanContext:
        span: Any = self.outer.get(SPAN_KEY)
        for _ in range(MAX_EVENTS):
            if type(span) is not AwaitSpan or span._context is not None:
                break
            span = span.outer.get(SPAN_KEY)
        if not isinstance(span, Span):
            return INVALID_SPAN_CONTEXT
        return span.get_span_context()

    @property
    def used(self) -> bool:
        """Whether somebody knows its ids."""
        return self._context is not None

    def is_recording(self) -> bool:
        """Whether what is said of it is kept."""
        return not self.ended or self._standing().is_recording()

    def _standing(self) -> Span:
        """The span that it ended in: what is said of it since then is meant for that one.

        It may still be current where nobody could put the one before back, as in the sync code if
        tracing was stopped in the middle of an await.
        """
        span: Any = self.outer.get(SPAN_KEY)
        for _ in range(MAX_EVENTS):
            if type(span) is not AwaitSpan or not span.ended:
                break
            span = span.outer.get(SPAN_KEY)
        return span if isinstance(span, Span) and span is not self else INVALID_SPAN

    def _notes(self) -> bool:
        if not self._noted:
            self._noted = True
            self._attributes: dict[str, Any] = {}
            self._status: Status | None = None
            self._name: str | None = None
            self._links: list[tuple[SpanContext, Any]] = []
            self._events: list[tuple[str, dict[str, Any], int]] = []
        return True

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: Any) -> None:
        """Add an attribute."""
        if self.ended:
            self._standing().set_attribute(key, value)
        elif self._notes() and (key in self._attributes or len(self._attributes) < MAX_EVENTS):
            self._attributes[key] = value

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        """Add an event, now or at `timestamp` (nanoseconds since the epoch)."""
        if self.ended:
            self._standing().add_event(name, attributes, timestamp)
        elif self._notes() and len(self._events) < MAX_EVENTS:
            self._events.append((name, dict(attributes or {}), timestamp or time.time_ns()))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Add a link to another span."""
        if self.ended:
            self._standing().add_link(context, attributes)
        elif self._notes() and len(self._links) < MAX_EVENTS:
            self._links.append((context, attributes))

    def update_name(self, name: str) -> None:
        """Replace its name."""
        if self.ended:
            self._standing().update_name(name)
        elif self._notes():
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set its status; OK is final."""
        if self.ended:
            self._standing().set_status(status, description)
            return
        self._notes()
        if self._status is not None and self._status.status_code is StatusCode.OK:
            return
        self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002  # the API has it
    ) -> None:
        """Add an event that says which exception it was."""
        kind = type(exception)
        said = {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}",
            "exception.message": _message(exception),
            **(attributes or {}),
        }
        self.add_event("exception", said, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """Nothing: it ends with the await."""

    # What the SDK's spans let be read.

    @property
    def name(self) -> str:
        """Its name so far."""
        return (self._name if self._noted else None) or name_of_waiting(self)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What code inside the await has said; the rest comes at its end."""
        return MappingProxyType(self._attributes if self._noted else {})

    @property
    def context(self) -> SpanContext:
        """Its ids."""
        return self.get_span_context()

    @property
    def parent(self) -> SpanContext | None:
        """The ids of the span that it is in."""
        found = self._of_parent()
        return found if found.is_valid else None

    @property
    def kind(self) -> SpanKind:
        """Internal."""
        return SpanKind.INTERNAL

    @property
    def start_time(self) -> int:
        """When it began, in nanoseconds since the epoch."""
        return self.start_ns

    @property
    def end_time(self) -> int | None:
        """When it ended, in nanoseconds since the epoch."""
        return self.end_ns if self.ended else None

    @property
    def status(self) -> Status:
        """What code inside the await has said."""
        return (self._status if self._noted else None) or Status(StatusCode.UNSET)

    @property
    def events(self) -> tuple[Any, ...]:
        """What code inside the await has said: name, attributes, nanoseconds."""
        return tuple(self._events) if self._noted else ()

    @property
    def links(self) -> tuple[Link, ...]:
        """What code inside the await has said."""
        return tuple(Link(*one) for one in self._links) if self._noted else ()

    @property
    def resource(self) -> Any:
        """Its provider's resource, None if that has none."""
        return getattr(self.sink.provider, "resource", None)

    # What was said, for whoever builds it.

    @property
    def said(self) -> tuple[str | None, Mapping[str, Any], Status | None]:
        """The name, the attributes and the status that code inside the await gave it."""
        if not self._noted:
            return None, {}, None
        return self._name, self._attributes, self._status

    @property
    def linked(self) -> list[tuple[SpanContext, Any]]:
        """The links that code inside the await gave it."""
        return self._links if self._noted else []

    @property
    def happened(self) -> list[tuple[str, dict[str, Any], int]]:
        """The events that code inside the await gave it: name, attributes, nanoseconds."""
        return self._events if self._noted else []


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as error:  # a class of the program's own, and not the error that it handles
        if from_signal_handler(error):
            raise
        return ""
