"""What a crossing of greenhack's costs beside SQLAlchemy's, as ratios in one run.

    python -m benchmarks.greenhack [--rounds 40]

Each round times every case with both, in turn and beginning with either, so that what else the
machine does hits both alike. Of each one's times the best counts: something else may take longer, and
nothing takes less.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import greenlet
import sqlalchemy
from sqlalchemy.util import concurrency

from greenprof import greenhack

# 2.1 renamed it.
await_theirs = getattr(concurrency, "await_", None) or concurrency.await_only

Wait = Callable[[Any], Any]
Spawn = Callable[..., Awaitable[Any]]
CALLS = 2_000


async def ready() -> int:
    return 1


async def pauses() -> None:
    await asyncio.sleep(0)


def nothing(wait: Wait) -> None:
    """Sync code that needs no I/O in the end."""


def once(wait: Wait) -> None:
    wait(ready())


def many(wait: Wait) -> None:
    for _ in range(CALLS):
        wait(ready())


def many_calls(wait: Wait) -> None:
    """Of an async function that is wrapped for sync code."""
    call = WRAPPED[wait]
    for _ in range(CALLS):
        call(1)


async def plus(number: int) -> int:
    return number + 1


def by_hand(*args: Any, **kwargs: Any) -> int:
    return await_theirs(plus(*args, **kwargs))


WRAPPED: dict[Wait, Callable[[int], int]] = {
    greenhack.await_: greenhack.exempt(plus),
    await_theirs: by_hand,
}


def many_pauses(wait: Wait) -> None:
    for _ in range(CALLS):
        wait(pauses())


async def calls_of(function: Callable[[Wait], None], spawn: Spawn, wait: Wait) -> None:
    for _ in range(CALLS):
        await spawn(function, wait)


async def one_call(function: Callable[[Wait], None], spawn: Spawn, wait: Wait) -> None:
    await spawn(function, wait)


CASES: dict[str, tuple[Callable[..., Awaitable[None]], Callable[[Wait], None]]] = {
    "a crossing and back, nothing to wait for": (one_call, many),
    "a crossing and back, through the loop": (one_call, many_pauses),
    "the same by a wrapper: `exempt`": (one_call, many_calls),
    "sync code that does not await": (calls_of, nothing),
    "sync code that awaits once": (calls_of, once),
}


def of_greenhack() -> tuple[Spawn, Wait]:
    decorated: dict[Any, Any] = {}

    def spawn(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return decorated[function](*args)  # type: ignore[no-any-return]

    for _, function in CASES.values():
        decorated[function] = greenhack.as_async(function)
    return spawn, greenhack.await_


def of_sqlalchemy() -> tuple[Spawn, Wait]:
    return concurrency.greenlet_spawn, await_theirs


def timed(case: str, peer: tuple[Spawn, Wait], loop: asyncio.AbstractEventLoop) -> float:
    """Microseconds for each call."""
    run, function = CASES[case]
    begun = time.perf_counter_ns()
    loop.run_until_complete(run(function, *peer))
    return (time.perf_counter_ns() - begun) / CALLS / 1_000


def own_loop() -> float:
    """Microseconds for a crossing from sync code to the loop below it, which has no peer."""
    greenhack.start_loop()
    try:
        begun = time.perf_counter_ns()
        many(greenhack.await_)
        return (time.perf_counter_ns() - begun) / CALLS / 1_000
    finally:
        greenhack.stop_loop()


def measured(rounds: int, cases: Iterable[str] = CASES) -> dict[str, tuple[float, float]]:
    """For each case: microseconds with greenhack and with SQLAlchemy."""
    peers = [of_greenhack(), of_sqlalchemy()]
    results: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
    loop = asyncio.new_event_loop()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds + 1):
            for case, found in results.items():
                order = (0, 1) if number % 2 else (1, 0)
                times = {which: timed(case, peers[which], loop) for which in order}
                if number:  # the first one warms up
                    found.append((times[0], times[1]))
            gc.collect()
    finally:
        gc.enable()
        loop.close()
    return {
        case: (min(ours for ours, _ in pairs), min(theirs for _, theirs in pairs))
        for case, pairs in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, greenlet {greenlet.__version__}, "
        f"SQLAlchemy {sqlalchemy.__version__}; microseconds a call\n"
    )
    print("| | greenhack | SQLAlchemy | ratio |\n|---|---:|---:|---:|")
    for case, (ours, theirs) in measured(options.rounds).items():
        print(f"| {case} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    below = min(own_loop() for _ in range(options.rounds))
    print(f"| a crossing and back after `start_loop()`, nothing to wait for | {below:.2f} | | |")


if __name__ == "__main__":
    main()
