"""The profiler that programs use: `greenprof.profile()` and `Profiler`."""

from __future__ import annotations

import functools
import inspect
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from greenprof import bridges, switches
from greenprof._native import allocate_lock
from greenprof._version import __version__
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.frames import FrameTable
from greenprof.profiles import DEFAULT_MAX_NODES, Profile, ProfileBuilder, ProfileInfo
from greenprof.samplers.statistical import Sampler

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_RATE_HZ = 10_000.0

_lock = allocate_lock()
_outermost: Profiler | None = None
_active: Profiler | None = None


class Profiler:
    """Samples the whole process between `start` and `stop`.

    Also a context manager, plain and async, and a decorator of functions and of coroutine
    functions. `rate_hz` is how often a second it looks, 1 to 10,000. `max_nodes` bounds the memory
    for stacks: the number of nodes in the tree that holds them. Raises OptionError for a value
    out of range.

    One at a time in a process; but below ``greenprof run`` a program may profile a part of
    itself: it then gets what that part adds to the run, at the run's rate.
    """

    def __init__(
        self,
        rate_hz: float = 100.0,
        *,
        max_nodes: int = DEFAULT_MAX_NODES,
        command: str | None = None,
        outermost: bool = False,
    ) -> None:
        self.rate_hz = _checked_rate(rate_hz)
        if max_nodes < 1:
            raise OptionError(f"max_nodes is {max_nodes!r}: give a number of at least 1")
        self._max_nodes = max_nodes
        self._command = command
        self._outermost = outermost
        self._sampler: Sampler | None = None
        self._within: Profiler | None = None
        self._before: Profile | None = None
        self._profile: Profile | None = None
        self._pid = 0
        self._started_at = ""
        self._started_ns = 0
        self._process_cpu_ns = 0
        self._warnings: list[str] = []

    @property
    def running(self) -> bool:
        """Whether it samples just now."""
        return self._sampler is not None or self._within is not None

    @property
    def profile(self) -> Profile:
        """The result. Raises ProfilerStateError before `stop`."""
        if self._profile is None:
            raise ProfilerStateError("there is no profile yet: stop the profiler first")
        return self._profile

    def start(self) -> Self:
        """Start, from any thread. Raises ProfilerStateError if a profiler runs already."""
        global _active, _outermost
        with _lock:
            if self.running or _active is not None:
                raise ProfilerStateError(
                    "a profiler runs already in this process: stop it before starting another"
                )
            self._profile = None
            if _outermost is not None:
                self._within = _outermost
                self._before = _outermost.snapshot()
            else:
                self._begin()
            if self._outermost:
                _outermost = self
            else:
                _active = self
        return self

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started_ns = time.monotonic_ns()
        self._process_cpu_ns = time.process_time_ns()
        self._sampler = Sampler(self.rate_hz, self._max_nodes)
        self._sampler.start()

    def stop(self) -> Profile:
        """Stop, from any thread, and return the profile.

        Raises ProfilerStateError if it does not run.
        """
        global _active, _outermost
        with _lock:
            if not self.running:
                raise ProfilerStateError("the profiler does not run: start it before stopping it")
            if self._sampler is not None:
                self._sampler.stop()
            self._profile = self._result()
            self._sampler = self._within = self._before = None
            if self._outermost:
                _outermost = None
            else:
                _active = None
        return self._profile

    def snapshot(self) -> Profile:
        """The result so far, while it runs on. Raises ProfilerStateError if it does not run."""
        return self._result()

    def _result(self) -> Profile:
        if self._within is not None and self._before is not None:
            if self._within.running:
                return self._within.snapshot().subtract(self._before)
            return self._within.profile.subtract(self._before)
        if self._sampler is None:
            raise ProfilerStateError("the profiler does not run: there is nothing to look at")
        builder = ProfileBuilder(max_nodes=2 * self._max_nodes)
        over = self._sampler.recorder.fill(builder, FrameTable())
        return builder.build(self._info(self._sampler, over))

    def _info(self, sampler: Sampler, over: int) -> ProfileInfo:
        return ProfileInfo(
            command=self._command if self._command is not None else _command_line(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            greenprof=__version__,
            started_at=self._started_at,
            duration_ns=time.monotonic_ns() - self._started_ns,
            process_cpu_ns=time.process_time_ns() - self._process_cpu_ns,
            rate_hz=self.rate_hz,
            ticks=sampler.ticks,
            missed_ticks=sampler.missed,
            sampler_cpu_ns=sampler.handler_cost_ns + sampler.thread_cost_ns,
            overflow_samples=over,
            greenlet_switches=sampler.switches,
            pids=[self._pid],
            warnings=self._warnings_of(sampler, over),
        )

    def _warnings_of(self, sampler: Sampler, over: int) -> list[str]:
        found = [*sampler.warnings, *bridges.problems()]
        if any(state.given_up for state in switches.all_threads()):
            found.append(
                "another tool kept taking the greenlet tracer away; stacks of bridges that "
                "greenprof does not know may be split from then on"
            )
        if over:
            found.append(
                f"{over} samples went over the limit of {self._max_nodes} stored stack nodes; "
                "their innermost frames are not told apart (raise max_nodes)"
            )
        found += [f"a sample was lost to {text} ({n} times)" for text, n in sampler.errors.items()]
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.running:
            self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Function) -> Function:
        """Profile each call of a function; `profile` then holds that of the last one."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def profiled_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return profiled_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def profiled(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return profiled  # type: ignore[return-value]

    def _abandon(self) -> None:
        if self._sampler is not None:
            self._sampler.abandon()
        self._sampler = self._within = self._before = None


def profile(rate_hz: float = 100.0, *, max_nodes: int = DEFAULT_MAX_NODES) -> Profiler:
    """Profile a block or a function.

    ::

        with greenprof.profile() as p:
            work()
        p.profile.save("work.gprof")

    Works as ``with``, ``async with`` and decorator; see `Profiler` for the options and errors.
    """
    return Profiler(rate_hz, max_nodes=max_nodes)


def _checked_rate(rate_hz: float) -> float:
    try:
        rate = float(rate_hz)
    except (TypeError, ValueError):
        rate = math.nan
    if not 1 <= rate <= MAX_RATE_HZ:
        raise OptionError(
            f"the rate is {rate_hz!r}: give samples a second, from 1 to {MAX_RATE_HZ:.0f}"
        )
    return rate


def _command_line() -> str:
    arguments = getattr(sys, "orig_argv", None) or sys.argv
    return " ".join(arguments)


def _after_fork_in_child() -> None:
    global _lock, _active, _outermost
    _lock = allocate_lock()
    for profiler in (_active, _outermost):
        if profiler is not None:
            profiler._abandon()
    _active = _outermost = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
