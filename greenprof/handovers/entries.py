"""Awaits of bridges that run what is awaited in the sync greenlet, as greenback does.

There the awaited coroutine runs a first step before anything switches, and ends without a switch,
so the function that awaitables are handed to is where an await begins and ends. Its code is
replaced while somebody records: every name it was imported by calls the same function object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from greenprof import bridges
from greenprof.handovers.watching import Handovers
from greenprof.interrupted import from_signal_handler

__all__ = ["hook", "unhook"]

_NAME = "__greenprof_awaits__"


class _Hooked(NamedTuple):
    function: Any
    original: CodeType
    replaced: CodeType


_hooked: list[_Hooked] = []
_told: tuple[Handovers, ...] = ()


def hook(handovers: Handovers) -> None:
    """Have awaits begin where awaitables are handed to the bridges that are loaded by now.

    To be called again when there are more of them.
    """
    global _told
    if handovers not in _told:
        # Replaced, not changed: another thread may be telling them.
        _told = (*_told, handovers)
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
        function.__globals__[_NAME] = _awaiting(copy, bridge.name)
        # By the name of its argument, so that it can be given by that.
        replaced = _entry.__code__.replace(co_varnames=original.co_varnames[:1])
        function.__code__ = replaced
        _hooked.append(_Hooked(function, original, replaced))


def unhook(handovers: Handovers) -> None:
    """Tell one of awaits no longer; with the last one, put the functions back as they were.

    But for those that somebody else has changed since.
    """
    global _told
    _told = tuple(one for one in _told if one is not handovers)
    while _hooked and not _told:
        hooked = _hooked.pop()
        if hooked.function.__code__ is hooked.replaced:
            hooked.function.__code__ = hooked.original
        # Calls that are open still go on in the code that they began in.


def _entry(awaitable: Any) -> Any:
    return __greenprof_awaits__(awaitable)  # type: ignore[name-defined]  # noqa: F821


def _awaiting(original: Callable[[Any], Any], bridge: str) -> Callable[[Any], Any]:
    def hand_over(awaitable: Any) -> Any:
        begun = [(one, found) for one in _told if (found := one.begin_at_entry()) is not None]
        if not begun:
            return original(awaitable)
        raised: type[BaseException] | None = None
        try:
            return original(awaitable)
        except BaseException as error:
            raised = type(error)
            raise
        finally:
            for one, found in reversed(begun):
                try:
                    one.end_at_entry(found, raised, awaitable, sys._getframe(2), bridge)
                except Exception as error_of_ours:
                    if from_signal_handler(error_of_ours):
                        raise
                    one.failed(error_of_ours)

    return hand_over
