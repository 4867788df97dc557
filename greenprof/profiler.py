"""The profiler that programs use: `greenprof.profile()` and `Profiler`."""

from __future__ import annotations

import atexit
import logging  # noqa: F401  # registers a hook for forks, which has to come before our last one
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from greenprof import spancontext
from greenprof._native import RLock, time
from greenprof._version import __version__
from greenprof.checking import function_or_none, is_number, one_of
from greenprof.decorating import decorated
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.profiles import DEFAULT_MAX_NODES, Profile, ProfileInfo
from greenprof.recording import Options, Recording
from greenprof.redacting import without_secrets
from greenprof.samplers import mainthread
from greenprof.samplers.awaits import DEFAULT_REPEAT_MIN
from greenprof.samplers.marks import Marks
from greenprof.samplers.pacing import GaveWayError, Pace

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_RATE_HZ = 10_000.0
ENGINES = ("sampling", "exact")
EXACT_CLOCKS = ("cpu", "wall")
# As `platform` says it, which takes a while to import.
_PYTHON = f"{sys.implementation.name.replace('cpython', 'CPython')} {sys.version.split()[0]}"

# A signal handler of the program's may start or stop a profiler in the middle of either.
_lock = RLock()
_outermost: Profiler | None = None
_active: Profiler | None = None
# Changes whenever somebody comes for the lock who is not to wait for a profile made at a pace.
_calls_for_lock = 0


class Beside(Protocol):
    """What runs in a thread of its own beside a profiler."""

    def before_fork(self) -> None:
        """Go without the thread for a moment."""

    def after_fork_in_parent(self) -> None:
        """Take it back."""

    def abandon(self) -> None:
        """Forget it in a forked child."""

    @property
    def cost_ns(self) -> int:
        """CPU time that it took."""


class Profiler:
    """Records the whole process between `start` and `stop`.

    Also a context manager, plain and async, and a decorator of functions and of coroutine
    functions; see `__call__`. `engine` is "sampling", which looks `rate_hz` times a second, 1 to
    10,000; or "exact", which counts every call by yappi and measures it by `clock`, "cpu" or
    "wall". `only` names the modules (and packages) whose functions the exact engine tells apart.
    `max_nodes` bounds the memory for stacks: the number of nodes in the tree that holds them.

    Beside either, `awaits` counts and measures every await over a bridge: True, all of them;
    False, none; None, all as long as that takes no more than 0.5 % of the time, with pauses where it
    would, and a warning that says so (the exact engine and timelines have them all). One that a
    task or a request makes `repeat_min` times or more for the same operation is a repeated await (0: not
    looked for). `block_limit` in seconds records whoever keeps an event loop or a hub for longer,
    and `on_block` is called with a `BlockInfo` each time; None for neither. `timeline` records
    what happened when, of the last so many seconds (infinity: from the start); None for none.

    Raises OptionError for a value out of range.

    One at a time in a process; but below ``greenprof run`` a program may profile a part of
    itself: it then gets what that part adds to the run, at the run's rate.
    """

    def __init__(
        self,
        rate_hz: float = 100.0,
        *,
        engine: str = "sampling",
        clock: str = "cpu",
        only: Sequence[str] = (),
        awaits: bool | None = None,
        repeat_min: int = DEFAULT_REPEAT_MIN,
        block_limit: float | None = None,
        on_block: Callable[[Any], None] | None = None,
        timeline: float | None = None,
        max_nodes: int = DEFAULT_MAX_NODES,
        command: str | None = None,
        outermost: bool = False,
    ) -> None:
        self.rate_hz = _checked_rate(rate_hz)
        self._options = Options(
            rate_hz=self.rate_hz,
            max_nodes=_at_least("max_nodes", max_nodes, 1),
            engine=one_of("engine", engine, ENGINES),
            clock=one_of("clock", clock, EXACT_CLOCKS),
            only=_modules(only),
            awaits=None if awaits is None else bool(awaits),
            repeat_min=_at_least("repeat_min", repeat_min, 0),
            block_limit=_seconds("block_limit", block_limit),
            on_block=function_or_none("on_block", on_block, "a BlockInfo"),
            timeline=_seconds("timeline", timeline, most=math.inf),
        )
        self._command = command
        self._outermost = outermost
        self._recording: Recording | None = None
        self._within: Profiler | None = None
        self._before: Profile | None = None
        self._profile: Profile | None = None
        self._pid = 0
        self._profile_id = ""
        self._started_at = ""
        self._started_ns = 0
        self._process_cpu_ns = 0
        self._calls = 0
        self._beside: list[Beside] = []

    @property
    def running(self) -> bool:
        """Whether it samples just now."""
        return self._recording is not None or self._within is not None

    @property
    def profile(self) -> Profile:
        """The result. Raises ProfilerStateError before `stop`."""
        if self._profile is None:
            raise ProfilerStateError("there is no profile yet: stop the profiler first")
        return self._profile

    def start(self) -> Self:
        """Start, from any thread. Raises ProfilerStateError if a profiler runs already."""
        global _active, _outermost
        _call_for_lock()
        with _lock:
            taken = _active is not None or (self._outermost and _outermost is not None)
            if self.running or taken:
                raise ProfilerStateError(
                    "a profiler runs already in this process: stop it before starting another"
                )
            self._profile = None
            try:
                if _outermost is not None:
                    self._before = _outermost.snapshot()
                    self._within = _outermost
                else:
                    self._begin()
                if self._outermost:
                    _outermost = self
                else:
                    _active = self
            except BaseException:  # of a signal handler of the program's, perhaps
                if self._recording is not None:
                    self._recording.stop()
                self._end()
                raise
        return self

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._profile_id = os.urandom(16).hex()
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._started_ns = time.monotonic_ns()
        self._process_cpu_ns = time.process_time_ns()
        self._recording = Recording(self._options)
        self._recording.start()
        spancontext.set_profile_id(self._profile_id)

    def stop(self) -> Profile:
        """Stop, from any thread, and return the profile.

        Raises ProfilerStateError if it does not run.
        """
        _call_for_lock()
        with _lock:
            if not self.running:
                raise ProfilerStateError("the profiler does not run: start it before stopping it")
            try:
                self._stop()
            except BaseException:  # of a signal handler of the program's: it gets that afterwards
                if self.running:
                    self._stop()
                raise
            return self.profile

    def _stop(self) -> None:
        if self._recording is not None:
            self._recording.stop()
        self._profile = self._result()
        self._end()

    def _end(self) -> None:
        global _active, _outermost
        if spancontext.profile_id() == self._profile_id:
            spancontext.set_profile_id(None)
        self._recording = self._within = self._before = None
        if _outermost is self:
            _outermost = None
        if _active is self:
            _active = None

    def snapshot(self) -> Profile:
        """The result so far, while it runs on. Raises ProfilerStateError if it does not run."""
        _call_for_lock()
        with _lock:
            return self._result()

    def run_beside(self, one: Beside) -> None:
        """Have something run in a thread of its own, of which forks and the profile know."""
        self._beside.append(one)

    @property
    def adds_up(self) -> bool:
        """Whether `snapshot_at_leisure` can tell what is new."""
        recording = self._recording
        return recording is not None and recording.adds_up

    def snapshot_at_leisure(self, is_over: Callable[[], bool], marks: Marks | None = None) -> bytes:
        """The file that `snapshot` would save, made in small steps, of which the program notices little.

        With `marks`, where it `adds_up`, a later part of that file: what is new by them.

        Raises GaveWayError where `is_over` says so, and for anybody who needs the profiler meanwhile;
        ProfilerStateError if it does not run.
        """
        calls = _calls_for_lock
        pace = Pace(lambda: calls != _calls_for_lock or is_over())
        # Nor does this wait: who has it may be interrupted by a signal handler that waits for this.
        if not _lock.acquire(blocking=False):
            raise GaveWayError
        try:
            profile = self._result(pace, marks)
        finally:
            _lock.release()
        return profile.to_bytes(pace.look)

    def _result(self, pace: Pace | None = None, marks: Marks | None = None) -> Profile:
        if self._within is not None and self._before is not None:
            within = self._within
            profile = within.snapshot() if within.running else within.profile
            return profile.subtract(self._before)
        if self._recording is None:
            raise ProfilerStateError("the profiler does not run: there is nothing to look at")
        profile = self._recording.result(self._info(), self._started_ns, pace, marks)
        profile.info.sampler_cpu_ns += sum(one.cost_ns for one in self._beside)
        return profile

    def _info(self) -> ProfileInfo:
        return ProfileInfo(
            command=self._command if self._command is not None else _command_line(),
            python=_PYTHON,
            greenprof=__version__,
            started_at=self._started_at,
            duration_ns=time.monotonic_ns() - self._started_ns,
            process_cpu_ns=time.process_time_ns() - self._process_cpu_ns,
            pids=[self._pid],
            profile_id=self._profile_id,
        )

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
        """Profile the calls of a function; `profile` is then that of the last one.

        A call that begins while another one runs (recursion, concurrent tasks or threads), or
        while the profiler runs anyway, is part of that profile. Raises OptionError for what is no
        function, or runs in pieces between those of its caller, as generator functions do.
        """
        return decorated(function, self._call, "profile()")

    @contextmanager
    def _call(self) -> Iterator[None]:
        _call_for_lock()
        with _lock:
            counted = self._calls > 0 or not self.running
            if counted:
                if not self._calls:
                    self.start()
                self._calls += 1
        try:
            yield
        finally:
            if counted:
                with _lock:
                    self._calls -= 1
                    if not self._calls and self.running:
                        self.stop()

    def _abandon(self) -> None:
        if self._recording is not None:
            self._recording.abandon()
        for one in self._beside:
            one.abandon()
        self._calls = 0
        self._end()


def profile(rate_hz: float = 100.0, **options: Any) -> Profiler:
    """Profile a block or a function.

    ::

        with greenprof.profile() as p:
            work()
        p.profile.save("work.gprof")

    Works as ``with``, ``async with`` and decorator; see `Profiler` for the options and errors.
    """
    return Profiler(rate_hz, **options)


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


def _at_least(option: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{option} is {value!r}: give a whole number of at least {least}")
    return value


def _modules(only: Any) -> tuple[str, ...]:
    names = only if isinstance(only, (list, tuple, set, frozenset)) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        raise OptionError(f"only is {only!r}: give a list of module names")
    return tuple(names)


def _seconds(option: str, value: Any, most: float = 3600.0) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 < value <= most:
        raise OptionError(f"{option} is {value!r}: give seconds above 0, or None for none")
    return float(value)


def _command_line() -> str:
    arguments = getattr(sys, "orig_argv", None) or sys.argv
    return " ".join(without_secrets(arguments))


def _running_recordings() -> list[Recording]:
    found = (_active, _outermost)
    return [running._recording for running in found if running and running._recording]


def _at_exit() -> None:
    mainthread.over = True
    # The interpreter takes its signal handlers down, but not our timers, whose signals would then
    # end the process. What was recorded stays.
    for recording in _running_recordings():
        recording.stop()


def _call_for_lock() -> None:
    global _calls_for_lock
    _calls_for_lock += 1


def _all_beside() -> list[Beside]:
    found = (_active, _outermost)
    return [one for running in found if running for one in running._beside]


def _before_fork() -> None:
    # Without the lock, which their threads may be waiting for.
    for one in _all_beside():
        one.before_fork()
    _call_for_lock()
    _lock.acquire()
    for recording in _running_recordings():
        recording.before_fork()


def _after_fork_in_parent() -> None:
    for recording in _running_recordings():
        recording.after_fork_in_parent()
    for one in _all_beside():
        one.after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()
    for profiler in (_active, _outermost):
        if profiler is not None:
            profiler._abandon()
    mainthread.after_fork_in_child()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    os.register_at_fork(after_in_parent=mainthread.request_after_fork)
