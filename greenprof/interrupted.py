"""Whose exception it is: that of code of ours, or of the program's signal handler that interrupted it.

The program's signal handlers run between any two bytecodes of the main thread, in the middle of
ours too. What they raise is meant for the program, and has to reach it: a `TimeoutError` by an
alarm, say. So whoever catches more than a certain exception in code that samplers call asks here.
"""

from __future__ import annotations

import os
import signal
from types import CodeType, FrameType

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def from_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler of the program raised `error` in the middle of code of ours.

    To be asked by whoever has just caught it. What is no `Exception` (`KeyboardInterrupt`) is
    never ours. A handler written in C that raises an `Exception` leaves no trace of itself, and
    is not found.
    """
    if not isinstance(error, Exception):
        return True
    interrupted: FrameType | None = None
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if (
            interrupted is not None
            and not frame.f_code.co_filename.startswith(_OWN_FOLDER)
            and (_was_given(frame, interrupted) or _is_registered(frame.f_code))
        ):
            return True
        interrupted = frame
        traceback = traceback.tb_next
    return False


def _was_given(frame: FrameType, interrupted: FrameType) -> bool:
    """Whether a function was called with the frame that it interrupts, as signal handlers are."""
    return any(
        value is interrupted
        or (type(value) is tuple and any(part is interrupted for part in value))
        for value in list(frame.f_locals.values())
    )


def _is_registered(code: CodeType) -> bool:
    """Whether this is a registered handler's code: one that gave its arguments other values."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while handler is not None and not isinstance(handler, int):
            if getattr(handler, "__code__", None) is code:
                return True
            called = getattr(type(handler), "__call__", None)  # noqa: B004  # of an object's class
            if getattr(called, "__code__", None) is code:
                return True
            handler = getattr(handler, "func", None)  # functools.partial
    return False
