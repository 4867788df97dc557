"""One code base for both worlds: greenhack's mode "blocking"."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from greenprof import greenhack
from greenprof.errors import OptionError
from greenprof.greenhack import NoLoopError
from tests.running import run_python


@pytest.fixture
def blocking() -> Iterator[None]:
    earlier = greenhack.mode("blocking")
    yield
    greenhack.mode(earlier)
    greenhack.stop_loop()


def fetch_blocking(number: int) -> str:
    return f"blocking {number} in {threading.current_thread().name}"


@greenhack.exempt(blocking=fetch_blocking)
async def fetch(number: int) -> str:
    await asyncio.sleep(0.001)
    return f"async {number}"


@greenhack.exempt
async def load(number: int) -> str:
    await asyncio.sleep(0.001)
    return f"loaded {number} by {asyncio.get_running_loop() is not None}"


def service(number: int) -> str:
    return f"{fetch(number)}, {load(number)}"


def test_the_setting() -> None:
    assert greenhack.mode() == "async"
    assert greenhack.mode("blocking") == "async"
    assert greenhack.mode() == "blocking"
    assert greenhack.mode("async") == "blocking"
    with pytest.raises(OptionError, match="'threads' is no mode of greenhack: use \"async\" or"):
        greenhack.mode("threads")  # type: ignore[arg-type]
    assert greenhack.mode() == "async"


@pytest.mark.usefixtures("blocking")
def test_sync_code_blocks_its_thread() -> None:
    """What has a blocking twin calls that; everything else runs on a loop of the thread's own."""
    assert greenhack.can_await()
    assert service(1) == "blocking 1 in MainThread, loaded 1 by True"
    assert greenhack.await_(asyncio.sleep(0, "awaited")) == "awaited"
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_the_same_code_in_the_other_mode() -> None:
    assert asyncio.run(greenhack.as_async(service)(2)) == "async 2, loaded 2 by True"
    with pytest.raises(NoLoopError):
        greenhack.await_(asyncio.sleep(0))


@pytest.mark.usefixtures("blocking")
def test_functions_stay_plain() -> None:
    """So a framework that asks takes a view for what it then is."""

    @greenhack.as_async
    def view(number: int) -> str:
        """A view."""
        return service(number)

    assert not inspect.iscoroutinefunction(view)
    assert view.__doc__ == "A view."
    assert view(3) == "blocking 3 in MainThread, loaded 3 by True"  # type: ignore[comparison-overlap]
    assert greenhack.await_(view(3)) == "blocking 3 in MainThread, loaded 3 by True"
    assert greenhack.exempt(view)(3) == "blocking 3 in MainThread, loaded 3 by True"


@pytest.mark.usefixtures("blocking")
def test_coroutines_see_no_difference() -> None:
    """Where a loop runs nothing may block: what a coroutine calls there is async as ever."""

    @greenhack.as_async
    def view(number: int) -> str:
        return service(number)

    async def main() -> list[str]:
        made: Any = fetch(4)
        assert inspect.iscoroutine(made)
        assert not greenhack.can_await()
        with pytest.raises(NoLoopError):
            greenhack.await_(asyncio.sleep(0))
        return [await made, await view(4)]

    expected = ["async 4", "async 4, loaded 4 by True"]
    assert asyncio.run(main()) == expected
    assert greenhack.await_(main()) == expected


def test_what_was_decorated_before_is_async_still() -> None:
    view = greenhack.as_async(service)
    greenhack.mode("blocking")
    try:
        assert inspect.iscoroutinefunction(view)
        assert asyncio.run(view(5)) == "async 5, loaded 5 by True"
        assert greenhack.await_(view(5)) == "async 5, loaded 5 by True"
        assert greenhack.exempt(view)(5) == "blocking 5 in MainThread, loaded 5 by True"
    finally:
        greenhack.mode("async")
        greenhack.stop_loop()


@pytest.mark.usefixtures("blocking")
def test_managers_and_iterators_have_twins_as_well() -> None:
    @contextlib.contextmanager
    def blocking_transaction(name: str) -> Iterator[str]:
        yield f"blocking {name}"

    @greenhack.exempt_cm(blocking=blocking_transaction)
    @contextlib.asynccontextmanager
    async def transaction(name: str) -> AsyncIterator[str]:
        yield f"async {name}"

    def blocking_rows(count: int) -> list[str]:
        return ["blocking"] * count

    @greenhack.exempt_it(blocking=blocking_rows)
    async def rows(count: int) -> AsyncIterator[str]:
        for _ in range(count):
            yield "async"

    def work() -> list[str]:
        with transaction("one") as entered:
            return [entered, *rows(2)]

    assert work() == ["blocking one", "blocking", "blocking"]
    greenhack.mode("async")
    assert asyncio.run(greenhack.as_async(work)()) == ["async one", "async", "async"]
    greenhack.mode("blocking")
    with greenhack.exempt_cm(asyncio.timeout)(30):
        assert list(greenhack.exempt_it(counting(3))) == [0, 1, 2]


async def counting(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@pytest.mark.usefixtures("blocking")
def test_threads_wait_side_by_side() -> None:
    """As a server of worker threads does it: each has a loop of its own, which ends with it."""

    def request(number: int) -> tuple[str, int]:
        loop = greenhack.start_loop()
        greenhack.await_(asyncio.sleep(0.05))
        loops.append(loop)
        return service(number), id(loop)

    loops: list[asyncio.AbstractEventLoop] = []
    began = time.monotonic()
    with ThreadPoolExecutor(8, thread_name_prefix="worker") as pool:
        found = list(pool.map(request, range(16)))
    assert time.monotonic() - began < 16 * 0.05
    assert all(
        text.startswith(f"blocking {number} in worker_") for number, (text, _) in enumerate(found)
    )
    assert 2 <= len({loop for _, loop in found}) <= 8
    assert all(loop.is_closed() for loop in loops)


def test_a_program_in_either_world() -> None:
    """The one setting, at the top of what starts the program."""
    program = """
import asyncio, inspect, sys, threading
from greenprof import greenhack
if sys.argv[1] == "wsgi":
    greenhack.mode("blocking")

@greenhack.exempt
async def save(order):
    await asyncio.sleep(0.01)
    return f"saved {order}"

@greenhack.as_async
def view(order):
    return save(order)

if inspect.iscoroutinefunction(view):
    async def serve():
        return await asyncio.gather(*map(view, range(3)))
    print(*asyncio.run(serve()), sep=", ")
else:
    def serve(order):
        found.append(view(order))
    found, threads = [], [threading.Thread(target=serve, args=(order,)) for order in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(*sorted(found), sep=", ")
"""
    for world in ("asgi", "wsgi"):
        finished = run_python("-X", "dev", "-W", "error", "-c", program, world)
        assert (finished.stdout, finished.stderr) == ("saved 0, saved 1, saved 2\n", ""), world
