"""Running something in the main thread, from wherever one is."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from functools import partial

from greenprof import _native
from greenprof._native import main_thread_ident

_work: deque[Callable[[], None]] = deque()
_scheduled = False
_busy = False
#: Set at the interpreter's end: signals that come later than that meet no handler, and end the process.
over = False


def in_main_thread() -> bool:
    """Whether the caller runs in the main thread."""
    return bool(_native.get_ident() == main_thread_ident())


def run_in_main_thread(work: Callable[[], None]) -> None:
    """Run `work` now if this is the main thread, else when that next runs Python code, in order.

    A main thread that waits in a call runs it when the call returns. `work` has to bear being run
    again: what the program's own signal handlers raise in the middle of it goes to the program,
    and `work` begins anew a moment later.
    """
    if in_main_thread():
        _run_all()
        work()
        return
    _work.append(work)
    schedule()


def run_after_fork(work: Callable[[], None]) -> None:
    """Run `work` likewise, but not before the hook `request_after_fork` has been called."""
    _work.append(work)


def schedule() -> None:
    """Ask the main thread for what waits, unless it was asked.

    To be called now and then: the interpreter's list of such requests is short, and may be full.
    """
    global _scheduled
    if _work and not _scheduled:
        _scheduled = True
        if _add_request() != 0:
            _scheduled = False


def after_fork_in_child() -> None:
    """Do at once what another thread has left to the main thread, which this one is now."""
    global _scheduled, _busy
    _scheduled = _busy = False
    _run_all()


def _run_all() -> None:
    global _busy
    if _busy:
        return  # in the middle of it: whoever is goes on with what was added
    _busy = True
    try:
        while _work:
            _work[0]()
            _work.popleft()
    finally:
        _busy = False


class _Request:
    """Its truth is asked for in the main thread, and is always false.

    A callback made by ctypes would swallow what the program's signal handlers raise while it
    runs; the truth of an object is a C function that passes exceptions on.
    """

    def __bool__(self) -> bool:
        global _scheduled
        _scheduled = False
        try:
            _run_all()
        finally:
            schedule()
        return False


_request = _Request()
_is_true = ctypes.cast(ctypes.pythonapi.PyObject_IsTrue, ctypes.c_void_p)
_add_request = partial(ctypes.pythonapi.Py_AddPendingCall, _is_true, ctypes.c_void_p(id(_request)))
#: The last of our `os.register_at_fork` hooks. Python 3.13 counts the process's threads after the
#: hooks, to warn of more than one; a Python function would do the work in its own first steps.
request_after_fork: Callable[[], object] = _add_request
