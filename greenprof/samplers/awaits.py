"""Await accounting: every await over a bridge, counted and measured by the line that waited.

Runs inside the tracer, at the end of each await; most of them are at a site that was seen before,
and cost two walks of a few frames and a handful of additions. Each thread has its own table, so
nothing is locked but what is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import CodeType, CoroutineType, FrameType
from typing import Any, NamedTuple
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import awaitables, labels, loops, stacks, switches
from greenprof._native import RLock, get_ident, time
from greenprof.durations import bucket_of
from greenprof.frames import FrameTable
from greenprof.handovers import entries, names, outcomes
from greenprof.handovers.watching import Handovers, Switched
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import AwaitStats, ProfileBuilder, Repeat
from greenprof.samplers.awaitsites import SiteKey, Sites, Totals
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.repeats import Repeats, Unit
from greenprof.stacks import PYTHON, RawStack

__all__ = ["DEFAULT_REPEAT_MIN", "AwaitAccount"]

DEFAULT_REPEAT_MIN = 10
MAX_SITES = 10_000
#: Nodes of the tree of sites' stacks.
MAX_NODES = 100_000
#: Tasks that are counted apart at a time; the awaits of more are not searched for repeats.
MAX_UNITS = 20_000
# Tasks of a kind, and awaits of a greenlet, that are asked whether they serve a request; of later
# ones that did not, each so manieth.
_ALWAYS_ASKED = 8
_ASKED_EACH = 64
_CACHE_LIMIT = 20_000

#: Called with the owner (task, greenlet, None for a plain thread), its thread, start, end, site.
Observer = Callable[[Any, int, int, int, int], None]


class _Ended(NamedTuple):
    """One await that is over: where, who awaited for it, and how."""

    frame: FrameType
    other: greenlet | None
    hub: str
    outcome: str
    start_ns: int
    end_ns: int
    awaitable: Any = None
    bridge: str | None = None


class AwaitAccount(Handovers):
    """Counts and measures every await, until stopped; to be started once.

    `max_sites` bounds the number of sites, `repeat_min` is how often a task makes an await before
    it counts as repeated (0: not looked for). With `as_samples` the time of the awaits becomes
    samples too, for an engine that measures none itself. `observer` is called at the end of each await, in
    the tracer: it has to be quick and must not raise.
    """

    def __init__(
        self,
        *,
        max_sites: int = MAX_SITES,
        repeat_min: int = DEFAULT_REPEAT_MIN,
        as_samples: bool = False,
    ) -> None:
        self.observer: Observer | None = None
        self._lock = RLock()
        self._recorder = Recorder(MAX_NODES)
        self._sites = Sites(self._recorder, self._lock, max_sites)
        self._repeats = Repeats(repeat_min)
        self._as_samples = as_samples
        # id(task or greenlet), or a thread's (ident,) -> its unit
        self._units: dict[Any, Unit] = {}
        # The keys of units whose owners are gone.
        self._over: deque[Any] = deque()
        # id(code) of tasks' roots -> itself, and how many tasks were seen to serve no request.
        self._roots: dict[int, list[Any]] = {}
        # Functions that were looked at: whether they are given a request.
        self._serving: dict[int, tuple[CodeType, bool]] = {}
        self._placed: list[AwaitStats] = []
        self._errors: dict[str, int] = {}
        self._running = False
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
            switches.remove_listener(self.switched)
            entries.unhook(self)
            switches.unfollow()
            self._clear()

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        self._running = False
        self._lock = RLock()
        switches.remove_listener(self.switched)
        entries.unhook(self)
        self._clear()

    def before_fork(self) -> None:
        """Nothing is held that a child could miss."""

    def after_fork_in_parent(self) -> None:
        """Nothing was given back."""

    @property
    def repeat_min(self) -> int:
        """How often a task makes an await before it counts as repeated."""
        return self._repeats.least

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        return [f"an await was not counted: {text} ({n} times)" for text, n in self._errors.items()]

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
            self._close_units()
            placed = self._recorder.place(builder, table)
            self._placed = self._sites.stats(placed)
            if self._as_samples:
                self._sites.add_samples(placed, builder)
            repeats = self._repeats.copy()
            for unit in list(self._units.values()):
                repeats.add(unit, self._sites.lines)
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

    # Beginnings and ends.

    def _make_switched(self) -> Switched:
        state = self
        opened = self.open
        telling = self._telling
        now = time.monotonic_ns
        count = self._count

        def switched(
            event: str,
            origin: greenlet,
            target: greenlet,
            frame: FrameType | None,
            handed: bool,
        ) -> None:
            """Take note of a switch; see `greenprof.switches.add_listener`."""
            try:
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
                        count(_Ended(frame, other, hub, outcome, start_ns, end_ns), target)
                    if not handed:
                        return
                if not handed or frame is None:
                    state._other(origin, target, frame)
                    return
                code = frame.f_code
                if id(code) in telling or not state._is_silent(code):
                    if len(opened) >= state._prune_at:
                        state._prune()
                    opened[id(origin)] = ref(origin), now(), id(frame), ""
            except Exception as error:
                if from_signal_handler(error):
                    raise
                state.failed(error)

        return switched

    def _begin_in_hub(self, origin: greenlet, hub: str) -> None:
        if len(self.open) >= self._prune_at:
            self._prune()
        self.open[id(origin)] = ref(origin), time.monotonic_ns(), 0, hub

    def begin_at_entry(self) -> int:
        """Begin an await of the running greenlet, which does not end with a switch."""
        began_ns: int = time.monotonic_ns()
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
        ended = _Ended(frame, None, "", outcome, begun, end_ns, awaitable, bridge)
        self._count(ended, getcurrent())

    def _waiter_of(self, entry: Any) -> greenlet | None:
        waiter: greenlet | None = entry[0]()
        return waiter

    def _met_library(self) -> None:
        entries.hook(self)

    def _note_error(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:200]
        if text in self._errors or len(self._errors) < 20:
            self._errors[text] = self._errors.get(text, 0) + 1

    # Counting.

    def _count(self, ended: _Ended, waiter: greenlet) -> None:
        frame, other, hub, outcome, start_ns, end_ns, awaitable, _ = ended
        if not self._running:
            return
        task = waiter if hub else loops.current_task(loops.running_loop())
        line, called, outside = names.line_of(frame, None if hub else other)
        line = line or outside or frame
        unit = self._units.get(id(task))
        if hub or unit is None or unit.request is not None or unit.owner() is not task:  # type: ignore[misc]
            unit = self._unit_of(task, frame, hub, start_ns)
        code: CodeType | None = None
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
            totals = self._new_site(key, ended, line, code)
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
        if self._as_samples:
            totals.own_ns += unit.own_ns(start_ns, duration_ns)
        if self._repeats.least:
            unit.add(totals.site, start_ns, end_ns, frame, line)
        if self._over:
            with self._lock:
                self._close_units()
        if self.observer is not None:
            self.observer(task, get_ident(), start_ns, end_ns, totals.site)

    def _new_site(
        self, key: SiteKey, ended: _Ended, line: FrameType, code: CodeType | None
    ) -> Totals | None:
        def describe() -> tuple[str, str, RawStack, str]:
            awaited, bridge, *_ = names.info_of(
                ended, ended.frame, ended.other, ended.awaitable, ended.bridge
            )
            task = loops.current_task(loops.running_loop())
            followed = switches.of_thread(get_ident())
            raw, _ = stacks.running(ended.frame, getcurrent(), followed, task)
            raw.end_at(line)
            return awaited, bridge, raw, labels.thread_name(get_ident())

        return self._sites.new(key, (line.f_code, code), describe)

    # Units.

    def _unit_of(self, task: Any, frame: FrameType, hub: str, now_ns: int) -> Unit:
        key = (get_ident(),) if task is None else id(task)
        unit = self._units.get(key)
        if unit is not None and (unit.owner is None or unit.owner() is task):
            if not hub:
                if unit.request is not None:
                    self._look_for_route(unit)
                return unit
            # A greenlet of a server may serve one request after another: between them it waits
            # outside of any.
            unit.awaits += 1
            rarely = not unit.in_request and unit.awaits > _ALWAYS_ASKED
            if rarely and unit.awaits % _ASKED_EACH:
                return unit
            if unit.in_request is self._is_in_request(frame):
                return unit
        return self._new_unit(task, frame, hub, now_ns)

    def _new_unit(self, task: Any, frame: FrameType, hub: str, now_ns: int) -> Unit:
        raw = self._stack_for_label(task, frame, hub)
        if raw.owner is not None:
            task = raw.owner  # sync code above its loop: another task awaits for it each time
        key = (get_ident(),) if task is None else id(task)
        with self._lock:
            earlier = self._units.get(key)
            if earlier is not None:
                if raw.owner is not None and earlier.owner is not None and earlier.owner() is task:
                    return earlier
                self._close(key, earlier)
            name, kind = labels.label_of(task, raw, get_ident())
            in_request = bool(hub) and self._is_in_request(frame)
            unit = Unit(self._recorder.group(name, kind), now_ns, in_request=in_request)
            if not hub:
                unit.request = labels.unrouted_request(raw.frames)
            if task is not None:
                over = self._over
                unit.owner = ref(task, lambda _: over.append(key))
            if len(self._units) < MAX_UNITS:
                self._units[key] = unit
        return unit

    def _stack_for_label(self, task: Any, frame: FrameType, hub: str) -> RawStack:
        """What tells whose unit it is: the stack, or less of it where that says as much.

        A whole stack for each new task would be a tenth of what a short request takes.
        """
        root = None if hub or task is None else awaitables.coroutine_of(task)
        code = getattr(root, "cr_code", None)
        if code is not None:
            raw = RawStack()
            if labels.takes_request(code) and root is not None and root.cr_frame is not None:
                raw.begin(PYTHON, False)
                raw.frames.append(root.cr_frame)
                return raw
            known = self._roots.get(id(code))
            if known is None:
                if len(self._roots) >= _CACHE_LIMIT:
                    self._roots.clear()
                known = self._roots[id(code)] = [code, 0]
            known[1] += 1
            if known[1] > _ALWAYS_ASKED and known[1] % _ASKED_EACH:
                return raw
        raw, _ = stacks.running(frame, getcurrent(), switches.of_thread(get_ident()), task)
        if code is not None and (raw.owner is not None or labels.route_of(raw.frames)):
            self._roots.pop(id(code), None)  # others of its kind are to be asked too
        return raw

    def _look_for_route(self, unit: Unit) -> None:
        """Its framework may have found the request's route in the meantime."""
        route = labels.route_of_request(unit.request)
        if route is not None:
            unit.request = None
            with self._lock:
                unit.group = self._recorder.group(route, "asyncio")

    def _is_in_request(self, frame: FrameType) -> bool:
        known = self._serving
        for one in stacks.walk(frame):
            code = one.f_code
            found = known.get(id(code))
            if found is None:
                if len(known) >= _CACHE_LIMIT:
                    known.clear()
                found = known[id(code)] = code, labels.takes_request(code)
            if found[1]:
                return True
        return False

    def _close(self, key: Any, unit: Unit) -> None:
        if self._units.get(key) is unit:
            del self._units[key]
        self._repeats.add(unit, self._sites.lines)

    def _close_units(self) -> None:
        """Add up what the tasks repeated that are gone."""
        while self._over:
            key = self._over.popleft()
            unit = self._units.get(key)
            if unit is not None and unit.owner is not None and unit.owner() is None:
                self._close(key, unit)


def _leave(_loop: Any) -> None:
    """Loops need no looking after: the sampler sees to the tracer."""
