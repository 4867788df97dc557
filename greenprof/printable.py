"""Text that came from a profiled program, made safe to show.

Function names, task names and paths are whatever the program chose: a terminal escape in one must
not clear a screen, a newline must not fake a line of a report.
"""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return `text` with every character that does not print replaced by its escape (`\x1b`).

    Control characters, line separators, text direction marks and lone surrogates are escaped, so
    that the result is one line, is encodable as UTF-8 and shows what is in it.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
