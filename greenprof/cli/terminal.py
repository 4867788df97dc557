"""greenprof's own words. They go to standard error, past whatever the profiled program did to `sys.stderr`."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from greenprof.printable import printable

__all__ = ["complain", "put", "say", "standard_error"]


def complain(message: str, command: str = "greenprof") -> None:
    """Says one line that tells what is wrong, whatever characters the message is made of."""
    say(f"{command}: {printable(message)}")


def say(text: str) -> None:
    """Writes `text` and a newline to standard error; see `put`."""
    stream = standard_error()
    if stream is not None:
        put(f"{text}\n".encode(stream.encoding, "backslashreplace"))


def put(data: bytes) -> None:
    """Writes to standard error; stays silent where there is none.

    Never raises, and leaves nothing in the stream's buffer: what fails there fails once more when the
    interpreter flushes it at exit, and that would change the program's exit code to 120.
    """
    stream = standard_error()
    if stream is None:
        return
    try:
        stream.flush()
        fd = stream.fileno()
        while data:
            data = data[os.write(fd, data) :]
    except (OSError, ValueError):
        return


def standard_error() -> TextIO | None:
    """The stream python started with; None where it was closed, then or since."""
    stream = sys.__stderr__
    return None if stream is None or stream.closed else stream
