"""Switches as fast as it can, in tasks whose functions carry the task's number: numbered_tasks.py KIND SECONDS OUTPUT

KIND is raw (greenlets in four threads), sqlalchemy (a bridge under asyncio, in four threads),
gevent (greenlets of its hub, in four threads) or restarts (raw, and the profiler started and
stopped at random moments by a thread of its own, with garbage collected all the time).

Every function of task 17 is called t17_...: a stack with two numbers in it never was. Prints, as
JSON, what was found, and the resident memory at the middle and at the end.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import greenlet

import greenprof
from greenprof.profiles import Profile

TASKS = 200
THREADS = 4
RATE_HZ = 1000
NUMBER = re.compile(r"^t(\d+)_")
SOURCE = """
def t{n}_leaf(pause, deep):
    return pause() if deep == 0 else t{n}_inner(pause, deep - 1)

def t{n}_inner(pause, deep):
    local = [deep] * 3
    return t{n}_leaf(pause, deep)

def t{n}_run(pause, go_on):
    turns = 0
    while go_on():
        t{n}_inner(pause, turns % 4)
        turns += 1
    return turns

async def t{n}_sleep(sleep):
    await sleep(0)

async def t{n}_task(spawn, bridge, sleep, go_on):
    def t{n}_pause():
        bridge(t{n}_sleep(sleep))
    return await spawn(t{n}_run, t{n}_pause, go_on)
"""


def functions(number: int) -> dict[str, Any]:
    """The functions of a task."""
    found: dict[str, Any] = {}
    exec(compile(SOURCE.format(n=number), f"task{number}.py", "exec"), found)
    return {name.partition("_")[2]: made for name, made in found.items() if NUMBER.match(name)}


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def raw(numbers: list[int], go_on: Callable[[], bool]) -> int:
    """Rounds of greenlets that live for a moment, each switching to the one that runs them."""
    turns = 0
    made = [functions(number) for number in numbers]
    while go_on():
        here = greenlet.getcurrent()
        lives = random.randrange(2, 30)
        counts = [0]

        def short(counts: list[int] = counts, lives: int = lives) -> bool:
            counts[0] += 1
            return counts[0] < lives * len(made)

        alive = [greenlet.greenlet(one["run"]) for one in made]
        for one in alive:
            one.switch(here.switch, short)
        while alive and go_on():
            alive = [one for one in alive if not one.dead]
            for one in alive:
                one.switch()
                turns += 1
        for one in alive[: len(alive) // 2]:
            one.throw()  # the others die with their last reference
    return turns


def bridged(numbers: list[int], go_on: Callable[[], bool]) -> int:
    from sqlalchemy.util import await_only, greenlet_spawn

    async def main() -> int:
        tasks = [
            asyncio.create_task(
                functions(number)["task"](greenlet_spawn, await_only, asyncio.sleep, go_on)
            )
            for number in numbers
        ]
        return sum(await asyncio.gather(*tasks))

    return asyncio.run(main())


def hubbed(numbers: list[int], go_on: Callable[[], bool]) -> int:
    import gevent

    tasks = [
        gevent.spawn(functions(number)["run"], lambda: gevent.sleep(0), go_on) for number in numbers
    ]
    gevent.joinall(tasks)
    return sum(task.value or 0 for task in tasks)


def torn(profile: Profile) -> list[list[str]]:
    """Stacks of more than one task."""
    found = []
    for sample in profile.samples:
        names = [frame.name for frame in profile.stack(sample.stack)]
        numbers = {match.group(1) for name in names if (match := NUMBER.match(name))}
        if len(numbers) > 1:
            found.append(names)
    return found


def main(kind: str, seconds: float) -> dict[str, Any]:
    work = {"raw": raw, "restarts": raw, "sqlalchemy": bridged, "gevent": hubbed}[kind]
    end = time.monotonic() + seconds
    turns: list[int] = []

    def go_on() -> bool:
        return time.monotonic() < end

    share = TASKS // THREADS

    def run(which: int) -> None:
        turns.append(work(list(range(which * share, (which + 1) * share)), go_on))

    profiles: list[Profile] = []
    memory: list[int] = []

    def watch() -> None:
        for part in (0.3, 0.4, 0.9, 1.0):
            time.sleep(max(0.0, end - seconds * (1 - part) - time.monotonic() - 0.1))
            memory.append(resident_bytes())

    def restart() -> None:
        while go_on():
            with greenprof.profile(RATE_HZ) as profiler:
                time.sleep(random.random() * 0.1)
            profiles.append(profiler.profile)
            del profiles[:-5]
            time.sleep(random.random() * 0.02)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(1, THREADS)]
    watcher = threading.Thread(target=watch)
    profiler = greenprof.Profiler(RATE_HZ)
    if kind == "restarts":
        gc.set_threshold(20)
        threads.append(threading.Thread(target=restart))
    else:
        profiler.start()
    for thread in (watcher, *threads):
        thread.start()
    run(0)
    for thread in (watcher, *threads):
        thread.join()
    if kind != "restarts":
        profiler.stop()
        profiles.append(profiler.profile)
    return {
        "turns": sum(turns),
        "ticks": sum(profile.info.ticks for profile in profiles),
        "warnings": [warning for profile in profiles for warning in profile.info.warnings],
        "numbered": sum(
            any(NUMBER.match(frame.name) is not None for frame in profile.stack(sample.stack))
            for profile in profiles
            for sample in profile.samples
        ),
        "torn": [stack for profile in profiles for stack in torn(profile)][:5],
        "memory": memory,
    }


if __name__ == "__main__":
    faulthandler.enable()
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
