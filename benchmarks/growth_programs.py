"""The programs of `benchmarks.growth`, each for a process of its own: prints one line of JSON.

    python -m benchmarks.growth_programs tasks 10000

Cost is the CPU time of the whole process with a profiler, less that of the same work without. Memory is what is
allocated since a second session began and still held, as tracemalloc counts it: the programs themselves hold nothing
more by then. Over an hour, it is what the process has grown by.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from benchmarks.growth_clock import FastClock
from greenprof.profiler import Profiler

RATE_HZ = 100.0
KB, MB = 1_000, 1_000_000
#: How much faster than the real one the clock is that memory is measured by: everybody has had a turn.
HURRY = 30
Result = dict[str, Any]


class Session:
    """Profiles the process, and tells what that came to."""

    def __init__(self, **options: Any) -> None:
        self.profiler = Profiler(RATE_HZ, **options)

    def __enter__(self) -> Self:
        self.profiler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.profiler.stop()

    @property
    def ticks(self) -> int:
        """How many there were so far."""
        return int(self._sampler.ticks)

    @property
    def own_cpu_ns(self) -> int:
        """What the sampler says that it has used so far."""
        return int(self._sampler.cost_ns)

    @property
    def met(self) -> int:
        """How many tasks, greenlets and threads it has seen."""
        return sum(self._sampler.recorder._tasks)

    @property
    def _sampler(self) -> Any:
        recording: Any = self.profiler._recording
        return recording._sampler

    def ticking(self, clock: FastClock) -> Callable[[], None]:
        """Return what makes a tick happen at once, by the signal that a timer would send."""
        return clock.follow(self._sampler._main._wall_timer)

    def size(self) -> int:
        """The bytes of the profile's file."""
        return len(self.profiler.profile.to_bytes())


@contextmanager
def counted_memory() -> Iterator[Callable[[], int]]:
    """Count what is allocated from here on; yields what tells the bytes that are still held."""
    gc.collect()
    tracemalloc.start()

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        yield held
    finally:
        tracemalloc.stop()


def tick_cost(result: Result, without_s: float, with_s: float, ticks: int, own_ns: int) -> None:
    """Note what a tick cost, in microseconds of CPU time: of the whole process, and as the sampler says."""
    result["tick_us"] = max(with_s - without_s, 0.0) / max(ticks, 1) * 1e6
    result["own_tick_us"] = own_ns / max(ticks, 1) / 1e3
    result["ticks"] = ticks


# Idle tasks, and greenlets.


async def _job(future: asyncio.Future[None]) -> None:
    await _step(future)


async def _step(future: asyncio.Future[None]) -> None:
    await future


async def _idle(
    jobs: Callable[[], Coroutine[Any, Any, None]], count: int, window_s: float
) -> Result:
    """Measure a loop with so many tasks that wait for something that does not come."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(jobs()) for _ in range(count)]
    await asyncio.sleep(0.05)
    result: Result = {}

    async def window() -> float:
        started = time.process_time()
        await asyncio.sleep(window_s)
        return time.process_time() - started

    await window()
    gc.collect()
    without_s = await window()
    with Session(awaits=False) as session:
        await asyncio.sleep(0.3)
        before, own = session.ticks, session.own_cpu_ns
        with_s = await window()
        tick_cost(result, without_s, with_s, session.ticks - before, session.own_cpu_ns - own)
    with counted_memory() as held, FastClock(RATE_HZ, slower=HURRY) as clock:
        with Session(awaits=False) as session:
            tick = session.ticking(clock)
            while session.met < count:
                clock.advance()
                tick()
                await asyncio.sleep(0)
            result["memory"] = held()
        result["size"] = session.size()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return result


def tasks(count: int, window_s: float) -> Result:
    """So many asyncio tasks, each of which waits for a future of its own."""

    async def main() -> Result:
        futures: list[asyncio.Future[None]] = []

        def job() -> Coroutine[Any, Any, None]:
            futures.append(asyncio.get_running_loop().create_future())
            return _job(futures[-1])

        return await _idle(job, count, window_s)

    return asyncio.run(main())


def chains(depth: int, window_s: float) -> Result:
    """A hundred tasks, each of which waits so many awaits deep."""

    async def main() -> Result:
        future = asyncio.get_running_loop().create_future()

        async def deeper(left: int) -> None:
            if left > 1:
                await deeper(left - 1)
            else:
                await future

        sys.setrecursionlimit(10 * depth + 1000)
        return await _idle(lambda: deeper(depth), 100, window_s)

    return asyncio.run(main())


def greenlets(count: int, window_s: float) -> Result:
    """So many gevent greenlets, each of which waits for an event that does not come."""
    import gevent
    from gevent.event import Event

    event = Event()
    result: Result = {}

    def wait() -> None:
        waiting.append(gevent.getcurrent())
        event.wait()

    def window() -> float:
        started = time.process_time()
        gevent.sleep(window_s)
        return time.process_time() - started

    waiting: list[Any] = []
    for _ in range(count):
        gevent.spawn(wait)
    while len(waiting) < count:
        gevent.sleep(0.01)
    window()
    gc.collect()
    without_s = window()
    with Session(awaits=False) as session:
        gevent.sleep(0.3)
        before, own = session.ticks, session.own_cpu_ns
        with_s = window()
        tick_cost(result, without_s, with_s, session.ticks - before, session.own_cpu_ns - own)
    with counted_memory() as held, FastClock(RATE_HZ, slower=HURRY) as clock:
        with Session(awaits=False) as session:
            tick = session.ticking(clock)
            while session.met < count:
                clock.advance()
                tick()
                gevent.sleep(0)
            result["memory"] = held()
        result["size"] = session.size()
    event.set()
    gevent.joinall(waiting)
    return result


# Stacks: how deep, and how many.


def recursion(depth: int, _: float) -> Result:
    """A function that computes below so many calls of itself."""
    ticks = 3_000

    def deeper(left: int, work: Callable[[], Any]) -> Any:
        return deeper(left - 1, work) if left > 1 else work()

    sys.setrecursionlimit(10 * depth + 1000)

    def turn(clock: FastClock, tick: Callable[[], None]) -> float:
        started = time.process_time()
        for _ in range(ticks):
            clock.advance()
            tick()
        return time.process_time() - started

    result: Result = {}
    with FastClock(RATE_HZ) as clock:
        without_s = deeper(depth, lambda: turn(clock, _nothing))
        with Session(awaits=False) as session:
            tick = session.ticking(clock)
            deeper(depth, lambda: turn(clock, tick))
            before, own = session.ticks, session.own_cpu_ns
            with_s = deeper(depth, lambda: turn(clock, tick))
            tick_cost(result, without_s, with_s, session.ticks - before, session.own_cpu_ns - own)
    with counted_memory() as held, FastClock(RATE_HZ) as clock:
        with Session(awaits=False) as session:
            tick = session.ticking(clock)
            deeper(depth, lambda: turn(clock, tick))
            result["memory"] = held()
        result["size"] = session.size()
    return result


def _nothing() -> None:
    """A tick that does not come."""


LEVELS = 20
WIDE = 10
_CALLER = """
def function_{level}_{number}(path, at, tick):
    if at == len(path):
        return tick()
    return table[at][path[at]](path, at + 1, tick)
"""


def _functions() -> list[list[Callable[..., None]]]:
    """Ten functions for each of twenty levels: a path through them is a stack like no other."""
    names: dict[str, Any] = {"table": []}
    for level in range(LEVELS):
        for number in range(WIDE):
            exec(_CALLER.format(level=level, number=number), names)
        names["table"].append([names[f"function_{level}_{number}"] for number in range(WIDE)])
    found: list[list[Callable[..., None]]] = names["table"]
    return found


def stacks(count: int, _: float) -> Result:
    """So many distinct stacks, each seen once and then once more, above which ten levels are common."""
    made = random.Random(1)
    table = _functions()
    paths = [bytes(made.choices(range(WIDE), k=LEVELS)) for _ in range(count)]
    start = table[0]

    def turn(clock: FastClock, tick: Callable[[], None]) -> float:
        started = time.process_time()
        for path in paths:
            clock.advance()
            start[path[0]](path, 1, tick)
        return time.process_time() - started

    def common(left: int, work: Callable[[], Any]) -> Any:
        return common(left - 1, work) if left > 1 else work()

    result: Result = {}
    with FastClock(RATE_HZ) as clock:
        without_s = common(10, lambda: turn(clock, _nothing))
        with Session(awaits=False) as session:
            tick = session.ticking(clock)
            first_s = common(10, lambda: turn(clock, tick))
            result["first_us"] = (first_s - without_s) / count * 1e6
            before, own = session.ticks, session.own_cpu_ns
            again_s = common(10, lambda: turn(clock, tick))
            tick_cost(result, without_s, again_s, session.ticks - before, session.own_cpu_ns - own)
        result["nodes"] = len(session.profiler.profile.nodes)
        result["over"] = session.profiler.profile.info.overflow_samples
        result["size"] = session.size()
    with counted_memory() as held, FastClock(RATE_HZ) as clock, Session(awaits=False) as session:
        tick = session.ticking(clock)
        common(10, lambda: turn(clock, tick))
        result["memory"] = held()
    return result


# An hour.


def resident() -> int:
    """The bytes of memory that the process occupies."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def hour(minutes: float, new: bool) -> Result:
    """A service for so many minutes of a fast clock: a request every few ticks, a task of its own."""
    from benchmarks.growth_service import serve

    return serve(minutes, new)


PROGRAMS: dict[str, Callable[[int, float], Result]] = {
    "tasks": tasks,
    "greenlets": greenlets,
    "chains": chains,
    "recursion": recursion,
    "stacks": stacks,
    "hour": lambda minutes, _: hour(minutes, False),
    "new-code": lambda minutes, _: hour(minutes, True),
}


def main() -> None:
    name, number, window_s = sys.argv[1:]
    print(json.dumps(PROGRAMS[name](int(number), float(window_s))))


if __name__ == "__main__":
    main()
