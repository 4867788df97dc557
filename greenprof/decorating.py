"""Decorators out of context managers, for functions and coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from greenprof.errors import OptionError

__all__ = ["decorated"]

Function = TypeVar("Function", bound=Callable[..., Any])


def decorated(
    function: Function, context: Callable[[], AbstractContextManager[Any]], what: str
) -> Function:
    """Return `function` with each of its calls in a context of its own.

    Raises OptionError for what is no function, or runs in pieces between those of its caller, as
    generator functions do; `what` is what the message calls the decorator.
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise OptionError(
            f"{name} is a generator function, which runs in pieces: "
            f"use `with greenprof.{what}:` inside it, or round the loop over it"
        )
    if inspect.isclass(function) or not callable(function):
        raise OptionError(f"{name} is no function: {what} decorates functions")
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def in_context_coroutine(*args: Any, **kwargs: Any) -> Any:
            with context():
                return await function(*args, **kwargs)

        return in_context_coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def in_context(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return in_context  # type: ignore[return-value]
