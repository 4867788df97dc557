"""`capture_stack` and its kin: of here, of anything else, and what is no target."""

from __future__ import annotations

import asyncio
import queue
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import greenlet
import pytest
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof import Stack, capture_all, capture_stack, format_stack, switches
from greenprof.profiles import FrameKind, FrameOrigin, State
from tests.running import run_python
from tests.shapes import both_ways, ended, following, shape, until_waiting
from tests.sqlalchemy_programs import await_


def test_here_is_the_caller() -> None:
    """None of greenprof's own functions is on the stack, whichever of them is called."""
    stack = capture_stack()
    frame = stack.frames[-1]
    assert frame.name == "test_here_is_the_caller"
    assert (frame.path, frame.module) == (__file__, "tests.test_capture")
    assert frame.line == frame.first_line + 2
    assert (stack.kind, stack.task, stack.state) == ("thread", "MainThread", State.ON_CPU)
    assert format_stack().splitlines()[-1].endswith("in test_here_is_the_caller")
    mine = capture_all()[0]
    assert mine.frames[-1].name == "test_here_is_the_caller"


def test_a_function_without_a_thread_of_its_own_is_still_here() -> None:
    """As a callback of C code: `map` calls it with nothing in between."""
    (stack,) = map(capture_stack, [None])
    assert stack.frames[-1].name == "test_a_function_without_a_thread_of_its_own_is_still_here"


@pytest.mark.parametrize("target", [True, "MainThread", 1.5, object(), [], asyncio.sleep])
def test_what_is_no_target(target: Any) -> None:
    kind = type(target).__name__
    with pytest.raises(TypeError, match=f"cannot capture the stack of {kind}: pass None, an"):
        capture_stack(target)


def test_threads_that_do_not_run() -> None:
    """Not begun, ended, or an identity that nobody has."""
    thread = threading.Thread(target=int, name="short")
    with pytest.raises(LookupError, match="no such thread runs"):
        capture_stack(thread)
    thread.start()
    thread.join()
    with pytest.raises(LookupError, match="short"):
        capture_stack(thread)
    with pytest.raises(LookupError, match="12345"):
        capture_stack(12345)


def test_a_stack_is_its_own() -> None:
    stack = capture_stack()
    assert capture_stack(stack) is stack
    assert format_stack(stack) == str(stack)


def test_stacks_are_values() -> None:
    """Two looks at the same place are equal, so that they can be counted."""

    async def main() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        await until_waiting(task)
        first, second = (capture_stack(task) for _ in range(2))
        assert first == second
        assert len({first, second}) == 1
        await ended(task)

    asyncio.run(main())


class Threads:
    """Threads in each state, told apart by their names."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.work: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.lock.acquire()

    def computes(self) -> None:
        while not self.stop.is_set():
            sum(range(1000))

    def wants_work(self) -> None:
        self.work.get()

    def is_held_up(self) -> None:
        with self.lock:
            pass

    def sleeps(self) -> None:
        while not self.stop.is_set():
            time.sleep(0.01)

    def serves(self) -> None:
        async def main() -> None:
            while not self.stop.is_set():  # noqa: ASYNC110  # another thread says when
                await asyncio.sleep(0.05)

        asyncio.run(main())

    def __enter__(self) -> list[threading.Thread]:
        functions = (self.computes, self.wants_work, self.is_held_up, self.sleeps, self.serves)
        self.threads = [threading.Thread(target=one, name=one.__name__) for one in functions]
        for thread in self.threads:
            thread.start()
        time.sleep(0.03)
        return self.threads

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.work.put(None)
        self.lock.release()
        for thread in self.threads:
            thread.join()


STATES = {
    "computes": State.ON_CPU,
    "wants_work": State.IDLE,
    "is_held_up": State.BLOCKED,
    "sleeps": State.BLOCKED,
    "serves": State.IDLE,
}


def test_states_of_threads() -> None:
    """On the CPU, blocked in the middle of something, or idle."""
    with Threads() as threads:
        one_by_one = {thread.name: capture_stack(thread) for thread in threads}
        at_once = {stack.task: stack for stack in capture_all() if stack.kind == "thread"}
    assert {name: stack.state for name, stack in one_by_one.items()} == STATES
    assert {name: at_once[name].state for name in STATES} == STATES
    assert at_once["MainThread"].state is State.ON_CPU
    assert [frame.name for frame in one_by_one["wants_work"].frames][-1] == "Threads.wants_work"
    assert one_by_one["wants_work"].kind == "thread"


def test_a_pools_workers_are_idle_between_their_work() -> None:
    """One that waits in a function that it was given is not."""

    def state() -> State | None:
        (stack,) = (one for one in capture_all() if one.task.startswith("pool"))
        return stack.state

    release, began = threading.Event(), threading.Event()

    def held() -> None:
        began.set()
        release.wait(10)

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        future = pool.submit(held)
        assert began.wait(10)
        time.sleep(0.01)
        assert state() is State.BLOCKED
        release.set()
        future.result()
        time.sleep(0.01)
        assert state() is State.IDLE


@both_ways
def test_everything_at_once(follow: bool) -> None:
    """Tasks, a task's greenlet once, raw greenlets and threads; the caller's own comes first."""

    async def query() -> None:
        await asyncio.sleep(0.5)

    def sync() -> None:
        await_(query())

    async def request() -> None:
        await greenlet_spawn(sync)

    def raw() -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()

    async def main() -> None:
        tasks = [asyncio.create_task(request(), name=f"request {n}") for n in range(3)]
        sleeping = greenlet.greenlet(raw)
        sleeping.switch()
        await until_waiting(tasks[0])
        # pytest-timeout's thread, named after the test, is here as well.
        found = [one for one in capture_all() if "::" not in one.task]
        seen = [(one.kind, one.task.rpartition(".")[2], one.state) for one in found]
        assert seen[0] == ("asyncio", "main", State.ON_CPU)
        assert sorted(seen[1:], key=str) == [
            ("asyncio", "request {}", State.AWAITING),
            ("asyncio", "request {}", State.AWAITING),
            ("asyncio", "request {}", State.AWAITING),
            ("greenlet", "raw", State.AWAITING),
        ]
        requests = {stack for stack in found if stack.task == "request {}"}
        assert len(requests) == 1
        assert shape(next(iter(requests))) == [
            "request",
            "~greenlet_spawn",
            "|sync",
            f"~{await_.__name__}",
            "|*query",
            "*sleep",
        ]
        for task in tasks:
            await task
        sleeping.switch()

    with following(follow):
        asyncio.run(main())


def test_frames_say_whose_they_are() -> None:
    async def main() -> Stack:
        def sync() -> Stack:
            return greenprof.capture_stack()

        stack: Stack = await greenlet_spawn(sync)
        return stack

    stack = asyncio.run(main())
    mine, spawn, inner = stack.frames
    assert (mine.origin, mine.kind) == (FrameOrigin.APP, FrameKind.PYTHON)
    assert (spawn.origin, spawn.kind) == (FrameOrigin.LIBRARY, FrameKind.BOUNDARY)
    assert inner.crosses
    assert not spawn.crosses
    assert spawn.module == "sqlalchemy.util.concurrency" or spawn.module.startswith("sqlalchemy.")


def test_greenlets_in_every_state() -> None:
    """Not begun, suspended, running, dead; and one of another thread."""
    found: dict[str, list[str]] = {}

    def run() -> None:
        found["running"] = shape(greenlet.getcurrent())
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch()

    one = greenlet.greenlet(run)
    assert shape(one) == []
    assert capture_stack(one).state is None
    one.switch()
    assert found["running"][-1] == "|run"
    assert shape(one) == ["run"]
    one.switch()
    assert one.dead
    assert shape(one) == []

    others: list[Any] = []
    ready, release = threading.Event(), threading.Event()

    def in_thread() -> None:
        others.append(greenlet.getcurrent())
        others.append(greenlet.greenlet(hold))
        others[1].switch()

    def hold() -> None:
        ready.set()
        release.wait(10)

    with following(True):
        thread = threading.Thread(target=in_thread)
        thread.start()
        assert ready.wait(10)
        whole = ["in_thread", "|hold", "Event.wait"]
        for other in others:
            stack = capture_stack(other)
            assert shape(stack)[-4:-1] == whole
            assert stack.task == "Thread-{} (in_thread)" or stack.kind == "greenlet"
        release.set()
        thread.join()


def test_the_tracer_is_a_help_but_no_condition() -> None:
    """Nothing is installed by a look."""
    capture_all()
    assert greenlet.gettrace() is None
    assert not switches.following()


REPL = """
import asyncio, greenprof
from sqlalchemy.util import greenlet_spawn
greenprof.print_stack()
def sync():
    greenprof.print_stack()

asyncio.run(greenlet_spawn(sync))
"""


def test_from_an_interactive_session() -> None:
    """`python -i`: the lines typed are `<module>` of `<stdin>`."""
    finished = run_python("-i", "-q", stdin=REPL)
    stacks = finished.stderr.split("Unified stack of ")[1:]
    assert len(stacks) == 2, str(finished)
    assert stacks[0].startswith("thread 'MainThread', on-cpu (innermost last):\n")
    name = r"<stdin>(-\d+)?" if sys.version_info < (3, 14) else r"<stdin-\d+>"
    assert re.search(rf'File "{name}", line 1, in <module>', stacks[0])
    assert "--- greenlet boundary ---" in stacks[1]
    assert " in sync" in stacks[1]
    assert "capture" not in finished.stderr


ASYNC_REPL = """
import greenprof
greenprof.print_stack()
import asyncio
from sqlalchemy.util import greenlet_spawn
await greenlet_spawn(greenprof.print_stack)
task = asyncio.create_task(asyncio.sleep(9))
await asyncio.sleep(0.01)
greenprof.print_stack(task)
"""


def test_from_asyncios_interactive_session() -> None:
    """`python -m asyncio`: what is awaited there is a task, typed lines alone are not."""
    finished = run_python("-m", "asyncio", stdin=ASYNC_REPL)
    stacks = finished.stderr.split("Unified stack of ")[1:]
    assert len(stacks) == 3, str(finished)
    assert stacks[0].startswith("thread 'MainThread', on-cpu")
    assert stacks[1].startswith("asyncio ")
    assert "~" in stacks[1]
    assert "greenlet_spawn" in stacks[1]
    assert stacks[2].startswith("asyncio 'sleep', awaiting")
