"""Stacks on a page: on demand, and by a signal in the middle of anything."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof import dumps
from tests.running import run_python
from tests.shapes import ended, until_waiting
from tests.sqlalchemy_programs import await_


async def query() -> None:
    await asyncio.sleep(10)


def sync() -> None:
    await_(query())


def test_a_stack_as_text() -> None:
    """Root first, the boundaries marked, each frame with its file and line."""

    async def main() -> str:
        task = asyncio.create_task(greenlet_spawn(sync), name="request 4")
        await until_waiting(task)
        text = greenprof.format_stack(task)
        file = io.StringIO()
        greenprof.print_stack(task, file)
        assert file.getvalue() == text
        await ended(task)
        return text

    lines = asyncio.run(main()).splitlines()
    assert lines[0] == "Unified stack of asyncio 'request {}', awaiting (innermost last):"
    spawn, boundary, in_sync, await_site, second_boundary, in_query, sleep = lines[1:]
    assert spawn.startswith(' ~ File "')
    assert spawn.endswith("in greenlet_spawn")
    assert boundary == second_boundary == "  --- greenlet boundary ---"
    line = sync.__code__.co_firstlineno + 1
    assert in_sync == f'   File "{__file__}", line {line}, in sync'
    assert await_site.startswith(' ~ File "')
    line = query.__code__.co_firstlineno + 1
    assert in_query == f' * File "{__file__}", line {line}, in query'
    assert sleep.endswith("in sleep")


def test_a_page_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """A summary, then each stack once, however many tasks have it."""

    async def main() -> None:
        tasks = [asyncio.create_task(greenlet_spawn(sync), name=f"request {n}") for n in range(50)]
        await until_waiting(tasks[0])
        greenprof.dump()
        for task in tasks:
            await ended(task)

    asyncio.run(main())
    page = capsys.readouterr().err
    lines = page.splitlines()
    assert lines[0].startswith("greenprof: ")
    assert "50 awaiting" in lines[0]
    assert "1 on-cpu" in lines[0]
    headings = [line for line in lines if line.startswith("Unified stack of ")]
    assert headings[0].startswith("Unified stack of asyncio 'test_a_page_of_everything.")
    assert "Unified stack of asyncio 'request {}' (50 of them), awaiting (innermost last):" in page
    assert page.count("in query") == 1


@contextlib.contextmanager
def dumping(file: Any = None) -> Iterator[None]:
    earlier = signal.getsignal(signal.SIGUSR1)
    greenprof.dump_on_signal(signal.SIGUSR1, file)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, earlier)


def test_a_signal_in_sync_code_under_a_bridge() -> None:
    """The handler runs in the sync greenlet; the page shows the whole stack of the task."""
    file = io.StringIO()

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    async def main() -> None:
        await greenlet_spawn(interrupted)

    with dumping(file):
        asyncio.run(main())
    stack = file.getvalue().split("Unified stack of ")[1]
    assert stack.startswith("asyncio 'test_a_signal_in_sync_code_under_a_bridge.")
    names = [line.rpartition(" in ")[2] for line in stack.splitlines()[1:]]
    mine = "test_a_signal_in_sync_code_under_a_bridge.<locals>."
    assert names[:4] == [
        f"{mine}main",
        "greenlet_spawn",
        "  --- greenlet boundary ---",
        f"{mine}interrupted",
    ]
    assert dumps.__file__ not in file.getvalue()


def test_the_earlier_handler_is_called_once_and_comes_back() -> None:
    """However often dumping was asked for, there is one page, and one call of what was there."""
    calls: list[tuple[int, Any]] = []
    file = io.StringIO()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: calls.append((number, frame)))
    try:
        for _ in range(3):
            greenprof.dump_on_signal(signal.SIGUSR1, file)
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert file.getvalue().count("greenprof: ") == 1
    assert [number for number, _ in calls] == [signal.SIGUSR1]
    assert calls[0][1] is not None


def test_what_an_earlier_handler_raises_reaches_the_program() -> None:
    class Stop(Exception):  # noqa: N818  # a program's own
        pass

    def raise_it(number: int, frame: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        greenprof.dump_on_signal(signal.SIGUSR1, io.StringIO())
        with pytest.raises(Stop):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_while_the_page_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again before the first page is out: one page, no endless recursion."""
    file = io.StringIO()
    pages = 0
    real = greenprof.capture_all

    def capture_all() -> Any:
        nonlocal pages
        pages += 1
        os.kill(os.getpid(), signal.SIGUSR1)
        return real()

    monkeypatch.setattr(dumps, "capture_all", capture_all)
    with dumping(file):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert pages == 1
    assert file.getvalue().count("greenprof: ") == 1


def test_a_look_that_fails_says_so_and_the_program_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = io.StringIO()

    def capture_all() -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr(dumps, "capture_all", capture_all)
    with dumping(file):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert file.getvalue() == "greenprof: cannot print the stacks: RuntimeError: no luck\n"


def test_a_file_that_was_closed_ends_nothing(tmp_path: Path) -> None:
    file = (tmp_path / "page").open("w")
    file.close()
    with dumping(file):
        os.kill(os.getpid(), signal.SIGUSR1)


def test_in_the_middle_of_a_write_to_the_same_file() -> None:
    """The program's own write to stderr may be what is interrupted: its buffer must not be used."""
    program = """
import os, signal, sys, greenprof
greenprof.dump_on_signal(signal.SIGUSR1)
class Slow:
    def __str__(self): return "x" * 10
import io, threading
class Raw(io.RawIOBase):
    def __init__(self): self.depth = 0
    def writable(self): return True
    def fileno(self): return 2
    def write(self, data):
        self.depth += 1
        if self.depth == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        self.depth -= 1
        os.write(2, bytes(data))
        return len(data)
sys.stderr = io.TextIOWrapper(io.BufferedWriter(Raw()), write_through=True)
sys.stderr.write("mine\\n")
sys.stderr.flush()
sys.stderr = sys.__stderr__
print("end")
"""
    finished = run_python("-c", program)
    assert finished.stdout == "end\n", str(finished)
    assert finished.stderr.count("greenprof: ") == 1
    assert "mine\n" in finished.stderr
    assert "reentrant" not in finished.stderr


def test_only_the_main_thread_sets_handlers() -> None:
    errors: list[BaseException] = []

    def in_thread() -> None:
        try:
            greenprof.dump_on_signal(signal.SIGUSR1)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_names_that_no_encoding_has_are_printed_all_the_same(tmp_path: Path) -> None:
    """A task may be called anything; the file's encoding may be ASCII."""

    async def main(file: Any) -> None:
        task = asyncio.create_task(query(), name="überfällig \udcff")
        await until_waiting(task)
        with dumping(file):
            os.kill(os.getpid(), signal.SIGUSR1)
        await ended(task)

    path = tmp_path / "page"
    with path.open("w", encoding="ascii") as file:
        asyncio.run(main(file))
    assert r"\xfcberf\xe4llig \udcff" in path.read_text(encoding="ascii")


def test_the_frames_of_a_signal_handler_are_the_programs() -> None:
    """A look from inside a handler of the program's shows the handler, above it what it interrupts."""
    found: list[list[str]] = []

    def handler(number: int, frame: Any) -> None:
        found.append([one.name for one in greenprof.capture_stack().frames])

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        interrupted()
    finally:
        signal.signal(signal.SIGUSR1, before)
    names = [name.rpartition(".")[2] for name in found[0]]
    assert names[-2:] == ["interrupted", "handler"]


def test_stderr_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, or in a daemon that closed it."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "__stderr__", None)
    with dumping():
        os.kill(os.getpid(), signal.SIGUSR1)
    greenprof.dump()
    greenprof.print_stack()
