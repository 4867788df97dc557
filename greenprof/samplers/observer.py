"""One look at a running thread: its unified stack, and the task that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any

from greenlet import greenlet

from greenprof import idle, labels, loops, stacks, switches
from greenprof._native import cpu_clock_of, get_ident, time
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import State
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.watch import Tasks, Watch

#: How deep below the thread's root the function is looked for that runs an event loop.
_LOOP_DEPTH = 40


class ThreadClock:
    """One thread's clocks as of its last sample, and what that was, for as long as it stays."""

    __slots__ = (
        "_clock",
        "cpu_ns",
        "ended",
        "ident",
        "last",
        "last_span",
        "left_out",
        "resumed_ns",
        "unattributed_ns",
        "unseen_ns",
        "waiting",
        "wall_ns",
    )

    def __init__(self, ident: int, now_ns: int, clocks: Mapping[int, int] | None = None) -> None:
        self.ident = ident
        self.wall_ns = now_ns
        self.resumed_ns = now_ns
        self.unattributed_ns = 0
        self.unseen_ns = 0
        self.left_out = 0
        self.ended = False
        self.last: tuple[int, int, int, State] | None = None
        self.last_span = -1
        # The sync code that waited above what ran: group, thread, node and span.
        self.waiting: tuple[int, int, int, int] | None = None
        self.cpu_ns = 0
        self._clock: int | None = None
        try:
            self._clock = cpu_clock_of(ident, clocks)
        except OSError as error:
            if from_signal_handler(error):
                raise
            self.ended = True  # in this very moment
        self.cpu_ns = self.read_cpu()

    def read_cpu(self) -> int:
        """The CPU time that the thread has used; what it was last if it has ended."""
        if self._clock is None:
            return self.cpu_ns
        try:
            return int(time.clock_gettime_ns(self._clock))
        except OSError as error:
            if from_signal_handler(error):
                raise
            self.ended = True
            return self.cpu_ns

    def count_since(self, since_ns: int) -> None:
        """Count what a thread did that began at `since_ns` or later."""
        lived_ns = max(self.wall_ns - since_ns, 0)
        self.wall_ns -= lived_ns
        # One that C code made long ago may come to Python only now.
        self.cpu_ns -= min(lived_ns, self.cpu_ns)


class Observation:
    """What a thread was seen doing. Holds frames: not to be kept."""

    __slots__ = ("group", "ident", "in_task", "node", "raw", "span", "thread")

    def __init__(
        self,
        raw: stacks.RawStack,
        ident: int,
        group: int,
        thread: int,
        node: int,
        in_task: bool,
        span: int,
    ) -> None:
        self.raw = raw
        self.ident = ident
        self.group = group
        self.thread = thread
        self.node = node
        self.in_task = in_task
        self.span = span

    def idle(self) -> bool:
        """Whether the thread has nothing to do, given that it uses no CPU."""
        return not self.in_task and idle.waits_for_work(self.raw.frames)


class Observer:
    """Looks at running threads, and knows which loop runs in which."""

    def __init__(self, recorder: Recorder, period_ns: int, main_ident: int) -> None:
        self.recorder = recorder
        self.tasks = Tasks(recorder)
        self.watch = Watch(recorder, self.tasks, period_ns, self)
        self._main_ident = main_ident
        self._finder = loops.LoopFinder()
        self._loop_threads: dict[int, int] = {}
        self._threads: dict[int, tuple[int, int]] = {}  # ident -> index, group
        self._loop_groups: dict[int, int] = {}

    def observe(
        self, ident: int, frame: FrameType, current: greenlet | None, accounted: set[int]
    ) -> Observation:
        """Look at a thread that runs `frame` in the greenlet `current`.

        Whoever turns out to run, or to be run for, is added to `accounted`.
        """
        followed = switches.of_thread(ident)
        frames = () if ident == get_ident() else stacks.walk(frame)
        loop = self._finder.find(ident, frames, current)
        if loop is not None:
            self._loop_threads[id(loop)] = ident
        task = None if loop is None else loops.current_task(loop)
        index, group = self._thread(ident)
        raw, is_tasks = stacks.running(frame, current, followed, task, above=False)
        in_task = True
        known = None
        if is_tasks and raw.owner is None:
            known = self.tasks.find(task)
            node = self.tasks.node(known, task, raw, time.monotonic_ns())
        elif raw.spawned is not None:
            node = self.tasks.node_of_greenlet(raw.spawned, raw)
        else:
            node = self.recorder.node(raw)
        if raw.owner is not None:
            accounted.add(id(raw.owner))
            accounted.add(id(task))
        elif known is not None:
            group = self.tasks.meet(known, task, raw)
            accounted.add(id(task))
        elif current is not None and current.parent is not None and self.watch.below_hub(current):
            group = self.tasks.meet(self.tasks.find(current), current, raw)
        else:
            in_task = False
            if self._runs_loop(raw, current, loop):
                group = self._loop_group(ident)
        if current is not None:
            accounted.add(id(current))
        span = self.recorder.spans.here() if ident == get_ident() else self._span_of(task, raw)
        return Observation(raw, ident, group, index, node, in_task, span)

    def _span_of(self, task: Any, raw: stacks.RawStack) -> int:
        """The span of what runs in another thread: its task's; a plain thread's is not known."""
        spans = self.recorder.spans
        found = -1 if task is None else spans.of_task(task)
        return spans.of_greenlet(raw.owner) if found < 0 else found

    def _runs_loop(self, raw: stacks.RawStack, current: greenlet | None, loop: Any) -> bool:
        if raw.hub:
            if current is not None:
                self.watch.add_hub(current)
            return True
        if loop is None:
            return False
        for frame in raw.frames[:_LOOP_DEPTH]:
            code = frame.f_code
            if code.co_name in ("run_forever", "run_until_complete", "run") and (
                "asyncio" in code.co_filename or "uvloop" in code.co_filename
            ):
                return True
        return bool(raw.frames) and idle.called_name(raw.frames[-1]).startswith("run_")

    def suspended_main(
        self, ident: int, current: greenlet | None, elapsed_ns: int, accounted: set[int]
    ) -> tuple[int, int, int, int] | None:
        """Account for a thread's own sync code while a hub, or a loop below it, runs.

        It is the thread's main greenlet, above a hub: a task of its own that waits. Returns the
        ids of its group, thread, stack and span, if there is one.
        """
        if current is None or current.parent is None:
            return None
        below_hub = False
        ancestor = current
        while ancestor.parent is not None:
            below_hub = below_hub or self.watch.is_hub(ancestor)
            ancestor = ancestor.parent
        if not below_hub or id(ancestor) in accounted or ancestor.gr_frame is None:
            return None
        accounted.add(id(ancestor))
        node = self.watch.look_at_suspended(ancestor, switches.of_thread(ident))[0].node
        group, thread = self.thread_group(ident), self.thread_index(ident)
        span = self.recorder.spans.of_greenlet(ancestor)
        self.recorder.add(group, thread, node, State.AWAITING, elapsed_ns, 0, span)
        return group, thread, node, span

    def current_task(self, ident: int) -> Any:
        """The task that runs in a thread just now, None if none does. Cheap: for known loops."""
        return loops.current_task(self._finder.known(ident))

    def loops(self) -> list[Any]:
        """The loops that were found so far."""
        return self._finder.loops()

    def forget_threads(self, alive: set[int]) -> None:
        """Drop what is remembered of threads that ended: their identities are used again."""
        for ident in [ident for ident in self._threads if ident not in alive]:
            del self._threads[ident]
            self._loop_groups.pop(ident, None)
        for key, ident in list(self._loop_threads.items()):
            if ident not in alive:
                del self._loop_threads[key]

    def thread_of_loop(self, loop: Any) -> int:
        """The identity of the thread that runs a loop; the main thread's until it was seen."""
        return self._loop_threads.get(id(loop), self._main_ident)

    def thread_index(self, ident: int) -> int:
        """The recorder's id of a thread."""
        return self._thread(ident)[0]

    def thread_group(self, ident: int) -> int:
        """The group of a thread's own sync code."""
        return self._thread(ident)[1]

    def _loop_group(self, ident: int) -> int:
        group = self._loop_groups.get(ident)
        if group is None:
            group = self._loop_groups[ident] = self.recorder.group("event loop", "thread")
            self.recorder.count_task(group)
        return group

    def _thread(self, ident: int) -> tuple[int, int]:
        found = self._threads.get(ident)
        if found is None:
            name = "MainThread" if ident == self._main_ident else labels.thread_name(ident)
            group = self.recorder.group(labels.fold_numbers(name), "thread")
            self.recorder.count_task(group)
            found = self._threads[ident] = self.recorder.thread(name), group
        return found


def state_in_call(frame: FrameType) -> State:
    """The state of a thread that uses no CPU and has work: stuck in a call, or kept from running."""
    return State.ON_CPU if idle.is_between_calls(frame) else State.BLOCKED
