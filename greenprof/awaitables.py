"""What suspended coroutines wait for, and which task waits for a task.

Everything here reads asyncio's and the interpreter's objects from outside, holds nothing, and
imports no asyncio: a program that does not use it is not made to.
"""

from __future__ import annotations

import functools
import gc
import sys
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

from greenprof.interrupted import from_signal_handler

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
# A future may tell thousands that it is done.
_MAX_CALLBACKS = 100


# What instances of a type are, by the marks that asyncio itself goes by.
_OTHER, _FUTURE, _TASK = range(3)
# By the types' ids, which stay taken; not every metaclass lets its classes be hashed.
_kinds: dict[int, tuple[int, type]] = {}
_MAX_KINDS = 1000


def _look_at(kind: type) -> tuple[int, type]:
    found = _OTHER
    if hasattr(kind, "_asyncio_future_blocking"):
        found = _TASK if hasattr(kind, "get_coro") else _FUTURE
    if len(_kinds) >= _MAX_KINDS:
        _kinds.clear()
    known = _kinds[id(kind)] = found, kind
    return known


def is_future(obj: object) -> bool:
    """Whether this is an asyncio future or task."""
    kind = type(obj)
    return (_kinds.get(id(kind)) or _look_at(kind))[0] != _OTHER


def is_task(obj: object) -> bool:
    """Whether this is an asyncio task, in C, in Python or somebody's own."""
    kind = type(obj)
    return (_kinds.get(id(kind)) or _look_at(kind))[0] == _TASK


def step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """One step down a chain of awaits: this object's own frame, and what it awaits.

    Objects without a frame give None for it; a chain's end, and what runs, give None for what they await.
    """
    # What runs must not be asked what it awaits: up to 3.12, CPython takes what follows the running
    # instruction for one, which may be a cache, and then reads beside the frame's stack.
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_frame, None if awaitable.cr_running else awaitable.cr_await
    if kind is GeneratorType:
        return awaitable.gi_frame, None if awaitable.gi_running else awaitable.gi_yieldfrom
    if kind is AsyncGeneratorType:
        frame = awaitable.ag_frame
        # It counts as running while it awaits, too; but a frame that is suspended was called by none.
        runs = awaitable.ag_running and frame is not None and frame.f_back is not None
        return frame, None if runs else awaitable.ag_await
    if kind.__name__ in _WRAPPERS:
        return None, _kept_by(awaitable)
    # Compiled coroutines (Cython) have the attributes; they may have no frame. Others' own
    # classes, as proxies of coroutines are, have neither.
    frame = getattr(awaitable, "cr_frame", None)
    below = getattr(awaitable, "cr_await", None)
    return frame, _kept_by(awaitable) if frame is None and below is None else below


def _kept_by(obj: Any) -> Any:
    """The one awaitable that an object refers to, None if there are several."""
    values = gc.get_referents(obj)
    values.extend(getattr(obj, "__dict__", {}).values())
    found = {id(value): value for value in values if _is_awaitable(value)}
    return next(iter(found.values())) if len(found) == 1 else None


def _is_awaitable(obj: object) -> bool:
    kind = type(obj)
    return (
        issubclass(kind, (CoroutineType, AsyncGeneratorType, GeneratorType))
        or kind.__name__ in _WRAPPERS
        or hasattr(kind, "_asyncio_future_blocking")
        or hasattr(kind, "cr_await")
    )


def coroutine_of(task: Any) -> Any:
    """A task's coroutine, None if it is done, or if its class does not give it."""
    try:
        return task.get_coro()
    except Exception as error:  # a task class of somebody's own
        if from_signal_handler(error):
            raise
        return None


def root_frame(task: Any) -> FrameType | None:
    """The outermost frame of a task's coroutine; None where none of it is ever on a stack."""
    coroutine = coroutine_of(task)
    # What compiled coroutines show as their frame is made up.
    return step(coroutine)[0] if type(coroutine) in (CoroutineType, GeneratorType) else None


def is_entered(task: Any) -> bool:
    """Whether a task's coroutine runs, or a greenlet does that it has switched to."""
    return getattr(coroutine_of(task), "cr_running", False) is True


def waiter_of(task: Any) -> Any:
    """The future or task that a suspended task waits for, None if it is about to run."""
    return getattr(task, "_fut_waiter", None)


def awaited_by(future: Any) -> tuple[Any, Any]:
    """The task that waits for a task or future, or the greenlet that it will switch to when done.

    Seen through `gather`, `shield`, `wait`, `wait_for`, `as_completed` and task groups, asyncio's
    and anyio's. Of several, one. (None, None) if none does or it cannot be told.

    The second is None, or a task group whose task does not wait for it yet: it is still inside
    the group's ``async with``.
    """
    hops = [future]
    host: tuple[Any, Any] = (None, None)
    for _ in range(_MAX_HOPS):
        found: list[Any] = []
        for hop in hops[:_MAX_HOPS]:
            for waiting in _waiting_for(hop):
                if waiting is future:
                    continue
                if is_task(waiting) or isinstance(waiting, greenlet):
                    return waiting, None
                if is_future(waiting):
                    found.append(waiting)
                elif hop is future:
                    host = _host_of(waiting), waiting
        if not found:
            break
        hops = found
    return host if host[0] is not None else (None, None)


def told_by(future: Any) -> Any:
    """What a future will tell that it is done: whose method, or which function. None if it is not one.

    All that tell the same are awaited by the same.
    """
    callbacks = getattr(future, "_callbacks", None)
    if not callbacks or len(callbacks) != 1:
        return None
    entry = callbacks[0]
    callback = entry[0] if isinstance(entry, tuple) else entry
    if isinstance(callback, FunctionType):
        return callback
    return None if isinstance(callback, functools.partial) else getattr(callback, "__self__", None)


def _waiting_for(future: Any) -> list[Any]:
    """Futures, tasks, greenlets and task groups that a future will tell that it is done."""
    found: list[Any] = []
    for entry in (getattr(future, "_callbacks", None) or ())[:_MAX_CALLBACKS]:
        _add_waiting_in(entry[0] if isinstance(entry, tuple) else entry, found)
    return found


def _add_waiting_in(callback: Any, found: list[Any]) -> None:
    if isinstance(callback, functools.partial):
        found += filter(is_future, callback.args)
    elif isinstance(callback, FunctionType):
        names = callback.__code__.co_freevars
        for name, cell in zip(names, callback.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if isinstance(value, greenlet):
                found.append(value)
            elif name in ("outer", "waiter", "self", "done", "task_status_future"):
                _add_behind(value, found)
    else:
        owner = getattr(callback, "__self__", None)
        if owner is not None and (isinstance(callback, MethodType) or is_task(owner)):
            _add_behind(owner, found)


def _add_behind(value: Any, found: list[Any]) -> None:
    if is_future(value):
        found.append(value)
        return
    # as_completed() fills a queue, from which whoever iterates takes.
    getters = getattr(getattr(value, "_done", value), "_getters", None)
    if getters is not None:
        found += filter(is_future, list(getters))
    elif _host_of(value) is not None:
        completed = getattr(value, "_on_completed_fut", None)
        found.append(value if completed is None else completed)


def _host_of(group: Any) -> Any:
    """The task that opened a task group, asyncio's or anyio's; None for anything else."""
    task = getattr(group, "_parent_task", None)
    if task is None:
        task = getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    return task if is_task(task) else None


def holds(awaitable: Any, group: Any, depth: int = 3) -> bool:
    """Whether a suspended coroutine is inside the ``async with`` of a task group."""
    values = gc.get_referents(awaitable)
    for found, after in zip(values, [*values[1:], None], strict=True):
        if type(found) not in (MethodType, FunctionType) or found.__name__ != "__aexit__":
            continue
        # A method; from Python 3.14 on the function, and next to it what it is a method of.
        owner = found.__self__ if type(found) is MethodType else after
        if owner is group:
            return True
        # A group that a function with @asynccontextmanager opened and yields.
        generator = getattr(owner, "gen", None)
        if type(generator) is AsyncGeneratorType and depth and holds(generator, group, depth - 1):
            return True
    return False


def describe(awaitable: Any) -> str | None:
    """A name for what ends a chain of awaits, if it says more than "a future" does."""
    if is_task(awaitable):
        return "asyncio.Task"
    if type(awaitable).__name__ == "_GatheringFuture":
        return "asyncio.gather"
    return None


def deadline_of(awaitable: Any) -> float | None:
    """When a suspended `asyncio.sleep` is over, on its loop's clock; None for anything else."""
    code = getattr(awaitable, "cr_code", None)
    if code is None or code.co_name != "sleep":
        return None
    sleep = getattr(sys.modules.get("asyncio.tasks"), "sleep", None)
    if code is not getattr(sleep, "__code__", None):
        return None
    # Not by its frame's locals: ten thousand sleeping tasks would get a dict each.
    for found in gc.get_referents(awaitable):
        when = getattr(type(found), "when", None)
        if when is not None:
            return float(when(found))
    return None
