"""Lays out what rich draws for the stream that it goes to: a terminal's size and colours, or plain text."""

from __future__ import annotations

import io
import os
from typing import TextIO

from rich.console import Console, RenderableType

__all__ = ["draw"]

# Where there is no terminal: a file or a pipe, whose reader has a window of unknown size.
PLAIN_SIZE = os.terminal_size((110, 40))


def draw(renderable: RenderableType, stream: TextIO) -> bytes:
    """Returns the text in the encoding of `stream`, to be written by who knows what to do if that fails."""
    terminal = stream.isatty()
    width, height = _size(stream) if terminal else PLAIN_SIZE
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding=stream.encoding, errors="backslashreplace")
    console = Console(
        file=file,
        width=width,
        height=height,
        # Said either way: rich would also listen to variables that are meant for other streams.
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        force_jupyter=False,
        highlight=False,
    )
    console.print(renderable)
    file.flush()
    return b"".join(line.rstrip() + b"\n" for line in data.getvalue().splitlines())


def _size(stream: TextIO) -> os.terminal_size:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return PLAIN_SIZE
    # A terminal that does not know says 0 x 0.
    return os.terminal_size((size.columns or PLAIN_SIZE.columns, size.lines or PLAIN_SIZE.lines))
