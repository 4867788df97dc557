"""The exact engine by the wall clock: own times add up to the whole, and nothing is there twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import greenback
import pytest

from tests.counted_calls import Counted, assert_counts_agree, count, counting
from tests.running import REPOSITORY, run_python
from tests.test_exact_hubs import HEAD

# Sleeps are as long as they say, or longer on a busy machine.
pytestmark = pytest.mark.flaky(reruns=3)


async def waits(seconds: float) -> None:
    count()
    await asyncio.sleep(seconds)


def blocks(seconds: float) -> None:
    count()
    time.sleep(seconds)


def timed(main: Coroutine[Any, Any, None]) -> tuple[Counted, float]:
    """What was counted of a program, and how long it took, in milliseconds."""
    with counting("wall") as found:
        began = time.monotonic()
        asyncio.run(main)
        took_ms = (time.monotonic() - began) * 1000
    return found(), took_ms


def test_a_portal_that_is_opened_in_a_task_does_not_count_the_task_twice() -> None:
    def sync() -> None:
        count()
        greenback.await_(waits(0.05))
        blocks(0.05)

    async def endpoint() -> None:
        count()
        await greenback.ensure_portal()
        sync()
        await waits(0.1)

    result, took_ms = timed(endpoint())
    assert_counts_agree(result, ["endpoint", "sync", "waits", "blocks"])
    assert 100 <= result.total_ms("sync", clock="wall") <= took_ms
    assert 200 <= result.total_ms("endpoint", clock="wall") <= took_ms
    portal = [one for one in result.profile.samples if "trampoline" in result.names(one)]
    assert sum(one.wall_ns for one in portal) < 50e6


def test_what_consumes_an_asynchronous_generator_is_not_counted_twice() -> None:
    async def inner() -> AsyncIterator[int]:
        count()
        for number in range(4):
            await waits(0.02)
            yield number

    async def outer() -> AsyncIterator[int]:
        count()
        async for number in inner():
            yield number

    async def consumer() -> None:
        count()
        async for _ in outer():
            blocks(0.03)
            await waits(0.02)

    result, took_ms = timed(consumer())
    assert_counts_agree(result, ["inner", "outer", "consumer"])
    assert 280 <= result.total_ms("consumer", clock="wall") <= took_ms
    assert result.total_ms("outer", clock="wall") < 180
    assert result.total_ms("blocks", clock="wall") >= 120


def test_a_generator_that_ends_for_another_function_than_it_began_for() -> None:
    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        count()
        await waits(0.1)
        yield
        await waits(0.05)

    async def user() -> None:
        count()
        async with context():
            await waits(0.02)

    result, took_ms = timed(user())
    assert_counts_agree(result, ["context", "user", "waits"])
    assert 170 <= result.total_ms("user", clock="wall") <= took_ms


def test_who_waits_for_tasks_of_its_own_kind_keeps_its_own_time() -> None:
    async def job(left: int) -> None:
        count()
        time.sleep(0.05)  # noqa: ASYNC251  # its own time is what is measured
        if left:
            await asyncio.gather(job(left - 1), job(left - 1))
        else:
            await waits(0.1)

    with counting("wall") as found:
        asyncio.run(job(1))
    result = found()
    assert_counts_agree(result, ["job", "waits"])
    # 50 ms each, and the wait of the first one for the others, which takes 200 ms.
    assert 350 <= result.self_ms("job", clock="wall") < 450


GEVENT = """
import gevent, time

def leaf():
    count()
    gevent.sleep(0.1)

def parent():
    count()
    time.sleep(0.05)
    gevent.joinall([gevent.spawn(leaf) for _ in range(3)])

with counting("wall") as found:
    began = time.monotonic()
    gevent.spawn(parent).join()
    print((time.monotonic() - began) * 1000, end=" ")
"""
EVENTLET = """
import time, warnings
warnings.simplefilter("ignore")
import eventlet

def leaf():
    count()
    eventlet.sleep(0.1)

def parent():
    count()
    time.sleep(0.05)
    for one in [eventlet.spawn(leaf) for _ in range(3)]:
        one.wait()

with counting("wall") as found:
    began = time.monotonic()
    eventlet.spawn(parent).wait()
    print((time.monotonic() - began) * 1000, end=" ")
"""
TAIL = """
result = found()
assert_counts_agree(result)
main = [index for index, one in enumerate(result.profile.groups) if one.kind == "thread"]
print(sum(one.wall_ns for one in result.profile.samples if one.group in main) / 1e6, end=" ")
print(result.total_ms("leaf", clock="wall"), result.self_ms("parent", clock="wall"))
"""


@pytest.mark.parametrize("program", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])
def test_a_hub_has_no_time_beside_those_it_runs(program: str) -> None:
    finished = run_python("-c", HEAD.format(repository=str(REPOSITORY)) + program + TAIL)
    assert finished.returncode == 0, str(finished)
    took_ms, main_ms, leaf_ms, parent_ms = map(float, finished.stdout.split())
    assert main_ms <= took_ms + 50
    assert 300 <= leaf_ms < 450
    assert parent_ms >= 50
