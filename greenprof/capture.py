"""Stacks to look at: of here, of a task, a greenlet or a thread, and of everything at once.

Needs no profiler to run. While one runs, bridges that greenprof does not know come out whole as
well (see `greenprof.bridges`).
"""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

from greenlet import getcurrent, greenlet

from greenprof import awaitables, loops, stacks, switches
from greenprof._native import get_ident
from greenprof.frames import FrameTable, position_of
from greenprof.labels import label_of
from greenprof.profile import Frame, FrameKind, State

_finder = loops.LoopFinder()


@dataclass(frozen=True)
class Stack:
    """One unified stack, root first.

    `state` is None where it was not looked at. `error` says why a stack is cut short, if it is.
    """

    frames: tuple[Frame, ...]
    task: str
    kind: str
    state: State | None = None
    error: str | None = None

    def __str__(self) -> str:
        return format_stack(self)


def capture_stack(target: Any = None) -> Stack:
    """The unified stack of `target`, from its task's root to the innermost awaited coroutine.

    `target` is None (the caller, wherever it runs), an `asyncio.Task`, a greenlet, a
    `threading.Thread` or a thread's identity. A greenlet that is part of a task gives the task's
    whole stack. Raises TypeError for anything else, LookupError for a thread that has ended.
    A task that is done has no frames.
    """
    if isinstance(target, Stack):
        return target
    if target is None:
        return _running(sys._getframe(1), get_ident(), getcurrent())
    if isinstance(target, greenlet):
        return _of_greenlet(target, sys._getframe(1))
    if awaitables.is_task(target):
        return _of_task(target, sys._getframe(1))
    ident = target.ident if isinstance(target, threading.Thread) else target
    if isinstance(ident, int) and not isinstance(ident, bool):
        if ident == get_ident():
            return _running(sys._getframe(1), ident, getcurrent())
        frame = sys._current_frames().get(ident)
        if frame is None:
            raise LookupError(f"no thread with the identity {ident} runs in this process")
        return _running(frame, ident, _current_of(ident))
    raise TypeError(
        f"cannot capture the stack of {type(target).__name__}: "
        "pass None, an asyncio task, a greenlet or a thread"
    )


def _current_of(ident: int) -> greenlet | None:
    known = switches.of_thread(ident)
    found = None if known is None else known.position()[1]
    return None if found is None else found()


def _running(frame: FrameType, ident: int, current: greenlet | None) -> Stack:
    frames = stacks.walk(frame)
    task = loops.current_task(_finder.find(ident, frames))
    raw, is_tasks = stacks.running(frame, current, switches.of_thread(ident), task)
    owner = task if is_tasks and raw.owner is None else raw.owner or current
    return _finish(raw, owner, ident, State.ON_CPU)


def _of_task(task: Any, caller: FrameType) -> Stack:
    if loops.current_task(task.get_loop()) is task:
        here = _running(caller, get_ident(), getcurrent())
        if loops.running_loop() is task.get_loop():
            return here
        for ident, frame in sys._current_frames().items():
            if ident != get_ident() and awaitables.root_frame(task) in stacks.walk(frame):
                return _running(frame, ident, _current_of(ident))
    raw = stacks.suspended(task, switches.of_thread(get_ident()))
    return _finish(raw, raw.owner or task, get_ident(), task_state(task, raw))


def task_state(task: Any, raw: stacks.RawStack | None = None) -> State | None:
    """What a task that does not run just now is doing; None for one that is done."""
    if task.done():
        return None
    waiter = awaitables.waiter_of(task)
    if waiter is None or waiter.done():
        return State.READY
    if raw is not None and raw.deadline is not None and task.get_loop().time() > raw.deadline:
        return State.READY
    return State.AWAITING


def _of_greenlet(target: greenlet, caller: FrameType) -> Stack:
    if target is getcurrent():
        return _running(caller, get_ident(), target)
    for known in switches.all_threads():
        found = known.position()[1]
        if known.ident != get_ident() and found is not None and found() is target:
            frame = sys._current_frames().get(known.ident)
            if frame is not None:
                return _running(frame, known.ident, target)
    known_here = switches.of_thread(get_ident())
    top = target.gr_frame
    if top is not None:
        # Part of what a task waits with? Then the task's whole stack is the answer.
        for task in _all_tasks():
            raw = stacks.suspended(task, known_here)
            if top in raw.frames:
                return _finish(raw, raw.owner or task, get_ident(), task_state(task, raw))
    raw = stacks.suspended_greenlet(target, known_here)
    return _finish(raw, target, get_ident(), State.AWAITING if raw.frames else None)


def _all_tasks() -> list[Any]:
    found = (reference() for reference in loops.task_refs(_finder.loops()))
    return [task for task in found if task is not None and not task.done()]


def _finish(raw: stacks.RawStack, owner: Any, ident: int, state: State | None) -> Stack:
    table = FrameTable()
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


def capture_all() -> list[Stack]:
    """The stack and the state of every asyncio task, greenlet and thread that is known.

    Greenlets are known if they started while a profiler ran, or belong to a task. What runs
    comes first.
    """
    found: list[Stack] = []
    running_tasks: list[Any] = []
    here = get_ident()
    for ident, frame in sys._current_frames().items():
        current = getcurrent() if ident == here else _current_of(ident)
        stack = _running(sys._getframe(1) if ident == here else frame, ident, current)
        loop = _finder.find(ident, stacks.walk(frame))
        running_tasks.append(loops.current_task(loop))
        found.append(stack)
    shown: set[int] = set()
    for task in _all_tasks():
        if any(task is running for running in running_tasks):
            continue
        raw = stacks.suspended(task, switches.of_thread(here))
        shown.update(map(id, raw.frames))
        found.append(_finish(raw, raw.owner or task, here, task_state(task, raw)))
    for known in switches.all_threads():
        for reference in list(known.born.values()):
            born = reference()
            if born is None or born.dead or born.gr_frame is None or id(born.gr_frame) in shown:
                continue
            raw = stacks.suspended_greenlet(born, known)
            found.append(_finish(raw, born, known.ident, State.AWAITING))
    return found


def format_stack(target: Any = None) -> str:
    """The unified stack of `target` (see `capture_stack`, or a `Stack`) as text, root first.

    A line ``--- greenlet boundary ---`` stands where the stack goes on in another greenlet; the
    bridge's own frames are marked ``~``, awaited ones ``*``.
    """
    stack = target if isinstance(target, Stack) else _capture_from(target)
    state = "" if stack.state is None else f", {stack.state}"
    lines = [f"Unified stack of {stack.kind} {stack.task!r}{state} (innermost last):"]
    marks = {FrameKind.PYTHON: " ", FrameKind.BOUNDARY: "~", FrameKind.AWAITED: "*"}
    for frame in stack.frames:
        if frame.crosses:
            lines.append("  --- greenlet boundary ---")
        where = f' File "{frame.path}", line {frame.line},' if frame.path else ""
        lines.append(f" {marks[frame.kind]}{where} in {frame.name}")
    if not stack.frames:
        lines.append("  (no frames: it has not started, or is done)")
    if stack.error is not None:
        lines.append(f"  (cut short: {stack.error})")
    return "\n".join(lines) + "\n"


def _capture_from(target: Any) -> Stack:
    # The caller of the public function that called this one is "here".
    if target is None:
        return _running(sys._getframe(2), get_ident(), getcurrent())
    return capture_stack(target)


def print_stack(target: Any = None, file: TextIO | None = None) -> None:
    """Print the unified stack of `target` (see `capture_stack`) to `file`, by default stderr."""
    print(format_stack(_capture_from(target)), end="", file=file or sys.stderr)


def dump(file: TextIO | None = None) -> None:
    """Print every task, greenlet and thread with its state to `file`, by default stderr."""
    print(_page(capture_all()), end="", file=file or sys.stderr)


def _page(found: list[Stack]) -> str:
    counts: dict[str, int] = {}
    for stack in found:
        name = "unknown" if stack.state is None else str(stack.state)
        counts[name] = counts.get(name, 0) + 1
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    head = f"greenprof: {len(found)} stacks ({summary})\n"
    return "\n".join([head, *map(format_stack, found)])


def dump_on_signal(signum: int = getattr(signal, "SIGUSR2", 0), file: TextIO | None = None) -> None:
    """Print every stack, as `dump` does, whenever the process gets this signal.

    A handler that was there is called afterwards. Main thread only, as for `signal.signal`
    (ValueError elsewhere). Where the main thread does not come round to running a handler,
    because it is stuck in C code, `faulthandler.register` is what helps.
    """
    earlier = signal.getsignal(signum)

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            dump(file)
        except Exception as error:  # a look from outside must not end the program
            print(f"greenprof: cannot print the stacks: {error}", file=sys.__stderr__)
        if callable(earlier):
            earlier(number, frame)

    signal.signal(signum, handle)


__all__ = [
    "Stack",
    "capture_all",
    "capture_stack",
    "dump",
    "dump_on_signal",
    "format_stack",
    "print_stack",
]

