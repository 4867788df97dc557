"""Hands finished spans to a tracer provider: to the SDK's directly, to any other by the API.

The SDK's own span costs more than the await that it would describe. Where nothing would notice,
its `ReadableSpan` is built once, at the end. Something notices where a span processor looks at
spans that begin, or where the provider is not the SDK's: then a span is begun late, with the time
at which it should have been.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from greenprof._version import __version__
from greenprof.handovers.names import name_of_waiting
from greenprof.interrupted import from_signal_handler
from greenprof.spans.complaints import complain_once
from greenprof.spans.contexts import SPAN_KEY
from greenprof.spans.fitting import fit, fit_all
from greenprof.spans.span import AwaitSpan

__all__ = ["Finished", "Sink", "sink_for"]

SCOPE = "greenprof"
_UNSET = Status(StatusCode.UNSET)
# By whether a span is sampled, and whether its trace id is random (bit 2 of W3C's trace flags).
_FLAGS = {
    (sampled, random): TraceFlags(sampled + 2 * random) for sampled in (0, 1) for random in (0, 1)
}
_NOBODY = object()
#: The SDK's own limit of attributes: ours are fewer.
_USUAL_COUNT = 128


class Finished(NamedTuple):
    """An await that is over, and worth a span."""

    span: AwaitSpan
    name: str
    attributes: dict[str, Any]
    status: Status | None
    end_ns: int


class Sink(Protocol):
    """One tracer provider."""

    provider: Any
    #: The spans below which the last answers were yes and no; nobody's, to begin with.
    wanted_below: Any
    refused_below: Any

    def wants(self, span: AwaitSpan, parent: Any, /) -> bool:
        """Whether an await that begins below `parent` may be recorded."""

    def identify(self, span: AwaitSpan) -> SpanContext:
        """Make a span's ids, before its end."""

    def full(self) -> bool:
        """Whether a span given now would be dropped."""

    def put(self, finished: Finished) -> bool:
        """Hand a finished span over; whether it was recorded."""


def sink_for(provider: Any) -> Sink | None:
    """What records into a provider; None if it records nothing."""
    if provider is None or isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    if type(provider).__module__.startswith("opentelemetry.sdk."):
        tracer = provider.get_tracer(SCOPE, __version__)
        if isinstance(tracer, api.NoOpTracer):  # OTEL_SDK_DISABLED
            return None
        if hasattr(tracer, "span_processor") and hasattr(tracer, "sampler"):
            return SdkSink(provider, tracer)
        return ApiSink(provider, tracer)
    return ApiSink(provider, provider.get_tracer(SCOPE, __version__))


def _parent_context(span: AwaitSpan) -> SpanContext | None:
    parent: Any = span.outer.get(SPAN_KEY)
    if parent is None:
        return None
    context = parent.get_span_context()
    return context if context is not None and context.is_valid else None


class ApiSink:
    """A provider of which only the API is known."""

    def __init__(self, provider: Any, tracer: Any) -> None:
        self.provider = provider
        self.wanted_below = self.refused_below = _NOBODY
        self._tracer = tracer

    def wants(self, _: AwaitSpan, parent: Any) -> bool:
        """Whether an await may be recorded: the tracer decides for itself at the end."""
        if parent is None or type(parent) is AwaitSpan:
            return True
        context = parent.get_span_context()
        return not context.is_valid or context.trace_flags.sampled

    def full(self) -> bool:
        """Whether a span given now would be dropped; it cannot be told."""
        return False

    def identify(self, span: AwaitSpan) -> SpanContext:
        """Begin the real span."""
        context: SpanContext = self._begin(span, name_of_waiting(span), {}).get_span_context()
        return context

    def _begin(self, span: AwaitSpan, name: str, attributes: Mapping[str, Any]) -> Any:
        real = self._tracer.start_span(
            name,
            context=span.outer,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            start_time=span.start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )
        span.real = real
        return real

    def put(self, finished: Finished) -> bool:
        """End the real span, and begin it first if nobody has asked for it."""
        span = finished.span
        name, said, status = span.said
        attributes = {**finished.attributes, **fit_all(said)}
        name = name and fit(name)
        real: Any = span.real
        if real is None:
            real = self._begin(span, name or finished.name, attributes)
        else:
            real.update_name(name or finished.name)
            real.set_attributes(attributes)
        for what, fields, when in span.happened:
            real.add_event(fit(what), fit_all(fields), when)
        for context, fields in span.linked:
            real.add_link(context, fields)
        if (status := status or finished.status) is not None:
            real.set_status(status)
        recording = bool(real.is_recording())
        real.end(finished.end_ns)
        return recording


class SdkSink:
    """The SDK's provider."""

    def __init__(self, provider: Any, tracer: Any) -> None:
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.trace import export, sampling

        self.provider = provider
        self.wanted_below = self.refused_below = _NOBODY
        self._tracer = tracer
        self._by_api = ApiSink(provider, tracer)
        self._readable: Any = sdk.ReadableSpan
        self._event: Any = sdk.Event
        self._multi: Any = sdk.SynchronousMultiSpanProcessor
        self._batch: Any = export.BatchSpanProcessor
        self._silent = {
            sdk.SpanProcessor.on_start,
            export.BatchSpanProcessor.on_start,
            export.SimpleSpanProcessor.on_start,
        }
        self._silent_ending = {
            getattr(kind, "_on_ending", None)
            for kind in (sdk.SpanProcessor, export.BatchSpanProcessor, export.SimpleSpanProcessor)
        }
        self._processors: Any = None
        self._direct = False
        self._batches: list[Any] = []
        self._info: Any = getattr(tracer, "instrumentation_info", None)
        self._scope: Any = getattr(tracer, "_instrumentation_scope", None)
        self._always, self._by_parent, self._of_root = _decisions(tracer.sampler, sampling)
        limits = getattr(tracer, "_span_limits", None)
        lengths = [
            length
            for name in ("max_attribute_length", "max_span_attribute_length")
            if (length := getattr(limits, name, None)) is not None
        ]
        self._length = min(lengths, default=None)
        unlimited = getattr(limits, "max_span_attributes", None)
        self._count: int | None = unlimited if unlimited != _USUAL_COUNT else None
        self._most_events = getattr(limits, "max_events", None)
        self._random = bool(getattr(tracer.id_generator, "is_trace_id_random", bool)())

    # Sampling. The same decisions as the SDK's own, without its call where the answer is known.

    def wants(self, span: AwaitSpan, parent: Any) -> bool:
        """Whether an await that begins below `parent` may be recorded."""
        answer = self._always
        if answer is None and parent is not None:
            if type(parent) is AwaitSpan and parent.sampled and self._by_parent:
                return True
            context = parent.get_span_context()
            if context.is_valid:
                if not self._by_parent:
                    return self._ask(span)
                answer = bool(context.trace_flags & 1)
        if answer is None:
            answer = self._of_root
        if answer is None:
            return self._ask(span)
        # Most awaits have the same parent as the one before: that of the request.
        if answer:
            self.wanted_below = parent
        else:
            self.refused_below = parent
        return answer

    def _ask(self, span: AwaitSpan) -> bool:
        if not self._is_direct():
            return True  # the tracer will ask, and once is enough
        context = self._identity(span, _parent_context(span))
        try:
            found = self._tracer.sampler.should_sample(
                span.outer, context.trace_id, name_of_waiting(span), SpanKind.INTERNAL, {}, ()
            )
        except Exception as error:  # a sampler of somebody's own
            if from_signal_handler(error):
                raise
            complain_once("sampler", error)
            return False
        decision = found.decision
        if not decision.is_recording():
            return False
        span.sampled = decision.is_sampled()
        span.extra = found.attributes
        # The ids that were decided about, but nobody has asked for them yet.
        span.real = _Decided(context.trace_id, found.trace_state)
        return True

    def _identity(self, span: AwaitSpan, parent: SpanContext | None) -> SpanContext:
        ids = self._tracer.id_generator
        decided = span.real
        if parent is None:
            trace_id = decided.trace_id if type(decided) is _Decided else ids.generate_trace_id()
            state, random = DEFAULT_TRACE_STATE, self._random
        else:
            trace_id, state = parent.trace_id, parent.trace_state
            random = bool(parent.trace_flags & 2)
        if type(decided) is _Decided and decided.trace_state is not None:
            state = decided.trace_state
        flags = _FLAGS[span.sampled, random]
        return SpanContext(trace_id, ids.generate_span_id(), False, flags, state)

    def identify(self, span: AwaitSpan) -> SpanContext:
        """Make a span's ids."""
        if self._is_direct():
            return self._identity(span, _parent_context(span))
        span.real = None
        return self._by_api.identify(span)

    # Processors.

    def _is_direct(self) -> bool:
        """Whether nobody would notice that a span was never begun."""
        active = self._tracer.span_processor
        found = getattr(active, "_span_processors", None)
        if found is not self._processors or found is None:
            self._processors = found
            self._direct = type(active) is self._multi and all(
                type(one).on_start in self._silent
                and getattr(type(one), "_on_ending", None) in self._silent_ending
                for one in found or ()
            )
            self._batches = [
                batch
                for one in found or ()
                if type(one) is self._batch
                and (batch := getattr(one, "_batch_processor", None)) is not None
                and hasattr(batch, "_queue")
            ]
        return self._direct

    def full(self) -> bool:
        """Whether a span given now would push another one out of a processor's queue."""
        self._is_direct()
        for batch in self._batches:
            queue = batch._queue
            if queue.maxlen is not None and len(queue) >= queue.maxlen:
                return True
        return False

    def put(self, finished: Finished) -> bool:
        """Build the span and give it to the processors."""
        span = finished.span
        if not self._is_direct() or (span.real is not None and type(span.real) is not _Decided):
            if type(span.real) is _Decided:
                span.real = None
            return self._by_api.put(finished)
        parent = _parent_context(span)
        context = span._context
        if context is None:
            context = span._context = self._identity(span, parent)
        attributes: Mapping[str, Any] = finished.attributes
        name, said, status = span.said
        if span.extra:
            attributes = {**span.extra, **attributes}
        if said:
            attributes = {**attributes, **said}
        if said or span.tracing.asks or self._count is not None or self._length is not None:
            # What somebody else said may be of any type.
            attributes = self._bounded(attributes)
        self._tracer.span_processor.on_end(
            self._readable(
                fit(name) if name else finished.name,
                context,
                parent,
                self._tracer.resource,
                attributes,
                self._events(span) if span.happened else (),
                [api.Link(*link) for link in span.linked] if span.linked else (),
                SpanKind.INTERNAL,
                self._info,
                status or finished.status or _UNSET,
                span.start_ns,
                finished.end_ns,
                self._scope,
            )
        )
        return True

    def _bounded(self, attributes: Mapping[str, Any]) -> BoundedAttributes:
        most = _USUAL_COUNT if self._count is None else self._count
        return BoundedAttributes(most, fit_all(attributes), max_value_len=self._length)

    def _events(self, span: AwaitSpan) -> list[Any]:
        kept = span.happened if self._most_events is None else span.happened[-self._most_events :]
        return [self._event(fit(name), self._bounded(said), when) for name, said, when in kept]


class _Decided(api.NonRecordingSpan):
    """What a sampler said of a span that has no ids yet."""

    def __init__(self, trace_id: int, trace_state: Any) -> None:
        self.trace_id = trace_id
        self.trace_state = trace_state


def _decisions(sampler: Any, sampling: Any) -> tuple[bool | None, bool, bool | None]:
    """What is known of a sampler's answers without asking it.

    Of all spans (None: it depends), whether a valid parent's flag decides, and of root spans.
    """
    answers = {id(sampling.ALWAYS_ON): True, id(sampling.ALWAYS_OFF): False}
    always = answers.get(id(sampler))
    kind = sampling.ParentBased
    if not isinstance(sampler, kind) or type(sampler).should_sample is not kind.should_sample:
        return always, False, None
    by_parent = all(
        getattr(sampler, f"_{where}_parent_{which}", None) is expected
        for where in ("remote", "local")
        for which, expected in (
            ("sampled", sampling.ALWAYS_ON),
            ("not_sampled", sampling.ALWAYS_OFF),
        )
    )
    return None, by_parent, answers.get(id(getattr(sampler, "_root", None)))
