"""Timers take signals that nobody uses, give them back, and never end the process by a late one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from greenprof.samplers import mainthread, timers
from greenprof.samplers.timers import (
    IntervalTimer,
    SignalTimer,
    Timer,
    TimerUnavailableError,
    make_timer,
)
from tests.process_state import posix_timers

MS = 1_000_000
LIMIT_S = 10.0


class Count:
    """A handler that counts."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.number += 1

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + LIMIT_S
        while self.number < number:
            assert time.monotonic() < deadline, f"{self.number} signals came"
            time.sleep(0.001)


@pytest.fixture
def opened() -> Iterator[Callable[[Timer], Timer]]:
    """Opens timers, and closes them after the test."""
    made: list[Timer] = []

    def open_timer(timer: Timer) -> Timer:
        made.append(timer)
        timer.open()
        return timer

    yield open_timer
    for timer in made:
        timer.close()


@pytest.fixture
def no_timer_create(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "_libc", None)


Opener = Callable[[Timer], Timer]
CLOCKS = [
    pytest.param(time.CLOCK_MONOTONIC, id="wall"),
    pytest.param(time.CLOCK_THREAD_CPUTIME_ID, id="cpu"),
]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("kind", [SignalTimer, IntervalTimer])
def test_signals_come_until_disarmed(opened: Opener, kind: type[Timer], clock: int) -> None:
    count = Count()
    timer = opened(kind(clock, 2 * MS, count))
    timer.arm()
    deadline = time.monotonic() + LIMIT_S
    while count.number < 3:
        assert time.monotonic() < deadline
    timer.disarm()
    seen = count.number
    until = time.thread_time() + 0.03
    while time.thread_time() < until:
        pass
    assert count.number <= seen + 1


def test_one_signal_if_armed_once(opened: Opener) -> None:
    count = Count()
    timer = opened(SignalTimer(time.CLOCK_MONOTONIC, MS, count))
    timer.arm_once(MS)
    count.wait_for(1)
    time.sleep(0.02)
    assert count.number == 1


def test_signals_interrupt_neither_sleep_nor_reads(opened: Opener) -> None:
    count = Count()
    opened(SignalTimer(time.CLOCK_MONOTONIC, MS, count)).arm()
    reader, writer = os.pipe()
    threading.Timer(0.1, os.write, (writer, b"x")).start()
    started = time.monotonic()
    time.sleep(0.05)
    assert time.monotonic() - started >= 0.05
    assert os.read(reader, 1) == b"x"
    assert count.number > 3
    os.close(reader)
    os.close(writer)


def test_each_timer_has_a_signal_of_its_own_that_nobody_uses(opened: Opener) -> None:
    used = signal.SIGRTMAX - 1
    signal.signal(used, lambda *_: None)
    waited_for = signal.SIGRTMAX - 2
    signal.pthread_sigmask(signal.SIG_BLOCK, [waited_for])
    try:
        taken = {opened(make_timer(time.CLOCK_MONOTONIC, MS, Count())).signum for _ in range(3)}
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [waited_for])
        signal.signal(used, signal.SIG_DFL)
    assert len(taken) == 3
    assert taken.isdisjoint({used, waited_for, signal.SIGRTMIN, signal.SIGALRM, signal.SIGPROF})


def test_no_signal_left_is_a_clear_error() -> None:
    numbers = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    try:
        with pytest.raises(TimerUnavailableError, match="every real-time signal"):
            SignalTimer(time.CLOCK_MONOTONIC, MS, Count()).open()
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def test_a_failure_gives_the_signal_back() -> None:
    timer = SignalTimer(12345, MS, Count())  # no such clock
    with pytest.raises(TimerUnavailableError, match="timer_create: Invalid argument"):
        timer.open()
    assert signal.getsignal(timer.signum) == signal.SIG_DFL


def test_a_late_signal_is_harmless() -> None:
    """One that waits while its timer is freed would meet the default, which ends the process."""
    timer = SignalTimer(time.CLOCK_MONOTONIC, MS, Count())
    timer.open()
    signal.pthread_sigmask(signal.SIG_BLOCK, [timer.signum])
    timer.arm()
    deadline = time.monotonic() + LIMIT_S
    while timer.signum not in signal.sigpending():
        assert time.monotonic() < deadline
    timer.close()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [timer.signum])
    assert signal.getsignal(timer.signum) == signal.SIG_DFL


def test_closing_twice_or_after_an_interruption() -> None:
    timer = SignalTimer(time.CLOCK_MONOTONIC, MS, Count())
    timer.open()
    # As if a signal handler had raised between the two steps that give the signal back.
    timer._giving_back = True
    signal.signal(timer.signum, signal.SIG_IGN)
    timer.close()
    timer.close()
    timer.disarm()
    timer.arm()
    assert signal.getsignal(timer.signum) == signal.SIG_DFL
    assert posix_timers() == 0


def test_the_programs_own_handler_stays(opened: Opener) -> None:
    timer = opened(SignalTimer(time.CLOCK_MONOTONIC, MS, Count()))
    assert not timer.displaced()
    count = Count()
    signal.signal(timer.signum, count)
    try:
        assert timer.displaced()
        timer.close()
        assert signal.getsignal(timer.signum) is count
    finally:
        signal.signal(timer.signum, signal.SIG_DFL)


@pytest.mark.usefixtures("no_timer_create")
def test_interval_timers_where_there_is_no_timer_create(opened: Opener) -> None:
    wall = opened(make_timer(time.CLOCK_MONOTONIC, MS, Count()))
    cpu = opened(make_timer(time.CLOCK_THREAD_CPUTIME_ID, MS, Count()))
    assert (wall.signum, cpu.signum) == (signal.SIGALRM, signal.SIGPROF)
    wall.arm()
    wall.close()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.usefixtures("no_timer_create")
@pytest.mark.parametrize("use", ["handler", "timer"])
def test_the_programs_own_interval_timers_are_left_alone(use: str) -> None:
    earlier = signal.signal(signal.SIGALRM, lambda *_: None)
    if use == "timer":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with pytest.raises(TimerUnavailableError, match="the program uses SIGALRM"):
            make_timer(time.CLOCK_MONOTONIC, MS, Count()).open()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def test_an_interval_timer_that_the_program_set_anew_is_the_programs(opened: Opener) -> None:
    timer = opened(IntervalTimer(time.CLOCK_MONOTONIC, MS, Count()))
    timer.arm()
    count = Count()
    signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        timer.disarm()
        timer.close()
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
        assert signal.getsignal(signal.SIGALRM) is count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline


def test_work_for_the_main_thread_is_done_there_and_in_order() -> None:
    done: list[tuple[int, int]] = []

    def note(number: int) -> None:
        done.append((number, threading.get_ident()))

    def ask() -> None:
        for number in range(500):  # the interpreter's own list has room for 32
            mainthread.run_in_main_thread(partial(note, number))

    in_thread(ask)
    wait_until(lambda: len(done) == 500)
    assert done == [(number, threading.get_ident()) for number in range(500)]


def test_the_main_thread_does_at_once_what_waits_before_its_own() -> None:
    done: list[str] = []
    mainthread._work.append(lambda: done.append("earlier"))
    mainthread.run_in_main_thread(lambda: done.append("own"))
    assert done == ["earlier", "own"]


def test_what_interrupts_the_work_reaches_the_program_and_the_work_is_done_again() -> None:
    done: list[str] = []

    def work() -> None:
        done.append("begun")
        if len(done) == 1:
            signal.raise_signal(signal.SIGUSR1)

    def handler(*_: object) -> None:
        raise TimeoutError

    earlier = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError):  # noqa: PT012  # somewhere in here
            in_thread(lambda: mainthread.run_in_main_thread(work))
            wait_until(lambda: len(done) > 1)
        wait_until(lambda: len(done) > 1)
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert done == ["begun", "begun"]


def test_a_full_list_of_requests_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(mainthread, "_add_request", lambda: -1)
        in_thread(lambda: mainthread.run_in_main_thread(lambda: done.append(1)))
    assert not done
    mainthread.schedule()
    wait_until(lambda: bool(done))
