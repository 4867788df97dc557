"""Exceptions that a hook must not raise, raised in the program a moment later.

A signal handler of the program's runs between any two steps of the main thread's Python code, of
ours as well. What it raises in a hook whose errors are printed and forgotten would be lost: Ctrl-C
would do nothing.
"""

from __future__ import annotations

import ctypes
import sys
from types import CodeType, FrameType, TracebackType

from greenprof._native import get_ident, main_thread_ident

_waiting: list[BaseException] = []
_hooks: list[CodeType] = []


def add_hook(code: CodeType) -> None:
    """Say that a function is a hook, in which nothing is to be raised."""
    if code not in _hooks:
        _hooks.append(code)


def raise_later(error: BaseException) -> None:
    """Have what a hook has just caught raised in this thread as soon as no hook runs in it."""
    if get_ident() != main_thread_ident():
        # Not of a signal handler, then: somebody asked for it from another thread, by its class.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(get_ident()), ctypes.py_object(type(error))
        )
        return
    _waiting.append(error)
    _ask()


class _Request:
    """Its truth is asked for in the main thread, between two steps of whatever runs there."""

    def __bool__(self) -> bool:
        if not _waiting:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _hooks:
                _ask()
                return False
            frame = frame.f_back
        error = _waiting.pop(0)
        raise error.with_traceback(_without_hook(error.__traceback__))


def _without_hook(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code in _hooks:
        traceback = traceback.tb_next
    return traceback


def _ask() -> None:
    # The truth of an object is a C function that passes exceptions on; a callback made by ctypes
    # would swallow them.
    ctypes.pythonapi.Py_AddPendingCall(_is_true, ctypes.c_void_p(id(_request)))


_request = _Request()
_is_true = ctypes.cast(ctypes.pythonapi.PyObject_IsTrue, ctypes.c_void_p)
