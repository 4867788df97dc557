"""Await accounting: every await over a bridge, counted and measured by the line that waited.

Runs inside the tracer, at the end of each await; most of them are at a site that was seen before,
and cost two walks of a few frames and a handful of additions. Each thread has its own table, so
nothing is locked but what is new.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, CoroutineType, FrameType
from typing import Any, NamedTuple
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import labels, stacks, switches
from greenprof._native import RLock, get_ident, time
from greenprof.durations import bucket_of
from greenprof.frames import FrameTable
from greenprof.handovers import entries, names, outcomes
from greenprof.handovers.watching import Handovers, Switched
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.profiles import AwaitStats, ProfileBuilder, Repeat
from greenprof.samplers.awaitsites import SiteKey, Sites, Totals
from greenprof.samplers.budget import Budget
from greenprof.samplers.bursts import Bursts
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.repeats import Repeats
from greenprof.samplers.units import Nests, Units, task_now, trio_task_now
from greenprof.stacks import RawStack

__all__ = ["DEFAULT_REPEAT_MIN", "AwaitAccount"]

DEFAULT_REPEAT_MIN = 10
MAX_SITES = 10_000
#: Nodes of the tree of sites' stacks.
MAX_NODES = 100_000
#: Called with the owner (task, greenlet, None for a plain thread), its thread, start, end, site.
Observer = Callable[[Any, int, int, int, int], None]


class _InHub(NamedTuple):
    hub: str


class AwaitAccount(Handovers):
    """Counts and measures every await, until stopped; to be started once.

    `max_sites` bounds the number of sites, `repeat_min` is how often a task makes an await before
    it counts as repeated (0: not looked for). With `as_samples` the time of the awaits becomes
    samples too, for an engine that measures none itself. `observer` is called at the end of
    each await, in the tracer: it has to be quick and must not raise.

    With `sparing` it pauses where it takes too much of the program's time, and `warnings` say so.
    """

    def __init__(
        self,
        *,
        max_sites: int = MAX_SITES,
        repeat_min: int = DEFAULT_REPEAT_MIN,
        as_samples: bool = False,
        sparing: bool = False,
    ) -> None:
        self.observer: Observer | None = None
        self._lock = RLock()
        self._recorder = Recorder(MAX_NODES)
        self._sites = Sites(self._recorder, self._lock, max_sites)
        self._repeat_min = repeat_min
        budget = Budget(time.monotonic_ns()) if sparing else None
        self._units = Units(
            self._recorder,
            self._lock,
            Repeats(repeat_min),
            self._sites.row_of,
            None if budget is None else budget.exactly,
        )
        self._nests = Nests() if as_samples else None
        self._placed: list[AwaitStats] = []
        self._errors: dict[str, int] = {}
        self._running = False
        self._bursts = None if budget is None else Bursts(budget, self)
        self._counted_ns: tuple[int, int] | None = None
        self._counter = self._count if budget is None else self._count_within
        self._make_site = self._new_site if budget is None else budget.exactly(self._new_site)
        super().__init__(self._met_library, _leave, self._note_error)

    # What a profiler calls.

    def start(self) -> None:
        """Start, from any thread."""
        self._running = True
        switches.follow()
        switches.add_listener(self.switched, self.open)
        self.begin()
        switches.adopt_thread().check()

    def stop(self) -> None:
        """Stop, from any thread; what was counted stays. A second call does nothing."""
        if self._running:
            self._running = False
            self._counted_ns = self._counted()
            switches.remove_listener(self.switched)
            entries.unhook(self)
            switches.unfollow()
            self._forget_open()

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        self._running = False
        self._lock = RLock()
        switches.remove_listener(self.switched)
        entries.unhook(self)
        self._forget_open()

    def before_fork(self) -> None:
        """Nothing is held that a child could miss."""

    def after_fork_in_parent(self) -> None:
        """Nothing was given back."""

    def is_paused(self, now_ns: int) -> bool:
        """Whether it wants no switches just now, to spare the program. In the thread that is followed.

        Who has followed none from the last time on that it did not gets them from now on.
        """
        bursts = self._bursts
        return (
            bursts is not None
            and bursts.is_paused(now_ns, unseen=True)
            and not bursts.is_closing(now_ns)
        )

    def charge(self, cost_ns: int, now_ns: int) -> None:
        """Say what switches have cost because they are followed for this account."""
        if self._bursts is not None:
            self._bursts.charge(cost_ns, now_ns)

    @property
    def repeat_min(self) -> int:
        """How often a task makes an await before it counts as repeated."""
        return self._repeat_min

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        found = [
            f"an await was not counted: {text} ({n} times)" for text, n in self._errors.items()
        ]
        if self._bursts is not None:
            found += self._bursts.warnings(*(self._counted_ns or self._counted()))
        return found

    @property
    def cost_ns(self) -> int:
        """Not known: it is spent inside the program's switches."""
        return 0

    @property
    def lost(self) -> int:
        """How many awaits are in no site, because there were too many sites."""
        return self._sites.lost

    def fill(self, builder: ProfileBuilder, table: FrameTable, _started_ns: int) -> None:
        """Put what was counted so far into a profile."""
        with self._lock:
            placed = self._recorder.place(builder, table)
            self._placed = self._sites.stats(placed)
            if self._nests is not None:
                self._sites.add_samples(placed, builder)
            repeats = self._units.repeats()
        for number, stats in enumerate(self._placed):
            if stats.count:
                index = builder.add_await(stats)
                if number in repeats.by_site:
                    builder.add_repeat(Repeat(index, *repeats.by_site[number]))

    def placed_site(self, site: int) -> tuple[int, int, str]:
        """What `fill` has made of a site: its group, its stack, and what was awaited."""
        if site >= len(self._placed):
            return 0, -1, ""
        stats = self._placed[site]
        return stats.group, stats.stack, stats.awaited

    def _counted(self) -> tuple[int, int]:
        """For how long awaits were counted, of how long in all."""
        bursts = self._bursts
        return (0, 0) if bursts is None else bursts.budget.counted_ns(time.monotonic_ns())

    def let_be(self) -> None:
        """Forget the awaits that are open."""
        self._clear_open()
        if self._nests is not None:
            self._nests.clear()

    def _forget_open(self) -> None:
        self._clear()
        if self._nests is not None:
            self._nests.clear()

    # Beginnings and ends.

    def _make_switched(self) -> Switched:
        state = self
        opened = self.open
        telling = self._telling
        now = time.monotonic_ns
        bursts: Any = self._bursts
        budget: Any = None if bursts is None else bursts.budget
        count = self._counter
        nests = self._nests

        def switched(
            event: str,
            origin: greenlet,
            target: greenlet,
            frame: FrameType | None,
            handed: bool,
        ) -> None:
            """Take note of a switch; see `greenprof.switches.add_listener`."""
            try:
                closing = False
                if (
                    bursts is not None
                    and budget.paused_until_ns
                    and bursts.is_paused(at_ns := now())
                ):
                    if not bursts.is_closing(at_ns):
                        return
                    closing = True
                if opened and (found := opened.pop(id(target), None)) is not None:
                    end_ns = now()
                    waiter, start_ns, bridge_frame, hub = found
                    if waiter() is target and frame is not None:
                        outcome = outcomes.RETURNED
                        other: greenlet | None = origin
                        if event == "throw":
                            outcome, _, other = outcomes.thrown_into(
                                frame, origin, hub, bridge_frame
                            )
                        count(frame, other, hub, outcome, start_ns, end_ns, target)
                    if closing:
                        bursts.note_end()
                    if not handed:
                        return
                if closing:
                    return
                if not handed or frame is None:
                    state._other(origin, target, frame)
                    return
                code = frame.f_code
                if id(code) in telling or not state._is_silent(code):
                    if len(opened) >= state._prune_at:
                        state._prune()
                    began_ns = now()
                    if bursts is not None and bursts.is_paused(began_ns):
                        return
                    opened[id(origin)] = ref(origin), began_ns, id(frame), ""
                    if nests is not None:
                        nests.begin(task_now() or trio_task_now(), began_ns)
            except Exception as error:
                if from_signal_handler(error):
                    raise
                state.failed(error)

        return switched

    def _begin_in_hub(self, origin: greenlet, hub: str) -> None:
        if len(self.open) >= self._prune_at:
            self._prune()
        began_ns: int = time.monotonic_ns()
        if self._bursts is not None and self._bursts.is_paused(began_ns):
            return
        self.open[id(origin)] = ref(origin), began_ns, 0, hub
        if self._nests is not None:
            self._nests.begin(origin, began_ns)

    def begin_at_entry(self) -> int | None:
        """Begin an await of the running greenlet, which does not end with a switch."""
        began_ns: int = time.monotonic_ns()
        if self._bursts is not None and self._bursts.is_paused(began_ns):
            return None
        if self._nests is not None:
            self._nests.begin(task_now() or trio_task_now(), began_ns)
        return began_ns

    def end_at_entry(
        self,
        begun: int,
        raised: type[BaseException] | None,
        awaitable: Any,
        frame: FrameType,
        bridge: str,
    ) -> None:
        """End what `begin_at_entry` began."""
        outcome = outcomes.RETURNED if raised is None else outcomes.said_of(raised)[0]
        end_ns: int = time.monotonic_ns()
        waiter = getcurrent()
        self._counter(frame, None, "", outcome, begun, end_ns, waiter, awaitable, bridge)

    def _waiter_of(self, entry: Any) -> greenlet | None:
        waiter: greenlet | None = entry[0]()
        return waiter

    def _met_library(self) -> None:
        entries.hook(self)

    def _note_error(self, error: Exception) -> None:
        try:
            text = reason(error)[:200]
        except RecursionError:  # it was raised at the limit, and still holds
            text = type(error).__name__
        if text in self._errors or len(self._errors) < 20:
            self._errors[text] = self._errors.get(text, 0) + 1

    # Counting.

    def _count(
        self,
        frame: FrameType,
        other: greenlet | None,
        hub: str,
        outcome: str,
        start_ns: int,
        end_ns: int,
        waiter: greenlet,
        awaitable: Any = None,
        bridge: str | None = None,
    ) -> None:
        """Count an await that is over: where the sync code waits, and who awaited for it."""
        if not self._running:
            return
        task = owner = waiter if hub else task_now()
        if owner is None:
            owner = trio_task_now()
        line, called, outside = names.line_of(frame, None if hub else other)
        line = line or outside or frame
        unit = self._units.known.get(id(owner))
        if unit is None or unit.asks or unit.unrouted is not None or unit.owner() is not owner:  # type: ignore[misc]
            unit = self._units.of(owner, task, frame, other, hub, line.f_code, start_ns)
        code: CodeType | None = None
        given = awaitable
        if hub:
            code = None if called is None else called.f_code
        else:
            if awaitable is None:
                awaitable = names.awaitable_in(frame, other)
            if type(awaitable) is CoroutineType:
                code = awaitable.cr_code
        awaited = id(code) if code is not None else names.name_of(awaitable)
        key = unit.group, id(line.f_code), line.f_lasti, awaited
        totals = self._sites.table().get(key)
        if totals is None:
            totals = self._make_site(key, frame, other, hub, line, code, given, bridge)
            if totals is None:
                return
        duration_ns = end_ns - start_ns
        totals.count += 1
        totals.total_ns += duration_ns
        if duration_ns < totals.min_ns:  # noqa: PLR1730  # a call costs more than all of this
            totals.min_ns = duration_ns
        if duration_ns > totals.max_ns:  # noqa: PLR1730
            totals.max_ns = duration_ns
        bucket = bucket_of(duration_ns)
        durations = totals.durations
        durations[bucket] = durations.get(bucket, 0) + 1
        if outcome is not outcomes.RETURNED:
            if outcome == outcomes.CANCELLED:
                totals.cancelled += 1
            else:
                totals.errors += 1
        if self._nests is not None:
            totals.own_ns += self._nests.end(owner, start_ns, duration_ns)
        if self._repeat_min:
            unit.add(totals.site, start_ns, end_ns, frame, line)
        if self._units.over:
            self._units.close_over()
        if self.observer is not None:
            self.observer(task, get_ident(), start_ns, end_ns, totals.site)

    def _count_within(
        self,
        frame: FrameType,
        other: greenlet | None,
        hub: str,
        outcome: str,
        start_ns: int,
        end_ns: int,
        *rest: Any,
    ) -> None:
        """Count it, and pause if that has taken too much."""
        bursts: Any = self._bursts
        self._units.pauses = bursts.pauses
        budget = bursts.budget
        begun_ns = budget.begin(start_ns)
        self._count(frame, other, hub, outcome, start_ns, end_ns, *rest)
        if begun_ns and budget.end(begun_ns, end_ns):
            bursts.close(end_ns)

    def _new_site(
        self,
        key: SiteKey,
        frame: FrameType,
        other: greenlet | None,
        hub: str,
        line: FrameType,
        code: CodeType | None,
        awaitable: Any,
        bridge: str | None,
    ) -> Totals | None:
        def describe() -> tuple[str, str, RawStack, str]:
            awaited, over, *_ = names.info_of(_InHub(hub), frame, other, awaitable, bridge)
            ident = get_ident()
            raw, _ = stacks.running(frame, getcurrent(), switches.of_thread(ident), task_now())
            raw.end_at(line)
            return awaited, over, raw, labels.thread_name(ident)

        return self._sites.new(key, line.f_lineno or 0, (line.f_code, code), describe)


def _leave(_loop: Any) -> None:
    """Loops need no looking after: the sampler sees to the tracer."""
