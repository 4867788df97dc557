"""Awaits of bridges that run what is awaited in the sync greenlet, as greenback does.

There the awaited coroutine runs a first step before anything switches, and ends without a switch,
so the function that awaitables are handed to is where an await begins and ends. Its code is
replaced while somebody traces: every name it was imported by calls the same function object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from greenlet import getcurrent

from greenprof import bridges
from greenprof.interrupted import from_signal_handler
from greenprof.spans.awaits import Awaits
from greenprof.spans.delivery import Outbox
from greenprof.spans.finishing import Ended, record, said_of
from greenprof.spans.outcomes import RETURNED

__all__ = ["hook", "unhook"]

_NAME = "__greenprof_awaits__"


class _Hooked(NamedTuple):
    function: Any
    original: CodeType
    replaced: CodeType


_hooked: list[_Hooked] = []


def hook(awaits: Awaits, outbox: Outbox) -> None:
    """Make awaits of the bridges that are loaded begin where awaitables are handed to them."""
    known = {one.function for one in _hooked}
    for bridge in bridges.bridges():
        if bridge.entry is None:
            continue
        module, name = bridge.entry
        function: Any = getattr(sys.modules.get(module), name, None)
        if type(function) is not FunctionType or function in known:
            continue
        original = function.__code__
        if original.co_argcount != 1 or original.co_freevars or original.co_kwonlyargcount:
            continue
        copy = FunctionType(original, function.__globals__, function.__name__)
        copy.__defaults__ = function.__defaults__
        function.__globals__[_NAME] = _awaiting(copy, bridge.name, awaits, outbox)
        # By the name of its argument, so that it can be given by that.
        replaced = _entry.__code__.replace(co_varnames=original.co_varnames[:1])
        function.__code__ = replaced
        _hooked.append(_Hooked(function, original, replaced))


def unhook() -> None:
    """Put the functions back as they were, if nobody else has changed them since."""
    while _hooked:
        one = _hooked.pop()
        if one.function.__code__ is one.replaced:
            one.function.__code__ = one.original
        # Calls that are open still go on in the code that they began in.


def _entry(awaitable: Any) -> Any:
    return __greenprof_awaits__(awaitable)  # type: ignore[name-defined]  # noqa: F821


def _awaiting(
    original: Callable[[Any], Any], bridge: str, awaits: Awaits, outbox: Outbox
) -> Callable[[Any], Any]:
    def hand_over(awaitable: Any) -> Any:
        span = awaits.begin_at_entry()
        if span is None:
            return original(awaitable)
        raised: type[BaseException] | None = None
        try:
            return original(awaitable)
        except BaseException as error:
            raised = type(error)
            raise
        finally:
            if awaits.end_at_entry(span):
                _record(span, raised, awaitable)

    def _record(span: Any, raised: type[BaseException] | None, awaitable: Any) -> None:
        try:
            outcome, error = (RETURNED, None) if raised is None else said_of(raised)
            frame = sys._getframe(3)
            ended = Ended(frame, None, outcome, error, getcurrent(), awaitable, bridge)
            record(outbox, span, ended, at_once=True)
        except Exception as error_of_ours:
            if from_signal_handler(error_of_ours):
                raise
            awaits.failed(error_of_ours)

    return hand_over
