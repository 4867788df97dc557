"""The service of `benchmarks.growth` that runs for an hour of a fast clock."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Callable
from types import CodeType, FunctionType

from sqlalchemy.util import await_only, greenlet_spawn

from benchmarks.growth_clock import FastClock
from benchmarks.growth_programs import RATE_HZ, Result, Session, resident
from greenprof.profiles import DEFAULT_MAX_NODES

#: In turns of the loop: between requests, between threads of their own, between requests that block the loop.
REQUEST_EVERY, THREAD_EVERY, BLOCK_EVERY = 4, 200, 4_000
TIMELINE_S = 60.0
BLOCK_LIMIT_S, BLOCK_S = 0.02, 0.03
#: What bounds new functions, so that the bound is reached within minutes.
FEW_NODES = 10_000
#: Minutes before memory is measured first: what the program itself sets up is there by then.
WARM_MINUTES = 0.2


class Service:
    """Serves requests that end, a few in a hundred ticks; each is a task of a name of its own."""

    def __init__(self, clock: FastClock, new: bool) -> None:
        self.tick: Callable[[], None] = _nothing
        self._clock = clock
        self._new = new
        self._numbers = itertools.count()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, minutes: float) -> None:
        """Run for so long by the clock."""
        end_ns = self._clock.now_ns() + minutes * 60e9
        for number in itertools.count():
            if self._clock.now_ns() > end_ns:
                break
            if number % REQUEST_EVERY == 0:
                self._accept(blocks=number % BLOCK_EVERY == 0)
            if number % THREAD_EVERY == 0:
                thread = threading.Thread(
                    target=self._in_thread, name=f"batch {next(self._numbers)}"
                )
                thread.start()
                thread.join()
            self._clock.advance()
            self.tick()
            await asyncio.sleep(0)

    async def drain(self) -> None:
        """Wait for the requests that are served."""
        while self._running:
            self._clock.advance()
            await asyncio.sleep(0)

    def _accept(self, *, blocks: bool) -> None:
        number = next(self._numbers)
        task = asyncio.get_running_loop().create_task(
            self._serve(number, blocks), name=_word(number) if self._new else f"request {number}"
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, number: int, blocks: bool) -> None:
        await greenlet_spawn(self._endpoint, number, blocks)

    def _endpoint(self, number: int, blocks: bool) -> None:
        if blocks:
            until = time.monotonic() + BLOCK_S  # for real: what looks at it has no fast clock
            while time.monotonic() < until:
                pass
        await_only(_query(1))
        self._compute(number)
        await_only(_query(2))

    def _compute(self, number: int) -> None:
        self._clock.advance()
        if self._new:
            FunctionType(_new_code(number), {})(self.tick)
        else:
            self.tick()

    def _in_thread(self) -> None:
        asyncio.run(greenlet_spawn(lambda: await_only(_query(1))))


async def _query(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def _new_code(number: int) -> CodeType:
    """A function that was not there before, as template engines make them."""
    text = f"def made_{number}(work):\n    return work()\n"
    module = compile(text, f"<made {number}>", "exec")
    return next(one for one in module.co_consts if isinstance(one, CodeType))


def _word(number: int) -> str:
    """A name that has nothing in common with others, where numbers would be left out of it."""
    letters = []
    for _ in range(8):
        number, letter = divmod(number * 7 + 3, 26)
        letters.append("abcdefghijklmnopqrstuvwxyz"[letter])
    return "".join(letters)


def _nothing() -> None:
    """A tick that does not come."""


def serve(minutes: float, new: bool) -> Result:
    """Run for so many minutes of a fast clock, and note what the process has grown by."""
    steps = 30

    async def main() -> Result:
        with FastClock(RATE_HZ) as clock:
            service = Service(clock, new)
            await service.run(WARM_MINUTES)
            await service.drain()
            gc.collect()
            before = resident()
            session = Session(
                awaits=True,
                timeline=TIMELINE_S,
                block_limit=BLOCK_LIMIT_S,
                max_nodes=FEW_NODES if new else DEFAULT_MAX_NODES,
            )
            with session:
                service.tick = session.ticking(clock)
                rows = []
                ticks = own = 0
                for number in range(1, steps + 1):
                    await service.run(minutes / steps)
                    gc.collect()
                    done, cost = session.ticks, session.own_cpu_ns
                    rows.append(
                        {
                            "minute": minutes * number / steps,
                            "memory": resident() - before,
                            "tick_us": (cost - own) / max(done - ticks, 1) / 1e3,
                        }
                    )
                    ticks, own = done, cost
                service.tick = _nothing
                await service.drain()
            profile = session.profiler.profile
            return {
                "rows": rows,
                "ticks": profile.info.ticks,
                "size": session.size(),
                "memory": rows[-1]["memory"],
                "tick_us": rows[-1]["tick_us"],
                "awaits": sum(stats.count for stats in profile.awaits),
                "blocks": sum(block.count for block in profile.blocks),
                "slices": len(profile.slices),
                "lost_slices": profile.info.lost_slices,
                "groups": len(profile.groups),
                "nodes": len(profile.nodes),
                "over": profile.info.overflow_samples,
                "warnings": list(profile.info.warnings),
            }

    return asyncio.run(main())
