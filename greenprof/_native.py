"""Threads, locks and clocks that are the operating system's, whoever patched Python's.

gevent and eventlet replace the attributes of the ``_thread`` module by versions that know
greenlets only, and test tools those of ``time`` by clocks that stand still. A second instance of
a built-in module still has the real ones, whether the patching comes before or after this import.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
import threading
from collections.abc import Mapping
from itertools import chain, starmap, tee
from types import FrameType
from typing import Any


def _unpatched(name: str) -> Any:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"this Python has no built-in module {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_thread = _unpatched("_thread")
time = _unpatched("time")

RLock = _thread.RLock
allocate_lock = _thread.allocate_lock
get_ident = _thread.get_ident
get_native_id = _thread.get_native_id
start_new_thread = _thread.start_new_thread
#: How many threads run that Python has started; undocumented, and 0 where it is not there.
count_threads = getattr(_thread, "_count", int)
thread_local = _thread._local
_clock_of = getattr(time, "pthread_getcpuclockid", None)  # not on macOS


class Latch:
    """Opens once, for all who wait.

    What a signal handler raises may strike whoever waits right after a lock was taken, from Python
    3.14 on in ``with lock:`` as well: nobody else waits in vain then.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._lock = allocate_lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let all go on that wait, and whoever comes to wait. Once."""
        self._is_open = True
        self._lock.release()

    def wait(self) -> None:
        """Wait until it is open."""
        while not self._is_open:
            if self._lock.acquire(True, 1.0):
                self._lock.release()


def _find_main_thread() -> int | None:
    asked = getattr(_thread, "_get_main_thread_ident", None)  # Python 3.13
    if asked is not None:
        return int(asked())
    # Linux: the main thread has the process's id.
    return int(get_ident()) if get_native_id() == os.getpid() else None


_main_thread = _find_main_thread()


def main_thread_ident() -> int:
    """The main thread's identity, also where gevent or eventlet has patched `threading`."""
    found = _find_main_thread()
    if found is None:
        found = _main_thread
    return threading.main_thread().ident or 0 if found is None else found


def current_frames() -> dict[int, FrameType] | None:
    """`sys._current_frames()`; None while there are other interpreters beside this one.

    Since 3.12 they may have locks of their own. CPython looks at their threads all the same, as
    they run, which ends the process.
    """
    return None if _has_interpreters() else sys._current_frames()


def cpu_clocks() -> dict[int, int]:
    """The clocks of CPU time of all threads that Python knows; none where threads have none (macOS).

    The C library looks for a thread's clock where its stack is, or was: once that is given back,
    the question ends the process. A thread that Python knows has not ended, and none does while C
    code runs that keeps the interpreter's lock. Raises ProcessLookupError if one has all the same.
    """
    if _clock_of is None or _has_interpreters():
        return {}
    known, asked = tee(chain.from_iterable(starmap(sys._current_frames, ((),))))
    # In C as a whole: who there is, and right after that their clocks.
    return dict(zip(known, map(_clock_of, asked)))  # noqa: B905  # `strict` is no help here


def cpu_clock_of(ident: int, clocks: Mapping[int, int] | None = None) -> int | None:
    """The clock of a thread's CPU time, of those just asked for if given; None where there are none.

    Raises ProcessLookupError if the thread has ended.
    """
    if _clock_of is None:
        return None
    if ident in (get_ident(), main_thread_ident()):
        return int(_clock_of(ident))
    found = (clocks or cpu_clocks()).get(ident)
    if found is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return found


def _has_interpreters() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        module = sys.modules.get(name)
        if module is not None and len(module.list_all()) > 1:
            return True
    return False


def _after_fork_in_child() -> None:
    global _main_thread
    _main_thread = int(get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
