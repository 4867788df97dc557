"""Unified stacks: frames from a task's root to the innermost awaited coroutine.

A `RawStack` is what a sampler needs: the frames, and where greenlet boundaries lie. It holds
frames, so it must not outlive the sample. `greenprof.capture` makes something readable of it.

A stack is put together from *parts*: the frames of the greenlet that runs, below those of its
parents up to the first hub; or the chain of awaits of a suspended task. Wherever a bridge frame
turns up in one of them, the greenlet that it awaits for is spliced in below it, and what it
awaits comes after. When the loop itself runs in a child of the sync code (greenletio's and
greenhack's own loop, Playwright), it is the other way about: the sync code is the root.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any

from greenlet import greenlet

from greenprof import awaitables, bridges
from greenprof.bridges import Part, Role
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.rawstack import (
    AWAITED,
    BOUNDARY,
    MAX_DEPTH,
    PYTHON,
    RawStack,
    leave_out_above,
    leave_out_launcher,
    walk,
    walk_all,
)
from greenprof.shapes import Shape, is_awaited, remember, shape_of, wholes
from greenprof.switches import CO_AWAITS, Switches

__all__ = [
    "AWAITED",
    "BOUNDARY",
    "MAX_DEPTH",
    "PYTHON",
    "RawStack",
    "awaiting",
    "is_hub",
    "leave_out_above",
    "running",
    "spawning",
    "suspended",
    "suspended_greenlet",
    "walk",
]

#: Greenlets, or awaits between tasks, put together into one stack.
MAX_PARTS = 32

# A task's own frames come below the innermost of these; uvloop has no frame but the runner's.
_RUNS_TASKS = frozenset(
    {"Handle._run", "BaseEventLoop.run_forever", "BaseEventLoop.run_until_complete", "Runner.run"}
)


def running(
    frame: FrameType,
    current: greenlet | None,
    switches: Switches | None,
    task: Any = None,
    *,
    above: bool = True,
) -> tuple[RawStack, bool]:
    """The stack of what a thread runs, and whether it belongs to `task`.

    `frame` is the running frame, `current` the greenlet that runs (None: not known), `task` the
    asyncio task that is current on the thread's loop. It is not the task's if, say, a loop that
    runs in a child greenlet has handed control back to the sync code. `above`: with the stacks of
    whoever waits for the task, or what spawned the greenlet (`spawning`; else it is `spawned`).
    """
    parts, forms, members = _parts(frame, current)
    stack = RawStack()
    first, start, is_tasks = (0, 0, False) if task is None else _find_root(parts, forms, task)
    _compose_once(stack, parts, forms, members, first, start, switches)
    if is_tasks and stack.owner is None:
        if above:
            try:
                stack.put_below(awaiting(task, switches))
            except Exception as error:
                _cut_short(stack, error)
    elif not is_tasks:
        stack.hub = forms[0].hub
        outermost = members[0]
        if outermost is not None and outermost.parent is not None and not stack.hub:
            if above:
                _put_spawner_above(stack, outermost)
            else:
                stack.spawned = outermost
    return stack, is_tasks


def _find_root(
    parts: list[list[FrameType]], forms: list[Shape], task: Any
) -> tuple[int, int, bool]:
    """Where a task begins: the part, the index of its root there, and whether it was found."""
    root = awaitables.root_frame(task)
    if root is None:  # compiled code: it begins below the loop
        return _find_below_loop(parts, 0) or (0, 0, True)
    for number, frames in enumerate(parts):
        try:
            start = frames.index(root)
        except ValueError:
            continue
        # An eager task begins inside the coroutine that creates it.
        return number, min(start, forms[number].first_await), True
    # greenback puts another coroutine in a task's place while the first one runs. And if the walk
    # came to its limit, the root was cut off: still the task's.
    return _find_below_loop(parts, CO_AWAITS) or (0, 0, len(parts[0]) >= MAX_DEPTH)


def _find_below_loop(parts: list[list[FrameType]], flags: int) -> tuple[int, int, bool] | None:
    """The frame below the innermost one that runs tasks, if its code has one of the flags."""
    for number in range(len(parts) - 1, -1, -1):
        frames = parts[number]
        for at in range(len(frames) - 1, 0, -1):
            if frames[at - 1].f_code.co_qualname in _RUNS_TASKS:
                found = not flags or frames[at].f_code.co_flags & flags
                return (number, at, True) if found else None
    return None


def _parts(
    frame: FrameType, current: greenlet | None
) -> tuple[list[list[FrameType]], list[Shape], list[greenlet | None]]:
    """The frames of the running greenlet and of its parents up to a hub, outermost first."""
    frames = walk_all(frame)
    form = shape_of(frames)
    parts, forms = [frames], [form]
    members = [current]
    parent = current
    while parent is not None and not form.hub and len(parts) < MAX_PARTS:
        child, parent = parent, parent.parent
        frames = [] if parent is None else walk_all(parent.gr_frame)
        if not frames:
            break
        form = shape_of(frames)
        # On a hub, a task's bridge frame may have started the child.
        if not frames or (form.hub and bridges.waiter_kept_in(frames[-1]) is not child):
            break
        parts.insert(0, frames)
        forms.insert(0, form)
        members.insert(0, parent)
    return parts, forms, members


def is_hub(frames: list[FrameType]) -> bool:
    """Whether a greenlet with these frames, root first, serves everybody."""
    role = bridges.role_of(frames[0].f_code)
    return role is not None and role.part is Part.HUB


def _compose_once(
    stack: RawStack,
    parts: list[list[FrameType]],
    forms: list[Shape],
    members: list[greenlet | None],
    first: int,
    start: int,
    switches: Switches | None,
) -> None:
    """What `_compose` does, as it was done for frames of the same functions before."""
    key: list[int] = []
    pieces: list[list[FrameType]] = []
    waiting = None if switches is None else switches.waiting
    for number in range(first, len(parts)):
        frames, form = parts[number], forms[number]
        begin = start if number == first else 0
        key += (form.serial, begin)
        candidates: Sequence[int] = form.awaits
        if waiting and not waiting.keys().isdisjoint(map(id, frames)):
            seen = (
                at
                for at, frame in enumerate(frames[:-1])
                if id(frame) in waiting and is_awaited(frames[at + 1].f_code)
            )
            candidates = sorted({*candidates, *seen})
        for at in candidates:
            if at < begin:
                continue
            waiter = bridge_frame_waiter(frames[at], switches)
            if waiter is None:
                key += (at, 0)
                continue
            below = walk_all(waiter.gr_frame)
            if not below or waiter.parent is None or any(one is waiter for one in members):
                # Sync code may be the root of what runs below it.
                _compose(stack, parts, members, first, start, switches)
                return
            key += (at, shape_of(below).serial)
            pieces += (frames[begin : at + 1], below)
            begin = at + 1
        pieces.append(frames[begin:] if begin else frames)
    known = tuple(key)
    whole = wholes.get(known)
    if whole is None:
        _compose(stack, parts, members, first, start, switches)
        whole = remember(known, stack, pieces)
    else:
        whole.fill(stack, pieces)
    stack.form = 0 if whole is None else whole.serial


def _compose(
    stack: RawStack,
    parts: list[list[FrameType]],
    members: list[greenlet | None],
    first: int,
    start: int,
    switches: Switches | None,
) -> None:
    for number in range(first, len(parts)):
        frames = parts[number][start:] if number == first else parts[number]
        if number > first and stack.frames and stack.frames[-1].f_code.co_flags & CO_AWAITS:
            stack.mark_edge()
        stack.begin(PYTHON, number > first)
        roles = bridges.roles_in(frames)
        begin = 0
        for at in _bridge_frames_in(frames, roles, switches):
            if at == len(frames) - 1 or not is_awaited(frames[at + 1].f_code):
                continue  # it runs, or has switched to the next part: it awaits nothing now
            waiter = bridge_frame_waiter(frames[at], switches)
            if waiter is None:
                continue
            stack.extend(frames[begin : at + 1])
            stack.mark_edge()
            begin = at + 1
            # By identity: a subclass of greenlet may compare as it likes.
            member = next((at for at, one in enumerate(members) if one is waiter), -1)
            if member < 0 and waiter.parent is not None:
                _splice(stack, waiter)
                stack.begin(AWAITED, True)
            elif member < number:
                # The sync code runs its own loop below it: it is the root.
                stack.make_root(waiter, walk(waiter.gr_frame) if member < 0 else parts[member])
        if begin:
            stack.extend(frames[begin:])
        else:
            stack.extend(frames, roles)


def _bridge_frames_in(
    frames: list[FrameType], roles: list[tuple[int, Role]], switches: Switches | None
) -> list[int]:
    """The indexes of frames that may await for a greenlet, in ascending order."""
    found = [at for at, role in roles if role.part is Part.BRIDGE_FRAME]
    waiting = {} if switches is None else switches.waiting
    if waiting.keys().isdisjoint(map(id, frames)):
        return found
    found.extend(at for at, frame in enumerate(frames) if id(frame) in waiting)
    return sorted(set(found))


def bridge_frame_waiter(frame: FrameType, switches: Switches | None) -> greenlet | None:
    """The greenlet that `frame` awaits for: as seen by switches, or as its library keeps it."""
    waiter: Any = None if switches is None else switches.awaited_by(frame)
    if waiter is None:
        waiter = bridges.waiter_kept_in(frame)
    # One without a frame runs again, or has not begun, or is dead.
    return waiter if isinstance(waiter, greenlet) and waiter.gr_frame is not None else None


def _splice(stack: RawStack, waiter: greenlet) -> FrameType | None:
    """Add a suspended sync greenlet's frames, and return the innermost: its await site."""
    frames = walk(waiter.gr_frame)
    if not frames:
        return None
    stack.begin(PYTHON, True)
    stack.extend(frames)
    stack.mark_edge()
    return frames[-1]


def handed_over(frame: FrameType) -> Any:
    """The awaitable that an await site or a trampoline holds, None for any other frame."""
    role = bridges.role_of(frame.f_code)
    if role is None or role.part not in (Part.AWAIT_SITE, Part.TRAMPOLINE):
        return None
    return bridges.variable_of(frame, role)


def suspended(awaitable: Any, switches: Switches | None, *, above: bool = True) -> RawStack:
    """The stack of a suspended coroutine or task, from its root to what it waits for last.

    `above`: with the stacks of whoever waits for the task.
    """
    stack = RawStack()
    task = awaitable if awaitables.is_task(awaitable) else None
    try:
        stack.begin(PYTHON, False)
        _follow(stack, awaitable if task is None else task.get_coro(), switches)
        if above and task is not None and stack.owner is None:
            stack.put_below(awaiting(task, switches))
    except Exception as error:
        _cut_short(stack, error)
    return stack


def _cut_short(stack: RawStack, error: Exception) -> None:
    """Keep what was found: objects of any library are looked at, and one of them failed."""
    if from_signal_handler(error):
        raise error
    try:
        stack.error = reason(error)
    except RecursionError:  # it was raised at the limit, and still holds
        stack.error = type(error).__name__


def _follow(stack: RawStack, awaitable: Any, switches: Switches | None, group: Any = None) -> bool:
    """Add a chain of awaits; return whether it came to the ``async with`` of `group`, its end."""
    seen: set[int] = set()
    leaf: Any = None
    last: Any = None
    while awaitable is not None and len(stack.frames) < MAX_DEPTH:
        if id(awaitable) in seen:
            stack.error = "the chain of awaits is a circle"
            break
        seen.add(id(awaitable))
        leaf = awaitable
        if awaitables.is_future(awaitable):
            break
        frame, below = awaitables.step(awaitable)
        if frame is None:
            awaitable = below
            continue
        last = awaitable
        stack.extend((frame,))
        if group is not None and awaitables.holds(awaitable, group):
            return True
        # One that steps through a coroutine of its own does not say that it awaits that.
        awaitable = handed_over(frame) if below is None else below
        waiter = bridge_frame_waiter(frame, switches)
        if waiter is None:
            continue
        if waiter.parent is None:
            stack.make_root(waiter, walk(waiter.gr_frame))
            continue
        stack.mark_edge()
        site = _splice(stack, waiter)
        handed = None
        if site is not None and (awaitable is None or awaitables.is_future(awaitable)):
            handed = handed_over(site)
        if handed is not None:
            # The bridge frame yields what the awaited coroutine yields: that one runs, step by
            # step, in the sync greenlet, and hangs on its await site. No boundary there.
            awaitable = handed
        else:
            stack.begin(AWAITED, True)
    stack.deadline = awaitables.deadline_of(last)
    stack.leaf = awaitables.describe(leaf)
    return False


def suspended_greenlet(target: greenlet, switches: Switches | None) -> RawStack:
    """The stack of a suspended greenlet: what spawned it, its frames, and what it waits for."""
    stack = RawStack()
    try:
        frames = walk(target.gr_frame)
        if not frames:
            return stack
        _compose(stack, [frames], [target], 0, 0, switches)
        awaitable = handed_over(frames[-1])
        if awaitable is not None:
            stack.begin(AWAITED, True)
            coroutine = awaitable.get_coro() if awaitables.is_task(awaitable) else awaitable
            _follow(stack, coroutine, switches)
        _put_spawner_above(stack, target)
    except Exception as error:
        _cut_short(stack, error)
    return stack


def awaiting(task: Any, switches: Switches | None) -> RawStack:
    """The stacks of whoever waits for this task: tasks, or sync code in the end; maybe empty.

    A task of a task group has the function that opened the group above it, even where that one
    does something else just now. `owner` is the sync code's greenlet, if it comes to that.
    """
    stack = RawStack()
    seen = {id(task)}
    for _ in range(MAX_PARTS):
        task, group = awaitables.awaited_by(task)
        if task is None or id(task) in seen:
            break
        seen.add(id(task))
        above = RawStack()
        above.begin(PYTHON, False)
        if isinstance(task, greenlet):
            above.extend(walk(task.gr_frame))
            if not above.frames:
                break
            above.mark_edge()
            above.begin(AWAITED, True)
            above.owner = task
        elif not _follow(above, task.get_coro(), switches, group) and group is not None:
            break
        above.hand_over()
        stack.put_below(above)
        if above.owner is not None:
            break
    stack.hand_over()
    return stack


def spawning(child: greenlet) -> RawStack:
    """The lines that spawned a greenlet, and those that spawned the one that did, where known."""
    stack = RawStack()
    _put_spawner_above(stack, child)
    return stack


def _put_spawner_above(stack: RawStack, child: greenlet) -> None:
    seen = {id(child)}
    spawned: greenlet | None = child
    for _ in range(MAX_PARTS):
        if spawned is None:
            return
        lines, spawned = bridges.spawned_at(spawned)
        above = RawStack()
        above.begin(PYTHON, False)
        spawning = list(reversed(list(lines)))
        leave_out_launcher(spawning)
        above.extend(spawning)
        if above.frames and stack.segments:
            at, kind, _ = stack.segments[0]
            stack.segments[0] = (at, kind, True)
        stack.put_above(above)
        if spawned is None or id(spawned) in seen:
            return
        seen.add(id(spawned))
