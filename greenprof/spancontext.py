"""Which OpenTelemetry span is current, here and in others' contexts; and which profile is recorded.

Imports no OpenTelemetry: where the program has not, there is no span. Everything here is called by
samplers, in the middle of the program: it is cheap, takes no lock, and changes nothing.
"""

from __future__ import annotations

import gc
import sys
from contextvars import Context, ContextVar
from typing import Any

__all__ = [
    "context_of_greenlet",
    "context_of_task",
    "current_span",
    "exported_context",
    "ids_of",
    "is_loaded",
    "profile_id",
    "set_profile_id",
]

# An await span that has ended may stay current in a context; so many are looked behind.
_MAX_ENDED = 16

_profile_id: str | None = None


def is_loaded() -> bool:
    """Whether the program has imported OpenTelemetry's API: else there is no span anywhere."""
    return "opentelemetry.trace.propagation" in sys.modules


def current_span(context: Context | None = None) -> Any:
    """The span that is current in a context (None: in the running one), while it is recording.

    None without such a span. From any thread.
    """
    # Also while the modules are being imported, and lack most of what they will have.
    key = getattr(sys.modules.get("opentelemetry.trace.propagation"), "_SPAN_KEY", None)
    runtime = getattr(sys.modules.get("opentelemetry.context"), "_RUNTIME_CONTEXT", None)
    if key is None or runtime is None:
        return None
    variable = getattr(runtime, "_current_context", None)
    current: Any
    if isinstance(variable, ContextVar):
        current = variable.get(None) if context is None else context.get(variable)
    elif context is None:  # OTEL_PYTHON_CONTEXT names one that is not made of context variables
        current = runtime.get_current()
    else:
        return None
    for _ in range(_MAX_ENDED):
        span = None if current is None else current.get(key)
        if span is None or span.is_recording():
            return span
        # An await span that stayed behind: what was current before it is so again.
        current = getattr(span, "outer", None)
    return None


def exported_context(span: Any) -> Any:
    """The `SpanContext` under which a span is exported; None if it is not.

    An await span (`recorded_context`) that is too short to be exported is stood for by one above
    it; which one that is, is final when it has ended.
    """
    ask = getattr(type(span), "recorded_context", None)
    context = span.get_span_context() if ask is None else ask(span)
    if context is None or not context.is_valid or not context.trace_flags.sampled:
        return None
    return context


def ids_of(span: Any) -> tuple[str, str] | None:
    """The trace id and the span id, in hex, of `exported_context`."""
    context = exported_context(span)
    if context is None:
        return None
    return format(context.trace_id, "032x"), format(context.span_id, "016x")


def context_of_task(task: Any) -> Context | None:
    """The context that a task runs in; None if it cannot be told. From any thread."""
    ask = getattr(type(task), "get_context", None)  # Python 3.12
    if ask is not None:
        found = ask(task)
        return found if isinstance(found, Context) else None
    found = getattr(task, "_context", None)  # a task written in Python
    if isinstance(found, Context):
        return found
    # A task in C shows its context to the garbage collector only, before those of its callbacks.
    return next((kept for kept in gc.get_referents(task) if type(kept) is Context), None)


def context_of_greenlet(greenlet: Any) -> Context | None:
    """The context of a greenlet that does not run in another thread; None if it has none yet."""
    try:
        found: Context | None = greenlet.gr_context
    except ValueError:  # it does run in another thread
        return None
    return found


def set_profile_id(profile_id: str | None) -> None:
    """Say which profile is being recorded from now on; None: none is."""
    global _profile_id
    _profile_id = profile_id


def profile_id() -> str | None:
    """The id of the profile that is being recorded (`ProfileInfo.profile_id`); None without one."""
    return _profile_id
