"""Await accounting from its start to its stop: what it keeps, and what it outlives."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import weakref
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof import switches
from greenprof.samplers.awaits import AwaitAccount
from tests.await_programs import ProgramError, nap
from tests.await_truth import Counted, counting
from tests.running import REPOSITORY, run_python
from tests.sqlalchemy_programs import await_


def test_started_and_stopped_in_the_middle() -> None:
    """What began before the start is not counted, nor what ends after the stop."""
    account = AwaitAccount()
    counted = Counted(account)

    async def starts() -> None:
        account.start()
        await asyncio.sleep(0)

    async def stops() -> None:
        await asyncio.sleep(0)
        account.stop()
        await asyncio.sleep(0)

    def load() -> None:
        await_(starts())
        await_(nap())
        await_(nap())
        await_(stops())
        await_(nap())

    try:
        asyncio.run(greenlet_spawn(load))
    finally:
        account.stop()
    assert counted.counts() == {"nap": 2}
    account.stop()
    assert account.warnings == []
    assert not switches.following()


def test_stopped_in_another_thread() -> None:
    account = AwaitAccount()
    started, stopped = threading.Event(), threading.Event()

    async def until_stopped() -> None:
        started.set()
        await asyncio.to_thread(stopped.wait)

    def load() -> None:
        await_(nap())
        await_(until_stopped())
        await_(nap())

    thread = threading.Thread(target=lambda: asyncio.run(greenlet_spawn(load)))
    account.start()
    thread.start()
    started.wait()
    account.stop()
    stopped.set()
    thread.join()
    assert Counted(account).counts() == {"nap": 1}
    assert account.warnings == []


def test_nothing_is_kept() -> None:
    """Tasks, greenlets, coroutines, results and errors go when the program lets go of them."""

    class Result:
        pass

    kept: list[weakref.ref[Any]] = []

    async def operation(result: Result) -> Result:
        await asyncio.sleep(0)
        return result

    async def fails(error: ProgramError) -> None:
        await asyncio.sleep(0)
        raise error

    def load() -> None:
        kept.append(weakref.ref(getcurrent()))
        for _ in range(3):
            given = operation(Result())
            kept.append(weakref.ref(given))
            result = await_(given)
            kept.append(weakref.ref(result))
        error = ProgramError()
        kept.append(weakref.ref(error))
        with pytest.raises(ProgramError):
            await_(fails(error))

    async def main() -> None:
        tasks = [asyncio.create_task(greenlet_spawn(load)) for _ in range(4)]
        kept.extend(map(weakref.ref, tasks))
        await asyncio.wait(tasks)
        for one in tasks:
            one.result()

    with counting(as_samples=True) as counted:
        asyncio.run(main())
        gc.collect()
        alive = [one() for one in kept if one() is not None]
        assert alive == []
        assert counted.counts() == {"operation": 12, "fails": 4}
    assert counted.account.open.keys() <= {0}


def test_memory_does_not_grow_with_the_number_of_tasks() -> None:
    def load() -> None:
        await_(nap())

    async def many(number: int) -> None:
        for _ in range(number):
            await asyncio.create_task(greenlet_spawn(load))

    with counting() as counted:
        asyncio.run(many(300))
        # The last one that ended is seen at the next await.
        assert len(counted.account._units.known) <= 2
        assert counted.counts() == {"nap": 300}


def test_a_waiter_that_never_returns_is_forgotten() -> None:
    """Greenlets that are dropped in the middle of an await, and tasks that nobody finishes."""

    def load() -> None:
        await_(asyncio.Event().wait())

    async def main() -> None:
        for _ in range(20):
            task = asyncio.create_task(greenlet_spawn(load))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    with counting() as counted:
        asyncio.run(main())
    assert sum(row.count for row in counted.rows()) == 20
    assert sum(row.cancelled for row in counted.rows()) == 20


# Strikes in our own code only, where each has to go through to the program: what asyncio makes of one that
# hits its own is not what is asked here.
STRUCK = """
import asyncio, json, signal, sys, time
sys.path.insert(0, {repository!r})
from sqlalchemy.util import concurrency, greenlet_spawn
from greenprof import switches
from tests.await_truth import Counted
from greenprof.samplers.awaits import AwaitAccount

await_ = getattr(concurrency, "await_", None) or concurrency.await_only
raised = received = awaits = 0
striking = True

class Struck(Exception):
    pass

def handler(_, frame):
    global raised
    if striking and "/greenprof/" in frame.f_code.co_filename:
        raised += 1
        raise Struck

def go_on(error):
    global received, striking
    striking = False
    while error is not None:  # a second one may come while the first is on its way
        received += isinstance(error, Struck)
        error = error.__context__
    switches.adopt_thread().check()
    striking = True

async def nap():
    await asyncio.sleep(0)

async def quiet_nap():
    await asyncio.sleep(0)

def load(until):
    global awaits
    while time.monotonic() < until:
        try:
            while time.monotonic() < until:
                awaits += 1
                await_(nap())
        except Struck as error:
            go_on(error)

def quiet():
    for _ in range(25):
        await_(quiet_nap())

async def main():
    until = time.monotonic() + 4
    while time.monotonic() < until:
        try:
            await asyncio.create_task(greenlet_spawn(load, time.monotonic() + 0.05))
        except Struck as error:
            go_on(error)

signal.signal(signal.SIGALRM, handler)
account = AwaitAccount(as_samples=True)
account.start()
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.00037)
asyncio.run(main())
signal.setitimer(signal.ITIMER_REAL, 0)
counted = Counted(account)
earlier = counted.counts()["nap"]
asyncio.run(greenlet_spawn(quiet))
account.stop()
print(json.dumps(dict(
    raised=raised, received=received, awaits=awaits, earlier=earlier, counts=counted.counts(),
    lines=[[row.site.name, row.awaited, row.site.line - row.site.first_line] for row in counted.rows()],
    torn=[sum(row.durations.values()) - row.count for row in counted.rows()],
    warnings=account.warnings, following=switches.following(),
)))
"""


def test_a_signal_handler_that_raises_in_the_middle() -> None:
    """Whatever it hits, it reaches the program, nothing is damaged, and counting goes on."""
    finished = run_python("-c", STRUCK.format(repository=str(REPOSITORY)))
    assert finished.stderr == "", str(finished)
    found = json.loads(finished.stdout)
    assert found["raised"] == found["received"] > 50
    counts = found["counts"]
    assert counts == {"nap": found["earlier"], "quiet_nap": 25}
    # A strike may cost the await that it hits, and those until the tracer is back.
    assert found["awaits"] - 3 * found["raised"] <= found["earlier"] <= found["awaits"]
    assert sorted(found["lines"]) == [
        ["load", "nap", 6],
        ["quiet", "quiet_nap", 2],
    ]
    assert all(abs(number) <= found["raised"] for number in found["torn"])
    assert found["warnings"] == []
    assert not found["following"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Python 3.x with os.fork")
def test_a_forked_child_forgets() -> None:
    """The parent goes on counting; a child counts for itself if it starts a profiler of its own."""

    def load() -> None:
        await_(nap())

    profiler = greenprof.Profiler()
    with profiler:
        asyncio.run(greenlet_spawn(load))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(greenlet_spawn(load))
                own = greenprof.Profiler()
                with own:
                    asyncio.run(greenlet_spawn(load))
                    asyncio.run(greenlet_spawn(load))
                code = 0 if sum(one.count for one in own.profile.awaits) == 2 else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        asyncio.run(greenlet_spawn(load))
    assert os.waitstatus_to_exitcode(status) == 0
    assert sum(one.count for one in profiler.profile.awaits) == 2
