"""How many are ready to go on and cannot, because somebody keeps their loop."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from greenprof import awaitables, loops
from greenprof.interrupted import from_signal_handler

__all__ = ["waiting_in", "waiting_tasks"]

#: Timers, descriptors and tasks that are looked at.
MAX_LOOKED_AT = 10_000


def waiting_in(kind: str, loop: Any, owner: Any) -> int:
    """How many wait for a loop or hub, but for `owner`. In the loop's own thread.

    asyncio: tasks whose next step is due, timers that are over, and descriptors with something to
    read or room to write, for each of which somebody waits. gevent and eventlet: callbacks and
    timers that are due. 0 where it cannot be told.
    """
    try:
        if kind == "asyncio":
            return _waiting_tasks_of(loop, owner) + _due_timers_of(loop) + _ready_descriptors(loop)
        if kind == "gevent":
            return len(loop.loop._callbacks) + int(loop.loop.pendingcnt)
        if kind == "eventlet":
            return _due_timers_of_eventlet()
    except Exception as error:  # a loop of somebody's own
        if from_signal_handler(error):
            raise
    return 0


def waiting_tasks(loop: Any) -> int:
    """How many tasks of a loop could go on, but for the one that runs; for loops written in C.

    From any thread. Does not see what waits in the operating system.
    """
    running = loops.current_task(loop)
    found = 0
    for reference in islice(loops.task_refs((loop,)), MAX_LOOKED_AT):
        task = reference()
        if task is None or task is running or task.done() or task.get_loop() is not loop:
            continue
        waiter = awaitables.waiter_of(task)
        if waiter is None or waiter.done():
            found += 1
    return found


def _waiting_tasks_of(loop: Any, owner: Any) -> int:
    found = {
        id(task)
        # Copied in C: other threads may add theirs.
        for handle in list(loop._ready)
        if not handle._cancelled
        and (task := getattr(handle._callback, "__self__", None)) is not None
        and awaitables.is_task(task)
        and awaitables.waiter_of(task) is not owner  # which would have kept it waiting anyway
    }
    found.discard(id(owner))
    return len(found)


def _due_timers_of(loop: Any) -> int:
    now = loop.time()
    timers: Iterable[Any] = islice(list(loop._scheduled), MAX_LOOKED_AT)
    return sum(1 for timer in timers if timer._when <= now and not timer._cancelled)


def _ready_descriptors(loop: Any) -> int:
    selector = getattr(loop, "_selector", None)
    poll = getattr(selector, "_selector", None)
    # The system's own only, which tells again what it has told: a patched one would switch.
    if type(poll) is not getattr(sys.modules.get("select"), "epoll", None):
        return 0
    own = getattr(loop, "_ssock", None)
    found: list[tuple[int, int]] = []
    with suppress(OSError, ValueError):
        found = poll.poll(0, MAX_LOOKED_AT)  # type: ignore[union-attr]
    return sum(1 for descriptor, _ in found if own is None or descriptor != own.fileno())


def _due_timers_of_eventlet() -> int:
    local: Any = getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None)
    hub = local.hub
    now = hub.clock()
    timers = [*islice(hub.timers, MAX_LOOKED_AT), *islice(hub.next_timers, MAX_LOOKED_AT)]
    return sum(1 for when, timer in timers if when <= now and not timer.called)
