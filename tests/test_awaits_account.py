"""Await accounting: what each row says, held against programs that count and time their own awaits."""

from __future__ import annotations

import asyncio
import types
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from greenprof.profiles import State
from greenprof.samplers.awaits import AwaitAccount
from tests import await_programs
from tests.await_programs import ProgramError, nap
from tests.await_truth import Counted, Truth, counting
from tests.sqlalchemy_programs import await_

traced = await_programs.traced


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
    assert rows[0].awaited == "tests.await_programs.nap"


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
