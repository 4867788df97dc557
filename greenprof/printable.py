"""Text that came from a profiled program, made safe to show.

Function names, task names and paths are whatever the program chose: a terminal escape in one must
not clear a screen, a newline must not fake a line of a report.
"""

from __future__ import annotations

__all__ = ["MOST_LETTERS", "message_of", "printable", "reason", "shown"]

MOST_LETTERS = 1_000
"""No name is shown with more: a program may call a function by a megabyte."""


def printable(text: str) -> str:
    r"""Return `text` with every character that does not print replaced by its escape (`\x1b`).

    Control characters, line separators, text direction marks and lone surrogates are escaped, so
    that the result is one line, is encodable as UTF-8 and shows what is in it.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def shown(text: str, *, keep_end: bool = False) -> str:
    """Return `text` printable, and cut to MOST_LETTERS; a path keeps its end (`keep_end`)."""
    if len(text) <= MOST_LETTERS and text.isprintable():
        return text
    safe = printable(text[-MOST_LETTERS:] if keep_end else text[:MOST_LETTERS])
    if len(text) <= MOST_LETTERS and len(safe) <= MOST_LETTERS:
        return safe
    return f"…{safe[1 - MOST_LETTERS :]}" if keep_end else f"{safe[: MOST_LETTERS - 1]}…"


def reason(error: BaseException) -> str:
    """Return an error's type and message as one line."""
    return shown(f"{type(error).__name__}: {message_of(error)}")


def message_of(error: BaseException) -> str:
    """Return an error's message as one line, also of one whose message raises."""
    try:
        return shown(str(error))
    except Exception:  # a class of the program's own
        return "its message cannot be read"


def _escape(char: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
