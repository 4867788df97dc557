"""Takes the OpenTelemetry context along into greenlets that hubs start.

gevent's and eventlet's greenlets begin with an empty context, and it is their hub that switches
to them first. So the context is taken along when they are made, by whoever makes them.
"""

from __future__ import annotations

import functools
import sys
from contextvars import Context
from typing import Any

from greenprof.interrupted import from_signal_handler
from greenprof.spans.contexts import EMPTY, SCOPE, VARIABLE

__all__ = ["carry_contexts", "leave"]

_gevent: Any = None
_eventlet: tuple[Any, Any] | None = None


def carry_contexts() -> None:
    """Take contexts along from now on, in the libraries that are loaded."""
    global _gevent, _eventlet
    kind = getattr(sys.modules.get("gevent.greenlet"), "Greenlet", None)
    if kind is not None and _gevent is None:
        kind.add_spawn_callback(_take_along)
        _gevent = kind
    kind = getattr(sys.modules.get("eventlet.greenthread"), "GreenThread", None)
    if kind is not None and _eventlet is None:
        original = kind.__init__

        @functools.wraps(original)
        def begin(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            _take_along(self)

        kind.__init__ = begin
        _eventlet = kind, original


def leave() -> None:
    """Let contexts be again."""
    global _gevent, _eventlet
    if _gevent is not None:
        _gevent.remove_spawn_callback(_take_along)
        _gevent = None
    if _eventlet is not None:
        kind, original = _eventlet
        if getattr(kind.__init__, "__wrapped__", None) is original:
            kind.__init__ = original
        _eventlet = None


def _take_along(one: Any) -> None:
    try:
        if VARIABLE is None or one.gr_context is not None:
            return
        current, scope = VARIABLE.get(EMPTY), SCOPE.get()
        if current or scope is not None:
            context = Context()
            context.run(VARIABLE.set, current)
            context.run(SCOPE.set, scope)
            one.gr_context = context
    except Exception as error:  # it begins without, as it would have
        if from_signal_handler(error):
            raise
