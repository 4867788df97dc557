"""Command lines without the passwords in them: they stand at the head of every report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

__all__ = ["HIDDEN", "without_secrets"]

HIDDEN: Final = "[hidden]"

_CALLED = (
    "pass(?:word|wd|phrase|code)|secret|token|credential|(?:api|private|access|account)[-_]?key"
)
# --db-password=x, DB_PASSWORD=x; password=x in a DSN of several words, too.
_GIVEN = rf"(?i)((?:^|(?<=[\s;&?,]))[-\w.]*(?:{_CALLED})[-\w.]*=)(?:'[^']*'|[^\s;&]+)"
_OPTION = rf"(?i)-{{1,2}}[-\w.]*(?:{_CALLED})[-\w.]*"
# scheme://user:password@host
_IN_URL = r"(?i)([a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]+(?=@)"
# Most command lines have nothing that they could fit: compiled when first needed, and kept whatever
# the program does with re's own cache.
_compiled = cache(re.compile)


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
        hide_next = _is_option(word)
        if "=" in word:
            name, _, _ = word.partition("=")
            if _is_option(name):  # the whole rest of the word is its value
                found.append(f"{name}={HIDDEN}")
                continue
        shown = _compiled(_GIVEN).sub(_hidden, word) if "=" in word else word
        found.append(_compiled(_IN_URL).sub(_hidden, shown) if "://" in shown else shown)
    return found


def _hidden(found: re.Match[str]) -> str:
    # Not as a template: re imports what reads those, which fails when the interpreter ends.
    return f"{found[1]}{HIDDEN}"


def _is_option(word: str) -> bool:
    """Whether it is an option that is called so, without a value."""
    return word.startswith("-") and _compiled(_OPTION).fullmatch(word) is not None
