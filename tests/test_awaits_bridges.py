"""Awaits are counted over every bridge: held against programs that count and time their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import greenback
import pytest
import trio
from greenlet import getcurrent, greenlet
from greenletio import async_
from greenletio import await_ as greenletio_await

from greenprof.profiles import State
from tests import await_programs, raw_bridges
from tests.await_programs import ProgramError, cancelled_thrice, forever
from tests.await_truth import Truth, counting
from tests.raw_bridges import as_async, wait
from tests.running import REPOSITORY, run_python

traced = await_programs.traced
greenletio_loop = raw_bridges.greenletio_loop


# greenback runs what is awaited in the sync greenlet.


class Portal:
    """Sync code below greenback, and what it awaits, two deep."""

    def __init__(self, sleep: Callable[[float], Awaitable[Any]]) -> None:
        self.sleep = sleep
        self.outer, self.leaves, self.errors = Truth(), Truth(), Truth()

    async def leaf(self, number: int) -> None:
        await self.leaves.timed(self.sleep(number % 3 / 1000))

    async def never_suspends(self) -> None:
        pass

    async def fails(self) -> None:
        await self.sleep(0)
        raise ProgramError

    async def between(self, number: int) -> None:
        await self.outer.timed(self._between(number))

    async def _between(self, number: int) -> None:
        await self.sleep(0)
        for at in range(number):
            self.leaves.wait(greenback.await_, self.leaf(at))

    def work(self) -> None:
        for number in (1, 2, 3):
            self.outer.wait(greenback.await_, self.between(number))
            greenback.await_(self.never_suspends())
            with pytest.raises(ProgramError):
                self.errors.wait(greenback.await_, self.fails())

    async def ensured(self) -> None:
        await greenback.ensure_portal()
        self.work()

    async def within(self) -> None:
        async def body() -> None:
            self.work()

        await greenback.with_portal_run(body)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("way", ["ensured", "within"])
@pytest.mark.parametrize("library", [asyncio, trio], ids=["asyncio", "trio"])
def test_greenback(way: str, library: Any) -> None:
    program = Portal(library.sleep)
    with counting(as_samples=True) as counted:
        library.run(getattr(program, way)) if library is trio else asyncio.run(
            getattr(program, way)()
        )
    assert counted.counts() == {"between": 3, "leaf": 6, "never_suspends": 3, "fails": 3}
    program.outer.check(counted.row("between"))
    program.leaves.check(counted.row("leaf"))
    program.errors.check(counted.row("fails"), errors=3)
    assert {row.bridge for row in counted.rows()} == {"greenback"}
    top = counted.row("between").total_ns + counted.row("fails").total_ns
    top += counted.row("never_suspends").total_ns
    assert sum(one.wall_ns for one in counted.samples()) == top
    assert "work" in counted.stack_names(counted.row("between"))


def test_greenback_cancelled() -> None:
    async def work() -> None:
        await greenback.ensure_portal()
        greenback.await_(forever())

    with counting() as counted:
        asyncio.run(cancelled_thrice(work))
    row = counted.row("forever")
    assert (row.count, row.errors, row.cancelled) == (3, 0, 3)


def test_greenback_fifty_tasks_at_once() -> None:
    program = Portal(asyncio.sleep)

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(program.ensured()) for _ in range(50)))

    with counting() as counted:
        asyncio.run(main())
    assert counted.counts() == {"between": 150, "leaf": 300, "never_suspends": 150, "fails": 150}
    program.leaves.check(counted.row("leaf"))


def test_greenback_started_in_mid_await() -> None:
    """What is open when greenback's function is hooked, or put back, is let be."""
    from greenprof.samplers.awaits import AwaitAccount
    from tests.await_truth import Counted

    account = AwaitAccount()
    original = greenback.await_.__code__

    async def nap() -> None:
        await asyncio.sleep(0)

    async def starts() -> None:
        account.start()
        await asyncio.sleep(0)

    async def stops() -> None:
        await asyncio.sleep(0)
        account.stop()

    async def main() -> None:
        await greenback.ensure_portal()
        for one in (starts(), nap(), nap(), stops(), nap()):
            greenback.await_(one)

    try:
        asyncio.run(main())
    finally:
        account.stop()
    assert Counted(account).counts() == {"nap": 2}
    assert greenback.await_.__code__ is original
    assert account.warnings == []


# greenletio, under a loop and with its loop below sync code.


class Greenletio:
    def __init__(self) -> None:
        self.outer, self.leaves = Truth(), Truth()

    async def leaf(self) -> None:
        await self.leaves.timed(asyncio.sleep(0.001))

    def inner(self) -> None:
        for _ in range(3):
            self.leaves.wait(greenletio_await, self.leaf())

    async def between(self) -> None:
        await self.outer.timed(async_(self.inner)())

    def upper(self) -> None:
        for _ in range(2):
            self.outer.wait(greenletio_await, self.between())

    def check(self, counted: Any) -> None:
        self.outer.check(counted.row("between"))
        self.leaves.check(counted.row("leaf"))
        assert {row.bridge for row in counted.rows()} == {"greenletio"}
        assert "inner" in counted.stack_names(counted.row("leaf"))


@pytest.mark.usefixtures("traced")
def test_greenletio_under_a_loop() -> None:
    program = Greenletio()

    async def endpoint() -> None:
        await async_(program.upper)()

    with counting() as counted:
        asyncio.run(endpoint())
    program.check(counted)


@pytest.mark.usefixtures("greenletio_loop", "traced")
def test_greenletio_with_its_loop_below() -> None:
    """The sync code is the root: what it awaits is one unit's, though a task of its own each time."""
    program = Greenletio()
    with counting(repeat_min=8) as counted:
        for _ in range(5):
            program.upper()
    program.check(counted)
    named = {repeat.awaited.rpartition(".")[2] for repeat in counted.repeats()}
    assert "between" in named
    (repeat,) = [one for one in counted.repeats() if one.awaited.endswith("between")]
    assert (repeat.units, repeat.awaits) == (1, 10)


# Raw greenlets, in both directions.


@pytest.mark.usefixtures("traced")
def test_a_loop_above_sync_code() -> None:
    truth = Truth()

    async def leaf(number: int) -> None:
        await truth.timed(asyncio.sleep(number / 1000))
        if number == 2:
            raise ProgramError

    def sync() -> None:
        for number in range(4):
            try:
                truth.wait(wait, leaf(number))
            except ProgramError:
                assert number == 2

    async def main() -> None:
        await asyncio.gather(*(as_async(sync) for _ in range(5)))

    with counting(as_samples=True) as counted:
        asyncio.run(main())
    truth.check(counted.row("leaf"), errors=5)
    row = counted.row("leaf")
    assert row.bridge == "generic"
    assert {"sync", "wait"} <= set(counted.stack_names(row))
    assert sum(one.wall_ns for one in counted.samples()) == row.total_ns
    assert {one.state for one in counted.samples()} == {State.AWAITING}


@pytest.mark.usefixtures("traced")
def test_a_loop_below_sync_code() -> None:
    """The main greenlet is the sync code, and a child runs the loop."""
    truth = Truth()

    async def leaf(number: int) -> int:
        await truth.timed(asyncio.sleep(number / 1000))
        return number

    async def serve() -> None:
        value: Any = None
        main = getcurrent().parent
        assert main is not None
        while True:
            handed = main.switch(value)
            if handed is None:
                return
            value = await handed

    def run_loop() -> None:
        asyncio.run(serve())

    with counting() as counted:
        loop_greenlet = greenlet(run_loop)
        loop_greenlet.switch()
        for number in range(12):
            assert truth.wait(loop_greenlet.switch, leaf(number % 3)) == number % 3
        loop_greenlet.switch(None)
        assert loop_greenlet.dead
    truth.check(counted.row("leaf"))


# gevent and eventlet: waits in the hub. In processes of their own, where a hub stays and patching does.

HEAD = """
import json, sys, time
sys.path.insert(0, {repository!r})
from tests.await_truth import Truth, beside_spans, counting
found = {{}}
def told(counted):
    return [
        [row.awaited, row.site.name.rpartition(".")[2], counted.group(row), row.bridge, row.count,
         row.errors, row.cancelled]
        for row in sorted(counted.rows(), key=lambda row: (row.site.path, row.site.line))
    ]
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"
GEVENT = """
import gevent
from gevent.queue import Queue
outer, waits = Truth(), []
class ProgramError(Exception): pass

def wait(seconds):
    began_ns = time.monotonic_ns()
    gevent.sleep(seconds)
    waits.append(time.monotonic_ns() - began_ns)

def worker(queue):
    for number in range(20):
        wait(number % 3 / 1000)
    queue.put(1)

def killed():
    gevent.sleep(60)

def times_out():
    with gevent.Timeout(0.01, False):
        gevent.sleep(60)

def plain():
    pass

with beside_spans({traced}), counting(as_samples=True) as counted:
    queue = Queue()
    workers = [gevent.spawn(worker, queue) for _ in range(10)]
    victim = gevent.spawn(killed)
    late = gevent.spawn(times_out)
    gevent.spawn(plain)
    for _ in workers:
        queue.get()
    gevent.joinall([*workers, late])
    victim.kill()
    found["rows"] = told(counted)
    (row,) = [row for row in counted.rows() if row.site.name == "wait"]
    outer.outer_ns, outer.inner_ns = waits, [0] * len(waits)
    outer.check(row)
    found["samples"] = sum(one.wall_ns for one in counted.samples())
    found["total"] = sum(row.total_ns for row in counted.rows())
    found["repeats"] = [
        [one.site.name, one.units, one.awaits, one.most]
        for one in counted.repeats() if one.site.name == "wait"
    ]
    kept = list(counted.account._units.known)
    del workers, victim, late
    import gc; gc.collect()
    gevent.sleep(0)
    found["units"] = len(counted.account._units.known)
print(json.dumps(found))
"""


def run_program(body: str, *, before: str = "") -> dict[str, Any]:
    head = HEAD.format(repository=str(REPOSITORY))
    finished = run_python("-c", before + head + body)
    assert finished.stderr == "", str(finished)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.parametrize("before", ["", PATCHED], ids=["unpatched", "patched"])
@pytest.mark.parametrize("traced", [False, True], ids=["alone", "with spans"])
def test_gevent(before: str, traced: bool) -> None:
    found = run_program(GEVENT.replace("{traced}", str(traced)), before=before)
    by_function = {row[1]: row for row in found["rows"] if row[1] != "<module>"}
    assert by_function["wait"][0] == "gevent.hub.sleep"
    assert by_function["wait"][2:] == ["worker", "gevent", 200, 0, 0]
    assert by_function["killed"][4:] == [1, 0, 1]
    assert by_function["times_out"][4] == 1
    assert sum(by_function["times_out"][5:]) == 1
    assert "plain" not in by_function
    assert found["repeats"] == [["wait", 10, 200, 20]]
    # Nobody waits inside of somebody else's wait.
    assert found["samples"] == found["total"]
    # The main greenlet's own stays.
    assert found["units"] <= 2


EVENTLET = """
import warnings
warnings.simplefilter("ignore")
import eventlet
waits, truth = [], Truth()

def wait(seconds):
    began_ns = time.monotonic_ns()
    eventlet.sleep(seconds)
    waits.append(time.monotonic_ns() - began_ns)

def worker():
    for number in range(12):
        wait(number % 3 / 1000)

with beside_spans({traced}), counting() as counted:
    for one in [eventlet.spawn(worker) for _ in range(10)]:
        one.wait()
    (row,) = [row for row in counted.rows() if row.site.name == "wait"]
    truth.outer_ns, truth.inner_ns = waits, [0] * len(waits)
    truth.check(row)
    found["rows"] = told(counted)
    found["repeats"] = [
        [one.site.name, one.units, one.awaits, one.most]
        for one in counted.repeats() if one.site.name == "wait"
    ]
print(json.dumps(found))
"""


@pytest.mark.parametrize("traced", [False, True], ids=["alone", "with spans"])
def test_eventlet(traced: bool) -> None:
    found = run_program(EVENTLET.replace("{traced}", str(traced)))
    (row,) = [row for row in found["rows"] if row[1] == "wait"]
    assert row[2:] == ["worker", "eventlet", 120, 0, 0]
    assert found["repeats"] == [["wait", 10, 120, 12]]
