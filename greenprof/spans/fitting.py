"""Texts of the profiled program's, made fit for OTLP: one that is not loses all spans it is sent with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MOST_LETTERS", "fit", "fit_all"]

MOST_LETTERS: Final = 1_000
"""Names that greenprof finds are cut to so many letters; values that the program gives are not."""


def fit(text: str) -> str:
    """Return a name with escapes for lone surrogates, which file names may have, and not too long."""
    if len(text) > MOST_LETTERS:
        text = f"{text[: MOST_LETTERS - 1]}…"
    return text if text.isascii() else _encodable(text)


def fit_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes that somebody else gave with such escapes; what they are of stays."""
    return {_fit(key): _fit(value) for key, value in values.items()}


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _encodable(value)
    if type(value) in (list, tuple):
        return [_fit(each) for each in value]
    return value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
