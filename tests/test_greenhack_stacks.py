"""greenprof's tools on greenhack's bridge: whole stacks, spans, awaits and call trees, both ways round."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from greenlet import getcurrent

import greenprof
from greenprof import greenhack
from greenprof.profiles import FrameKind, Profile, State
from tests import span_trees
from tests.await_programs import cancelled_thrice, forever
from tests.await_truth import Truth, beside_spans
from tests.await_truth import counting as counting_awaits
from tests.counted_calls import assert_counts_agree, burn, count, counting
from tests.shapes import both_ways, ended, following, line, shape, until_waiting
from tests.span_trees import Spans, attributes_of, current_name, line_of

spans = span_trees.spans
# It times what it runs, on machines that have more to do than cores.
pytestmark = pytest.mark.flaky(reruns=3)


@pytest.fixture
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    yield greenhack.start_loop()
    greenhack.stop_loop()


# Stacks

AT: dict[str, list[str]] = {}


def here(place: str) -> None:
    AT[place] = [name for name in shape() if not name.endswith("here")]


async def leaf() -> None:
    here("awaited")
    await asyncio.sleep(0.05)
    here("awaited again")


load = greenhack.exempt(leaf)


def repository() -> None:
    here("sync")
    load()
    here("sync again")


def outer() -> None:
    greenhack.await_(greenhack.as_async(repository)())


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    AT.clear()


@both_ways
def test_stacks_below_a_loop(follow: bool) -> None:
    async def main() -> None:
        task = asyncio.create_task(greenhack.as_async(outer)())
        await until_waiting(task)
        AT["suspended"] = shape(task)
        AT["from a thread"] = await asyncio.to_thread(shape, task)
        await task

    with following(follow):
        asyncio.run(main())
    in_sync = ["~run", "|outer", "~await_", "|~run", "|repository"]
    in_leaf = [*in_sync, "~await_", "|*leaf"]
    assert {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "from a thread": [*in_leaf, "*sleep"],
        "awaited again": ["main", *in_leaf],
        "sync again": ["main", *in_sync],
    } == AT


@both_ways
def test_stacks_above_a_loop(follow: bool, own_loop: asyncio.AbstractEventLoop) -> None:
    found: list[greenprof.Stack] = []

    async def probe(task: asyncio.Task[Any], sync: Any) -> None:
        await asyncio.sleep(0.01)
        AT["suspended"] = shape(task)
        AT["greenlet"] = shape(sync)
        AT["probe"] = shape()

    async def task_of_it() -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None
        return task

    with following(follow):
        task = greenhack.await_(task_of_it())
        other = own_loop.create_task(probe(task, getcurrent()))
        repository()
        found.extend(greenprof.capture_all())
        state = greenprof.capture_stack(task).state
        greenhack.await_(other)
    in_sync = AT["sync"]
    in_leaf = [*in_sync, "~await_", "|~OwnLoop._serve", "*leaf"]
    assert in_sync[-1] == "repository"
    assert {
        "sync": in_sync,
        "awaited": in_leaf,
        "suspended": [*in_leaf, "*sleep"],
        "greenlet": [*in_leaf, "*sleep"],
        "awaited again": in_leaf,
        "sync again": in_sync,
        "probe": ["probe"],
    } == AT
    # While sync code runs, the loop's task is no other one that is ready, or waits.
    assert state is State.BLOCKED
    assert {stack.kind for stack in found} == {"thread"}


@both_ways
def test_stacks_of_nested_bridges_above_a_loop(
    follow: bool, own_loop: asyncio.AbstractEventLoop
) -> None:
    with following(follow):
        outer()
    in_sync = AT["sync"]
    assert in_sync[-5:] == ["outer", "~await_", "|~OwnLoop._serve", "~run", "|repository"]
    assert AT["awaited"] == [*in_sync, "~await_", "|*leaf"]
    assert AT["awaited again"] == AT["awaited"]


@both_ways
def test_managers_and_iterators(follow: bool) -> None:
    class Manager:
        async def __aenter__(self) -> None:
            here("entered")

        async def __aexit__(self, *_: object) -> None:
            here("left")

    async def numbers() -> AsyncIterator[int]:
        here("iterated")
        yield 1

    def work() -> None:
        with greenhack.exempt_cm(Manager()):
            for _ in greenhack.exempt_it(numbers()):
                pass

    with following(follow):
        asyncio.run(greenhack.as_async(work)())
    start = ["~run", "|work"]
    assert {
        "entered": [*start, "~SyncManager.__enter__", "~await_", "|*Manager.__aenter__"],
        "iterated": [*start, "~SyncIterator.__next__", "~await_", "|*numbers"],
        "left": [*start, "~SyncManager.__exit__", "~await_", "|*Manager.__aexit__"],
    } == AT


def test_no_boundary_where_nothing_is_crossed() -> None:
    @greenhack.as_async
    def view() -> None:
        repository()

    asyncio.run(greenhack.as_async(greenhack.exempt(view))())
    assert AT["awaited"] == ["~run", "|view", "repository", "~await_", "|*leaf"]


@both_ways
def test_sync_code_in_a_context_of_its_own(follow: bool) -> None:
    def work() -> None:
        contextvars.copy_context().run(repository)

    async def main() -> None:
        task = asyncio.create_task(greenhack.as_async(work)())
        await until_waiting(task)
        AT["suspended"] = shape(task)
        await ended(task)

    with following(follow):
        asyncio.run(main())
    in_leaf = ["~run", "|work", "repository", "~await_", "|~in_context", "~_awaiting"]
    assert AT["awaited"] == [*in_leaf, "*leaf"]
    assert AT["suspended"] == [*in_leaf, "*leaf", "*sleep"]


def test_what_is_greenhacks_own_is_no_user_code() -> None:
    """Its frames are the boundary: none of them is shown as a line of the program's."""
    seen: list[greenprof.Stack] = []

    async def look() -> None:
        seen.append(greenprof.capture_stack())

    asyncio.run(greenhack.as_async(greenhack.exempt(look))())
    greenhack.start_loop()
    greenhack.exempt(look)()
    greenhack.stop_loop()
    frames = [
        frame for stack in seen for frame in stack.frames if "greenprof/greenhack" in frame.path
    ]
    assert [line(frame).strip("|~") for frame in frames] == [
        "run",
        "await_",
        "await_",
        "OwnLoop._serve",
    ]
    assert {frame.kind for frame in frames} == {FrameKind.BOUNDARY}


# Spans


class Program:
    def __init__(self, spans: Spans) -> None:
        self.spans = spans

    async def driver(self) -> None:
        # While it is open as well, as a log record would have it.
        assert current_name().startswith("await ")
        assert current_name().endswith("Program.driver")
        with self.spans.span("driver"):
            await asyncio.sleep(0.001)

    def inner(self) -> None:
        with self.spans.span("inner"):
            greenhack.await_(self.driver())  # the line that waits

    async def between(self) -> None:
        with self.spans.span("between"):
            await greenhack.as_async(self.inner)()

    def outer(self) -> None:
        with self.spans.span("outer"):
            greenhack.exempt(self.between)()
            with self.spans.span("after"):
                pass

    async def endpoint(self) -> None:
        with self.spans.span("request"):
            await greenhack.as_async(self.outer)()
        assert current_name() == ""


TREE = [
    "request",
    "  outer",
    "    await Program.between",
    "      between",
    "        inner",
    "          await Program.driver",
    "            driver",
    "    after",
]


def test_spans_below_a_loop(spans: Spans) -> None:
    program = Program(spans)
    with spans.trace():
        asyncio.run(program.endpoint())
    assert spans.lines() == TREE
    said = attributes_of(spans.named("Program.driver"))
    assert said["greenprof.bridge"] == "greenhack"
    assert said["code.function.name"] == "tests.test_greenhack_stacks.Program.inner"
    assert said["code.line.number"] == line_of(Program.inner, "the line that waits")


def test_spans_of_fifty_tasks_at_once(spans: Spans) -> None:
    program = Program(spans)

    async def main() -> None:
        await asyncio.gather(*(program.endpoint() for _ in range(50)))

    with spans.trace():
        asyncio.run(main())
    assert spans.trees() == [tuple(TREE)] * 50


def test_spans_above_a_loop(spans: Spans, own_loop: asyncio.AbstractEventLoop) -> None:
    program = Program(spans)
    with spans.trace():
        for number in range(2):
            with spans.span(f"request {number}"):
                program.outer()
                assert current_name() == f"request {number}"
        greenhack.await_(program.driver())
    below = TREE[1:]
    assert spans.lines() == [
        "request 0",
        *below,
        "request 1",
        *below,
        "await Program.driver",
        "  driver",
    ]
    assert {attributes_of(one)["greenprof.bridge"] for one in spans.awaits()} == {"greenhack"}


def test_spans_of_awaits_that_fail(spans: Spans) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError

    def work() -> None:
        with pytest.raises(LookupError):
            greenhack.await_(fails())

    with spans.trace():
        asyncio.run(greenhack.as_async(work)())
        greenhack.start_loop()
        work()
        greenhack.stop_loop()
    failed = [attributes_of(one) for one in spans.awaits() if "error.type" in attributes_of(one)]
    assert [said["error.type"] for said in failed] == ["LookupError"] * 2


def test_spans_of_awaited_sync_code_bear_its_name(spans: Spans) -> None:
    @greenhack.as_async
    def view() -> None:
        greenhack.await_(asyncio.sleep(0))

    with spans.trace():
        asyncio.run(greenhack.as_async(lambda: greenhack.await_(view()))())
    assert [text.strip() for text in spans.lines()] == ["await view", "await asyncio.tasks.sleep"]


# Awaits that are counted


@pytest.fixture(params=[False, True], ids=["alone", "with spans"])
def traced(request: pytest.FixtureRequest) -> Iterator[bool]:
    with beside_spans(request.param):
        yield request.param


class Timed:
    """Sync code that times its own awaits."""

    def __init__(self) -> None:
        self.leaves, self.errors = Truth(), Truth()

    async def pause(self, number: int) -> None:
        await self.leaves.timed(asyncio.sleep(number / 1000))

    async def fails(self) -> None:
        await asyncio.sleep(0)
        raise ValueError

    def work(self) -> None:
        for number in (1, 2, 3):
            self.leaves.wait(greenhack.await_, self.pause(number))
            with pytest.raises(ValueError):
                self.errors.wait(greenhack.await_, self.fails())


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("world", ["below a loop", "above a loop"])
def test_awaits_are_counted(world: str) -> None:
    program = Timed()
    with counting_awaits(as_samples=True) as counted:
        if world == "below a loop":
            asyncio.run(greenhack.as_async(program.work)())
        else:
            loop = greenhack.start_loop()
            program.work()
    if world == "above a loop":
        assert not loop.is_closed()
        greenhack.stop_loop()
    assert counted.counts() == {"pause": 3, "fails": 3}
    program.leaves.check(counted.row("pause"))
    program.errors.check(counted.row("fails"), errors=3)
    assert {row.bridge for row in counted.rows()} == {"greenhack"}
    assert counted.stack_names(counted.row("pause"))[-2:] == ["work", "wait"]


def test_awaits_that_are_cancelled_are_counted_as_such() -> None:
    with counting_awaits() as counted:
        asyncio.run(cancelled_thrice(greenhack.as_async(greenhack.exempt(forever))))
    row = counted.row("forever")
    assert (row.count, row.errors, row.cancelled) == (3, 0, 3)


def test_an_await_in_a_context_of_its_own_has_its_name() -> None:
    async def fetch() -> None:
        await asyncio.sleep(0)

    def work() -> None:
        contextvars.copy_context().run(greenhack.exempt(fetch))

    with counting_awaits() as counted:
        asyncio.run(greenhack.as_async(work)())
        greenhack.start_loop()
        work()
        greenhack.await_(one_result())
        work()
    greenhack.stop_loop()
    assert counted.counts() == {"fetch": 3, "one_result": 1}


async def one_result() -> Any:
    """What an await returned may be awaitable as well, and is not what is awaited next."""
    return asyncio.get_running_loop().create_future()


# Call trees


async def fetch() -> None:
    count()
    await asyncio.sleep(0)
    decode()


def decode() -> None:
    count()
    burn(5)


def query() -> None:
    count()
    greenhack.await_(fetch())


def report() -> None:
    count()
    for _ in range(3):
        query()


async def endpoint() -> None:
    count()
    await greenhack.as_async(report)()


CALLED = ("endpoint", "report", "query", "fetch", "decode")


def test_call_trees_below_a_loop() -> None:
    async def main() -> None:
        await asyncio.gather(*(endpoint() for _ in range(4)))

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result, CALLED)
    whole = {path for path in result.paths(*CALLED) if "decode" in path}
    assert whole == {("endpoint", "|", "report", "query", "|", "fetch", "decode")}
    for name in CALLED:
        assert 60 <= result.total_ms(name) < 150, name


def test_call_trees_above_a_loop() -> None:
    with counting() as found:
        greenhack.start_loop()
        report()
        greenhack.stop_loop()
    result = found()
    assert_counts_agree(result, CALLED[1:])
    whole = {path for path in result.paths(*CALLED) if "decode" in path}
    assert whole == {("report", "query", "|", "fetch", "decode")}
    for name in CALLED[1:]:
        assert 15 <= result.total_ms(name) < 45, name


# The sampling profiler


def profiled(program: Callable[[], Any]) -> Profile:
    with greenprof.profile(rate_hz=200) as profiler:
        program()
    return profiler.profile


def seconds_of(profile: Profile, *names: str, state: State | None = None) -> float:
    """The time of samples whose stacks have these functions, in this order from the root."""
    total = 0
    for sample in profile.samples:
        if state is not None and sample.state is not state:
            continue
        rest = iter(frame.name.rpartition(".")[2] for frame in profile.stack(sample.stack))
        if all(name in rest for name in names):
            total += sample.wall_ns
    return total / 1e9


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


async def remote() -> None:
    await asyncio.sleep(0.2)
    spin(0.2)


def handler() -> None:
    spin(0.2)
    greenhack.await_(remote())


@pytest.mark.parametrize("world", ["below a loop", "above a loop"])
def test_samples_are_whole(world: str) -> None:
    def program() -> None:
        if world == "below a loop":
            asyncio.run(greenhack.as_async(handler)())
            return
        greenhack.start_loop()
        handler()
        greenhack.stop_loop()

    profile = profiled(program)
    assert seconds_of(profile, "handler", "spin") == pytest.approx(0.4, abs=0.1)
    assert seconds_of(profile, "handler", "await_", "remote", "spin") == pytest.approx(0.2, abs=0.1)
    waited = seconds_of(profile, "handler", "await_", "remote", "sleep", state=State.AWAITING)
    assert waited == pytest.approx(0.2, abs=0.1)
    # Nothing besides: no task of the loop's own that is ready while sync code runs.
    assert seconds_of(profile, state=State.READY) < 0.05
    assert seconds_of(profile, "remote") - seconds_of(profile, "handler", "remote") == 0


def test_tasks_that_serve_sync_code_are_not_counted_twice() -> None:
    """Their greenlets are below a loop that is a greenlet itself, and are no tasks of their own."""

    async def many() -> None:
        await asyncio.gather(*(greenhack.as_async(handler)() for _ in range(2)))

    def program() -> None:
        greenhack.start_loop()
        greenhack.await_(many())
        greenhack.stop_loop()

    profile = profiled(program)
    assert seconds_of(profile, "handler") > 0.6
    assert seconds_of(profile, "handler") == seconds_of(profile, "program", "many", "handler")
