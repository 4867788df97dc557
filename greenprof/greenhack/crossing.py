"""Sync code in a greenlet of its own, and the way from there to what it awaits and back.

`as_async` starts sync code in a `SyncGreenlet` and awaits on its behalf; `await_` hands it the
awaitable. Both run in one context: what either side sets in a `contextvars` variable the other
sees. With `start_loop` it is the other way about: the sync code keeps its greenlet, and the loop
runs in one below it (`greenprof.greenhack.ownloop`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, TypeVar, overload

import greenlet as greenlet_module
from greenlet import GreenletExit, getcurrent, greenlet

from greenprof.errors import LoopStateError, NoLoopError, OptionError
from greenprof.greenhack import modes, ownloop
from greenprof.greenhack.contexts import context_of, in_context
from greenprof.greenhack.raising import beyond, with_context

__all__ = ["SyncGreenlet", "as_async", "await_", "can_await", "name_of", "refused"]

P = ParamSpec("P")
T = TypeVar("T")

# Eager tasks (Python 3.12) run their first steps in the greenlet of whoever makes them: what runs
# there is a coroutine, although the greenlet is the sync code's.
_EAGER = hasattr(asyncio, "eager_task_factory")
# Code that goes on awaiting after so many refusals will not end.
MAX_REFUSALS = 100


class SyncGreenlet(greenlet):
    """Runs sync code that may wait for awaitables; its parent runs the coroutine that awaits."""

    __slots__ = ("context", "entered", "handed", "task")

    context: Context
    """The coroutine's own."""
    entered: Any
    """The one that the code that waits has entered by itself, else None."""
    handed: Any
    """The awaitable on its way to the coroutine. Not kept, here or in a frame: what a suspended
    greenlet holds, the garbage collector cannot see, and an abandoned task would stay for good."""
    task: int
    """The id of the task that it belongs to."""


def _task_id() -> int:
    try:
        return id(asyncio.current_task())
    except RuntimeError:  # nothing but a coroutine that is driven by hand
        return 0


def await_(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable in sync code, and return its result or raise its error.

    For code below `as_async`, or after `start_loop`. Raises `NoLoopError` anywhere else; a
    coroutine that was given is closed then.
    """
    current = getcurrent()
    own: ownloop.OwnLoop | None = None
    if type(current) is SyncGreenlet:
        try:
            if current.gr_context is not current.context:
                current.entered = _entered_by(current, awaitable)
        except AttributeError:  # it is being freed, and given the chance to clean up
            raise _over(awaitable) from None
        current.handed = awaitable
        below: Any = current.parent
        del awaitable, current  # a greenlet that is its own last reference stays for good
    else:
        own = ownloop.of(current)
        if own is None or modes.blocking:
            own = _own_loop_for(awaitable)
            if own is None:
                return awaitable  # type: ignore[return-value]
        own.handed = awaitable  # which stays in this frame: its task waits for nobody else
        own.waits = True
        below = own.greenlet
    try:
        result = below.switch()
        if own is not None:
            own.resume()
    except BaseException as error:
        failed = error
    else:
        return result  # type: ignore[no-any-return]
    if own is not None:
        own.waits = False
    # Outside of `except`, what sync code handles just now is what it has been.
    context = failed.__context__
    try:
        raise failed.with_traceback(beyond(failed))
    finally:
        with_context(failed, context)
        del failed, context


def _own_loop_for(awaitable: Any) -> ownloop.OwnLoop | None:
    """The loop of this greenlet, which blocking code may have to start; refuses where none may run.

    None for the result of an `as_async` function, which is plain in the mode "blocking".
    """
    own = ownloop.of(getcurrent())
    if own is None and not (modes.blocking and asyncio._get_running_loop() is None):
        raise refused(awaitable)
    if modes.blocking and not inspect.isawaitable(awaitable):
        return None
    return own or ownloop.start_for_blocking()


def _over(awaitable: Any) -> LoopStateError:
    """The error for an awaitable in sync code that has lost its coroutine; it is closed."""
    if asyncio.iscoroutine(awaitable):
        awaitable.close()
    return LoopStateError(
        "the coroutine of this code was closed: nothing can be awaited here any more"
    )


def _entered_by(current: SyncGreenlet, awaitable: Any) -> Context:
    """The context of code that runs in one of its own, by `Context.run`; refuses a coroutine's."""
    if _is_eager(current):
        raise refused(awaitable)
    return context_of(current)


def _is_eager(current: SyncGreenlet) -> bool:
    """Whether this is an eager task's first step, which runs in the greenlet of who made it.

    Such a task always has a context of its own.
    """
    return _EAGER and current.task != _task_id()


def can_await() -> bool:
    """Whether `await_` can wait here: in code below `as_async`, or after `start_loop`.

    Not in a coroutine, whichever greenlet it was called from: that one has ``await``.
    """
    current = getcurrent()
    if type(current) is SyncGreenlet:
        try:
            return current.gr_context is current.context or not _is_eager(current)
        except AttributeError:
            return False
    if ownloop.of(current) is not None:
        return True
    return modes.blocking and asyncio._get_running_loop() is None


def refused(awaitable: Any) -> NoLoopError:
    """The error for an awaitable that nobody here can wait for; a coroutine is closed."""
    name = name_of(awaitable)
    if asyncio._get_running_loop() is None:
        mend = ownloop.mend()
    elif asyncio.iscoroutine(awaitable) or inspect.isawaitable(awaitable):
        mend = (
            "A loop runs in this thread, but this code was not called through "
            "greenhack.as_async: decorate the sync function that the coroutine calls with it and "
            "await that, or use `await` here"
        )
    else:
        mend = "It is not awaitable either"
    if asyncio.iscoroutine(awaitable):
        awaitable.close()
    return NoLoopError(f"nothing can wait for {name} here. {mend}.")


@overload
def as_async(function: Callable[P, T], /) -> Callable[P, Coroutine[Any, Any, T]]: ...


@overload
def as_async() -> Callable[[Callable[P, T]], Callable[P, Coroutine[Any, Any, T]]]: ...


def as_async(function: Any = None, /) -> Any:
    """Make a coroutine function of a plain one, in which async I/O is called as if it were sync.

    >>> @greenhack.as_async
    ... def view(request):
    ...     order.save()  # awaits underneath, by way of `exempt` and `await_`

    Raises OptionError for what is async already, for generator functions, which run in pieces,
    and for classes. In `greenhack.mode("blocking")` functions stay plain.
    """
    if function is None:
        return as_async
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(as_async(function.__func__))
    _check_plain(function)

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        here = getcurrent()
        context = here.gr_context or context_of(here)
        child = SyncGreenlet(function, here)
        child.gr_context = child.context = context
        child.entered = None
        moves = False
        if _EAGER:
            child.task = _task_id()
            # Its first step may be in somebody else's greenlet, the others in the loop's.
            moves = here.parent is not None or ownloop.is_here()
        try:
            result = child.switch(*args, **kwargs)
            while not child.dead:
                awaitable = child.handed
                child.handed = None
                error: BaseException | None = None
                try:
                    if child.entered is None:
                        value = await awaitable
                    else:
                        entered, child.entered = child.entered, None
                        value = await in_context(awaitable, entered)
                except BaseException as raised:
                    error = raised
                if moves and getcurrent() is not here and type(error) is not GeneratorExit:
                    child.parent = here = getcurrent()
                if error is None:
                    result = child.switch(value)
                    continue
                # Outside of `except`, or what the sync code raises later would have it as context.
                try:
                    if type(error) is GeneratorExit:
                        result = _end(child, error)
                    else:
                        result = child.throw(type(error), error, error.__traceback__)
                finally:
                    error = None
            if type(result) is not GreenletExit:
                return result
            raise result  # greenlet returns it, whoever raised it
        except BaseException as caught:
            failed = caught
        raised_in = failed.__context__
        try:
            raise failed.with_traceback(beyond(failed))
        finally:
            with_context(failed, raised_in)
            del failed, raised_in

    run.greenhack_plain = function  # type: ignore[attr-defined]
    return run if not modes.blocking else _plain(function, run)


def _plain(function: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if asyncio._get_running_loop() is None:
            return function(*args, **kwargs)
        return run(*args, **kwargs)  # a coroutine calls it, and awaits what it gets

    plain.greenhack_plain = function  # type: ignore[attr-defined]
    return plain


def name_of(function: Any) -> str:
    """What to call a function in messages; not all callables have a name."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _check_plain(function: Any) -> None:
    name = name_of(function)
    if inspect.isclass(function) or not callable(function):
        raise OptionError(f"{name} is no function: greenhack.as_async is for functions")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise OptionError(f"{name} is async already: greenhack.as_async is for plain functions")
    if inspect.isgeneratorfunction(function):
        raise OptionError(
            f"{name} is a generator function, which runs in pieces between those of its caller: "
            f"use greenhack.as_async on the function that iterates over it"
        )


def _end(child: SyncGreenlet, closing: BaseException) -> Any:
    """Bring sync code to its end whose coroutine is closed: what it awaits now is refused."""
    try:
        # The garbage collector closes it in whatever greenlet it runs.
        child.parent = getcurrent()
        result = child.throw(type(closing), closing, closing.__traceback__)
        for _ in range(MAX_REFUSALS):
            if child.dead:
                return result
            result = child.throw(_over(child.handed))
        _over(child.handed)
    except (greenlet_module.error, ValueError):
        if child.dead:
            raise
        # Closed by another thread's garbage collection: its own thread ends it, by greenlet.
        raise closing from None
    finally:
        del closing  # or its traceback would keep this frame, and that the greenlet
    raise LoopStateError(
        f"sync code does not end: its coroutine was closed, and it went on awaiting "
        f"{MAX_REFUSALS} times"
    )
