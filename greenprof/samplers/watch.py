"""Suspended tasks and greenlets: a bounded part of them is looked at, and stands for all.

Everybody gets a turn in a shuffled order. With `n` known and `k` looked at in a tick, each look
weighs `n / k` times the time since the last such tick, so the weights add up to the time that all
of them lived. `k`, and whether a tick looks at all, follow from what looks have cost lately, not
from what is looked at, which would favour what is cheap.
"""

from __future__ import annotations

import math
import random
from operator import attrgetter
from typing import Any, NamedTuple, Protocol
from weakref import ref

from greenlet import greenlet

from greenprof import awaitables, idle, labels, loops, stacks, switches
from greenprof._native import get_ident, time
from greenprof.frames import origin_of
from greenprof.profiles import FrameOrigin, State
from greenprof.samplers.recorder import Recorder
from greenprof.switches import Switches

#: The part of all time that looks may take; where ticks come often, more: so much a tick, and at most
#: this part of its period. Credit for so much of it lets a short run look at every tick.
BUDGET = 0.003
TICK_NS = 30_000
MOST = 0.03
CREDIT_NS = 3_000_000
#: A tick takes this part of the credit that there is.
CREDIT_PART = 0.125
MIN_LOOKS = 2
MAX_LOOKS = 64
#: What takes longer was interrupted.
MAX_LOOK_NS = 500_000
#: A stack that was rebuilt longer ago than this is rebuilt: its callers may have changed.
MAX_AGE_NS = 2_000_000_000
#: A copy of the registry of tasks costs time in proportion to their number: this part of all time.
REFRESH_BUDGET = 0.0005
#: What it costs at least: where there is next to nothing to copy, it is not done at each tick.
REFRESH_LEAST_NS = 12_500
#: What it costs at most: this, and so much for each task.
REFRESH_NS = 25_000
REFRESH_EACH_NS = 300
#: A task that nobody waits for may be waited for a moment later.
RECHECK_NS = 50_000_000
#: A task that serves a request may not know its route yet when it is first seen.
LABEL_LOOKS = 3
#: One that waits for its turn may be looked at many times before its framework looks the route up.
ROUTE_LOOKS = 50
#: Whoever waits for others, that are remembered.
MAX_ABOVES = 1000
#: Greenlets of which it is remembered whether they are hubs.
MAX_KINDS = 4096

_place_of = attrgetter("f_code", "f_lasti")


class Known:
    """What is remembered of one task.

    Its group; its stack (`node`, `owner`, `deadline`) while it waits for `waiter`; and the stack
    of whoever waits for it (`above`, `route`, `awaiting`), which lasts longer than that.
    """

    __slots__ = (
        "above",
        "awaiting",
        "deadline",
        "group",
        "handed",
        "looks",
        "node",
        "owner",
        "rebuilt_ns",
        "reference",
        "route",
        "shape",
        "waiter",
        "within_ns",
    )

    def __init__(self, task: Any) -> None:
        self.reference = ref(task)
        self.group = -1
        self.looks = 0
        self.waiter: Any = None
        self.node = -1
        self.owner: Any = None
        self.deadline: float | None = None
        self.rebuilt_ns = 0
        self.above = -1
        self.awaiting: Any = None
        self.handed: tuple[int, int, bool] | None = None
        self.route: str | None = None
        self.within_ns = 0
        # Of a greenlet that waits: its codes and offsets, which `node` is the stack of.
        self.shape: tuple[Any, ...] | None = None


class _Above(NamedTuple):
    """The stack of whoever waits for a task; see `Known`."""

    node: int
    awaiting: Any
    handed: tuple[int, int, bool] | None
    route: str | None
    within_ns: int


class _KeptAbove(NamedTuple):
    """It holds while who is `told` that the task is done is there, and `waiting` waits for `future`.

    All but the stack by weak references.
    """

    found: _Above
    told: Any
    waiting: Any
    future: Any


class Tasks:
    """The tasks and greenlets that were seen, and their groups."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._known: dict[int, Known] = {}
        self._aboves: dict[int, _KeptAbove] = {}
        self._prune_at = 4096

    def find(self, task: Any) -> Known:
        """What is remembered of a task; nothing, if it is new."""
        found = self._known.get(id(task))
        if found is None or found.reference() is not task:
            found = self._known[id(task)] = Known(task)
            if len(self._known) > self._prune_at:
                self._prune()
        return found

    def node(self, known: Known, task: Any, raw: stacks.RawStack, now_ns: int) -> int:
        """The id of a task's stack, below those of whoever waits for the task.

        `raw` is the task's own part; it gets the owner if that waits for the task.
        """
        if now_ns >= known.within_ns:
            found = self._above(task, now_ns)
            known.above, known.awaiting, known.handed, known.route, known.within_ns = found
        if known.awaiting is not None:
            raw.owner = known.awaiting()
        if known.handed is not None:
            raw.segments[0] = known.handed
        return self._recorder.node(raw, known.above)

    def node_of_greenlet(self, child: greenlet, raw: stacks.RawStack) -> int:
        """The id of a stack that begins in a greenlet, below the lines that spawned that."""
        known = self.find(child)
        if not known.within_ns:
            above = stacks.spawning(child)
            known.above = self._recorder.node(above) if above.frames else -1
            known.within_ns = 1  # it was spawned once
        if known.above >= 0 and raw.segments:
            raw.segments[0] = *raw.segments[0][:2], True
        return self._recorder.node(raw, known.above)

    def _above(self, task: Any, now_ns: int) -> _Above:
        """The stack of whoever waits for a task: the same one for all that it waits for."""
        # To find out who waits takes longer than to see that it still waits for the same.
        told = awaitables.told_by(task)
        kept = self._aboves.get(id(told))
        if (
            told is not None
            and kept is not None
            and now_ns < kept.found.within_ns
            and kept.told() is told
            and (waiting := kept.waiting()) is not None
            and (future := awaitables.waiter_of(waiting)) is not None
            and kept.future() is future
        ):
            return kept.found
        waiting, _ = awaitables.awaited_by(task)
        if waiting is None:
            return _Above(-1, None, None, None, now_ns + RECHECK_NS)
        raw = stacks.awaiting(task, switches.of_thread(get_ident()))
        raw.leaf = None
        found = _Above(
            self._recorder.node(raw) if raw.frames else -1,
            _weakly(raw.owner),
            raw.handed,
            labels.route_of(raw.frames),
            now_ns + (MAX_AGE_NS if raw.frames else RECHECK_NS),
        )
        future = awaitables.waiter_of(waiting)
        references = _weakly(told), _weakly(waiting), _weakly(future)
        if None not in references:
            if len(self._aboves) >= MAX_ABOVES:
                self._aboves.clear()
            self._aboves[id(told)] = _KeptAbove(found, *references)
        return found

    def meet(self, known: Known, task: Any, raw: stacks.RawStack) -> int:
        """The group of a task, by what its stack says; counted when it is first seen."""
        is_task = awaitables.is_task(task)
        if is_task and known.looks >= LABEL_LOOKS:
            known.looks += 1  # those of tasks that serve no request come to an end too
            if known.looks > ROUTE_LOOKS or not labels.awaits_route(raw.frames):
                return known.group
        name, kind = labels.label_of(task, raw, 0)
        group = self._recorder.group(known.route or name, kind)
        if known.group != group:
            # A task that has found its route was one all along; a greenlet that serves one
            # request after another is one in each.
            if known.group >= 0 and is_task:
                self._recorder.move_task(known.group, group)
            else:
                self._recorder.count_task(group)
            known.group = group
        known.looks += 1
        return group

    def _prune(self) -> None:
        for key, known in list(self._known.items()):
            if known.reference() is None:
                self._known.pop(key, None)
        self._prune_at = max(4096, 2 * len(self._known))


class Rotation:
    """References in an order that nothing in the program beats time with; each gets its turn."""

    def __init__(self) -> None:
        self._random = random.Random(0x6772)  # noqa: S311  # the program's own generator stays untouched
        self._references: list[Any] = []
        self._at = 0
        self._step = 1
        #: How many there are.
        self.size = 0

    def refill(self, references: list[Any]) -> None:
        """Replace the references; go on with those that are likely to be next."""
        earlier, self._references = self.size, references
        self.size = len(references)
        if self.size == earlier:
            return
        size = max(self.size, 1)
        # To shuffle them would hold the program up for milliseconds where there are thousands.
        self._at = int(self._random.random() * size)
        self._step = 1 + int(self._random.random() * size)
        while math.gcd(self._step, size) > 1:
            self._step += 1

    def take(self, count: int) -> list[Any]:
        """The next ones in turn, at most as many as there are."""
        size = self.size
        if count >= size:
            return self._references
        taken = []
        for _ in range(count):
            taken.append(self._references[self._at])
            self._at = (self._at + self._step) % size
        return taken


class Host(Protocol):
    """What a watch asks of the sampler that owns it."""

    def loops(self) -> list[Any]:
        """The event loops that were seen."""

    def thread_of_loop(self, loop: Any) -> int:
        """The identity of the thread that runs a loop."""

    def thread_index(self, ident: int) -> int:
        """The recorder's id of a thread."""

    def thread_group(self, ident: int) -> int:
        """The group of a thread's own sync code."""


class Watch:
    """Looks at suspended tasks and greenlets, once a tick."""

    def __init__(self, recorder: Recorder, tasks: Tasks, period_ns: int, host: Host) -> None:
        self._recorder = recorder
        self._tasks = tasks
        self._host = host
        self._period_ns = period_ns
        self._budget_ns = max(period_ns * BUDGET, min(TICK_NS, period_ns * MOST))
        self._credit_ns = float(CREDIT_NS)
        self._task_refs = Rotation()
        self._greenlet_refs = Rotation()
        self._refreshed_ns = 0
        self._refresh_cost_ns = 0
        self._look_ns = 15_000.0
        self._elapsed_ns = period_ns
        self._missed = False
        # id(greenlet) -> itself, weakly, and whether it is a hub.
        self._kinds: dict[int, tuple[ref[greenlet], bool]] = {}
        #: When looks stood for the time before last, and when the last tick was.
        self.last_ns = self.ticked_ns = time.monotonic_ns()

    def tick(self, now_ns: int, accounted: set[int]) -> None:
        """Look at a part of whoever is suspended.

        `accounted` are the ids of the tasks and greenlets whose time since the last tick was
        recorded already: those that run, and those that somebody runs for.
        """
        since = now_ns - self.ticked_ns
        self.ticked_ns = now_ns
        if since > 0:
            earned = self._budget_ns * since / self._period_ns
            self._credit_ns = min(self._credit_ns + earned, CREDIT_NS)
            self._missed = self._missed or since > 2 * self._period_ns
            if self._credit_ns >= 0:
                self._look(now_ns, accounted)

    def settle(self, now_ns: int) -> None:
        """Look once more, for the time since the last look, if that is more than a tick's."""
        if now_ns - self.last_ns > 2 * self._period_ns:
            self.ticked_ns = now_ns
            self._look(now_ns, set())

    def _look(self, now_ns: int, accounted: set[int]) -> None:
        elapsed = self._elapsed_ns = now_ns - self.last_ns
        self.last_ns = now_ns
        # Even where there are as many as before, they may be others.
        if (now_ns - self._refreshed_ns) * REFRESH_BUDGET >= self._refresh_cost_ns:
            self._refresh(now_ns)
        known = self._task_refs.size + self._greenlet_refs.size
        if not known:
            return
        began = time.monotonic_ns()
        afford = int(CREDIT_PART * max(self._credit_ns, 0) / self._look_ns)
        share = max(MIN_LOOKS, min(MAX_LOOKS, afford)) / known
        looked = 0
        for rotation, look in (
            (self._task_refs, self._look_at_task),
            (self._greenlet_refs, self._look_at_greenlet),
        ):
            if not rotation.size:
                continue
            taken = rotation.take(max(1, round(share * rotation.size)))
            weight = elapsed * rotation.size // len(taken)
            for entry in taken:
                look(entry, weight, now_ns, accounted)
            looked += len(taken)
        cost = min((time.monotonic_ns() - began) / looked, MAX_LOOK_NS)
        # Slow to forget: one cold look in a tick must not make the next ticks look at nothing.
        self._look_ns += (cost - self._look_ns) * 0.05
        self._credit_ns -= cost * looked
        self._missed = False

    def _refresh(self, now_ns: int) -> None:
        began = time.monotonic_ns()
        self._refreshed_ns = now_ns
        self._task_refs.refill(loops.task_refs(self._host.loops()))
        self._greenlet_refs.refill(
            [
                (reference, state)
                for state in switches.all_threads()
                for reference in list(state.born.values())
                if (found := reference()) is not None
                and self.below_hub(found)
                and not state.is_awaited_for(found)
            ]
        )
        known = self._task_refs.size + self._greenlet_refs.size
        # Whoever interrupted it (another thread, the garbage collector) is not what it costs: new
        # tasks would be out of sight for seconds.
        took_ns = min(time.monotonic_ns() - began, REFRESH_NS + known * REFRESH_EACH_NS)
        self._refresh_cost_ns = max(took_ns, REFRESH_LEAST_NS)

    def below_hub(self, found: greenlet) -> bool:
        """Whether a greenlet is a task of its own: its parent is a hub."""
        parent = found.parent
        if parent is None or found.dead:
            return False
        return self.is_hub(parent)

    def is_hub(self, found: greenlet) -> bool:
        """Whether a greenlet, which does not run just now, is a hub."""
        kind = self._kinds.get(id(found))
        if kind is not None and kind[0]() is found:
            return kind[1]
        if found.gr_frame is None:
            return False
        frames = stacks.walk(found.gr_frame)
        if not frames:
            return False
        return self._note_kind(found, stacks.is_hub(frames))

    def add_hub(self, hub: greenlet) -> None:
        """Say that a greenlet was seen running as a hub."""
        kind = self._kinds.get(id(hub))
        if kind is None or not kind[1] or kind[0]() is not hub:
            self._note_kind(hub, True)

    def hubs(self) -> list[ref[greenlet]]:
        """The hubs that were seen."""
        return [reference for reference, is_hub in list(self._kinds.values()) if is_hub]

    def _note_kind(self, found: greenlet, is_hub: bool) -> bool:
        # What a greenlet begins with, it is until its end.
        if len(self._kinds) >= MAX_KINDS:
            for key, (reference, _) in list(self._kinds.items()):
                if reference() is None:
                    self._kinds.pop(key, None)
            if len(self._kinds) >= MAX_KINDS // 2:
                self._kinds.clear()
        self._kinds[id(found)] = ref(found), is_hub
        return is_hub

    def _look_at_task(
        self, reference: ref[Any], weight: int, now_ns: int, accounted: set[int]
    ) -> None:
        task = reference()
        if task is None or id(task) in accounted:
            return
        loop = task.get_loop()
        if task.done() or loops.current_task(loop) is task or awaitables.is_entered(task):
            return
        ident = self._host.thread_of_loop(loop)
        waiter = awaitables.waiter_of(task)
        known = self._tasks.find(task)
        if not _still_there(known, waiter, now_ns):
            raw = stacks.suspended(task, switches.of_thread(ident), above=False)
            known.node = self._tasks.node(known, task, raw, now_ns)
            self._tasks.meet(known, task, raw)
            known.owner = _weakly(raw.owner)
            known.deadline = raw.deadline
            known.waiter = _weakly(waiter)
            known.rebuilt_ns = now_ns
        group = known.group
        span = self._recorder.spans.of_task(task)
        if known.owner is not None:
            owner = known.owner()
            if owner is None or id(owner) in accounted:
                return  # the sync code that this task serves is looked at itself
            group = self._host.thread_group(ident)
            if span < 0:
                span = self._recorder.spans.of_greenlet(owner)
        thread = self._host.thread_index(ident)
        overdue = 0
        if waiter is None or waiter.done():
            overdue = weight
        elif known.deadline is not None:
            late_ns = (loop.time() - known.deadline) * 1e9
            if self._missed:
                # Ticks were missed, because something hogged the thread: the sleep may have ended
                # long after the last one. Otherwise the state at the tick stands for the interval,
                # or states would be favoured by how they begin.
                overdue = int(weight * min(late_ns / self._elapsed_ns, 1.0))
            elif late_ns > 0:
                overdue = weight
        if overdue > 0:
            self._recorder.add(group, thread, known.node, State.READY, overdue, 0, span)
            weight -= overdue
        if weight > 0:
            self._recorder.add(group, thread, known.node, State.AWAITING, weight, 0, span)

    def _look_at_greenlet(
        self, entry: tuple[ref[greenlet], Switches], weight: int, _: int, accounted: set[int]
    ) -> None:
        reference, state = entry
        found = reference()
        if found is None or id(found) in accounted:
            return
        if found.gr_frame is None or self.is_hub(found) or state.is_awaited_for(found):
            return  # what a task awaits for is a part of that
        known, raw = self.look_at_suspended(found, state)
        if raw is not None:
            self._tasks.meet(known, found, raw)
        thread = self._host.thread_index(state.ident)
        span = self._recorder.spans.of_greenlet(found)
        self._recorder.add(known.group, thread, known.node, State.AWAITING, weight, 0, span)

    def look_at_suspended(
        self, found: greenlet, state: Switches | None
    ) -> tuple[Known, stacks.RawStack | None]:
        """The stack (`Known.node`) of a greenlet that is suspended; the frames too if it has moved."""
        known = self._tasks.find(found)
        shape = tuple(map(_place_of, stacks.walk(found.gr_frame)))
        if known.shape == shape:
            return known, None
        raw = stacks.suspended_greenlet(found, state)
        name_leaf(raw)
        known.node = self._recorder.node(raw)
        # Not where more than these frames says what it is: a bridge's, or a request's.
        plain = not raw.edges and raw.error is None and not labels.serves_request(raw.frames)
        known.shape = shape if plain else None
        return known, raw


def name_leaf(raw: stacks.RawStack) -> None:
    """Name the C function that a suspended greenlet waits in (`joinall`), which has no frame."""
    if (
        raw.leaf is None
        and raw.frames
        and origin_of(raw.frames[-1].f_code.co_filename) is FrameOrigin.APP
    ):
        raw.leaf = idle.called_name(raw.frames[-1]) or None


def _still_there(known: Known, waiter: Any, now_ns: int) -> bool:
    # A task that ran in between waits for another future now. A task without one is about to run.
    return (
        waiter is not None
        and known.waiter is not None
        and known.waiter() is waiter
        and now_ns - known.rebuilt_ns < MAX_AGE_NS
    )


def _weakly(value: Any) -> Any:
    if value is None:
        return None
    try:
        return ref(value)
    except TypeError:  # somebody's own future without weak references: looked at anew each time
        return None
