"""What a test may not leave behind in the process: tracers, hooks, signal handlers, timers, threads."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import greenlet

# Executors' and the sampler's threads end a moment after they were told to.
THREAD_GRACE_S = 3.0
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def signal_handlers() -> dict[int, object]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def posix_timers() -> int:
    """How many timers timer_create() made that still exist; 0 where the system does not tell."""
    try:
        listing = Path("/proc/self/timers").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(line.startswith("ID:") for line in listing.splitlines())


def monitoring_tools() -> tuple[str | None, ...]:
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12 brought it
    return () if monitoring is None else tuple(monitoring.get_tool(tool) for tool in range(6))


@dataclass(frozen=True)
class ProcessState:
    """The process's state as seen from the calling thread; compare two of them with `differences`."""

    greenlet_tracer: Any
    profile_hook: object
    trace_hook: object
    threads_profile_hook: object
    threads_trace_hook: object
    monitoring_tools: tuple[str | None, ...]
    signal_handlers: dict[int, object]
    interval_timers: tuple[tuple[float, float], ...]
    posix_timers: int
    switch_interval_s: float
    threads: frozenset[int]

    @classmethod
    def read(cls) -> ProcessState:
        return cls(
            greenlet_tracer=greenlet.gettrace(),
            profile_hook=sys.getprofile(),
            trace_hook=sys.gettrace(),
            threads_profile_hook=threading.getprofile(),
            threads_trace_hook=threading.gettrace(),
            monitoring_tools=monitoring_tools(),
            signal_handlers=signal_handlers(),
            interval_timers=tuple(signal.getitimer(timer) for timer in TIMERS),
            posix_timers=posix_timers(),
            switch_interval_s=sys.getswitchinterval(),
            # Not threading.enumerate(): it knows no thread that was started with _thread.
            threads=frozenset(sys._current_frames()),
        )

    def differences(self, earlier: ProcessState) -> list[str]:
        """What is not as it was, one line each; threads that have ended are no difference."""
        found = []
        for field in fields(self):
            now, then = getattr(self, field.name), getattr(earlier, field.name)
            if field.name == "threads":
                new = now - then
                names = [thread.name for thread in threading.enumerate() if thread.ident in new]
                if new:
                    found.append(f"{len(new)} thread(s) left running: {names or sorted(new)}")
            elif field.name == "signal_handlers":
                found.extend(
                    f"handler of {signal.Signals(number).name if number < signal.SIGRTMIN else number}"
                    f" was {then[number]!r}, is {handler!r}"
                    for number, handler in now.items()
                    if handler != then[number]
                )
            elif now != then:
                found.append(f"{field.name} was {then!r}, is {now!r}")
        return found


def settled_differences(earlier: ProcessState) -> list[str]:
    """The differences that stay: threads that are about to end get a short grace."""
    deadline = time.monotonic() + THREAD_GRACE_S
    while True:
        state = ProcessState.read()
        if not state.threads - earlier.threads or time.monotonic() > deadline:
            return state.differences(earlier)
        time.sleep(0.01)
