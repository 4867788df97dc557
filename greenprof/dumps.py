"""Captured stacks as text: one stack, or everything on a page, on demand or by a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from types import FrameType
from typing import Any, TextIO

from greenprof.capture import Stack, capture_all, capture_stack
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.profiles import State

_ORDER = (State.ON_CPU, State.BLOCKED, State.READY, State.AWAITING, State.IDLE, None)
_DEFAULT_SIGNAL = getattr(signal, "SIGUSR2", 0)


def format_stack(target: Any = None) -> str:
    """The unified stack of `target` (see `capture_stack`, or a `Stack`) as text, root first.

    A line ``--- greenlet boundary ---`` stands where the stack goes on in another greenlet; the
    bridge's own frames are marked ``~``, awaited ones ``*``.
    """
    return capture_stack(target).text()


def print_stack(target: Any = None, file: TextIO | None = None) -> None:
    """Print the unified stack of `target` (see `capture_stack`) to `file`, by default stderr."""
    print(format_stack(target), end="", file=file or sys.stderr)


def dump(file: TextIO | None = None) -> None:
    """Print every task, greenlet and thread with its state to `file`, by default stderr.

    Those with the same stack and state are printed once, with their number.
    """
    print(_page(capture_all()), end="", file=file or sys.stderr)


def dump_on_signal(signum: int = _DEFAULT_SIGNAL, file: TextIO | None = None) -> None:
    """Print every stack, as `dump` does, whenever the process gets this signal.

    A handler that was there is called afterwards. Main thread only, as for `signal.signal`
    (ValueError elsewhere). Where the main thread does not come round to running a handler,
    because it is stuck in C code, `faulthandler.register` is what helps.
    """
    earlier = signal.getsignal(signum)
    if isinstance(earlier, _DumpHandler):
        earlier = earlier.earlier
    signal.signal(signum, _DumpHandler(file, earlier))


class _DumpHandler:
    """Prints a page; then calls the handler that was there before."""

    def __init__(self, file: TextIO | None, earlier: Any) -> None:
        self.earlier = earlier
        self._file = file
        self._busy = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._busy:  # the signal came again while a page was made
            self._busy = True
            try:
                self._print()
            finally:
                self._busy = False
        if callable(self.earlier):
            self.earlier(number, frame)

    def _print(self) -> None:
        file = self._file or sys.stderr or sys.__stderr__
        try:
            page = _page(capture_all())
        except Exception as error:  # a look from outside must not end the program
            if from_signal_handler(error):
                raise
            page = f"greenprof: cannot print the stacks: {reason(error)}\n"
        try:
            _write(page, file)
        except Exception as error:  # closed, or a full disk: nowhere left to say so
            if from_signal_handler(error):
                raise


def _write(text: str, file: Any) -> None:
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError, ValueError):
        file.write(text)
        return
    # Past the file's buffer: the program may be in the middle of writing to it.
    data = text.encode(getattr(file, "encoding", None) or "utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


def _page(found: list[Stack]) -> str:
    states = Counter(stack.state for stack in found)
    summary = ", ".join(
        f"{states[state]} {state or 'unknown'}" for state in _ORDER if states[state]
    )
    head = f"greenprof: {len(found)} stacks ({summary})\n"
    same = Counter(found)
    order = sorted(same, key=lambda stack: _ORDER.index(stack.state))
    return "\n".join([head, *(stack.text(same[stack]) for stack in order)])
