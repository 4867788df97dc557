"""One contextvars context for both sides."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Generator
from contextvars import Context, copy_context
from typing import Any, cast

from greenlet import getcurrent, greenlet

__all__ = ["can_be_entered", "context_of", "in_context"]


def context_of(here: greenlet) -> Context:
    """The context that the current greenlet runs in, which Python makes when it is first used."""
    if here.gr_context is None:
        copy_context()
    return cast("Context", here.gr_context)


def can_be_entered(context: Context) -> bool:
    """Whether a task may run in it: not inside `Context.run`, which is for one at a time."""
    try:
        context.run(int)
    except RuntimeError:
        return False
    return True


@types.coroutine
def in_context(awaitable: Awaitable[Any], context: Context) -> Generator[Any, Any, Any]:
    """Await something in a context that sync code has entered by itself.

    The task cannot enter it as well, so its steps run there without entering it.
    """
    here = getcurrent()
    steps = _awaiting(awaitable)
    value: Any = None
    error: BaseException | None = None
    while True:
        own = here.gr_context
        here.gr_context = context
        try:
            waits_for = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as stop:
            return stop.value
        finally:
            error = None
            here.gr_context = own
        try:
            value = yield waits_for
        except BaseException as caught:
            error = caught


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    """An awaitable of any kind, as a coroutine that can be driven."""
    return await awaitable
