"""Timers that interrupt the main thread, and leave the program its own signals and timers.

On Linux, `timer_create` with SIGEV_THREAD_ID sends a real-time signal of our choice to one
thread, on a wall or a CPU clock (timer_create(2)). Elsewhere `signal.setitimer` has to do, which
takes SIGALRM and SIGPROF from a program that does not use them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

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
        libc = ctypes.CDLL(None, use_errno=True)
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


class SignalTimer:
    """Calls `handler` in the main thread every `period_ns`, by a signal of its own.

    Made in the main thread only. `clock` is `time.CLOCK_MONOTONIC`, or
    `time.CLOCK_THREAD_CPUTIME_ID` for the main thread's CPU clock, which the kernel looks at once
    a jiffy: 1 to 10 ms. Raises TimerUnavailableError.
    """

    def __init__(self, clock: int, period_ns: int, handler: Handler, native_id: int) -> None:
        if _libc is None:
            raise TimerUnavailableError("this system has no timer_create")
        self.signum = _free_signal()
        self._timer = ctypes.c_void_p()
        self._earlier = signal.signal(self.signum, handler)
        signal.siginterrupt(self.signum, False)
        event = _Event(signo=self.signum, notify=_SIGEV_THREAD_ID)
        event.target.tid = native_id
        if _libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            signal.signal(self.signum, self._earlier)
            raise TimerUnavailableError(f"timer_create: {os.strerror(ctypes.get_errno())}")
        self._exists = True
        self._period = _setting(period_ns, period_ns)
        self.handler = handler
        self.started_ns = 0

    def arm(self) -> None:
        """Start, or start anew: the next signal comes a period from now."""
        self.started_ns = time.monotonic_ns()
        _libc.timer_settime(self._timer, 0, ctypes.byref(self._period), None)

    def arm_once(self, delay_ns: int) -> None:
        """Send one signal after a delay."""
        _libc.timer_settime(self._timer, 0, ctypes.byref(_setting(delay_ns, 0)), None)

    def disarm(self) -> None:
        """Send no more signals until armed."""
        _libc.timer_settime(self._timer, 0, ctypes.byref(_setting(0, 0)), None)

    def delete(self) -> None:
        """Free the timer. From any thread; `restore` has to follow in the main thread."""
        if self._exists:  # the handle says nothing: the first timer's is 0
            self._exists = False
            _libc.timer_delete(self._timer)

    def displaced(self) -> bool:
        """Whether the program has put a handler of its own in our place."""
        return signal.getsignal(self.signum) is not self.handler

    def restore(self) -> None:
        """Give the signal back, unless the program took it. Main thread only."""
        if self.displaced():
            return
        # A signal that is still on its way must not meet the default, which ends the process.
        signal.signal(self.signum, signal.SIG_IGN)
        signal.signal(self.signum, self._earlier)


class IntervalTimer:
    """`SignalTimer` where there is no `timer_create`: the process's own interval timers.

    Raises TimerUnavailableError where the program uses the signal.
    """

    def __init__(self, clock: int, period_ns: int, handler: Handler, _native_id: int) -> None:
        if not hasattr(signal, "setitimer"):
            raise TimerUnavailableError("this system has no interval timers")
        cpu = clock == getattr(time, "CLOCK_THREAD_CPUTIME_ID", None)
        self._which = signal.ITIMER_PROF if cpu else signal.ITIMER_REAL
        self.signum = signal.SIGPROF if cpu else signal.SIGALRM
        in_use = signal.getsignal(self.signum) not in (signal.SIG_DFL, signal.SIG_IGN)
        if in_use or signal.getitimer(self._which) != (0.0, 0.0):
            raise TimerUnavailableError(f"the program uses {self.signum.name}")
        self._seconds = period_ns / NS
        self._earlier = signal.signal(self.signum, handler)
        signal.siginterrupt(self.signum, False)
        self.handler = handler
        self.started_ns = 0

    def arm(self) -> None:
        """Start, or start anew: the next signal comes a period from now."""
        self.started_ns = time.monotonic_ns()
        signal.setitimer(self._which, self._seconds, self._seconds)

    def arm_once(self, delay_ns: int) -> None:
        """Send one signal after a delay."""
        signal.setitimer(self._which, delay_ns / NS)

    def disarm(self) -> None:
        """Send no more signals until armed."""
        signal.setitimer(self._which, 0)

    def delete(self) -> None:
        """Stop the timer. From any thread."""
        self.disarm()

    def displaced(self) -> bool:
        """Whether the program has put a handler of its own in our place."""
        return signal.getsignal(self.signum) is not self.handler

    def restore(self) -> None:
        """Give the signal back, unless the program took it. Main thread only."""
        if self.displaced():
            return
        signal.signal(self.signum, signal.SIG_IGN)
        signal.signal(self.signum, self._earlier)


Timer = SignalTimer | IntervalTimer


def make_timer(clock: int, period_ns: int, handler: Handler, native_id: int) -> Timer:
    """The best timer that this machine has. Raises TimerUnavailableError."""
    kind = IntervalTimer if _libc is None else SignalTimer
    return kind(clock, period_ns, handler, native_id)


def _setting(value_ns: int, interval_ns: int) -> _Setting:
    return _Setting(_Time(*divmod(interval_ns, NS)), _Time(*divmod(value_ns, NS)))


def _free_signal() -> int:
    # From the top: programs that use real-time signals count from SIGRTMIN.
    for signum in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
        if signal.getsignal(signum) == signal.SIG_DFL:
            return signum
    raise TimerUnavailableError("the program uses every real-time signal")
