"""Which asyncio loops run, in which threads, and their tasks: asyncio's own or uvloop.

Reads asyncio's registries from any thread, imports no asyncio, and takes no lock of the
program's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import attrgetter
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet

from greenprof import awaitables, variables
from greenprof._native import get_ident
from greenprof.rawstack import walk


def running_loop() -> Any:
    """The loop that runs in this thread, None if there is none."""
    # Also while the module is being imported, and lacks most of what it will have.
    ask = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return None if ask is None else ask()


_ASKS_TWICE = sys.version_info >= (3, 14)


def current_task(loop: Any) -> Any:
    """The task that a loop runs just now, None if it runs none. From any thread."""
    tasks = sys.modules.get("asyncio.tasks")
    ask = getattr(tasks, "current_task", None)
    if ask is None or loop is None:
        return None
    found = ask(loop)
    if found is None and _ASKS_TWICE:
        # Tasks written in Python have a table of their own, of which asyncio's function does not know.
        found = getattr(tasks, "_current_tasks", {}).get(loop)
    return found


def task_refs(loops: Sequence[Any] = ()) -> list[Any]:
    """Weak references to every task that was not collected, done ones included, in no order.

    `loops` are the loops to ask on Python 3.14 and newer, where each thread keeps its own list.
    The copies are made in C, so no task can come or go in between.
    """
    asyncio_tasks = sys.modules.get("asyncio.tasks")
    if asyncio_tasks is None:
        return []
    found: list[Any] = []
    # 3.11 has _all_tasks; 3.12 renamed it; from 3.14 on it holds other people's tasks only.
    for name in ("_all_tasks", "_scheduled_tasks"):
        registry = getattr(asyncio_tasks, name, None)
        if registry is not None:
            found.extend(getattr(registry, "data", ()))
            break
    if sys.version_info >= (3, 14):
        for loop in loops:
            found.extend(map(ref, asyncio_tasks.all_tasks(loop)))
    return found


# Functions that run no loop, by their codes' ids, which stay taken while the codes are kept.
_others: set[int] = set()
_kept: list[CodeType] = []
_CACHE_LIMIT = 20_000
_code_of = attrgetter("f_code")

_RUNS_A_LOOP = frozenset({"BaseEventLoop.run_forever", "Runner.run"})


class LoopFinder:
    """Finds the loop that runs in a thread, and remembers it."""

    def __init__(self) -> None:
        self._loops: dict[int, ref[Any]] = {}

    def loops(self) -> list[Any]:
        """The loops found so far that are still there."""
        return [loop for found in self._loops.values() if (loop := found()) is not None]

    def known(self, ident: int) -> Any:
        """The loop that was last found in a thread."""
        found = self._loops.get(ident)
        return None if found is None else found()

    def find(self, ident: int, frames: Sequence[FrameType], current: greenlet | None = None) -> Any:
        """The loop that runs in the thread `ident`, None if none does.

        `frames` are those of the greenlet that runs there, `current` is that one, if known: the
        loop may run in one of its parents.
        """
        if ident == get_ident():
            loop = running_loop()
            if loop is not None:
                self._loops[ident] = ref(loop)
            return loop
        loop = self.known(ident)
        if loop is not None and loop.is_running():
            return loop
        if "asyncio.tasks" not in sys.modules:
            return None
        loop = self._search(ident, frames)
        while loop is None and current is not None:
            current = current.parent
            loop = None if current is None else self._search(ident, walk(current.gr_frame))
        if loop is not None:
            self._loops[ident] = ref(loop)
        return loop

    def _search(self, ident: int, frames: Sequence[FrameType]) -> Any:
        codes = list(map(_code_of, frames))
        if not _others.issuperset(map(id, codes)):
            for code in codes:
                if code.co_qualname not in _RUNS_A_LOOP and id(code) not in _others:
                    if len(_kept) >= _CACHE_LIMIT:
                        _others.clear()
                        _kept.clear()
                    _kept.append(code)
                    _others.add(id(code))
        for frame, code in zip(frames, codes, strict=True):
            if id(code) in _others:
                continue
            # asyncio's own loop, and the runner of `asyncio.run` for those written in C.
            if code.co_qualname in _RUNS_A_LOOP and "asyncio" in code.co_filename:
                owner = variables.value_in(frame, ("self",))
                loop: Any = getattr(owner, "_loop", owner)
                if hasattr(loop, "is_running") and loop.is_running():
                    return loop
        # Loops that run a task at the moment, of all threads; from 3.14 on, of tasks written in Python.
        running = getattr(sys.modules["asyncio.tasks"], "_current_tasks", None) or {}
        for loop, task in list(running.items()):
            if getattr(loop, "_thread_id", None) == ident or awaitables.root_frame(task) in frames:
                return loop
        return None
