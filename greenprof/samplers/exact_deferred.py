"""Exceptions that a hook must not raise, raised in the program a moment later.

A signal handler of the program's runs between any two steps of the main thread's Python code, of
ours as well. What it raises in yappi's callback would be lost: yappi prints it and goes on without
the callback, and Ctrl-C would do nothing.

The interpreter can be asked to call a C function between two steps, and one that raises then
raises in the program. But it must not be asked before the callback has returned, or the next step
is one of the callback's. So the answer that the callback gives is an object of ours, and asking is
what its end brings about, in C, as soon as yappi has read it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from types import CodeType, FrameType, TracebackType
from typing import Any
from weakref import ref

from greenprof._native import get_ident, main_thread_ident

Answer = Callable[[int], int]


class _Bell:
    """Rings when it goes away."""


class _Late(int):
    """An answer; with it goes its bell."""

    bell: _Bell


class Deferred:
    """What was raised in the hook `code`, until it is raised in the program.

    As long as there is anything in `answers`, the hook must take one out and give what that makes
    of its answer instead of the answer itself.
    """

    def __init__(self, code: CodeType) -> None:
        self.answers: list[Answer] = []
        self.waiting: list[BaseException] = []
        self._code = code
        self._bells: list[Any] = []
        self._is_true = ctypes.cast(ctypes.pythonapi.PyObject_IsTrue, ctypes.c_void_p)
        own_id = ctypes.c_void_p(id(self))
        self._asks: Iterator[Any] = map(
            ctypes.pythonapi.Py_AddPendingCall, repeat(self._is_true), repeat(own_id)
        )

    def add(self, error: BaseException) -> None:
        """Have what the hook has just caught raised in this thread once the hook has returned."""
        ident = get_ident()
        if ident == main_thread_ident():
            self.waiting.append(error)
            asks = self._asks
        else:
            # Not of a signal handler, then: somebody asked for it from another thread, by its class.
            raises = ctypes.pythonapi.PyThreadState_SetAsyncExc
            asks = map(raises, repeat(ctypes.c_ulong(ident)), repeat(ctypes.py_object(type(error))))
        self.answers.append(partial(self._ringing, asks))

    def _ringing(self, asks: Iterator[Any], number: int) -> int:
        """The answer as an object whose end asks for what waits."""
        late = _Late(number)
        late.bell = _Bell()
        # With the reference as its second argument, `next` asks all the same.
        self._bells[:] = [ref(late.bell, partial(next, asks))]
        return late

    def __bool__(self) -> bool:
        """Called in the main thread, between two steps of whatever runs there; may raise."""
        if not self.waiting:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code is self._code:
                # The next call came first, and we are in the hook again.
                self.answers.append(partial(self._ringing, self._asks))
                return False
            frame = frame.f_back
        error = self.waiting.pop(0)
        raise error.with_traceback(self._without_hook(error.__traceback__))

    def _without_hook(self, traceback: TracebackType | None) -> TracebackType | None:
        while traceback is not None and traceback.tb_frame.f_code is self._code:
            traceback = traceback.tb_next
        return traceback
