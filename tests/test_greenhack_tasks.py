"""greenhack among tasks: contexts, errors, cancellation, nesting, numbers, and how sync code ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import pytest

from greenprof import greenhack
from greenprof.greenhack import LoopStateError, NoLoopError
from greenprof.greenhack.crossing import MAX_REFUSALS, SyncGreenlet
from tests.test_greenhack import add, both_worlds, in_greenlet, in_own_loop

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="")


@pytest.fixture(autouse=True)
def every_greenlet_ends() -> Iterator[None]:
    yield
    gc.collect()
    # Greenlets that run are not seen by the garbage collector: those that stay are counted by hand.
    assert not [one for one in STARTED if one() is not None and not one().dead]
    STARTED.clear()


STARTED: list[Any] = []


def note() -> None:
    """Watch the greenlet that calls it, if it is one for sync code."""
    current = greenlet.getcurrent()
    if type(current) is SyncGreenlet:
        STARTED.append(weakref.ref(current))


# contextvars


@both_worlds
def test_context_variables_are_shared(run: Any) -> None:
    async def set_and_get(value: str) -> str:
        seen = VARIABLE.get()
        VARIABLE.set(value)
        await asyncio.sleep(0)
        return seen

    def work() -> None:
        VARIABLE.set("sync")
        assert greenhack.await_(set_and_get("awaited")) == "sync"
        assert VARIABLE.get() == "awaited"
        token = VARIABLE.set("again")
        assert greenhack.await_(set_and_get("twice")) == "again"
        VARIABLE.reset(token)
        assert VARIABLE.get() == "awaited"

    contextvars.copy_context().run(run, work)


@both_worlds
def test_a_token_of_one_side_is_reset_on_the_other(run: Any) -> None:
    async def enter() -> contextvars.Token[str]:
        await asyncio.sleep(0)
        return VARIABLE.set("inside")

    async def leave(token: contextvars.Token[str]) -> None:
        VARIABLE.reset(token)

    def work() -> None:
        token = greenhack.await_(enter())
        assert VARIABLE.get() == "inside"
        greenhack.await_(leave(token))
        assert VARIABLE.get() == ""
        token = VARIABLE.set("of sync code")
        greenhack.await_(leave(token))
        assert VARIABLE.get() == ""

    run(work)


@both_worlds
def test_sync_code_in_a_context_of_its_own(run: Any) -> None:
    """As asgiref runs it: what is awaited there belongs to that context, and nothing leaks out."""

    async def append(letter: str) -> str:
        VARIABLE.set(VARIABLE.get() + letter)
        await asyncio.sleep(0)
        VARIABLE.set(VARIABLE.get() + letter)
        with contextlib.suppress(ValueError):
            await asyncio.gather(fails(), asyncio.sleep(0))
        return VARIABLE.get()

    async def fails() -> None:
        raise ValueError

    def inside() -> str:
        VARIABLE.set(VARIABLE.get() + "c")
        assert greenhack.await_(append("d")) == "abbcdd"
        with pytest.raises(ValueError):
            greenhack.await_(fails())
        return contextvars.copy_context().run(lambda: greenhack.await_(append("e")))

    def work() -> None:
        VARIABLE.set("a")
        greenhack.await_(append("b"))
        context = contextvars.copy_context()
        assert context.run(inside) == "abbcddee"
        assert context[VARIABLE] == "abbcdd"
        assert VARIABLE.get() == "abb"
        greenhack.await_(append("f"))
        assert VARIABLE.get() == "abbff"

    contextvars.copy_context().run(run, work)


def test_tasks_keep_their_own_variables() -> None:
    async def set_slowly(value: str) -> None:
        VARIABLE.set(value)
        await asyncio.sleep(0.001)
        assert VARIABLE.get() == value

    @greenhack.as_async
    def work(number: int) -> None:
        for at in range(3):
            greenhack.await_(set_slowly(f"{number} {at}"))
            assert VARIABLE.get() == f"{number} {at}"

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(50)))
        assert VARIABLE.get() == ""

    asyncio.run(main())


# Errors


class OurError(Exception):
    """The test's own."""


def frames_of(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@both_worlds
def test_errors_reach_sync_code_with_the_whole_traceback(run: Any) -> None:
    async def driver() -> None:
        await asyncio.sleep(0)
        raise OurError("of the driver")

    async def fetch() -> None:
        await driver()

    def repository() -> None:
        greenhack.await_(fetch())

    def work() -> list[str]:
        try:
            repository()
        except OurError as error:
            return [*frames_of(error), repr(error.__context__)]
        raise AssertionError

    side = "run" if run is in_greenlet else "_serve"
    assert run(work) == ["work", "repository", "await_", side, "fetch", "driver", "None"]


def test_errors_reach_the_coroutine_with_the_whole_traceback() -> None:
    async def driver() -> None:
        raise OurError("of the driver")

    @greenhack.as_async
    def inner() -> None:
        greenhack.await_(driver())

    def service() -> None:
        greenhack.await_(inner())

    @greenhack.as_async
    def view() -> None:
        service()

    async def main() -> list[str]:
        try:
            await view()
        except OurError as error:
            return frames_of(error)
        raise AssertionError

    crossing = ["await_", "run"]
    assert asyncio.run(main()) == [
        *("main", "run", "view", "service"),
        *crossing,
        *("run", "inner"),
        *crossing,
        "driver",
    ]


@both_worlds
def test_an_error_that_was_handled_is_nobodys_context(run: Any) -> None:
    async def fails() -> None:
        raise OurError("first")

    def work() -> None:
        with contextlib.suppress(OurError):
            greenhack.await_(fails())
        raise LookupError("second")

    with pytest.raises(LookupError, match="second") as raised:
        run(work)
    assert raised.value.__context__ is None


@both_worlds
def test_awaiting_in_a_handler(run: Any) -> None:
    """What sync code handles is its own business, and still that when it goes on."""

    async def handled() -> BaseException | None:
        await asyncio.sleep(0)
        return sys.exc_info()[1]

    def work() -> None:
        try:
            raise OurError(1)
        except OurError:
            assert greenhack.await_(handled()) is None
            assert repr(sys.exc_info()[1]) == "OurError(1)"

    run(work)
    assert sys.exc_info()[0] is None


def chain_of(error: BaseException | None) -> list[str]:
    found: list[str] = []
    while error is not None and len(found) < 10:
        found.append(repr(error))
        error = error.__context__
    return found


@both_worlds
def test_an_error_in_a_handler_has_that_as_its_context(run: Any) -> None:
    """As it would within one stack: what was handled comes at the end of what it had already."""

    seen: list[str] = []

    async def fails(*numbers: int) -> None:
        try:
            if len(numbers) > 1:
                await fails(*numbers[1:])
        finally:
            raise OurError(numbers[0])

    def work() -> None:
        try:
            greenhack.await_(fails(1))
        except OurError:
            try:
                greenhack.await_(fails(2))
            except OurError as error:
                seen.extend(chain_of(error))
                greenhack.await_(fails(3, 4))

    with pytest.raises(OurError) as raised:
        run(work)
    assert seen == ["OurError(2)", "OurError(1)"]
    assert chain_of(raised.value) == [f"OurError({number})" for number in (3, 4, 2, 1)]


def test_an_error_of_sync_code_has_its_context_in_a_coroutine() -> None:
    @greenhack.as_async
    def fails(number: int) -> None:
        raise OurError(number)

    async def main() -> None:
        try:
            await fails(1)
        except OurError:
            await fails(2)

    with pytest.raises(OurError) as raised:
        asyncio.run(main())
    assert chain_of(raised.value) == ["OurError(2)", "OurError(1)"]


@both_worlds
def test_an_error_that_is_raised_again_is_no_circle(run: Any) -> None:
    kept = OurError("kept")

    async def fails() -> None:
        raise kept

    def work() -> None:
        try:
            greenhack.await_(fails())
        except OurError:
            try:
                raise LookupError
            except LookupError:
                greenhack.await_(fails())

    with pytest.raises(OurError) as raised:
        run(work)
    assert raised.value is kept
    assert chain_of(kept) == ["OurError('kept')", "LookupError()"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopAsyncIteration])
@both_worlds
def test_other_exceptions_pass_both_ways(run: Any, kind: type[BaseException]) -> None:
    error = kind(3)

    async def raises() -> None:
        raise error

    def work() -> None:
        with pytest.raises(kind) as raised:
            greenhack.await_(raises())
        assert raised.value is error
        raise error

    with pytest.raises(kind):
        run(work)


def test_greenlet_exit_is_an_error_as_well() -> None:
    """greenlet itself takes it for a result."""

    @greenhack.as_async
    def work() -> None:
        add(1)
        raise greenlet.GreenletExit

    with pytest.raises(greenlet.GreenletExit):
        asyncio.run(work())


# Cancellation


async def cancelled_while(function: Callable[[], Any]) -> asyncio.Task[Any]:
    task = asyncio.create_task(greenhack.as_async(function)())
    await asyncio.sleep(0.01)
    task.cancel("for a reason")
    await asyncio.wait([task])
    return task


def test_cancellation_reaches_the_sync_code_at_the_await() -> None:
    log: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("awaited")
            raise

    def work() -> None:
        note()
        try:
            greenhack.await_(forever())
        except asyncio.CancelledError as error:
            log.append(f"sync {error.args}")
            add(1)  # cleaning up may take I/O
            log.append("clean")
            raise

    async def main() -> None:
        assert (await cancelled_while(work)).cancelled()

    asyncio.run(main())
    assert log == ["awaited", "sync ('for a reason',)", "clean"]


def test_cancellation_passes_nested_sync_code() -> None:
    log: list[int] = []

    def nested(depth: int) -> None:
        note()
        try:
            if depth:
                greenhack.await_(greenhack.as_async(nested)(depth - 1))
            else:
                greenhack.await_(asyncio.Event().wait())
        finally:
            log.append(depth)

    async def main() -> None:
        assert (await cancelled_while(lambda: nested(5))).cancelled()

    asyncio.run(main())
    assert log == [0, 1, 2, 3, 4, 5]


def test_cancellation_may_be_swallowed() -> None:
    def work() -> str:
        note()
        with contextlib.suppress(asyncio.CancelledError):
            greenhack.await_(asyncio.Event().wait())
        return f"went on to {add(1)}"

    async def main() -> str:
        task = await cancelled_while(work)
        return str(task.result())

    assert asyncio.run(main()) == "went on to 2"


@both_worlds
def test_time_limits(run: Any) -> None:
    async def limited(seconds: float) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(seconds)

    def work() -> str:
        greenhack.await_(limited(0))
        with pytest.raises(TimeoutError):
            greenhack.await_(limited(30))
        return "in time"

    assert run(work) == "in time"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await greenhack.as_async(lambda: greenhack.await_(asyncio.sleep(30)))()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                greenhack.as_async(lambda: greenhack.await_(limited(30)))(), 0.005
            )

    asyncio.run(main())


# Nesting and numbers


def test_nested_to_any_depth() -> None:
    def down(depth: int) -> int:
        note()
        add(1)
        if not depth:
            return 0
        return greenhack.await_(greenhack.as_async(down)(depth - 1)) + 1

    assert in_greenlet(lambda: down(100)) == 100
    assert in_own_loop(lambda: down(100)) == 100


def test_ten_thousand_tasks_at_once() -> None:
    waiting = 0

    @greenhack.as_async
    def work(number: int, everybody: asyncio.Event) -> int:
        nonlocal waiting
        waiting += 1
        greenhack.await_(everybody.wait())
        return add(number)

    async def main() -> None:
        everybody = asyncio.Event()
        tasks = [asyncio.create_task(work(number, everybody)) for number in range(10_000)]
        while waiting < 10_000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        everybody.set()
        assert await asyncio.gather(*tasks) == list(range(1, 10_001))

    asyncio.run(main())


def test_tasks_take_turns() -> None:
    """While one waits, the others run: their waits add up to no more than one of them."""
    turns: list[tuple[int, int]] = []

    @greenhack.as_async
    def work(number: int) -> None:
        for at in range(3):
            turns.append((at, number))
            greenhack.await_(asyncio.sleep(0))

    async def main() -> None:
        await asyncio.gather(*map(work, range(4)))

    asyncio.run(main())
    assert turns == sorted(turns)


def test_threads_have_loops_of_their_own() -> None:
    results: list[int] = []

    def thread() -> None:
        results.append(in_greenlet(lambda: sum(add(number) for number in range(200))))
        results.append(in_own_loop(lambda: sum(add(number) for number in range(200))))

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert results == [20_100] * 8


def test_below_another_bridge() -> None:
    """SQLAlchemy's greenlets are sync code of SQLAlchemy's, not of greenhack's, and the other way."""
    from sqlalchemy.util import concurrency

    await_theirs = getattr(concurrency, "await_", None) or concurrency.await_only

    def theirs() -> int:
        assert not greenhack.can_await()
        with pytest.raises(NoLoopError, match=r"greenhack\.as_async"):
            greenhack.await_(add.__wrapped__(1))  # type: ignore[attr-defined]
        return int(await_theirs(greenhack.as_async(ours)(2)))

    def ours(depth: int) -> int:
        if not depth:
            return add(1)
        return greenhack.await_(concurrency.greenlet_spawn(theirs)) if depth == 1 else ours(0)

    assert in_greenlet(lambda: ours(1)) == 2
    assert in_own_loop(lambda: greenhack.await_(concurrency.greenlet_spawn(theirs))) == 2


# Eager tasks


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs Python 3.12 for eager tasks")
@pytest.mark.parametrize("run", [in_greenlet, in_own_loop])
def test_eager_tasks(run: Any) -> None:
    """One begins in the greenlet of whoever makes it, and goes on in the loop's."""

    async def coroutine() -> int:
        found: Any = add(1)
        assert asyncio.iscoroutine(found)
        assert not greenhack.can_await()
        with pytest.raises(NoLoopError):
            greenhack.await_(asyncio.sleep(0))
        return int(await found)

    async def nested() -> int:
        return await greenhack.as_async(lambda: add(add(1)))()

    factory: Any = getattr(asyncio, "eager_task_factory", None)

    async def tasks() -> list[asyncio.Task[int]]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        return [loop.create_task(coroutine()), loop.create_task(nested())]

    def work() -> None:
        first = greenhack.await_(tasks())
        loop = first[0].get_loop()
        # From 3.14 on the loop has to run where an eager task is made, which ours does not meanwhile.
        runs = sys.version_info < (3, 14) or run is in_greenlet
        second = [loop.create_task(coroutine()), loop.create_task(nested())] if runs else []
        results = [greenhack.await_(task) for task in (*first, *second)]
        assert results == ([2, 3, 2, 3] if runs else [2, 3])
        assert add(1) == 2

    run(work)


# Sync code whose coroutine ends before it does


def test_a_coroutine_that_is_closed_ends_its_sync_code() -> None:
    log: list[str] = []

    def work() -> None:
        note()
        try:
            greenhack.await_(asyncio.sleep(30))
        except BaseException as error:
            log.append(type(error).__name__)
            with pytest.raises(LoopStateError, match="coroutine of this code was closed"):
                add(1)
            raise

    async def main() -> None:
        coroutine = greenhack.as_async(work)()
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())
    assert log == ["GeneratorExit"]


def test_an_abandoned_task_ends_its_sync_code() -> None:
    """Its loop is gone, and nobody holds it: what holds it in memory is a circle."""
    log: list[str] = []

    class Argument:
        pass

    def work(argument: Argument) -> None:
        note()
        try:
            nested(argument)
        finally:
            log.append("work")

    def nested(argument: Argument) -> None:
        try:
            greenhack.await_(greenhack.as_async(deeper)(argument))
        finally:
            log.append("nested")

    def deeper(argument: Argument) -> None:
        note()
        try:
            greenhack.exempt(asyncio.sleep)(30)
        finally:
            log.append("deeper")

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, said: None)  # that it was destroyed pending
    argument = Argument()
    gone = weakref.ref(argument)
    task = loop.create_task(greenhack.as_async(work)(argument))
    del argument
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del task, loop
    gc.collect()
    assert log == ["deeper", "nested", "work"]
    assert gone() is None


def test_sync_code_that_does_not_want_to_end() -> None:
    """What it awaits is refused, again and again; in the end it is given up, and says so."""
    refused: list[int] = []

    def work() -> None:
        while True:
            try:
                greenhack.await_(asyncio.sleep(30))
            except BaseException:
                refused.append(1)
                if len(refused) > 2 * MAX_REFUSALS:
                    return

    async def main() -> None:
        coroutine = greenhack.as_async(work)()
        coroutine.send(None)
        with pytest.raises(LoopStateError, match="does not end: its coroutine was closed"):
            coroutine.close()

    asyncio.run(main())
    assert len(refused) >= MAX_REFUSALS


async def dropped_by_another_thread(work: Callable[[], None]) -> None:
    """Begin sync code, and have another thread let go of its coroutine."""
    coroutine: Any = greenhack.as_async(work)()
    coroutine.send(None)
    held = [coroutine]
    del coroutine
    other = threading.Thread(target=held.clear)
    other.start()
    other.join()
    greenlet.getcurrent()


def test_cleaning_up_while_memory_is_freed() -> None:
    """Nothing can be awaited there any more, by whichever way."""
    log: list[Any] = []

    def work() -> None:
        try:
            greenhack.await_(asyncio.sleep(30))
        finally:
            log.append(greenhack.can_await())
            for wait in (lambda: add(1), lambda: greenhack.await_(asyncio.sleep(0))):
                with pytest.raises(LoopStateError, match="the coroutine of this code was closed"):
                    wait()
            log.append("cleaned up")

    asyncio.run(dropped_by_another_thread(work))
    assert log == [False, "cleaned up"]


def test_closed_in_another_thread() -> None:
    """No thread can switch to another one's greenlet: its own thread ends it when it next can."""
    log: list[str] = []

    def work() -> None:
        try:
            greenhack.await_(asyncio.sleep(30))
        finally:
            log.append(threading.current_thread().name)

    asyncio.run(dropped_by_another_thread(work))
    assert log == ["MainThread"]


def test_coroutines_that_never_begin_run_nothing() -> None:
    log: list[str] = []
    coroutine = greenhack.as_async(log.append)("began")
    coroutine.close()
    assert log == []


def test_tasks_leave_nothing_behind() -> None:
    async def main() -> None:
        @greenhack.as_async
        def work() -> None:
            note()
            add(1)

        await asyncio.gather(*(work() for _ in range(100)))
        assert not [one for one in STARTED if one() is not None]

    asyncio.run(main())


# What it costs


@pytest.mark.flaky(reruns=3)
def test_a_crossing_costs_what_sqlalchemys_does() -> None:
    """Within 1.2 times, in one run: `python -m benchmarks.greenhack` has the table."""
    from benchmarks.greenhack import CASES, measured

    # Through the loop as well it is the loop's time that is measured, and whoever else runs.
    crossing = next(case for case in CASES if case.endswith("nothing to wait for"))
    ours, theirs = measured(40, [crossing])[crossing]
    assert ours < 1.2 * theirs
