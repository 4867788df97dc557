"""Who waits for work, and who is held up: threads that look alike to the operating system."""

from __future__ import annotations

import asyncio
import builtins
import queue
import selectors
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import uvloop

from greenprof import stacks
from greenprof.idle import called_name, waits_for_work


@contextmanager
def released(function: Callable[[], None], release: Callable[[], Any]) -> Iterator[list[Any]]:
    """A thread in `function`, and its frames once they have stopped changing."""
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield settled_frames(thread)
    finally:
        release()
        thread.join()


def settled_frames(thread: threading.Thread) -> list[Any]:
    deadline = time.monotonic() + 10
    earlier: list[tuple[int, int]] = []
    same = 0
    while time.monotonic() < deadline:
        time.sleep(0.01)
        frames = stacks.walk(sys._current_frames().get(thread.ident or 0))
        now = [(id(frame), frame.f_lasti) for frame in frames]
        same = same + 1 if now == earlier and now else 0
        if same == 3:
            return frames
        earlier = now
    raise AssertionError("the thread never came to rest")


def test_no_frames_are_no_work() -> None:
    assert waits_for_work([])


def in_queue() -> tuple[Callable[[], None], Callable[[], None]]:
    work: queue.Queue[None] = queue.Queue()
    return work.get, lambda: work.put(None)


def fetch_from_queue() -> tuple[Callable[[], None], Callable[[], None]]:
    work: queue.Queue[None] = queue.Queue()

    def worker() -> None:
        work.get()

    return worker, lambda: work.put(None)


def fetch_from_simple_queue() -> tuple[Callable[[], None], Callable[[], None]]:
    work: queue.SimpleQueue[None] = queue.SimpleQueue()

    def worker() -> None:
        work.get()

    return worker, lambda: work.put(None)


def wait_for_event() -> tuple[Callable[[], None], Callable[[], None]]:
    event = threading.Event()

    def worker() -> None:
        event.wait(60)

    return worker, event.set


def receive() -> tuple[Callable[[], None], Callable[[], None]]:
    ours, theirs = socket.socketpair()

    def worker() -> None:
        with ours:
            ours.recv(1)

    def release() -> None:
        theirs.send(b"x")
        theirs.close()

    return worker, release


def serve() -> tuple[Callable[[], None], Callable[[], None]]:
    server = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def worker() -> None:
        with server:
            server.serve_forever()

    return worker, server.shutdown


def run_loop(run: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    stop = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    waiting: list[asyncio.Event] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        waiting.append(asyncio.Event())
        await waiting[0].wait()

    def worker() -> None:
        run(main())
        stop.set()

    def release() -> None:
        loops[0].call_soon_threadsafe(waiting[0].set)
        assert stop.wait(10)

    return worker, release


def run_asyncio() -> tuple[Callable[[], None], Callable[[], None]]:
    return run_loop(asyncio.run)


def run_uvloop() -> tuple[Callable[[], None], Callable[[], None]]:
    return run_loop(uvloop.run)


def run_trio() -> tuple[Callable[[], None], Callable[[], None]]:
    event = threading.Event()

    async def main() -> None:
        while not event.is_set():  # noqa: ASYNC110  # another thread says when
            await trio.sleep(1.0)

    return lambda: trio.run(main), event.set


def deep_in_a_call() -> tuple[Callable[[], None], Callable[[], None]]:
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask() -> None:
        answers.get()

    def worker() -> None:
        ask()

    return worker, lambda: answers.put(None)


def wait_for_lock() -> tuple[Callable[[], None], Callable[[], None]]:
    lock = threading.Lock()
    lock.acquire()

    def worker() -> None:
        with lock:
            pass

    return worker, lock.release


def wait_for_result() -> tuple[Callable[[], None], Callable[[], None]]:
    future: Future[None] = Future()

    def worker() -> None:
        future.result(60)

    return worker, lambda: future.set_result(None)


def wait_for_process() -> tuple[Callable[[], None], Callable[[], None]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def worker() -> None:
        with process:
            process.wait()

    return worker, process.kill


def select_for_an_answer() -> tuple[Callable[[], None], Callable[[], None]]:
    ours, theirs = socket.socketpair()

    def ask() -> None:
        with selectors.DefaultSelector() as selector, ours:
            selector.register(ours, selectors.EVENT_READ)
            selector.select()

    def worker() -> None:
        ask()

    def release() -> None:
        theirs.send(b"x")
        theirs.close()

    return worker, release


IDLE = (
    in_queue,
    fetch_from_queue,
    fetch_from_simple_queue,
    wait_for_event,
    receive,
    serve,
    run_asyncio,
    run_uvloop,
    run_trio,
)
HELD_UP = (deep_in_a_call, wait_for_lock, wait_for_result, wait_for_process, select_for_an_answer)


@pytest.mark.parametrize("made", IDLE)
def test_waits_for_work(made: Any) -> None:
    """Queues, sockets and loops that a thread's own outermost function fetches its work from."""
    with released(*made()) as frames:
        assert waits_for_work(frames), [frame.f_code.co_name for frame in frames]


@pytest.mark.parametrize("made", HELD_UP)
def test_is_held_up(made: Any) -> None:
    """The same waits, by code that was handed work."""
    with released(*made()) as frames:
        assert not waits_for_work(frames), [frame.f_code.co_name for frame in frames]


def test_a_pools_worker_in_a_c_function() -> None:
    """The function that it was given has no frame."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(time.sleep, 0.2)
        (thread,) = pool._threads
        frames = settled_frames(thread)
        assert not waits_for_work(frames)
        # From 3.14 on it is a variable that is called, which has no name of its own.
        assert called_name(frames[-1]) == ("fn" if sys.version_info < (3, 14) else "")
        future.result()
        frames = settled_frames(thread)
        assert waits_for_work(frames)


def test_the_main_thread_is_handed_work_by_the_program() -> None:
    """Whatever a script waits for, it is in the middle of something."""
    assert not waits_for_work(stacks.walk(sys._getframe()))


def test_the_name_of_what_is_called() -> None:
    """The only way to tell C functions apart, which have no frame: these call back to be seen."""
    found: list[str] = []

    def here(value: Any) -> Any:
        found.append(called_name(sys._getframe(1)))
        return value

    values = [1]
    table = {"min": min}
    min(values, key=here)
    values.sort(key=here)
    builtins.max([len([1]), min(2, 3)][:1], key=here)
    table["min"](values, key=here)
    assert found == ["min", "sort", "max", ""]
