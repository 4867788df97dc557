"""Columns of a `.gprof` file: checked as they are read, so that what is built of them holds together."""

from __future__ import annotations

import enum
from typing import Any, TypeVar

from greenprof.model import MAX_NUMBER

__all__ = ["BadDataError", "ints", "list_at", "members", "rows", "table_at", "texts"]

_Member = TypeVar("_Member", bound=enum.StrEnum)


class BadDataError(Exception):
    """The inside of a file is not what the format says; the message names the place."""


def table_at(document: dict[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key)
    if not isinstance(table, dict):
        raise BadDataError(key)
    return table


def list_at(table: dict[str, Any], key: str, where: str) -> list[Any]:
    column = table.get(key)
    if not isinstance(column, list):
        raise BadDataError(where + key)
    return column


def ints(table: dict[str, Any], key: str, low: int = 0, high: int = MAX_NUMBER) -> list[int]:
    column = list_at(table, key, "")
    if column and (set(map(type, column)) != {int} or min(column) < low or max(column) > high):
        raise BadDataError(key)
    return column


def texts(table: dict[str, Any], key: str, strings: list[str]) -> list[str]:
    return [strings[index] for index in ints(table, key, high=len(strings) - 1)]


def members(kind: type[_Member], texts: list[str], unknown: _Member) -> list[_Member]:
    known = {member.value: member for member in kind}
    return [known.get(text, unknown) for text in texts]


def rows(where: str, *columns: Any) -> zip[Any]:
    columns = tuple(list(column) for column in columns)
    if len({len(column) for column in columns}) != 1:
        raise BadDataError(f"{where}: columns of different lengths")
    return zip(*columns, strict=True)
