"""Command lines without the passwords in them: they stand at the head of every report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["HIDDEN", "without_secrets"]

HIDDEN: Final = "[hidden]"

_CALLED = (
    "pass(?:word|wd|phrase|code)|secret|token|credential|(?:api|private|access|account)[-_]?key"
)
# --db-password=x, DB_PASSWORD=x; password=x in a DSN of several words, too.
_GIVEN = re.compile(rf"(?i)((?:^|(?<=[\s;&?,]))[-\w.]*(?:{_CALLED})[-\w.]*=)(?:'[^']*'|[^\s;&]+)")
_OPTION = re.compile(rf"(?i)-{{1,2}}[-\w.]*(?:{_CALLED})[-\w.]*")
# scheme://user:password@host
_IN_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]+(?=@)")


def without_secrets(words: Iterable[str]) -> list[str]:
    """Return a command line's words with `[hidden]` for what looks like a password.

    That is the value of an option or a variable that is called so (password, secret, token, key), in
    the same word or the next one, and the password in a URL. What is called otherwise stays.
    """
    found: list[str] = []
    hide_next = False
    for word in words:
        if hide_next and not word.startswith("-"):
            found.append(HIDDEN)
            hide_next = False
            continue
        hide_next = _OPTION.fullmatch(word) is not None
        if "=" in word and _is_one_value(word):
            name, _, _ = word.partition("=")
            found.append(f"{name}={HIDDEN}")
            continue
        found.append(_IN_URL.sub(_hidden, _GIVEN.sub(_hidden, word)))
    return found


def _hidden(found: re.Match[str]) -> str:
    # Not as a template: re imports what reads those, which fails when the interpreter ends.
    return f"{found[1]}{HIDDEN}"


def _is_one_value(word: str) -> bool:
    """Whether the whole rest of a word is the value of an option that is called so."""
    return word.startswith("-") and _OPTION.fullmatch(word.partition("=")[0]) is not None
