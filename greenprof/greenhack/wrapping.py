"""Async functions, context managers and iterators that sync code uses as if they were sync."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, ParamSpec, TypeVar, overload

from greenlet import getcurrent

from greenprof.errors import OptionError
from greenprof.greenhack import modes
from greenprof.greenhack.crossing import (
    SyncGreenlet,
    await_,
    can_await,
    name_of,
)
from greenprof.greenhack.unawaited import Unawaited

__all__ = ["exempt", "exempt_cm", "exempt_it"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocks() -> bool:
    """Whether a function's blocking twin is to be called: in that mode, where no loop runs."""
    return modes.blocking and asyncio._get_running_loop() is None


@overload
def exempt(
    function: Callable[P, Awaitable[T]], /, *, blocking: Callable[..., T] | None = None
) -> Callable[P, T]: ...


@overload
def exempt(
    *, blocking: Callable[..., Any] | None = None
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, T]]: ...


def exempt(function: Any = None, /, *, blocking: Callable[..., Any] | None = None) -> Any:
    """Make an async function callable from sync code, which waits for its result.

    Below `as_async` and after `start_loop` a call returns the result. Anywhere else, as in a
    coroutine, it returns the awaitable, unchanged; where no loop runs, one that says so when it
    is taken for the result. `blocking` is what `mode("blocking")` calls instead, with the same
    arguments, where no loop runs. Raises OptionError for async generator functions.
    """
    if function is None:
        return functools.partial(exempt, blocking=blocking)
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(exempt(function.__func__, blocking=blocking))
    _check_async(function)
    is_coroutine = inspect.iscoroutinefunction(function)
    # An `as_async` function needs no greenlet of its own where there is one already.
    plain = getattr(function, "greenhack_plain", None)
    is_simple = is_coroutine and plain is None and blocking is None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_simple:  # nothing here but what tells sync code from a coroutine
            current = getcurrent()
            if type(current) is SyncGreenlet:
                try:
                    here = current.gr_context is current.context or can_await()
                except AttributeError:  # as in `await_`, which says so
                    here = True
                if here:
                    del current  # as in `await_`
                    return await_(function(*args, **kwargs))
        if blocking is not None and _blocks():
            return blocking(*args, **kwargs)
        if can_await():
            if plain is not None:
                return plain(*args, **kwargs)
            if is_coroutine or asyncio._get_running_loop() is not None:
                return await_(function(*args, **kwargs))
            return await_(_called(function, args, kwargs))
        awaitable = function(*args, **kwargs)
        if asyncio._get_running_loop() is None and asyncio.iscoroutine(awaitable):
            return Unawaited(awaitable)
        return awaitable

    return call


async def _called(function: Any, args: Any, kwargs: Any) -> Any:
    """Call on the loop what may look for it, as `asyncio.gather` does."""
    return await function(*args, **kwargs)


async def _made(function: Any, args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _make(function: Any, args: Any, kwargs: Any) -> Any:
    """Call what makes a manager or an iterator; on the loop, which it may look for."""
    if asyncio._get_running_loop() is None and can_await():
        return await_(_made(function, args, kwargs))
    return function(*args, **kwargs)


def _check_async(function: Any) -> None:
    name = name_of(function)
    if inspect.isclass(function) or not callable(function):
        raise OptionError(f"{name} is no function: greenhack.exempt is for async functions")
    if inspect.isasyncgenfunction(function):
        raise OptionError(f"{name} is an async generator function: use greenhack.exempt_it")
    if inspect.isgeneratorfunction(function) and not _is_coroutine_by_types(function):
        raise OptionError(
            f"{name} is a generator function: greenhack.exempt is for async functions"
        )


def _is_coroutine_by_types(function: Any) -> bool:
    return bool(function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE)


class SyncManager(Generic[T]):
    """An async context manager that ``with`` takes as well; anything else is its own."""

    def __init__(self, manager: AbstractAsyncContextManager[T, bool | None]) -> None:
        self._manager = manager

    def __enter__(self) -> T:
        return await_(self._manager.__aenter__())

    def __exit__(self, *raised: Any) -> bool | None:  # noqa: PYI036
        return await_(self._manager.__aexit__(*raised))

    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    async def __aexit__(self, *raised: Any) -> bool | None:  # noqa: PYI036
        return await self._manager.__aexit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


class SyncIterable(Generic[T]):
    """Something that can be iterated over asynchronously, again and again, as a list can."""

    def __init__(self, iterable: AsyncIterable[T]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[T]:
        return SyncIterator(self._iterable.__aiter__())

    def __aiter__(self) -> AsyncIterator[T]:
        return self._iterable.__aiter__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterable, name)


class SyncIterator(SyncIterable[T]):
    """An async iterator that ``for`` takes as well; anything else is its own."""

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        super().__init__(iterator)
        self._iterator = iterator

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return await_(self._iterator.__anext__())
        except StopAsyncIteration:
            pass
        raise StopIteration

    def close(self) -> None:
        """End an async generator before it is through, as leaving the loop early does not."""
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await_(aclose())


@overload
def exempt_cm(given: AbstractAsyncContextManager[T, Any], /) -> SyncManager[T]: ...


@overload
def exempt_cm(
    given: Callable[P, AbstractAsyncContextManager[T, Any]],
    /,
    *,
    blocking: Callable[..., AbstractContextManager[T, Any]] | None = None,
) -> Callable[P, SyncManager[T]]: ...


@overload
def exempt_cm(
    *, blocking: Callable[..., AbstractContextManager[Any, Any]] | None = None
) -> Callable[[Callable[P, AbstractAsyncContextManager[T, Any]]], Callable[P, SyncManager[T]]]: ...


def exempt_cm(given: Any = None, /, *, blocking: Callable[..., Any] | None = None) -> Any:
    """Make an async context manager usable by ``with`` in sync code, besides ``async with``.

    Takes the manager itself, or decorates what makes one: a function under `asynccontextmanager`,
    or a class. `blocking` makes the one that `mode("blocking")` uses where no loop runs, with the
    same arguments. Raises OptionError for anything else.
    """
    if given is None:
        return functools.partial(exempt_cm, blocking=blocking)
    if isinstance(given, (classmethod, staticmethod)):
        return type(given)(exempt_cm(given.__func__, blocking=blocking))
    if not inspect.isclass(given) and _has(given, "__aenter__", "__aexit__"):
        return SyncManager(given)
    _check_makes(given, "exempt_cm", "an async context manager", ("__aenter__", "__aexit__"))

    @functools.wraps(given, updated=() if inspect.isclass(given) else ("__dict__",))
    def make(*args: Any, **kwargs: Any) -> Any:
        if blocking is not None and _blocks():
            return blocking(*args, **kwargs)
        return SyncManager(_make(given, args, kwargs))

    return make


@overload
def exempt_it(given: AsyncIterator[T], /) -> SyncIterator[T]: ...


@overload
def exempt_it(given: AsyncIterable[T], /) -> SyncIterable[T]: ...


@overload
def exempt_it(
    given: Callable[P, AsyncIterator[T]],
    /,
    *,
    blocking: Callable[..., Iterable[T]] | None = None,
) -> Callable[P, SyncIterator[T]]: ...


@overload
def exempt_it(
    given: Callable[P, AsyncIterable[T]],
    /,
    *,
    blocking: Callable[..., Iterable[T]] | None = None,
) -> Callable[P, SyncIterable[T]]: ...


@overload
def exempt_it(
    *, blocking: Callable[..., Iterable[Any]] | None = None
) -> Callable[[Callable[P, AsyncIterator[T]]], Callable[P, SyncIterator[T]]]: ...


def exempt_it(given: Any = None, /, *, blocking: Callable[..., Any] | None = None) -> Any:
    """Make an async iterator or iterable usable by ``for`` in sync code, besides ``async for``.

    Takes the iterator itself, or decorates what makes one: an async generator function, or a
    class. `blocking` makes the one that `mode("blocking")` uses where no loop runs, with the same
    arguments. Raises OptionError for anything else.
    """
    if given is None:
        return functools.partial(exempt_it, blocking=blocking)
    if isinstance(given, (classmethod, staticmethod)):
        return type(given)(exempt_it(given.__func__, blocking=blocking))
    if not inspect.isclass(given) and _has(given, "__aiter__"):
        return _iterable(given)
    _check_makes(given, "exempt_it", "an async iterator", ("__aiter__",))

    @functools.wraps(given, updated=() if inspect.isclass(given) else ("__dict__",))
    def make(*args: Any, **kwargs: Any) -> Any:
        if blocking is not None and _blocks():
            return blocking(*args, **kwargs)
        return _iterable(_make(given, args, kwargs))

    return make


def _iterable(given: Any) -> Any:
    return SyncIterator(given) if _has(given, "__anext__") else SyncIterable(given)


def _has(given: Any, *names: str) -> bool:
    return all(hasattr(type(given), name) for name in names)


def _check_makes(given: Any, decorator: str, what: str, methods: tuple[str, ...]) -> None:
    name = name_of(given)
    if not callable(given) or (
        inspect.isclass(given) and not all(hasattr(given, method) for method in methods)
    ):
        raise OptionError(f"{name} is not {what}, nor a function or class that makes one")
    if inspect.iscoroutinefunction(given):
        raise OptionError(
            f"{name} is a coroutine function: greenhack.{decorator} takes what makes {what}; "
            f"for coroutine functions there is greenhack.exempt"
        )
