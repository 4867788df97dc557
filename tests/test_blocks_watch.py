"""`watch_blocks`: loop blockers in production, without a profiler; starts, stops, forks and ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any
from weakref import ref

import pytest

import greenprof
from greenprof.blocking import BlockInfo, BlockWatch, watch_blocks
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.samplers.ticker import Ticker, own_threads
from tests.blocking_programs import LIMIT_S, burn, watching
from tests.running import REPOSITORY, run_python

pytestmark = pytest.mark.flaky(reruns=3)


def computes() -> None:
    burn(2 * LIMIT_S)


async def blocks_once() -> None:
    await asyncio.sleep(0)
    computes()
    await asyncio.sleep(0)


def test_start_and_stop_again_and_again() -> None:
    found: list[BlockInfo] = []
    watch = watch_blocks(LIMIT_S, found.append)
    running = [watch.running]
    for number in range(1, 4):
        assert watch.start() is watch
        running.append(watch.running)
        asyncio.run(blocks_once())
        watch.stop()
        watch.stop()
        running.append(watch.running)
        assert len(found) == number
    assert running == [False, *(3 * [True, False])]
    asyncio.run(blocks_once())
    assert len(found) == 3
    assert {one.loop for one in found} == {"asyncio"}
    assert all(type(one) is BlockInfo for one in found)


def test_with_and_async_with() -> None:
    found: list[BlockInfo] = []

    async def main() -> None:
        async with watch_blocks(LIMIT_S, found.append) as watch:
            assert watch.running
            await blocks_once()

    with watch_blocks(LIMIT_S, found.append):
        asyncio.run(blocks_once())
    asyncio.run(main())
    assert len(found) == 2


def test_the_callback_runs_in_a_thread_of_greenprofs_while_the_program_goes_on() -> None:
    told = threading.Event()
    threads: list[int] = []

    def report(_: BlockInfo) -> None:
        threads.append(threading.get_ident())
        told.set()

    async def main() -> bool:
        await blocks_once()
        return await asyncio.to_thread(told.wait, 20)

    with watch_blocks(LIMIT_S, report):
        assert asyncio.run(main())
    assert threads[0] != threading.get_ident()
    assert own_threads == set()


def test_a_watch_that_runs_cannot_be_started() -> None:
    with (
        watch_blocks() as watch,
        pytest.raises(ProfilerStateError, match=r"^this watch runs already: stop it"),
    ):
        watch.start()


def test_limits_are_looked_at_before_the_start() -> None:
    with pytest.raises(OptionError, match=r"^the limit is -1: give seconds"):
        watch_blocks(-1)


def test_several_at_once_with_limits_of_their_own() -> None:
    short: list[BlockInfo] = []
    long: list[BlockInfo] = []
    with watch_blocks(LIMIT_S, short.append), watch_blocks(3 * LIMIT_S, long.append):
        asyncio.run(blocks_once())
    assert len(short) == 1
    assert all(one.duration >= 3 * LIMIT_S for one in long)


def test_beside_a_profiler() -> None:
    found: list[BlockInfo] = []
    with greenprof.profile(200) as p, watch_blocks(LIMIT_S, found.append):
        asyncio.run(blocks_once())
    assert [one.function.rpartition(".")[2] for one in found] == ["burn"]
    frames = p.profile.frames
    assert not [frame for frame in frames if "samplers/steps.py" in frame.path]


def test_nothing_of_the_program_is_kept_alive() -> None:
    class Payload:
        pass

    async def main() -> list[ref[Any]]:
        payload = Payload()

        async def blocks(_: Payload) -> None:
            await asyncio.sleep(0)
            computes()

        task = asyncio.create_task(blocks(payload))
        await task
        found: list[ref[Any]] = [ref(payload), ref(task)]
        return found

    with watching() as watched:
        references = asyncio.run(main())
        until = time.monotonic() + 20
        while len(watched.told) < 1 and time.monotonic() < until:
            time.sleep(0.01)
        watched.observed.clear()
        gc.collect()
        assert [one() for one in references] == [None, None]
    assert len(watched.told) == 1


def test_random_programs_are_reported_as_they_were() -> None:
    """What is well over the limit is told of, what is well under it is not, in any order."""
    import random

    rng = random.Random(11)
    plan = [rng.choice((0.2, 0.5, 2.0, 3.0)) for _ in range(24)]

    async def step(limits: float) -> None:
        await asyncio.sleep(rng.uniform(0, 0.01))
        time.sleep(limits * LIMIT_S)  # noqa: ASYNC251  # that is what is looked for

    async def main() -> None:
        for limits in plan:
            await step(limits)

    with watching() as watched:
        asyncio.run(main())
    over = [limits for limits in plan if limits > 1]
    assert len(watched.told) == len(over)
    for one, limits in zip(watched.told, over, strict=True):
        assert limits <= one.duration / LIMIT_S < 2 * limits


def test_a_ticker_comes_round_and_at_once_when_it_is_woken() -> None:
    times: list[float] = []
    woken = threading.Event()

    def tick() -> None:
        times.append(time.monotonic())
        woken.set()

    ticker = Ticker(tick, 30)
    ticker.start()
    ticker.start()
    try:
        assert not times
        ticker.wake()
        assert woken.wait(20)
        assert len(own_threads) == 1
    finally:
        ticker.stop()
    ticker.stop()
    ticker.wake()
    assert len(times) == 1
    assert own_threads == set()


def run_program(body: str, *options: str) -> list[str]:
    head = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import asyncio, os, time
from greenprof.blocking import watch_blocks
from tests.blocking_programs import LIMIT_S, burn
async def blocks_once():
    await asyncio.sleep(0)
    burn(2 * LIMIT_S)
def report(one):
    print(one.function, flush=True)
"""
    finished = run_python("-W", "always", *options, "-c", head + body)
    assert finished.stderr == "", str(finished)
    return finished.stdout.split()


def test_the_program_may_end_while_it_is_watched() -> None:
    """Also in the middle of a block, which is then reported as it stands."""
    assert run_program("""
watch_blocks(LIMIT_S, report).start()
async def ends():
    await asyncio.sleep(0)
    burn(2 * LIMIT_S)
    sys.exit(0)
asyncio.run(ends())
""") == ["burn"]


def test_forked_children_are_not_watched_and_may_watch_themselves() -> None:
    """Python >= 3.12 warns of forks with several threads: ours has gone by then."""
    assert run_program("""
found = []
watch = watch_blocks(LIMIT_S, found.append).start()
asyncio.run(blocks_once())
pid = os.fork()
if pid == 0:
    assert not watch.running
    asyncio.run(blocks_once())
    own = []
    with watch_blocks(LIMIT_S, own.append):
        asyncio.run(blocks_once())
    print("child", len(own), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
asyncio.run(blocks_once())
watch.stop()
print("parent", len(found))
""") == ["child", "1", "parent", "2"]


def test_gevent_may_patch_everything() -> None:
    assert run_program("""
from gevent import monkey; monkey.patch_all()
import gevent
def blocks():
    gevent.sleep(0)
    burn(2 * LIMIT_S)
with watch_blocks(LIMIT_S, report):
    gevent.spawn(blocks).join()
""") == ["burn"]


def test_the_class_behind_it() -> None:
    assert type(watch_blocks()) is BlockWatch
