"""Await accounting: held against programs that count and time their own awaits."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import threading
import types
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy.util import concurrency, greenlet_spawn

import greenprof
from greenprof import durations, switches
from greenprof.frames import FrameTable
from greenprof.profiles import ProfileBuilder, ProfileInfo, State
from greenprof.samplers import units
from greenprof.samplers.awaits import AwaitAccount
from tests.await_truth import Counted, Truth, beside_spans, counting
from tests.running import REPOSITORY, run_python

# 2.1 renamed it.
await_: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only


@pytest.fixture(params=[False, True], ids=["alone", "with spans"])
def traced(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Both without and with a tracer that makes spans of the same awaits."""
    with beside_spans(request.param):
        yield request.param


async def nap(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


class ProgramError(Exception):
    """The program's own."""


@pytest.mark.usefixtures("traced")
def test_count_times_and_percentiles() -> None:
    """Every number of a row lies between what the program measured outside and inside."""
    truth = Truth()

    async def operation(seconds: float) -> None:
        await truth.timed(asyncio.sleep(seconds))

    def load() -> None:
        for number in range(60):
            truth.wait(await_, operation(0.0002 * (number % 12)))

    with counting() as counted:
        asyncio.run(greenlet_spawn(load))
    row = counted.row("operation")
    truth.check(row)
    # The line is the helper's: the innermost of the program's own, and its stack ends there.
    assert row.site.name == "Truth.wait"
    assert counted.stack_names(row)[-2:] == ["load", "wait"]
    assert row.bridge == "sqlalchemy"


@pytest.mark.usefixtures("traced")
def test_the_line_the_group_and_the_stack_above() -> None:
    def first() -> None:
        await_(nap())

    def second() -> None:
        await_(nap())
        await_(nap())

    async def endpoint() -> None:
        await greenlet_spawn(first)
        await greenlet_spawn(second)

    async def main() -> None:
        await asyncio.create_task(endpoint(), name="endpoint 7")

    with counting() as counted:
        asyncio.run(main())
    rows = sorted(counted.rows(), key=lambda row: row.site.line)
    lines = (first.__code__.co_firstlineno, second.__code__.co_firstlineno)
    assert [row.site.line for row in rows] == [lines[0] + 1, lines[1] + 1, lines[1] + 2]
    assert [counted.group(row) for row in rows] == ["endpoint {}"] * 3
    assert "endpoint" in counted.stack_names(rows[0])
    assert rows[0].awaited == "tests.test_awaits_account.nap"


@pytest.mark.parametrize("named_first", [False, True])
def test_many_tasks_keep_their_names(named_first: bool) -> None:
    """Those with a name and those without, of one kind, also where not each is looked at whole."""

    def load() -> None:
        await_(nap())

    async def endpoint() -> None:
        await greenlet_spawn(load)

    async def main() -> None:
        for number in range(200):
            name = f"job {number}" if (number % 2 == 0) is named_first else None
            for one in (greenlet_spawn(load), endpoint()):
                await asyncio.create_task(one, name=name)

    with counting() as counted:
        asyncio.run(main())
    found = Counter[str]()
    for row in counted.rows():
        found[counted.group(row).rpartition(".")[2]] += row.count
    # Who waits for a task stands above the bridge's function, which is no name.
    assert found == {"job {}": 200, "main": 100, "endpoint": 100}


@pytest.mark.usefixtures("traced")
def test_one_line_that_awaits_several_operations() -> None:
    """Rows are told apart by what was awaited, also below one line."""

    async def one() -> None:
        await asyncio.sleep(0)

    async def other() -> None:
        await asyncio.sleep(0)

    def load() -> None:
        for kind in (one, other, one):
            await_(kind())
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await_(future)

    with counting() as counted:
        asyncio.run(greenlet_spawn(load))
    assert counted.counts() == {"one": 2, "other": 1, "Future": 1}


class Hostile:
    """An awaitable that fails whoever looks at it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    def __await__(self) -> Any:
        return asyncio.sleep(0).__await__()


@types.coroutine
def by_generator() -> Any:
    yield from asyncio.sleep(0).__await__()


@pytest.mark.usefixtures("traced")
def test_awaitables_of_any_kind() -> None:
    """Each counts once, whatever it is."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    def load() -> None:
        await_(Hostile())
        await_(by_generator())
        iterator = numbers()
        for _ in range(3):
            await_(iterator.__anext__())
        await_(asyncio.gather(nap(), nap()))
        await_(asyncio.ensure_future(nap()))
        await_(asyncio.wait_for(nap(), 60))
        with pytest.raises(StopAsyncIteration):
            await_(iterator.__anext__())

    with counting() as counted:
        asyncio.run(greenlet_spawn(load))
    expected = {"?": 1, "by_generator": 1, "numbers": 4, "gather": 1, "nap": 1, "wait_for": 1}
    assert counted.counts() == expected
    assert sum(row.errors for row in counted.rows()) == 1


def test_recursion_to_its_limit() -> None:
    """The program gets as deep as it would, and what there was no room for is said."""

    def deep(level: int) -> int:
        try:
            await_(nap())
            return deep(level + 1)
        except RecursionError:
            return level

    account = AwaitAccount()
    account.start()
    try:
        reached = asyncio.run(greenlet_spawn(deep, 0))
    finally:
        account.stop()
    assert reached > 500
    lost = sum(int(text.rpartition("(")[2].split()[0]) for text in account.warnings)
    assert reached - 3 <= sum(Counted(account).counts().values()) + lost <= reached + 1
    assert all("RecursionError" in text for text in account.warnings)


def test_more_tasks_than_are_looked_at_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their awaits are counted; only repeats are not looked for."""
    monkeypatch.setattr(units, "MAX_UNITS", 10)

    def load() -> None:
        for _ in range(12):
            await_(nap())

    async def main() -> None:
        await asyncio.gather(*(greenlet_spawn(load) for _ in range(30)))

    with counting(as_samples=True) as counted:
        asyncio.run(main())
    assert counted.counts() == {"nap": 360}
    (repeat,) = counted.repeats()
    assert repeat.units <= 10
    (row,) = counted.rows()
    assert sum(sample.wall_ns for sample in counted.samples()) == row.total_ns


@pytest.mark.usefixtures("traced")
def test_errors_and_cancellations() -> None:
    truth = Truth()

    async def operation(how: str) -> None:
        if how == "raises at once":
            raise ProgramError
        await asyncio.sleep(0)
        if how == "raises":
            raise ProgramError
        if how == "cancels itself":
            raise asyncio.CancelledError
        if how == "forever":
            await asyncio.Event().wait()

    def load(how: str) -> None:
        truth.wait(await_, operation(how))

    async def main() -> None:
        for how in ("returns", "raises", "raises at once", "raises", "cancels itself"):
            task = asyncio.create_task(greenlet_spawn(load, how))
            await asyncio.wait([task])
        for _ in range(3):
            task = asyncio.create_task(greenlet_spawn(load, "forever"))
            await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(greenlet_spawn(load, "forever"), 0.005)

    truth.inner_ns = [0] * 9
    with counting() as counted:
        asyncio.run(main())
    # A task whose root is the bridge's goes by the function that waits for it.
    assert {counted.group(row).rpartition(".")[2] for row in counted.rows()} == {"main"}
    assert sum(row.count for row in counted.rows()) == 9
    assert sum(row.errors for row in counted.rows()) == 3
    assert sum(row.cancelled for row in counted.rows()) == 5
    assert sum(row.total_ns for row in counted.rows()) <= sum(truth.outer_ns)


@pytest.mark.usefixtures("traced")
def test_awaits_inside_of_awaits() -> None:
    """Each counts by itself; as samples, their time counts once."""
    outer, middle, inner = Truth(), Truth(), Truth()

    async def leaf() -> None:
        await inner.timed(asyncio.sleep(0.004))

    def deepest() -> None:
        for _ in range(2):
            inner.wait(await_, leaf())

    async def between() -> None:
        await middle.timed(greenlet_spawn(deepest))

    def upper() -> None:
        middle.wait(await_, between())

    async def root() -> None:
        await outer.timed(greenlet_spawn(upper))
        await asyncio.sleep(0.002)

    def outermost() -> None:
        outer.wait(await_, root())

    with counting(as_samples=True) as counted:
        asyncio.run(greenlet_spawn(outermost))
    # One helper's line awaits all three: they are told apart by what was awaited.
    outer.check(counted.row("root"))
    middle.check(counted.row("between"))
    inner.check(counted.row("leaf"))
    samples = counted.samples()
    assert {sample.state for sample in samples} == {State.AWAITING}
    total_ns = sum(sample.wall_ns for sample in samples)
    assert total_ns == counted.row("root").total_ns
    by_name = {
        counted.profile().stack(one.stack)[-1].name.rpartition(".")[2]: one.wall_ns
        for one in samples
    }
    assert by_name["leaf"] == counted.row("leaf").total_ns
    between_ns = counted.row("between").total_ns
    assert by_name["between"] == between_ns - counted.row("leaf").total_ns
    assert by_name["root"] == counted.row("root").total_ns - between_ns


def test_deep_nests_and_long_loops_count_once_as_samples() -> None:
    """More awaits inside of one than are remembered apart, and nests inside of those."""

    async def level(depth: int) -> None:
        if depth:
            await greenlet_spawn(loop, depth - 1)
        else:
            await asyncio.sleep(0)

    def loop(depth: int) -> None:
        for _ in range((3, 150, 2, 2)[depth]):
            await_(level(depth))

    def top() -> None:
        await_(level(4))

    with counting(as_samples=True) as counted:
        asyncio.run(greenlet_spawn(top))
    outermost = max(row.total_ns for row in counted.rows())
    assert counted.counts() == {"level": 1 + 2 + 4 + 600 + 1800}
    (top_row,) = [row for row in counted.rows() if row.site.name.endswith("top")]
    assert top_row.count == 1
    assert top_row.total_ns <= outermost
    assert sum(sample.wall_ns for sample in counted.samples()) == top_row.total_ns


@pytest.mark.usefixtures("traced")
def test_fifty_tasks_at_once() -> None:
    """The sum of the counts is the program's own, by operation, line and outcome."""
    truth: Counter[str] = Counter()
    dice = random.Random(5)

    async def read(seconds: float) -> None:
        truth["read"] += 1
        await asyncio.sleep(seconds)

    async def write(seconds: float) -> None:
        truth["write"] += 1
        await asyncio.sleep(seconds)
        truth["errors"] += 1
        raise ProgramError

    def sync(number: int) -> None:
        for at in range(number % 9):
            await_(read(dice.random() / 500))
            if at % 2:
                with pytest.raises(ProgramError):
                    await_(write(dice.random() / 500))

    async def request(number: int) -> None:
        await greenlet_spawn(sync, number)
        await asyncio.sleep(0)
        await greenlet_spawn(sync, number + 1)

    async def main() -> None:
        await asyncio.gather(*map(request, range(50)))

    with counting() as counted:
        asyncio.run(main())
    assert counted.counts() == {"read": truth["read"], "write": truth["write"]}
    assert truth["read"] == sum(n % 9 + (n + 1) % 9 for n in range(50))
    rows = counted.rows()
    assert len(rows) == 2
    assert sum(row.errors for row in rows) == truth["errors"] == truth["write"]


def test_threads_with_loops_of_their_own() -> None:
    """Threads that count at once lose nothing, and a thread started before is not followed."""
    number, each = 6, 150
    barrier = threading.Barrier(number)

    async def operation() -> None:
        await asyncio.sleep(0)

    def load() -> None:
        for _ in range(each):
            await_(operation())

    def work() -> None:
        barrier.wait()
        asyncio.run(greenlet_spawn(load))

    with counting() as counted:
        threads = [threading.Thread(target=work) for _ in range(number)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert counted.counts() == {"operation": number * each}
    (row,) = counted.rows()
    assert row.total_ns > 0
    (repeat,) = counted.repeats()
    assert (repeat.units, repeat.awaits, repeat.most) == (number, number * each, each)


def test_two_accounts_at_once() -> None:
    def load() -> None:
        for _ in range(5):
            await_(nap())

    with counting() as one:
        asyncio.run(greenlet_spawn(load))
        with counting() as other:
            asyncio.run(greenlet_spawn(load))
        asyncio.run(greenlet_spawn(load))
    assert one.counts() == {"nap": 15}
    assert other.counts() == {"nap": 5}


def test_more_sites_than_there_is_room_for() -> None:
    """What is over the cap is counted as lost, and what was there goes on counting."""
    source = "def load(await_, nap):\n" + "    await_(nap())\n" * 30
    names: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), names)

    def twice() -> None:
        names["load"](await_, nap)
        names["load"](await_, nap)

    with counting(max_sites=12) as counted:
        asyncio.run(greenlet_spawn(twice))
    assert [row.count for row in counted.rows()] == [2] * 12
    assert counted.account.lost == 36


def test_functions_made_anew_each_time_stay_apart() -> None:
    """Ids are used again: a row holds its code, so that another function never takes its place."""

    def make(number: int) -> Callable[[], None]:
        names: dict[str, Any] = {"await_": await_, "nap": nap}
        exec(compile(f"def made_{number}(): await_(nap())", __file__, "exec"), names)
        function: Callable[[], None] = names[f"made_{number}"]
        return function

    def load() -> None:
        for number in range(200):
            make(number)()

    with counting() as counted:
        asyncio.run(greenlet_spawn(load))
    assert sorted(row.site.name for row in counted.rows()) == sorted(
        f"made_{number}" for number in range(200)
    )
    assert {row.count for row in counted.rows()} == {1}


def test_a_snapshot_while_it_counts() -> None:
    seen: list[int] = []

    def load(profiler: greenprof.Profiler) -> None:
        for _ in range(5):
            await_(nap())
            seen.append(sum(stats.count for stats in profiler.snapshot().awaits))

    profiler = greenprof.Profiler(awaits=True)
    with profiler:
        asyncio.run(greenlet_spawn(load, profiler))
    assert seen == [1, 2, 3, 4, 5]
    assert sum(stats.count for stats in profiler.profile.awaits) == 5


def test_snapshots_from_another_thread() -> None:
    """Counts only grow, and none is torn: each has as many durations as awaits in the end."""
    over = threading.Event()
    seen: list[int] = []

    def load() -> None:
        for _ in range(2000):
            await_(nap())

    with counting() as counted:

        def look() -> None:
            while not over.is_set():
                seen.append(sum(counted.counts().values()))

        looking = threading.Thread(target=look)
        looking.start()
        asyncio.run(greenlet_spawn(load))
        over.set()
        looking.join()
    assert seen == sorted(seen)
    assert counted.counts() == {"nap": 2000}
    (row,) = counted.rows()
    assert sum(row.durations.values()) == 2000


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


def test_off_by_option() -> None:
    def load() -> None:
        for _ in range(20):
            await_(nap())

    with greenprof.profile(awaits=False) as profiler:
        asyncio.run(greenlet_spawn(load))
    assert profiler.profile.awaits == []
    assert profiler.profile.repeats == []


def test_saved_and_merged(tmp_path: Any) -> None:
    """Rows of two runs add up, and a file keeps every number."""

    def load() -> None:
        for _ in range(12):
            await_(nap())

    found = []
    for name in ("one", "other"):
        with greenprof.profile() as profiler:
            asyncio.run(greenlet_spawn(load))
        profiler.profile.save(tmp_path / f"{name}.gprof")
        found.append(greenprof.Profile.load(tmp_path / f"{name}.gprof"))
        (kept,), (saved,) = profiler.profile.awaits, found[-1].awaits
        assert saved == kept
    merged = greenprof.Profile.merge(found)
    (stats,) = merged.awaits
    assert (stats.count, sum(stats.durations.values())) == (24, 24)
    assert stats.total_ns == sum(one.awaits[0].total_ns for one in found)
    (repeat,) = merged.repeats
    assert (repeat.units, repeat.awaits, repeat.most) == (2, 24, 12)


def test_an_observer_is_told_of_each() -> None:
    """The one who waited, its thread, start and end, and a site that `placed_site` knows."""
    told: list[tuple[Any, int, int, int, int]] = []
    account = AwaitAccount()
    account.observer = lambda owner, ident, start_ns, end_ns, site: told.append(
        (owner.get_name(), ident, start_ns, end_ns, site)
    )

    def load() -> None:
        for _ in range(3):
            await_(nap())

    async def main() -> None:
        await asyncio.create_task(greenlet_spawn(load), name="observed")

    account.start()
    try:
        asyncio.run(main())
    finally:
        account.stop()
    assert {(name, ident) for name, ident, *_ in told} == {("observed", threading.get_ident())}
    builder = ProfileBuilder()
    account.fill(builder, FrameTable(), 0)
    profile = builder.build(ProfileInfo())
    (stats,) = profile.awaits
    assert sum(end - start for _, _, start, end, _ in told) == stats.total_ns
    group, _, awaited = account.placed_site(told[0][4])
    assert (profile.groups[group].name, awaited) == (
        "observed",
        "tests.test_awaits_account.nap",
    )
    assert account.placed_site(99) == (0, -1, "")


def test_buckets_are_three_percent_wide() -> None:
    """Sixteen to an octave: a bucket's middle is at most 1/33 off anything in it."""
    dice = random.Random(3)
    for _ in range(2000):
        value = round(10 ** dice.uniform(0, 12))
        low, high = durations.bounds_of(durations.bucket_of(value))
        assert low <= value <= high
        assert abs((low + high) // 2 - value) <= 0.0313 * value
