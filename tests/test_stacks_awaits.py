"""What a suspended coroutine awaits: generators, own classes, proxies, and chains that never end."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import greenlet
import pytest
import uvloop

import greenprof
from greenprof import stacks
from greenprof.profiles import State
from tests.running import REPOSITORY, run_python
from tests.shapes import ended, following, shape, until_waiting

SLEEP_S = 10.0
# What is waited out when a task is cancelled.
FINISH_S = 0.3


async def generate() -> AsyncIterator[int]:
    await asyncio.sleep(SLEEP_S)
    yield 1


async def generate_and_finish() -> AsyncIterator[int]:
    try:
        yield 1
    except ValueError:
        await asyncio.sleep(SLEEP_S)
        yield 2
    finally:
        await asyncio.sleep(FINISH_S)


async def iterate() -> None:
    async for _ in generate():
        pass


async def iterate_over_two() -> None:
    async def outer() -> AsyncIterator[int]:
        async for value in generate():
            yield value

    async for _ in outer():
        pass


async def take_next() -> None:
    await anext(generate())


async def take_next_or_default() -> None:
    await anext(generate(), 4)


async def send() -> None:
    generator: Any = generate()
    await generator.asend(None)


async def throw() -> None:
    generator: Any = generate_and_finish()
    await anext(generator)
    await generator.athrow(ValueError())


async def close() -> None:
    generator: Any = generate_and_finish()
    await anext(generator)
    await generator.aclose()


async def enter() -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        await asyncio.sleep(SLEEP_S)
        yield

    async with manager():
        pass


async def await_own_class() -> None:
    class Own:
        def __await__(self) -> Generator[Any, None, None]:
            yield from asyncio.sleep(SLEEP_S).__await__()

    await Own()


async def await_event() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (iterate, ["iterate", "generate", "sleep"]),
        (iterate_over_two, ["iterate_over_two", "outer", "generate", "sleep"]),
        (take_next, ["take_next", "generate", "sleep"]),
        (take_next_or_default, ["take_next_or_default", "generate", "sleep"]),
        (send, ["send", "generate", "sleep"]),
        (throw, ["throw", "generate_and_finish", "sleep"]),
        (close, ["close", "generate_and_finish", "sleep"]),
        (enter, ["enter", "_AsyncGeneratorContextManager.__aenter__", "manager", "sleep"]),
        (await_own_class, ["await_own_class", "Own.__await__", "sleep"]),
        (await_event, ["await_event", "Event.wait"]),
    ],
)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_a_suspended_task_awaits(
    run: Any, function: Callable[[], Coroutine[Any, Any, None]], expected: list[str]
) -> None:
    """Objects that hide a generator from everybody but the garbage collector are seen through."""

    async def main() -> None:
        task = asyncio.create_task(function())
        await until_waiting(task)
        assert shape(task) == expected
        assert greenprof.capture_stack(task).state is State.AWAITING
        await ended(task)

    run(main())


def test_a_circle_of_awaits_is_cut_with_a_reason() -> None:
    class Round(collections.abc.Coroutine[Any, Any, None]):
        """Says that it awaits itself."""

        cr_frame = None

        @property
        def cr_await(self) -> Round:
            return self

        def send(self, value: Any) -> Any:
            raise StopIteration

        def throw(self, *error: Any) -> Any:
            raise StopIteration

        def close(self) -> None:
            pass

        def __await__(self) -> Any:
            return self

    raw = stacks.suspended(Round(), None)
    assert raw.frames == []
    assert raw.error == "the chain of awaits is a circle"


def test_an_object_that_fails_leaves_what_was_found() -> None:
    """Whatever a library's objects do when they are looked at, the frames above them stay."""

    class Hostile:
        @property
        def cr_frame(self) -> Any:
            raise RuntimeError("not for you")

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return None

        def __await__(self) -> Any:
            return self

    async def outer() -> None:
        await Hostile()

    coroutine = outer()
    coroutine.send(None)
    raw = stacks.suspended(coroutine, None)
    assert [frame.f_code.co_name for frame in raw.frames] == ["outer"]
    assert raw.error == "RuntimeError: not for you"
    coroutine.close()


Record = Callable[[], None]


async def child(record: Record) -> None:
    await asyncio.sleep(0)
    record()
    await asyncio.sleep(SLEEP_S)


class Proxy(collections.abc.Coroutine[Any, Any, Any]):
    """A coroutine in Python code, as libraries that trace or compile them have."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def send(self, value: Any) -> Any:
        return self._wrapped.send(value)

    def throw(self, *error: Any) -> Any:
        return self._wrapped.throw(*error)

    def close(self) -> None:
        self._wrapped.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


def test_a_task_whose_coroutine_has_no_frame() -> None:
    """It begins below the loop; suspended, the one awaitable that it keeps is followed."""
    running: list[list[str]] = []

    def record() -> None:
        running.append([name for name in shape() if name != "record"])

    async def main() -> None:
        task: asyncio.Task[None] = asyncio.create_task(Proxy(child(record)))
        await until_waiting(task)
        assert running[0][-2:] == ["Proxy.send", "child"]
        assert running[0][:-2] in ([], ["Proxy.__next__"])
        assert shape(task) == ["child", "sleep"]
        await ended(task)

        async def outer() -> None:
            await Proxy(child(record))

        task = asyncio.create_task(outer())
        await until_waiting(task)
        assert running[1] == ["outer", "Proxy.__next__", "Proxy.send", "child"]
        assert shape(task) == ["outer", "child", "sleep"]
        await ended(task)

    asyncio.run(main())
    uvloop.run(main())


def test_a_chain_of_many_awaits_is_bounded() -> None:
    """Endless recursion of awaits gives a stack with a limit, not an endless walk."""

    async def deep(level: int) -> None:
        if level:
            await deep(level - 1)
        else:
            await asyncio.sleep(SLEEP_S)

    async def main() -> None:
        task = asyncio.create_task(deep(600))
        await until_waiting(task)
        assert shape(task) == ["deep"] * 601 + ["sleep"]
        await ended(task)

    asyncio.run(main())


def test_nothing_is_kept_alive_by_a_look() -> None:
    """What a task refers to goes when the task does, not when somebody has looked at it."""

    class Local:
        pass

    async def holds(value: Local, event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        value, event = Local(), asyncio.Event()
        references: list[Any] = [weakref.ref(value)]
        task = asyncio.create_task(holds(value, event))
        references.append(weakref.ref(task))
        await until_waiting(task)
        greenprof.capture_stack(task)
        greenprof.capture_all()
        event.set()
        await task
        await asyncio.sleep(0)  # the loop's handle that woke this task refers to that one
        del task, value
        gc.collect()
        assert [reference() for reference in references] == [None, None]

    asyncio.run(main())


class HostileTask(asyncio.Task[Any]):
    """Fails at whatever it is asked, once it is told to."""

    hostile = False

    def get_coro(self) -> Any:
        if self.hostile:
            raise RuntimeError("not for you")
        return super().get_coro()


def test_a_task_that_fails_when_it_is_looked_at() -> None:
    """Running, suspended, and in the middle of others: the rest is seen."""
    running: list[greenprof.Stack] = []

    async def work() -> None:
        running.append(greenprof.capture_stack())
        await asyncio.sleep(0)
        running.append(greenprof.capture_stack())

    async def waits(task: asyncio.Task[Any]) -> None:
        await task

    async def main() -> None:
        hostile = HostileTask(work())
        hostile.hostile = True
        waiting = HostileTask(waits(hostile))
        waiting.hostile = True
        await asyncio.sleep(0)
        stack = greenprof.capture_stack(hostile)
        assert (stack.frames, stack.error) == ((), "RuntimeError: not for you")
        await asyncio.gather(waiting, hostile)

    asyncio.run(main())
    assert [stack.frames[-1].name.rpartition(".")[2] for stack in running] == ["work", "work"]
    assert running[1].error == "RuntimeError: not for you"


def test_greenlets_that_compare_as_they_like() -> None:
    """What is looked for is found by identity: the program's own `__eq__` is not called."""

    class Equal(greenlet.greenlet):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not for you")

        __hash__ = greenlet.greenlet.__hash__

    def sync() -> list[str]:
        return shape()

    async def start() -> Any:
        return Equal(sync).switch()

    with following(True):
        assert asyncio.run(start()) == ["~start", "|sync"]


RUNNING = """
import dis, functools, sys
sys.path.insert(0, sys.argv[1])
from greenprof import awaitables
from greenprof.samplers.places import Places

class Task:
    def get_coro(self):
        return made

async def coroutine(look):
    look()

def generator(look):
    look()
    yield

async def asynchronous(look):
    look()
    yield

# With what follows the call, its cache, such that it looks like the end of an await.
def disguised(function):
    code = function.__code__
    call = next(one for one in dis.get_instructions(code) if one.opname == "CALL")
    text = bytearray(code.co_code)
    text[call.offset + 2 : call.offset + 4] = bytes([dis.opmap["RESUME"], 3])
    function.__code__ = code.replace(co_code=bytes(text))
    return function

places = Places()
for function in (coroutine, generator, asynchronous):
    found = []

    def look():
        found.append(awaitables.step(made))
        if function is coroutine:
            places.suspended_in(Task())

    # In C, as a greenlet's switch is: CPython has gone past the cache when a function of Python's runs.
    made = disguised(function)(functools.partial(look))
    begun = made.asend(None) if function is asynchronous else made
    try:
        begun.send(None)
    except StopIteration:
        pass
    (frame, below), = found
    print(frame.f_code.co_name, below)
"""


def test_what_runs_is_not_asked_what_it_awaits() -> None:
    """CPython up to 3.12 looks at a cache then, and reads beside the stack: SQLAlchemy on psycopg crashed."""
    finished = run_python("-c", RUNNING, str(REPOSITORY))
    assert finished.stderr == ""
    assert finished.stdout.splitlines() == [
        "coroutine None",
        "generator None",
        "asynchronous None",
    ]
