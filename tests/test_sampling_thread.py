"""The sampling thread comes round seldom while it has nobody to look at, and is there when it has."""

from __future__ import annotations

import errno
import os
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

import greenprof
from greenprof._native import count_threads, cpu_clock_of
from greenprof.profiles import Profile
from greenprof.samplers import observer
from greenprof.samplers.threadsampler import EACH_ALONE, ThreadSampler
from tests.running import run_python

PERIOD_NS = 10_000_000
FRESH_S = 3600
"""As old as a main thread's tick may be where that is not what is tested."""


def alone(period_ns: int = FRESH_S * 10**9) -> ThreadSampler:
    """One that has just found no other thread, with a main thread that has just ticked."""
    ledger: Any = SimpleNamespace(period_ns=period_ns)
    main: Any = SimpleNamespace(clock=SimpleNamespace(wall_ns=time.monotonic_ns()))
    sampler = ThreadSampler(ledger, main)
    sampler._alone_of = count_threads()
    return sampler


def test_alone_it_looks_once_in_so_many_times() -> None:
    sampler = alone()

    assert [sampler._is_alone() for _ in range(EACH_ALONE)] == [True] * (EACH_ALONE - 1) + [False]


def test_a_thread_that_begins_is_looked_for() -> None:
    sampler = alone()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not sampler._is_alone()
    finally:
        ended.set()
        thread.join()


def test_a_main_thread_that_does_not_tick_is_looked_for() -> None:
    sampler = alone(PERIOD_NS)
    cast("Any", sampler._main).clock.wall_ns -= 2 * PERIOD_NS

    assert not sampler._is_alone()


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


def sleep_beside() -> None:
    time.sleep(0.6)


def test_a_thread_that_begins_late_is_in_the_profile() -> None:
    with greenprof.Profiler(100, awaits=False) as profiler:
        compute(0.7)
        thread = threading.Thread(target=sleep_beside)
        thread.start()
        compute(0.6)
        thread.join()

    assert 0.4e9 < slept_ns(profiler.profile) < 1.2e9


def test_a_thread_that_ends_as_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was in the list of threads, and has no clock any more; and another one may have its identity."""
    main = threading.get_ident()
    failed: list[int] = []

    def ended_at_first(ident: int, *clocks: Any) -> int | None:
        if ident != main and not failed:
            failed.append(ident)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return cpu_clock_of(ident, *clocks)

    monkeypatch.setattr(observer, "cpu_clock_of", ended_at_first)
    with greenprof.Profiler(100, awaits=False) as profiler:
        thread = threading.Thread(target=sleep_beside)
        thread.start()
        compute(0.3)
        thread.join()

    assert failed
    assert profiler.profile.info.warnings == []
    assert 0.3e9 < slept_ns(profiler.profile) < 1.2e9


STACKS_GIVEN_BACK = """
import threading
from greenprof.samplers.observer import ThreadClock

go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(40)]
for thread in threads:
    thread.start()
assert not any(ThreadClock(thread.ident, 0).ended for thread in threads)
go.set()
for thread in threads:
    thread.join()
print(sum(ThreadClock(thread.ident, 0).ended for thread in threads))
"""


def test_threads_whose_stacks_are_gone() -> None:
    """The C library looks for a thread's clock in there, and keeps the stacks of few that have ended."""
    ended = run_python("-X", "faulthandler", "-c", STACKS_GIVEN_BACK)
    assert (ended.stdout, ended.stderr) == ("40\n", "")


def slept_ns(profile: Profile) -> int:
    return sum(
        sample.wall_ns
        for sample in profile.samples
        if sleep_beside.__name__ in {frame.name for frame in profile.stack(sample.stack)}
    )
