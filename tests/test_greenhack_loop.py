"""greenhack's own loop, for programs that have none: how it starts, serves, is interrupted, and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import greenlet
import pytest
import uvloop

from greenprof import greenhack
from greenprof.greenhack import LoopStateError, NoLoopError
from tests.running import Finished, run_python
from tests.test_greenhack import add

HEAD = """
import asyncio, os, signal, sys, threading, time
from greenprof import greenhack

@greenhack.exempt
async def add(one, two=1):
    await asyncio.sleep(0)
    return one + two

async def background(name):
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0)
        print(name, "cleaned up", flush=True)

async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        print("generator closed", flush=True)
"""


def run(body: str, *, expect: int | None = 0) -> list[str]:
    """The lines that a program prints, which must warn of nothing."""
    finished: Finished = run_python(
        *("-X", "dev", "-W", "error", "-c", HEAD + body), expect=expect, limit_s=30
    )
    assert finished.stderr == "", str(finished)
    return finished.stdout.splitlines()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    started = greenhack.start_loop()
    yield started
    greenhack.stop_loop()
    assert started.is_closed()


# Starting and stopping


def test_sync_code_at_the_top(loop: asyncio.AbstractEventLoop) -> None:
    assert add(add(1)) == 3
    assert greenhack.start_loop() is loop
    assert greenhack.await_(asyncio.sleep(0, "slept")) == "slept"


def test_stopped_and_started_again() -> None:
    greenhack.stop_loop()
    for number in range(3):
        first = greenhack.start_loop()
        assert add(number) == number + 1
        greenhack.stop_loop()
        assert first.is_closed()
        assert not greenhack.can_await()
    greenhack.stop_loop()
    with pytest.raises(NoLoopError, match="start_loop"):
        greenhack.await_(asyncio.sleep(0))


def test_where_a_loop_runs_it_refuses() -> None:
    async def main() -> None:
        with pytest.raises(
            LoopStateError, match=r"greenhack\.as_async.*greenhack\.ipython\.enable"
        ):
            greenhack.start_loop()

        @greenhack.as_async
        def sync() -> None:
            with pytest.raises(LoopStateError, match="a loop runs in this thread already"):
                greenhack.start_loop()

        await sync()

    asyncio.run(main())


def test_what_runs_on_it_cannot_stop_it(loop: asyncio.AbstractEventLoop) -> None:
    async def stops() -> None:
        with pytest.raises(LoopStateError, match="in the code that called"):
            greenhack.stop_loop()
        with pytest.raises(LoopStateError, match="start_loop"):
            greenhack.start_loop()

    greenhack.await_(stops())
    assert add(1) == 2


def test_another_greenlet_of_the_thread(loop: asyncio.AbstractEventLoop) -> None:
    """Who waits is whoever started it: another greenlet is none of its sync code."""

    def other() -> None:
        with pytest.raises(NoLoopError, match="in another greenlet of this thread"):
            greenhack.await_(asyncio.sleep(0))
        with pytest.raises(LoopStateError, match="by another greenlet"):
            greenhack.start_loop()
        greenhack.stop_loop()
        greenhack.start_loop()
        assert add(2) == 3

    greenlet.greenlet(other).switch()
    greenhack.stop_loop()
    greenhack.start_loop()
    assert add(1) == 2


def test_a_loop_of_ones_choice() -> None:
    loop = greenhack.start_loop(loop_factory=uvloop.new_event_loop)
    try:
        assert isinstance(loop, uvloop.Loop)
        assert add(1) == 2
        assert greenhack.await_(asyncio.to_thread(add_in_thread)) == 2
        with pytest.raises(TimeoutError), greenhack.exempt_cm(asyncio.timeout)(0.01):
            greenhack.await_(asyncio.sleep(30))
    finally:
        greenhack.stop_loop()
    assert uvloop.run(greenhack.as_async(lambda: add(add(1)))()) == 3


def add_in_thread() -> int:
    return asyncio.run(add.__wrapped__(1))  # type: ignore[attr-defined, no-any-return]


# What sync code and the loop see of each other


def test_the_loop_does_not_look_as_if_it_ran(loop: asyncio.AbstractEventLoop) -> None:
    """Between awaits it does not: other code may run one of its own."""

    async def inside() -> bool:
        task = asyncio.current_task()
        assert task is not None
        assert task.get_name() == "greenhack"
        return asyncio.get_running_loop() is loop

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        assert asyncio.current_task(loop) is None
        assert asyncio.run(inside_another()) == "another"
        assert greenhack.await_(inside())


async def inside_another() -> str:
    assert await greenhack.as_async(lambda: add(1))() == 2
    await asyncio.sleep(0.001)
    return "another"


def test_tasks_run_while_sync_code_waits(loop: asyncio.AbstractEventLoop) -> None:
    ticks: list[int] = []

    async def ticking() -> None:
        while True:
            await asyncio.sleep(0.001)
            ticks.append(1)

    task = loop.create_task(ticking())
    greenhack.await_(asyncio.sleep(0.05))
    seen = len(ticks)
    assert seen > 3
    time.sleep(0.01)
    assert len(ticks) == seen
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        greenhack.await_(task)


def test_as_async_below_it(loop: asyncio.AbstractEventLoop) -> None:
    @greenhack.as_async
    def view(number: int) -> int:
        return add(number)

    async def main() -> list[int]:
        return await asyncio.gather(*map(view, range(100)))

    assert greenhack.await_(main()) == list(range(1, 101))
    assert greenhack.await_(view(1)) == 2


def test_the_task_of_sync_code_can_be_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    async def cancels(task: Any) -> None:
        task.cancel("by another")

    async def main() -> None:
        other = asyncio.create_task(cancels(asyncio.current_task()))
        await asyncio.sleep(30)
        await other

    with pytest.raises(asyncio.CancelledError, match="by another"):
        greenhack.await_(main())
    assert add(1) == 2


def test_an_exception_of_another_task(loop: asyncio.AbstractEventLoop) -> None:
    """One that ends a loop ends the wait, and says so to the sync code; the loop goes on."""

    async def exits() -> None:
        raise SystemExit(3)

    async def main(log: list[str]) -> None:
        task = asyncio.create_task(exits())
        try:
            await asyncio.sleep(30)
        finally:
            log.append(repr(task.exception()))

    log: list[str] = []
    with pytest.raises(SystemExit) as raised:
        greenhack.await_(main(log))
    assert (raised.value.code, log) == (3, ["SystemExit(3)"])
    assert add(1) == 2


def test_stopping_says_what_tasks_raise() -> None:
    said: list[str] = []
    loop = greenhack.start_loop()
    loop.set_exception_handler(lambda _, found: said.append(found["message"]))

    async def fails() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            raise ValueError

    task = loop.create_task(fails())
    add(1)
    greenhack.stop_loop()
    assert said == ["unhandled exception while greenhack's loop was stopped"]
    assert isinstance(task.exception(), ValueError)


def test_stopping_closes_generators_and_ends_tasks() -> None:
    log: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("generator")

    async def background() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            log.append("task")

    loop = greenhack.start_loop()
    task = loop.create_task(background())
    iterator = greenhack.exempt_it(numbers)()
    assert next(iterator) == add(0)
    greenhack.stop_loop()
    assert (log, task.cancelled()) == (["task", "generator"], True)


# Ctrl-C


def interrupted_after(seconds: float, times: int = 1) -> threading.Thread:
    def interrupt() -> None:
        for _ in range(times):
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_ctrl_c_while_the_loop_waits(factory: Any) -> None:
    """It is raised at the await, once what is awaited has cleaned up; and sync code goes on."""
    log: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned up")

    greenhack.start_loop(loop_factory=factory)
    try:
        for _ in range(2):
            thread = interrupted_after(0.05)
            with pytest.raises(KeyboardInterrupt) as raised:
                greenhack.await_(slow())
            thread.join()
            assert isinstance(raised.value.__context__, asyncio.CancelledError)
            assert add(1) == 2
            task = greenhack.await_(this_task())
            assert task.cancelling() == 0
    finally:
        greenhack.stop_loop()
    assert log == ["cleaned up"] * 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def test_ctrl_c_in_sync_code(loop: asyncio.AbstractEventLoop) -> None:
    thread = interrupted_after(0.05)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(30)
    thread.join()
    assert add(1) == 2


def test_ctrl_c_twice(loop: asyncio.AbstractEventLoop) -> None:
    """What does not want to end is left behind; it ends with the loop."""
    log: list[str] = []

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                log.append("no")

    thread = interrupted_after(0.1, times=2)
    with pytest.raises(KeyboardInterrupt):
        greenhack.await_(stubborn())
    thread.join()
    assert log == ["no"]
    assert add(1) == 2
    greenhack.stop_loop()
    assert log == ["no", "no"]
    greenhack.start_loop()


def test_a_handler_of_the_programs_own_stays() -> None:
    seen: list[int] = []
    earlier = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        greenhack.start_loop()
        thread = interrupted_after(0.01)
        greenhack.await_(asyncio.sleep(0.1))
        thread.join()
        greenhack.stop_loop()
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_a_script_that_is_interrupted() -> None:
    finished = run_python(
        "-c",
        HEAD + "greenhack.start_loop()\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "greenhack.await_(background('awaited'))",
        expect=None,
        limit_s=30,
    )
    assert finished.returncode in (-signal.SIGINT, 130), str(finished)
    assert finished.stdout == "awaited cleaned up\n"
    assert finished.stderr.rstrip().endswith("KeyboardInterrupt"), str(finished)


# The end of the program


def test_a_clean_end_with_the_interpreter() -> None:
    assert run(
        """
loop = greenhack.start_loop()
task = loop.create_task(background("task"))
iterator = greenhack.exempt_it(numbers)()
print(next(iterator), add(1), greenhack.await_(asyncio.to_thread(lambda: "thread")))
"""
    ) == ["1 2 thread", "task cleaned up", "generator closed"]


def test_a_clean_end_after_an_error() -> None:
    finished = run_python(
        *("-X", "dev", "-W", "error", "-c"),
        HEAD
        + "greenhack.start_loop().create_task(background('task'))\nadd(1)\nraise SystemExit(3)",
        expect=3,
    )
    assert (finished.stdout, finished.stderr) == ("task cleaned up\n", ""), str(finished)
    finished = run_python(
        "-c", HEAD + "greenhack.start_loop()\ngreenhack.await_(add.__wrapped__(1, 'x'))", expect=1
    )
    assert "unsupported operand" in finished.stderr.splitlines()[-1]


def test_a_task_that_does_not_end() -> None:
    """At exit it is waited for so long, and named; asyncio itself says more when it goes."""
    finished = run_python(
        "-c",
        HEAD
        + """
async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

from greenprof.greenhack import ownloop
ownloop.TASKS_END_S = 0.1
task = greenhack.start_loop().create_task(stubborn())
add(1)
""",
        limit_s=30,
    )
    assert "task did not end within 0.1 s of its cancellation at exit" in finished.stderr
    assert "stubborn()" in finished.stderr


def test_a_thread_that_ends() -> None:
    assert run(
        """
def thread():
    loop = greenhack.start_loop()
    loops.append(loop)
    tasks.append(loop.create_task(background("task of the thread")))
    iterators.append(greenhack.exempt_it(numbers)())
    print(next(iterators[-1]), add(1), greenhack.await_(asyncio.to_thread(lambda: "thread")))

loops, tasks, iterators = [], [], []
for _ in range(2):
    one = threading.Thread(target=thread)
    one.start()
    one.join()
until = time.monotonic() + 10
while threading.active_count() > 1 and time.monotonic() < until:
    time.sleep(0.01)  # the executor's
print([loop.is_closed() for loop in loops], threading.enumerate() == [threading.main_thread()])
"""
    ) == [
        *(["1 2 thread", "task of the thread cleaned up", "generator closed"] * 2),
        "[True, True] True",
    ]


def test_threads_that_stay() -> None:
    """A daemon thread's wait ends with the process, and cleans up; one that does not wait stays."""
    assert run(
        """
def waits(ready):
    greenhack.start_loop()
    add(1)
    ready.set()
    greenhack.await_(background("thread"))

def works(ready):
    greenhack.start_loop()
    add(1)
    ready.set()
    time.sleep(1000)

for target in (waits, works):
    ready = threading.Event()
    threading.Thread(target=target, args=(ready,), daemon=True).start()
    ready.wait()
time.sleep(0.05)
print("main thread ends", flush=True)
"""
    ) == ["main thread ends", "thread cleaned up"]


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Python 3.11 on a system that forks")
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child(end: str) -> None:
    """It has no loop until it starts one, and leaves its parent's alone."""
    assert run(
        f"""
loop = greenhack.start_loop()
task = loop.create_task(background("parent's"))
add(1)
reading, writing = os.pipe()
loop.add_reader(reading, lambda: print("parent reads", os.read(reading, 9).decode(), flush=True))
add(1)
child = os.fork()
if not child:
    try:
        greenhack.await_(asyncio.sleep(0))
    except greenhack.NoLoopError as error:
        print("forked" in str(error), "call greenhack.start_loop() here" in str(error))
    assert greenhack.start_loop() is not loop
    print("child", add(1), flush=True)
    greenhack.await_(asyncio.sleep(0.01))
    {end}
assert os.waitpid(child, 0)[1] == 0
os.write(writing, b"something")
greenhack.await_(asyncio.sleep(0.01))
print("parent", add(2), flush=True)
loop.remove_reader(reading)
"""
    ) == ["True True", "child 2", "parent reads something", "parent 3", "parent's cleaned up"]
