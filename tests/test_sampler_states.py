"""What threads and tasks do is told from what they wait for, whether by Python or by C code."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
import uvloop

import greenprof
from greenprof.profiles import Profile, State
from tests.running import run_python

BIG = bytes(100_000_000)
WAIT_S = 0.3


def count_in_c() -> None:
    sum(range(15_000_000))


def digest_without_the_lock() -> None:
    hashlib.sha256(BIG).digest()


def sleep_long() -> None:
    time.sleep(WAIT_S)


def wait_for_lock() -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire(timeout=WAIT_S)


def read_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(WAIT_S)
        with pytest.raises(TimeoutError):
            one.recv(1)


COMPUTING = (count_in_c, digest_without_the_lock)
BLOCKING = (sleep_long, wait_for_lock, read_socket)


def times(profile: Profile, function: Callable[[], None], clock: str = "wall_ns") -> Counter[State]:
    """The seconds below a function, by state."""
    found = Counter[State]()
    for sample in profile.samples:
        if function.__qualname__ in {frame.name for frame in profile.stack(sample.stack)}:
            found[sample.state] += getattr(sample, clock) / 1e9
    return found


def run_in(where: str, work: Callable[[], None]) -> None:
    """Runs in the "main" thread, or in a "worker"."""
    if where == "main":
        work()
        return
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("where", ["main", "worker"])
@pytest.mark.parametrize("rate_hz", [100, 1000])
def test_long_calls_in_c_are_their_callers(where: str, rate_hz: float) -> None:
    took: dict[str, tuple[float, float]] = {}

    def work() -> None:
        for function in (*COMPUTING, *BLOCKING):
            wall, cpu = time.monotonic(), time.thread_time()
            function()
            took[function.__name__] = time.monotonic() - wall, time.thread_time() - cpu

    with greenprof.profile(rate_hz) as p:
        run_in(where, work)
    for function in (*COMPUTING, *BLOCKING):
        wall, cpu = took[function.__name__]
        states = times(p.profile, function)
        if where == "worker" and function in COMPUTING:
            # Nothing can look while C code keeps the lock, and whatever comes next may be seen.
            continue
        assert sum(states.values()) == pytest.approx(wall, abs=0.1), function
        if function in COMPUTING:
            seen_cpu = sum(times(p.profile, function, "cpu_ns").values())
            assert seen_cpu == pytest.approx(cpu, rel=0.3, abs=0.08), function
        else:
            assert states[State.BLOCKED] >= 0.7 * wall, (function, states)
    both = sum(sum(times(p.profile, function).values()) for function in COMPUTING)
    assert both == pytest.approx(sum(took[f.__name__][0] for f in COMPUTING), abs=0.2)


def test_cpu_adds_up_to_the_processs_and_wall_to_the_threads_life() -> None:
    def burn() -> None:
        until = time.thread_time() + 0.5
        while time.thread_time() < until:
            sum(range(100))

    threads = [threading.Thread(target=burn, name="burner") for _ in range(2)]
    with greenprof.profile(200) as p:
        for thread in threads:
            thread.start()
        burn()
        time.sleep(0.2)
        for thread in threads:
            thread.join()
    profile = p.profile
    cpu_ns = sum(sample.cpu_ns for sample in profile.samples)
    assert cpu_ns == pytest.approx(
        profile.info.process_cpu_ns - profile.info.sampler_cpu_ns / 2, rel=0.08
    )
    main = profile.threads.index("MainThread")
    wall_ns = sum(sample.wall_ns for sample in profile.samples if sample.thread == main)
    assert wall_ns == pytest.approx(profile.info.duration_ns, rel=0.05)
    assert 0 < profile.info.sampler_cpu_ns < 0.3 * profile.info.process_cpu_ns


def test_threads_that_live_for_less_than_a_tick_count_too() -> None:
    def short() -> None:
        until = time.thread_time() + 0.008
        while time.thread_time() < until:
            sum(range(100))

    with greenprof.profile(100) as p:
        for _ in range(60):
            thread = threading.Thread(target=short)
            thread.start()
            thread.join()
    seen = sum(times(p.profile, short, "cpu_ns").values())
    assert seen > 0.1 * 60 * 0.008


async def three_lives() -> float:
    """Tasks with different lives; the seconds that all of them lived."""

    async def compute() -> None:
        for _ in range(10):
            until = time.thread_time() + 0.02
            while time.thread_time() < until:
                sum(range(100))
            await asyncio.sleep(0.01)

    async def wait() -> None:
        await asyncio.sleep(0.5)

    async def lived(task: asyncio.Task[None]) -> float:
        started = time.monotonic()
        await task
        return time.monotonic() - started

    tasks = [asyncio.create_task(function()) for function in (compute, wait, wait)]
    return sum(await asyncio.gather(*map(lived, tasks)))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("where", ["main", "worker"])
def test_task_wall_adds_up_to_the_tasks_lives(where: str, run: Callable[..., float]) -> None:
    lives: list[float] = []

    def work() -> None:
        lives.append(run(three_lives()))
        lives.append(run(three_lives()))  # a second loop in the same thread

    with greenprof.profile(200) as p:
        run_in(where, work)
    by_group = Counter[str]()
    for sample in p.profile.samples:
        group = p.profile.groups[sample.group]
        if group.kind == "asyncio":
            by_group[group.name.rpartition(".")[2]] += sample.wall_ns
    seen = (by_group["compute"] + by_group["wait"]) / 1e9
    assert seen == pytest.approx(sum(lives), rel=0.35)
    counts = {group.name.rpartition(".")[2]: group.count for group in p.profile.groups}
    assert (counts["compute"], counts["wait"]) == (2, 4)
    states = {
        sample.state
        for sample in p.profile.samples
        if p.profile.groups[sample.group].name.endswith("wait")
    }
    assert State.AWAITING in states


def test_the_hub_of_gevent_is_no_task() -> None:
    source = """
import time
import gevent, greenprof

def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))

lives = {"compute": 0, "wait": 0}

def compute():
    started = time.monotonic()
    for _ in range(10):
        burn(0.02)
        gevent.sleep(0.01)
    lives["compute"] += time.monotonic() - started

def wait():
    started = time.monotonic()
    gevent.sleep(0.4)
    lives["wait"] += time.monotonic() - started

with greenprof.profile(500) as p:
    gevent.joinall([gevent.spawn(compute), gevent.spawn(wait), gevent.spawn(wait)])
wall = {}
for sample in p.profile.samples:
    group = p.profile.groups[sample.group]
    if group.kind == "greenlet":
        wall[group.name] = wall.get(group.name, 0) + sample.wall_ns / 1e9
for name, lived in lives.items():
    assert abs(wall[name] / lived - 1) < 0.3, (wall, lives)
assert set(wall) == {"compute", "wait"}, wall
assert not p.profile.info.warnings, p.profile.info.warnings
"""
    run_python("-c", source)


def read_in_c(descriptor: int = -1) -> None:
    """Waits in C code, which signals do not get out of it."""
    ctypes.CDLL(None).read(descriptor, ctypes.create_string_buffer(1), 1)


def test_short_calls_that_signals_do_not_end_are_blocked() -> None:
    reader, writer = os.pipe()
    begin = threading.Semaphore(0)

    def write() -> None:
        for _ in range(40):
            begin.acquire()
            time.sleep(0.025)
            os.write(writer, b"x")

    thread = threading.Thread(target=write)
    thread.start()
    waited = 0.0
    with greenprof.profile(100) as p:
        for _ in range(40):
            count_in_python(0.001)
            begin.release()
            started = time.monotonic()
            read_in_c(reader)
            waited += time.monotonic() - started
    thread.join()
    os.close(reader)
    os.close(writer)
    states = times(p.profile, read_in_c)
    assert states[State.BLOCKED] == pytest.approx(waited, rel=0.35)
    assert sum(states.values()) == pytest.approx(waited, rel=0.35)


def count_in_python(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
