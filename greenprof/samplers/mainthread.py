"""Running something in the main thread, from wherever one is."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

from greenprof import _native

_PendingCall = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_pending: list[Any] = []


def main_thread_ident() -> int:
    """The main thread's identity, also where gevent or eventlet has patched `threading`."""
    asked = getattr(_native._thread, "_get_main_thread_ident", None)  # Python 3.13
    if asked is not None:
        return int(asked())
    if _native.get_native_id() == os.getpid():  # Linux: the main thread has the process's id
        return int(_native.get_ident())
    return threading.main_thread().ident or 0


def in_main_thread() -> bool:
    """Whether the caller runs in the main thread."""
    return bool(_native.get_ident() == main_thread_ident())


def run_in_main_thread(work: Callable[[], None]) -> None:
    """Run `work` now if this is the main thread, else when that next runs Python code.

    `work` must not raise. A main thread that waits in a call runs it when the call returns.
    """
    if in_main_thread():
        work()
        return

    def call(_: Any) -> int:
        _pending.remove(callback)
        work()
        return 0

    callback = _PendingCall(call)
    _pending.append(callback)  # ctypes frees a callback that nobody holds
    if ctypes.pythonapi.Py_AddPendingCall(callback, None) != 0:
        _pending.remove(callback)
