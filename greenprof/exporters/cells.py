"""Pieces of rich output: text that is cut to its column, and tables without lines."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from greenprof.printable import printable

__all__ = ["Cut", "encodable", "table"]

# No column is as wide; a name of a megabyte should not be measured letter by letter.
_LONGEST = 300


class Cut:
    """One line of text, made safe, that gives way where there is no room for it.

    A path or a qualified name keeps its end (`keep_end`), anything else its beginning.
    """

    def __init__(self, text: str, style: str = "", *, keep_end: bool = False) -> None:
        shortened = text[-_LONGEST:] if keep_end else text[:_LONGEST]
        self.text = printable(shortened)
        self.style = style
        self.keep_end = keep_end

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = encodable(self.text, options)
        if cell_len(text) > options.max_width:
            mark = encodable("…", options)
            room = max(options.max_width - cell_len(mark), 0)
            while text and cell_len(text) > room:
                text = text[1:] if self.keep_end else text[:-1]
            text = mark + text if self.keep_end else text + mark
        # A Text is taken as it is: brackets in a name are no markup.
        yield Text(text, style=self.style, no_wrap=True, overflow="crop", end="")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = cell_len(encodable(self.text, options))
        return Measurement(min(width, 8), width).with_maximum(options.max_width)


def encodable(text: str, options: ConsoleOptions) -> str:
    """Return `text` as far as the console's encoding has letters for it, escapes for the rest."""
    if options.encoding.startswith("utf"):
        return text
    text = text.replace("…", "...")
    return text.encode(options.encoding, "backslashreplace").decode(options.encoding)


def table(texts: list[str], numbers: list[str]) -> Table:
    """Return an empty table: columns of text, which shrink, then columns of numbers, which do not."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in texts:
        result.add_column(title)
    for title in numbers:
        result.add_column(title, justify="right", no_wrap=True)
    return result
