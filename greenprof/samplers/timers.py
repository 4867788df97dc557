"""Timers that interrupt the main thread, and leave the program its own signals and timers.

On Linux, `timer_create` with SIGEV_THREAD_ID sends a real-time signal of our choice to one
thread, on a wall or a CPU clock (timer_create(2)). Elsewhere `signal.setitimer` has to do, which
takes SIGALRM and SIGPROF from a program that does not use them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from greenprof._native import get_native_id, time

Handler = Callable[[int, FrameType | None], Any]

NS = 1_000_000_000

_SIGEV_THREAD_ID = 4


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("pointer", ctypes.c_void_p))


class _Target(ctypes.Union):
    _fields_ = (("tid", ctypes.c_int), ("padding", ctypes.c_int * 12))


class _Event(ctypes.Structure):
    _fields_ = (
        ("value", _Value),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("target", _Target),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


def _timers_of_libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        # PyDLL keeps the interpreter lock: to let go of it in the middle of a handler costs a
        # turn of every thread that waits for it, where these calls take less than a microsecond.
        libc = ctypes.PyDLL(None, use_errno=True)
        for name in ("timer_create", "timer_settime", "timer_delete"):
            getattr(libc, name).restype = ctypes.c_int
        libc.timer_settime.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.POINTER(_Setting),
            ctypes.c_void_p,
        )
        libc.timer_delete.argtypes = (ctypes.c_void_p,)
    except (OSError, AttributeError):
        return None
    return libc


_libc = _timers_of_libc()


class TimerUnavailableError(Exception):
    """This machine, thread or process cannot have such a timer."""


class Timer:
    """Calls `handler` in the main thread every `period_ns`, by a signal that nobody else uses.

    `clock` is `time.CLOCK_MONOTONIC`, or `time.CLOCK_THREAD_CPUTIME_ID` for the main thread's CPU
    clock, which the kernel looks at once a jiffy: 1 to 10 ms. All but `disarm` and `displaced`
    in the main thread only. What was interrupted by an exception can be called again.
    """

    def __init__(self, clock: int, period_ns: int, handler: Handler) -> None:
        self.handler = handler
        self.signum = 0
        self.started_ns = 0
        self._clock = clock
        self._period_ns = period_ns
        self._earlier: Any = signal.SIG_DFL
        self._exists = False
        self._pid = 0
        self._handling = False
        self._giving_back = False
        #: Whether system calls that the signal meets end.
        self.interrupting = False

    def open(self) -> None:
        """Take a signal, and make the timer. Raises TimerUnavailableError."""
        raise NotImplementedError

    def arm(self) -> None:
        """Start, or start anew: the next signal comes a period from now."""
        if self._exists:
            self.started_ns = time.monotonic_ns()
            self._set(self._period_ns, self._period_ns)

    def arm_once(self, delay_ns: int) -> None:
        """Send one signal after a delay."""
        if self._exists:
            self._set(delay_ns, 0)

    def disarm(self) -> None:
        """Send no more signals until armed. From any thread."""
        if self._is_of_this_process():
            self._set(0, 0)

    def close(self) -> None:
        """Free the timer, and give the signal back unless the program took it."""
        if self._is_of_this_process():
            self._delete()
        self._exists = False
        if not self._handling:
            return
        if self._giving_back or signal.getsignal(self.signum) == self.handler:
            if not self._giving_back:
                # One that came, and whose handler was not called yet, would find none, of which
                # Python complains. If we run inside another signal's handler, only a new signal
                # makes Python look for such.
                signal.raise_signal(self.signum)
            self._giving_back = True
            # A signal that is still on its way must not meet the default, which ends the process.
            signal.signal(self.signum, signal.SIG_IGN)
            signal.signal(self.signum, self._earlier)
        self._handling = False

    def interrupt_calls(self, interrupt: bool) -> None:
        """Whether system calls that the signal meets are to end (EINTR) rather than go on.

        Python's own calls bear either; libraries in C are used to the second. From any thread.
        """
        if self._handling and interrupt != self.interrupting:
            self.interrupting = interrupt
            signal.siginterrupt(self.signum, interrupt)

    def displaced(self) -> bool:
        """Whether the program has put a handler of its own in our place."""
        return self._handling and signal.getsignal(self.signum) != self.handler

    def _is_of_this_process(self) -> bool:
        # A forked child has none at first, and then others of the same numbers.
        return self._exists and self._pid == os.getpid()

    def _handle(self, signum: int) -> None:
        self.signum = signum
        self._earlier = signal.getsignal(signum)
        self._handling = True
        signal.signal(signum, self.handler)
        signal.siginterrupt(signum, False)

    def _set(self, value_ns: int, interval_ns: int) -> None:
        raise NotImplementedError

    def _delete(self) -> None:
        raise NotImplementedError


class SignalTimer(Timer):
    """A timer of its own with a real-time signal of its own, sent to the main thread."""

    def open(self) -> None:
        if _libc is None:
            raise TimerUnavailableError("this system has no timer_create")
        self._timer = ctypes.c_void_p()
        self._handle(_free_signal())
        event = _Event(signo=self.signum, notify=_SIGEV_THREAD_ID)
        event.target.tid = get_native_id()
        if _libc.timer_create(self._clock, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            reason = os.strerror(ctypes.get_errno())
            self.close()
            raise TimerUnavailableError(f"timer_create: {reason}")
        self._pid, self._exists = os.getpid(), True

    def _set(self, value_ns: int, interval_ns: int) -> None:
        _libc.timer_settime(self._timer, 0, ctypes.byref(_setting(value_ns, interval_ns)), None)

    def _delete(self) -> None:
        _libc.timer_delete(self._timer)


class IntervalTimer(Timer):
    """The process's own interval timers, where there is no `timer_create` and nobody uses them."""

    def open(self) -> None:
        if not hasattr(signal, "setitimer"):
            raise TimerUnavailableError("this system has no interval timers")
        cpu = self._clock != time.CLOCK_MONOTONIC
        self._which = signal.ITIMER_PROF if cpu else signal.ITIMER_REAL
        signum = signal.SIGPROF if cpu else signal.SIGALRM
        if signal.getsignal(signum) != signal.SIG_DFL or signal.getitimer(self._which) != (0, 0):
            raise TimerUnavailableError(f"the program uses {signum.name}")
        self._handle(signum)
        self._pid, self._exists = os.getpid(), True

    def disarm(self) -> None:
        if self._is_of_this_process() and self._is_ours():
            self._set(0, 0)

    def _delete(self) -> None:
        self.disarm()

    def _is_ours(self) -> bool:
        # There is one of each kind: the program may have set it for itself meanwhile.
        interval_s = signal.getitimer(self._which)[1]
        return abs(interval_s - self._period_ns / NS) < 0.1 * self._period_ns / NS

    def _set(self, value_ns: int, interval_ns: int) -> None:
        signal.setitimer(self._which, value_ns / NS, interval_ns / NS)


def has_timers_to_spare() -> bool:
    """Whether there can be as many timers as one likes."""
    return _libc is not None


def make_timer(clock: int, period_ns: int, handler: Handler) -> Timer:
    """The best timer that this machine has, to be opened."""
    return (IntervalTimer if _libc is None else SignalTimer)(clock, period_ns, handler)


@functools.cache  # of the few that there are: to make one takes longer than to use it
def _setting(value_ns: int, interval_ns: int) -> _Setting:
    return _Setting(_Time(*divmod(interval_ns, NS)), _Time(*divmod(value_ns, NS)))


def _free_signal() -> int:
    # A program that blocks a signal waits for it (sigwait), and would get ours.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    # From the top: programs that use real-time signals count from SIGRTMIN.
    for signum in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
        if signal.getsignal(signum) == signal.SIG_DFL and signum not in blocked:
            return signum
    raise TimerUnavailableError("the program uses or blocks every real-time signal")
