"""OpenTelemetry's current context, read and set without the API's detours.

The API keeps its context in one context variable. Greenlets may each have a `contextvars.Context`
of their own; what another one's holds is read from outside, which the API has no call for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NamedTuple

from greenlet import greenlet
from opentelemetry import context as api
from opentelemetry.context.context import Context
from opentelemetry.trace.propagation import _SPAN_KEY as SPAN_KEY

__all__ = [
    "EMPTY",
    "SCOPE",
    "SPAN_KEY",
    "SUPPRESS_KEY",
    "VARIABLE",
    "Scope",
    "enter_scope",
    "leave_scope",
    "of_greenlet",
    "restored",
    "with_span",
]

EMPTY = Context()
#: Set by exporters while they send: what they await is nobody's request.
SUPPRESS_KEY = api._SUPPRESS_INSTRUMENTATION_KEY

#: None where OTEL_PYTHON_CONTEXT names a context that is not made of context variables.
VARIABLE: ContextVar[Context] | None = getattr(api._RUNTIME_CONTEXT, "_current_context", None)
if not isinstance(VARIABLE, ContextVar):
    VARIABLE = None

_put = dict.__setitem__
# Ended spans within one another are few; a circle must come to an end.
_MAX_ENDED = 1000


def with_span(context: Context, span: Any) -> Context:
    """A context in which `span` is current, otherwise the same."""
    made = Context(context)
    _put(made, SPAN_KEY, span)
    return made


def of_greenlet(one: greenlet, variable: ContextVar[Context]) -> Context:
    """What a suspended greenlet has in its own context."""
    own = one.gr_context
    return EMPTY if own is None else own.get(variable, EMPTY)


def restored(context: Context, kind: type[Any], *, of_coroutine: bool = False) -> Context:
    """The context without await spans (of `kind`) that have ended; the same if there is none.

    They stay behind where the awaited code opened something that sync code closes later, and in
    contexts that nobody ran in when the await ended. Instead comes what the sync code had, or with
    `of_coroutine` what the coroutine had that awaited for it.
    """
    current: Any = context.get(SPAN_KEY)
    if type(current) is not kind or not current.ended:
        return context
    span, base = current, context
    for _ in range(_MAX_ENDED):
        base = span.before if of_coroutine and span.before is not None else span.outer
        span = base.get(SPAN_KEY)
        if type(span) is not kind or not span.ended:
            break
    if context is current.inner:
        if of_coroutine:
            current.inner = None  # it holds the span that holds it
        return base
    made = Context(context)
    if span is None:
        dict.pop(made, SPAN_KEY, None)
    else:
        _put(made, SPAN_KEY, span)
    return made


class Scope(NamedTuple):
    """A `trace(scope="context")` block, and the one that it is in."""

    tracing: Any
    above: Scope | None


#: Not in OpenTelemetry's context, which instrumentors replace at each request.
SCOPE: ContextVar[Scope | None] = ContextVar("greenprof-scope", default=None)


def enter_scope(tracing: Any) -> None:
    """Begin a block in the running context."""
    SCOPE.set(Scope(tracing, SCOPE.get()))


def leave_scope(tracing: Any) -> None:
    """End a block in the running context; also one that others have begun in since."""
    SCOPE.set(_without(SCOPE.get(), tracing))


def _without(scope: Scope | None, tracing: Any) -> Scope | None:
    if scope is None:
        return None
    if scope.tracing is tracing:
        return scope.above
    above = _without(scope.above, tracing)
    return scope if above is scope.above else Scope(scope.tracing, above)
