"""Checks of options that several of the public classes take."""

from __future__ import annotations

from typing import Any

from greenprof.errors import OptionError

__all__ = ["function_or_none", "is_number", "one_of"]


def one_of(option: str, value: str, values: tuple[str, ...]) -> str:
    """Return the value. Raises OptionError if it is none of the values that there are."""
    if value not in values:
        raise OptionError(f"{option} is {value!r}: give one of {', '.join(map(repr, values))}")
    return value


def function_or_none(option: str, value: Any, argument: str) -> Any:
    """Return the value. Raises OptionError if it cannot be called with the argument of that name."""
    if value is not None and not callable(value):
        raise OptionError(f"{option} is {value!r}: give a function that takes {argument}")
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a number, which a truth value is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
