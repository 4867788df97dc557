"""A thread of greenprof's own that does something at every interval, or sooner when it is woken."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from greenprof._native import (
    Latch,
    allocate_lock,
    get_ident,
    get_native_id,
    start_new_thread,
    time,
)

__all__ = ["Ticker", "own_threads"]

#: How long to wait for a thread's beginning, or its end when it has let go of everything.
EXIT_NS = 1_000_000_000

# What a thread does to itself; everything else that is sent to the process is the program's.
_SYNCHRONOUS = {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGABRT} | (
    {signal.SIGBUS} if hasattr(signal, "SIGBUS") else set()
)

#: Threads of greenprof's own, which are no part of the program.
own_threads: set[int] = set()


class Ticker:
    """Calls `tick`, which must not raise, every `interval_s` seconds while it runs.

    `interval_s` may be changed. `cost_ns` is the CPU time that the thread took. It may be started again after a stop.
    """

    def __init__(self, tick: Callable[[], None], interval_s: float) -> None:
        self.cost_ns = 0
        self._tick = tick
        self.interval_s = interval_s
        self._ident = 0
        self._native_id = 0
        # Told to tick or to leave, and has left; none without a thread.
        self._locks: tuple[Any, Latch] | None = None

    def start(self) -> None:
        """Start the thread, unless there is one, and wait until it is there.

        A program that goes on with a long call into C would keep it from its first steps.
        """
        if self._locks is not None:
            return
        locks, begun = (allocate_lock(), Latch()), allocate_lock()
        for lock in (locks[0], begun):
            lock.acquire()
        self._locks = locks
        try:
            start_new_thread(self._run, (*locks, begun))
        except BaseException:
            self._locks = None  # nobody would ever say that it has left
            raise
        begun.acquire(True, EXIT_NS / 1_000_000_000)

    def wake(self) -> None:
        """Have it tick at once. From any thread."""
        locks = self._locks
        if locks is not None:
            _release(locks[0])

    def stop(self) -> None:
        """End the thread, and wait until it lets go of everything. A second call does nothing."""
        locks = self._locks
        if locks is None:
            return
        self._locks = None
        _release(locks[0])
        if get_ident() != self._ident:  # not even by what it calls
            locks[1].wait()

    def stop_for_fork(self) -> None:
        """End the thread, and wait until the system knows it no more.

        Python warns of forks in a process of several threads; ours is no thread of the program's.
        """
        if self._locks is None:
            return
        self.stop()
        deadline = time.monotonic_ns() + EXIT_NS
        # Not os.path.exists(): that takes what a signal handler raises for its answer.
        while os.access(f"/proc/self/task/{self._native_id}", os.F_OK):
            if time.monotonic_ns() > deadline:
                break
            time.sleep(0.0001)

    def abandon(self) -> None:
        """Forget the thread in a forked child: it did not come along."""
        own_threads.discard(self._ident)
        self._locks = None

    def _run(self, wakeup: Any, finished: Latch, begun: Any) -> None:
        earlier_ns = self.cost_ns
        ident = self._ident = get_ident()
        own_threads.add(ident)
        try:
            self._native_id = get_native_id()
            if hasattr(signal, "pthread_sigmask"):
                # A program may keep signals from all of its threads to wait for them (sigwait);
                # here they would meet their default, which is the end of the process.
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _SYNCHRONOUS)
            begun.release()
            while self._locks == (wakeup, finished):
                wakeup.acquire(True, self.interval_s)
                if self._locks == (wakeup, finished):
                    self._tick()
                    self.cost_ns = earlier_ns + time.thread_time_ns()
        finally:
            own_threads.discard(ident)
            finished.open()


def _release(lock: Any) -> None:
    try:
        if lock.locked():
            lock.release()
    except RuntimeError:  # somebody else was quicker
        pass
