"""How many of our signals nobody has read yet from the descriptor that a program waits on.

Python writes a byte for each signal to a descriptor that event loops set (`signal.set_wakeup_fd`),
and they read it when they come round. While one task hogs the loop nobody does, and after some
270 one-byte writes (each takes a kernel buffer of its own) a socket is full: Python then prints a
warning, and the byte of a signal that the program waits for would be lost. The sampler stops its
signals before.
"""

from __future__ import annotations

import array
import os
import signal
import stat
import sys
from typing import Any
from weakref import ref

from greenprof.interrupted import from_signal_handler

try:
    import fcntl
    import termios
except ImportError:  # not a Unix
    _HAS_IOCTL = False
else:
    _HAS_IOCTL = True

#: More signals than this are not left unread.
MAX_UNREAD = 100
#: How long an answer of the interpreter is good for.
ASK_NS = 1_000_000_000

# What the kernel takes for one byte at least; more on some, which only makes us stop earlier.
_BUFFER_BYTES = 512 if sys.maxsize > 2**32 else 256


class WakeupDescriptor:
    """The descriptor that the main thread's event loop, or the program itself, has set."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._asked_ns: int | None = None
        self._descriptor = -1
        self._file: tuple[int, int] | None = None
        self._question = 0

    def look_at(self, loop: Any, now_ns: int) -> None:
        """Find the descriptor; `loop` is the one that runs now, if any. Main thread only."""
        if not _HAS_IOCTL:
            return
        if loop is not None and loop is self._loop_now():
            return
        reader = getattr(loop, "_ssock", None)
        if reader is not None:  # asyncio's own loops
            self._loop = ref(loop)
            self._set(reader.fileno(), termios.FIONREAD)
            return
        # Others show theirs to nobody, so the interpreter is asked for it, which takes it away for
        # less than a microsecond: not often.
        if loop is not None and type(loop).__module__.partition(".")[0] == "uvloop":
            self._loop = ref(loop)
        else:
            self._loop = None
            if self._asked_ns is not None and now_ns - self._asked_ns < ASK_NS:
                return
        self._asked_ns = now_ns
        descriptor = signal.set_wakeup_fd(-1)
        if descriptor >= 0:
            # Whether it warns of a full buffer is told to nobody. Of those that read nothing of
            # what is written (trio), it must not.
            signal.set_wakeup_fd(descriptor, warn_on_full_buffer=self._loop is not None)
        self._set(descriptor, 0)

    def unread(self) -> int:
        """How many signals were not read yet, 0 where it is not known."""
        if self._descriptor < 0:
            return 0
        loop = self._loop_now()
        if self._loop is not None and (loop is None or loop.is_closed()):
            self._descriptor = -1
            return 0
        answer = array.array("i", [0])
        try:
            found = os.fstat(self._descriptor)
            if self._loop is None and stat.S_ISFIFO(found.st_mode):
                # A program's own pipe, of 65,536 bytes. Python says nothing when it is full (see
                # `look_at`), and whoever waits for it is woken by what is in it: some never read.
                return 0
            if (found.st_dev, found.st_ino) == self._file:
                fcntl.ioctl(self._descriptor, self._question, answer)
        except OSError as error:
            if from_signal_handler(error):
                raise
            self._descriptor = -1
            return 0
        # For the writing end of a socket the kernel counts memory, not bytes.
        return answer[0] if self._question == termios.FIONREAD else answer[0] // _BUFFER_BYTES

    def _loop_now(self) -> Any:
        return None if self._loop is None else self._loop()

    def _set(self, descriptor: int, question: int) -> None:
        self._descriptor = -1
        if descriptor >= 0:
            found = os.fstat(descriptor)
            # The number may be another file's by the time it is asked.
            self._file = found.st_dev, found.st_ino
            self._question = question or (
                termios.TIOCOUTQ if stat.S_ISSOCK(found.st_mode) else termios.FIONREAD
            )
            self._descriptor = descriptor
