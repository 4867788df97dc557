"""Stacks to look at: of here, of a task, a greenlet or a thread, and of everything at once.

Needs no profiler to run. While one runs, bridges that greenprof does not know come out whole as
well (see `greenprof.bridges`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from greenlet import getcurrent, greenlet

from greenprof import awaitables, bridges, loops, stacks, switches, variables
from greenprof._native import allocate_lock, cpu_clocks, get_ident, main_thread_ident
from greenprof.bridges import Part
from greenprof.frames import FrameTable, position_of
from greenprof.idle import waits_for_work
from greenprof.labels import label_of
from greenprof.printable import shown
from greenprof.profiles import Frame, FrameKind, State
from greenprof.stacks import RawStack

#: For how long threads' CPU clocks are watched to tell the ones that compute from the others.
WATCH_S = 0.002
#: The part of that time that a thread must have used to count as computing.
ON_CPU = 0.1

_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")

_MARKS = {FrameKind.PYTHON: " ", FrameKind.BOUNDARY: "~", FrameKind.AWAITED: "*"}

# What the main thread begins with: a script, or a module by -m.
_MAIN_ROOTS = frozenset({"<module>", "_run_module_as_main"})

_finder = loops.LoopFinder()


@dataclass(frozen=True)
class Stack:
    """One unified stack, root first.

    `task` is the name of the task, greenlet or thread that it belongs to, `kind` what that is:
    "asyncio", "greenlet" or "thread". `state` is None where it cannot be told. `error` says why a
    stack is cut short, if it is.
    """

    frames: tuple[Frame, ...]
    task: str
    kind: str
    state: State | None = None
    error: str | None = None

    def __str__(self) -> str:
        return self.text()

    def text(self, count: int = 1) -> str:
        """The stack as lines, root first, under a heading that says whose it is.

        `count` is how many have this same stack.
        """
        state = "" if self.state is None else f", {self.state}"
        several = "" if count == 1 else f" ({count} of them)"
        task = f"'{shown(self.task)}'"
        lines = [f"Unified stack of {self.kind} {task}{several}{state} (innermost last):"]
        for frame in self.frames:
            if frame.crosses:
                lines.append("  --- greenlet boundary ---")
            path = shown(frame.path, keep_end=True)
            where = f' File "{path}", line {frame.line},' if path else ""
            lines.append(f" {_MARKS[frame.kind]}{where} in {shown(frame.name)}")
        if not self.frames:
            lines.append("  (no frames: it has not started, or is done)")
        if self.error is not None:
            lines.append(f"  (cut short: {shown(self.error)})")
        return "\n".join(lines) + "\n"


def capture_stack(target: Any = None) -> Stack:
    """The unified stack of `target`, from its task's root to the innermost awaited coroutine.

    `target` is None (the caller, wherever it runs), an `asyncio.Task`, a greenlet, a
    `threading.Thread` or a thread's identity. A greenlet that is part of a task gives the task's
    whole stack. A task that has not begun has the frame that it will begin with, one that is done
    has none. Another thread's state takes 2 ms to find out.

    Raises TypeError for anything else, LookupError for a thread that does not run.
    """
    if isinstance(target, Stack):
        return target
    look = _Look()
    if target is None:
        return look.of_thread(look.here).stack
    if isinstance(target, greenlet):
        return look.of_greenlet(target)
    if awaitables.is_task(target):
        return look.of_task(target)
    ident = target.ident if isinstance(target, threading.Thread) else target
    if isinstance(target, bool) or not isinstance(target, (int, threading.Thread)):
        raise TypeError(
            f"cannot capture the stack of {type(target).__name__}: "
            "pass None, an asyncio task, a greenlet, a thread or its identity"
        )
    if ident not in look.threads:
        raise LookupError(
            f"cannot capture the stack of {target!r}: no such thread runs in this process"
        )
    return look.with_states([look.of_thread(ident)])[0]


def capture_all() -> list[Stack]:
    """The stack and the state of every asyncio task, greenlet and thread of the process.

    Threads come first, with what they run; the caller's leads. greenprof's own threads are left
    out. Looks at every object in memory to find all greenlets, and takes 2 ms to tell which
    threads compute.
    """
    look = _Look()
    order = sorted(look.threads, key=lambda ident: ident != look.here)
    running = [look.of_thread(ident) for ident in order if not look.is_own(ident)]
    found = look.with_states(running)
    shown = {id(frame) for one in running for frame in one.raw.frames}
    tasks = {id(one.task) for one in running if one.task is not None}
    for task in _all_tasks():
        if id(task) not in tasks and not _serves_sync_code(task):
            raw = stacks.suspended(task, look.switches)
            shown.update(map(id, raw.frames))
            if not raw.frames or not stacks.is_hub(raw.frames):
                found.append(look.finish(raw, task, task_state(task, raw)))
    for one in switches.all_greenlets():
        top = one.gr_frame
        if top is None or id(top) in shown or stacks.is_hub(stacks.walk(top)):
            continue
        if one.parent is None and not look.thread_of(one):
            continue  # below it runs what the thread itself is shown with
        raw = stacks.suspended_greenlet(one, look.switches)
        shown.update(map(id, raw.frames))
        found.append(look.finish(raw, one, State.AWAITING))
    return found


@dataclass
class _Running:
    """What a thread runs: `task` is the asyncio task that it belongs to, if any."""

    ident: int
    raw: RawStack
    task: Any
    stack: Stack
    idle: bool


class _Look:
    """One look at the process: what threads run, and what is known of their switches."""

    def __init__(self) -> None:
        self.here = get_ident()
        self.threads: dict[int, FrameType] = sys._current_frames()
        self.threads[self.here] = _caller()
        self.switches = switches.everywhere()

    def is_own(self, ident: int) -> bool:
        """Whether a thread is greenprof's: nobody else's code runs in it."""
        return ident != self.here and all(map(_is_own, stacks.walk(self.threads[ident])))

    def current_of(self, ident: int) -> greenlet | None:
        """The greenlet that a thread runs, None where nobody followed its switches."""
        if ident == self.here:
            return getcurrent()
        known = switches.of_thread(ident)
        current = None if known is None else known.running()
        # Between a switch and the callback that reports it, the one before is still noted.
        return current if current is not None and current.gr_frame is None else None

    def of_thread(self, ident: int) -> _Running:
        """What a thread runs."""
        frame = self.threads[ident]
        frames = stacks.walk(frame)
        current = self.current_of(ident)
        task = loops.current_task(_finder.find(ident, frames, current))
        raw, is_tasks = stacks.running(frame, current, self.switches, task)
        if raw.owner is not None:
            owner: Any = raw.owner
        elif is_tasks:
            owner = task
        else:
            owner = None if raw.frames and stacks.is_hub(raw.frames) else current
        stack = stack_of(raw, owner, ident, State.ON_CPU if ident == self.here else None)
        idle = not is_tasks and raw.owner is None and waits_for_work(frames)
        return _Running(ident, raw, task if is_tasks else None, stack, idle)

    def with_states(self, running: list[_Running]) -> list[Stack]:
        """Their stacks, with the states of other threads found out."""
        known = _cpu_clocks()
        clocks = {one.ident: known.get(one.ident) for one in running if one.ident != self.here}
        before = {ident: _read(clock) for ident, clock in clocks.items()}
        began = time.monotonic_ns()
        if clocks:
            lock = allocate_lock()  # the program's sleep may be one that switches greenlets
            lock.acquire()
            lock.acquire(timeout=WATCH_S)
        found = []
        for one in running:
            was, now = before.get(one.ident), _read(clocks.get(one.ident))
            state = one.stack.state
            if was is not None and now is not None:
                if now - was > ON_CPU * (time.monotonic_ns() - began):
                    state = State.ON_CPU
                else:
                    state = State.IDLE if one.idle else State.BLOCKED
            found.append(replace(one.stack, state=state))
        return found

    def of_task(self, task: Any) -> Stack:
        """A task's stack: on the thread that runs it, or of its suspended coroutine."""
        root = awaitables.root_frame(task)
        if loops.current_task(task.get_loop()) is task or _serves_sync_code(task):
            for ident in self.threads:
                one = self.of_thread(ident)
                if one.task is task:
                    return self.with_states([one])[0]
            # Its loop runs in a greenlet that has handed control to another one.
            for one_of_all in switches.all_greenlets():
                top = one_of_all.gr_frame
                if top is not None and root in stacks.walk(top):
                    raw, _ = stacks.running(top, one_of_all, self.switches, task)
                    return self.finish(raw, task, State.BLOCKED)
        raw = stacks.suspended(task, self.switches)
        return self.finish(raw, task, task_state(task, raw))

    def of_greenlet(self, target: greenlet) -> Stack:
        """A greenlet's stack: that of the thread or the task that it is a part of, or its own."""
        if target is getcurrent():
            return self.of_thread(self.here).stack
        top = target.gr_frame
        for one in self._running():
            if target is self.current_of(one.ident) or (top is not None and top in one.raw.frames):
                return self.with_states([one])[0]
        if top is not None:
            for task in _all_tasks():
                raw = stacks.suspended(task, self.switches)
                if top in raw.frames:
                    return self.finish(raw, task, task_state(task, raw))
        raw = stacks.suspended_greenlet(target, self.switches)
        return self.finish(raw, target, State.AWAITING if raw.frames else None)

    def _running(self) -> Iterator[_Running]:
        return map(self.of_thread, list(self.threads))

    def finish(self, raw: RawStack, owner: Any, state: State | None) -> Stack:
        """Make something readable of what is suspended."""
        owner = owner if raw.owner is None else raw.owner
        ident = self.thread_of(owner) if isinstance(owner, greenlet) else 0
        return stack_of(raw, owner, ident, state)

    def thread_of(self, owner: greenlet) -> int:
        """The thread that a greenlet belongs to."""
        main = switches.main_of(owner)
        for ident in self.threads:
            current = self.current_of(ident)
            if current is not None and switches.main_of(current) is main:
                return ident
        # Not followed: a thread's outermost function tells which it is.
        frames = stacks.walk(main.gr_frame)
        root = frames[0].f_code.co_qualname if frames else ""
        if root == "Thread._bootstrap":
            return getattr(variables.value_in(frames[0], ("self",)), "ident", None) or 0
        return main_thread_ident() if root in _MAIN_ROOTS else 0


def task_state(task: Any, raw: RawStack | None = None) -> State | None:
    """What a task that does not run just now is doing; None for one that is done."""
    if task.done():
        return None
    waiter = awaitables.waiter_of(task)
    if waiter is None or waiter.done():
        return State.READY
    if raw is not None and raw.deadline is not None and task.get_loop().time() > raw.deadline:
        return State.READY
    return State.AWAITING


def _serves_sync_code(task: Any) -> bool:
    """Whether a task runs a loop's side of sync code that runs now, above that loop."""
    if not awaitables.is_entered(task):
        return False
    root = awaitables.root_frame(task)
    role = None if root is None else bridges.role_of(root.f_code)
    return (
        role is not None
        and role.part is Part.BRIDGE_FRAME
        and loops.current_task(task.get_loop()) is not task
    )


def _caller() -> FrameType:
    """The innermost frame that is not greenprof's own."""
    innermost = sys._getframe(1)
    frame: FrameType | None = innermost
    while frame is not None and _is_own(frame):
        frame = frame.f_back
    return innermost if frame is None else frame


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OWN)


def _cpu_clocks() -> dict[int, int]:
    try:
        return cpu_clocks()
    except OSError:  # a thread has ended meanwhile
        return {}


def _read(clock: int | None) -> int | None:
    try:
        return None if clock is None else time.clock_gettime_ns(clock)
    except OSError:
        return None


def _all_tasks() -> list[Any]:
    found = (reference() for reference in loops.task_refs(_finder.loops()))
    return [task for task in found if task is not None and not task.done()]


def stack_of(
    raw: RawStack, owner: Any, ident: int, state: State | None, table: FrameTable | None = None
) -> Stack:
    """Make something readable of a look at the stack of `owner`, in the thread `ident`.

    `table` keeps what is known of functions, for whoever makes many.
    """
    table = FrameTable() if table is None else table
    frames = []
    for frame, (kind, crosses) in zip(raw.frames, raw.kinds(), strict=True):
        code, at = position_of(frame)
        if at < -1:
            frames.append(table.at_line(code, -at - 1, kind, crosses))
        else:
            frames.append(table.at_line(code, frame.f_lineno or 0, kind, crosses))
    if raw.leaf is not None:
        frames.append(Frame(f"<{raw.leaf}>", "", kind=FrameKind.AWAITED))
    name, kind_of_task = label_of(owner, raw, ident)
    return Stack(tuple(frames), name, kind_of_task, state, raw.error)
