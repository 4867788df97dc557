"""What suspended coroutines wait for, and which task waits for a task.

Everything here reads asyncio's and the interpreter's objects from outside, holds nothing, and
imports no asyncio: a program that does not use it is not made to.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterator
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import Any

from greenlet import greenlet

# C objects that stand between a coroutine and what it awaits, and show it to nobody but the
# garbage collector.
_WRAPPERS = frozenset(
    {
        "async_generator_asend",
        "async_generator_athrow",
        "anext_awaitable",
        "coroutine_wrapper",
        "FutureIter",
    }
)

# gather, shield and wait stand between a task and the one that waits for it, each by a future.
_MAX_HOPS = 6


def is_future(obj: object) -> bool:
    """Whether this is an asyncio future or task (the mark that asyncio itself goes by)."""
    return hasattr(type(obj), "_asyncio_future_blocking")


def is_task(obj: object) -> bool:
    """Whether this is an asyncio task, in C, in Python or somebody's own."""
    return is_future(obj) and hasattr(type(obj), "get_coro")


def step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """One step down a chain of awaits: this object's own frame, and what it awaits.

    Objects without a frame give None for it; a chain's end gives None for what it awaits.
    """
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_frame, awaitable.cr_await
    if kind is GeneratorType:
        return awaitable.gi_frame, awaitable.gi_yieldfrom
    if kind is AsyncGeneratorType:
        return awaitable.ag_frame, awaitable.ag_await
    if kind.__name__ in _WRAPPERS:
        return None, next(filter(_is_awaitable, gc.get_referents(awaitable)), None)
    # Compiled coroutines (Cython) have the attributes, and sometimes no frame.
    return getattr(awaitable, "cr_frame", None), getattr(awaitable, "cr_await", None)


def _is_awaitable(obj: object) -> bool:
    if isinstance(obj, type):
        return False
    return (
        isinstance(obj, (CoroutineType, AsyncGeneratorType, GeneratorType))
        or type(obj).__name__ in _WRAPPERS
        or is_future(obj)
    )


def root_frame(task: Any) -> FrameType | None:
    """The outermost frame of a task's coroutine, None where it has none (compiled, finished)."""
    coroutine = task.get_coro()
    return None if coroutine is None else step(coroutine)[0]


def waiter_of(task: Any) -> Any:
    """The future or task that a suspended task waits for, None if it is about to run."""
    return getattr(task, "_fut_waiter", None)


def awaited_by(future: Any) -> Any:
    """The task that waits for a task or future, or the greenlet that it will switch to when done.

    None if none does or it cannot be told. Seen through `gather`, `shield`, `wait`, `wait_for`,
    `TaskGroup` and anyio's task groups. Of several, one.
    """
    hops = [future]
    for _ in range(_MAX_HOPS):
        if not hops:
            return None
        found: list[Any] = []
        for hop in hops[:_MAX_HOPS]:
            for waiting in _waiting_for(hop):
                if waiting is future:
                    continue
                if is_task(waiting) or isinstance(waiting, greenlet):
                    return waiting
                found.append(waiting)
        hops = found
    return None


def _waiting_for(future: Any) -> Iterator[Any]:
    known = getattr(future, "_asyncio_awaited_by", None)  # Python 3.14 keeps it itself
    if known:
        yield from known
        return
    for entry in getattr(future, "_callbacks", None) or ():
        callback = entry[0] if isinstance(entry, tuple) else entry
        yield from _waiting_in(callback)


def _waiting_in(callback: Any) -> Iterator[Any]:
    if isinstance(callback, functools.partial):
        yield from filter(is_future, callback.args)
    elif isinstance(callback, FunctionType):
        names = callback.__code__.co_freevars
        for name, cell in zip(names, callback.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if isinstance(value, greenlet):
                yield value
            elif name in ("outer", "waiter", "self"):
                yield from _task_or_owner(value)
    else:
        owner = getattr(callback, "__self__", None)
        if owner is not None and (isinstance(callback, MethodType) or is_task(owner)):
            yield from _task_or_owner(owner)


def _task_or_owner(value: Any) -> Iterator[Any]:
    if is_future(value):
        yield value
        return
    for parent in (
        getattr(value, "_parent_task", None),  # asyncio.TaskGroup
        getattr(getattr(value, "cancel_scope", None), "_host_task", None),  # anyio.TaskGroup
    ):
        if parent is not None and is_task(parent):
            yield parent


def describe(awaitable: Any) -> str | None:
    """A name for what ends a chain of awaits, if it says more than "a future" does."""
    if is_task(awaitable):
        return "asyncio.Task"
    if type(awaitable).__name__ == "_GatheringFuture":
        return "asyncio.gather"
    return None


def deadline_of(frame: FrameType) -> float | None:
    """When a suspended `asyncio.sleep` is over, on its loop's clock; None for other frames."""
    code = frame.f_code
    if code.co_name != "sleep":
        return None
    module = sys.modules.get("asyncio.tasks")
    if module is None or code is not getattr(module.sleep, "__code__", None):
        return None
    handle = frame.f_locals.get("h")
    when = getattr(handle, "when", None)
    return None if when is None else float(when())
