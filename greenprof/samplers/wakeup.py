"""How many of our signals wait in an event loop's wake-up socket.

Python writes a byte into it for each signal (`signal.set_wakeup_fd`), and the loop reads them
when it comes round. While one task hogs the loop nobody does, and after some 270 one-byte writes
(each takes a kernel buffer of its own) the socket is full: Python then prints a warning, and the
byte of a signal that the program waits for would be lost. The sampler stops its signals before.
"""

from __future__ import annotations

import array
import signal
import sys
from typing import Any
from weakref import ref

try:
    import fcntl
    import termios
except ImportError:  # not a Unix
    _HAS_IOCTL = False
else:
    _HAS_IOCTL = True

#: More signals than this are not left unread.
MAX_UNREAD = 100


class WakeupSocket:
    """The wake-up socket of the loop that runs in the main thread."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._descriptor = -1
        self._question = 0

    def look_at(self, loop: Any) -> None:
        """Find the socket of a loop that runs now. Main thread only."""
        if loop is None or not _HAS_IOCTL or loop is self._loop_now():
            return
        self._loop = ref(loop)
        reader = getattr(loop, "_ssock", None)
        if reader is not None:  # asyncio's own loops
            self._descriptor, self._question = reader.fileno(), termios.FIONREAD
        elif type(loop).__module__.partition(".")[0] == "uvloop":
            # uvloop shows its socket to nobody, so the interpreter is asked for it, once a loop.
            self._descriptor = signal.set_wakeup_fd(-1)
            if self._descriptor >= 0:
                signal.set_wakeup_fd(self._descriptor)
            self._question = termios.TIOCOUTQ
        else:
            self._descriptor = -1

    def _loop_now(self) -> Any:
        return None if self._loop is None else self._loop()

    def unread(self) -> int:
        """How many signals were not read yet, 0 where it is not known."""
        if self._descriptor < 0:
            return 0
        loop = self._loop_now()
        if loop is None or loop.is_closed():
            self._descriptor = -1
            return 0
        answer = array.array("i", [0])
        try:
            fcntl.ioctl(self._descriptor, self._question, answer)
        except OSError:
            self._descriptor = -1
            return 0
        # For the writing end the kernel counts memory, not bytes.
        return answer[0] if self._question == termios.FIONREAD else answer[0] // _BUFFER_BYTES


# What the kernel takes for one byte at least; more on some, which only makes us stop earlier.
_BUFFER_BYTES = 512 if sys.maxsize > 2**32 else 256
