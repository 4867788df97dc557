"""Whose awaits are looked at together: a task's, or those of one request that it serves."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import awaitables, bridges, labels, loops, stacks, switches, variables
from greenprof._native import RLock, get_ident
from greenprof.interrupted import from_signal_handler
from greenprof.samplers.awaitsites import Row
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.repeats import Repeats, Unit
from greenprof.stacks import PYTHON, RawStack

__all__ = ["Nests", "Units", "task_now", "trio_task_now"]

#: Tasks that are counted apart at a time; the awaits of more are not searched for repeats.
MAX_UNITS = 20_000
# Tasks of a kind that are asked whether they serve a request; of later ones, if none did, they are
# asked when there were twice as many, and each so manieth.
_ALWAYS_ASKED = 8
_ASKED_EACH = 1024
_CACHE_LIMIT = 20_000
_asyncio: tuple[Callable[[], Any], Callable[[Any], Any]] | None = None
# How far above an await a request's frame is looked for, in each greenlet.
_SEARCH_DEPTH = 300


def task_now() -> Any:
    """The asyncio task that runs in this thread, None if none does."""
    if _asyncio is None:
        return _first_task_now()
    running_loop, task_of = _asyncio
    loop = running_loop()
    return None if loop is None else task_of(loop)


def _first_task_now() -> Any:
    """The same, before asyncio was seen to be imported."""
    global _asyncio
    loop = loops.running_loop()
    tasks = sys.modules.get("asyncio.tasks")
    if loop is None or tasks is None:
        return None
    # What Python 3.11 asks it by is a function in Python, and this runs at each await.
    known = getattr(tasks, "_current_tasks", None) if sys.version_info < (3, 12) else None
    task_of = tasks.current_task if known is None else known.get
    _asyncio = sys.modules["asyncio.events"]._get_running_loop, task_of
    return task_of(loop)


def trio_task_now() -> Any:
    """The same for trio."""
    ask = getattr(sys.modules.get("trio.lowlevel"), "current_task", None)
    try:
        return None if ask is None else ask()
    except RuntimeError:  # trio does not run here
        return None


class _Owner(ref[Any]):
    """A weak reference that knows its key: so what is called when its owner goes is no Python code,
    which a signal handler's exception would be lost in.
    """

    __slots__ = ("key",)

    key: Any


class _Kind:
    """Tasks with one root function, and one function of sync code where that is a bridge's."""

    __slots__ = ("ask_at", "asked", "codes", "is_bridges", "label", "seen", "takes_request")

    def __init__(self, root: CodeType, called: CodeType) -> None:
        self.codes = root, called  # kept, so that their ids stay taken
        self.takes_request = labels.takes_request(root)
        self.is_bridges = bridges.role_of(root) is not None
        #: Whether one was asked for a request, and served none.
        self.asked = False
        #: What those are called that were given no name.
        self.label: tuple[str, str] | None = None
        self.seen = 0
        #: How many are to be seen when the next one is asked.
        self.ask_at = 2 * _ALWAYS_ASKED


# Where a task's name tells as much as its stack would.
_NOTHING = RawStack()


_Look = tuple[tuple[str, str], RawStack, bool]


class Units:
    """All units. `rows` tells for each site which row it is shown in.

    `measured` makes another function of one that costs much, which says what each call does.
    """

    def __init__(
        self,
        recorder: Recorder,
        lock: RLock,
        repeats: Repeats,
        rows: Callable[[int], Row],
        measured: Callable[[Callable[[Any, FrameType, str], _Look]], Any] | None = None,
    ) -> None:
        #: id(task or greenlet), or a thread's (ident,) -> its unit
        self.known: dict[Any, Unit] = {}
        #: Owners that are gone.
        self.over: deque[Any] = deque()
        #: How often awaits went by that were not counted.
        self.pauses = 0
        self._look: Callable[[Any, FrameType, str], _Look]
        self._look = self._look_at if measured is None else measured(self._look_at)
        self._recorder = recorder
        self._lock = lock
        self._repeats = repeats
        self._rows = rows
        self._kinds: dict[tuple[int, int], _Kind] = {}
        # Functions that were looked at: whether they are given a request.
        self._serving: dict[int, tuple[CodeType, bool]] = {}

    def repeats(self) -> Repeats:
        """What was repeated so far."""
        self.close_over()
        found = self._repeats.copy()
        for unit in list(self.known.values()):
            found.add(unit, self._rows)
        return found

    def close_over(self) -> None:
        """Add up what the tasks repeated that are gone."""
        with self._lock:
            while self.over:
                owner = self.over.popleft()
                key = owner.key
                unit = self.known.get(key)
                if unit is not None and unit.owner is owner:
                    self._close(key, unit)

    def of(
        self,
        owner: Any,
        task: Any,
        frame: FrameType,
        other: greenlet | None,
        hub: str,
        line: CodeType,
        now_ns: int,
    ) -> Unit:
        """The unit that an await belongs to, which ends just now.

        `owner` makes it: an asyncio task (then it is `task`, too), a greenlet that waits in a hub,
        a trio task, None for a thread's own code. The sync code stands at `frame`, `other` awaited
        for it; `line` is the function that waited.
        """
        key = (get_ident(),) if owner is None else id(owner)
        unit = self.known.get(key)
        if unit is not None and (unit.owner is None or unit.owner() is owner):
            if unit.unrouted is not None:
                self._look_for_route(unit)
            if not unit.asks:
                return unit
            # A greenlet of a server may serve one request after another, and so does a task that
            # calls an application itself.
            paused, unit.pauses = unit.pauses != self.pauses, self.pauses
            if unit.request is None and not unit.to_be_asked(line) and not paused:
                return unit
            request = self._request(frame, other, hub)
            if paused and request is True:  # that says nothing of which it is
                return self._new(owner, task, frame, other, hub, now_ns)
            if request is unit.request or (request is None and other is None):
                return unit
        return self._new(owner, task, frame, other, hub, now_ns)

    def _new(
        self,
        owner: Any,
        task: Any,
        frame: FrameType,
        other: greenlet | None,
        hub: str,
        now_ns: int,
    ) -> Unit:
        label, raw, asks = self._look(task, frame, hub)
        if raw.owner is not None:
            owner = raw.owner  # sync code above its loop: another task awaits for it each time
        key = (get_ident(),) if owner is None else id(owner)
        with self._lock:
            earlier = self.known.get(key)
            if earlier is not None:
                same = earlier.owner is not None and earlier.owner() is owner
                if raw.owner is not None and same:
                    return earlier
                self._close(key, earlier)
            unit = Unit(self._recorder.group(*label), now_ns)
            unit.asks = asks
            unit.pauses = self.pauses
            if asks:
                unit.request = self._request(frame, other, hub)
            if not hub and raw.frames:
                unit.unrouted = labels.unrouted_request(raw.frames)
            if owner is not None:
                found = _Owner(owner, self.over.append)
                found.key = key
                unit.owner = found
            if len(self.known) < MAX_UNITS:
                self.known[key] = unit
        return unit

    def _look_at(self, task: Any, frame: FrameType, hub: str) -> _Look:
        """Whose unit it is: its label, the stack or as much of it as tells, whether to ask again.

        A whole stack for each new task would be a tenth of what a short request takes.
        """
        ident = get_ident()
        root = None if hub or task is None else awaitables.coroutine_of(task)
        code = getattr(root, "cr_code", None)
        kind: _Kind | None = None
        if root is not None and code is not None:
            kind = self._kind(code, frame)
            if kind.takes_request and root.cr_frame is not None:
                raw = RawStack()
                raw.begin(PYTHON, False)
                raw.frames.append(root.cr_frame)
                return labels.label_of(task, raw, ident), raw, False
            kind.seen += 1
            if kind.asked and kind.seen >= kind.ask_at:
                kind.ask_at = kind.seen + min(kind.seen, _ASKED_EACH)
            elif kind.asked and kind.seen > _ALWAYS_ASKED:
                if not _has_default_name(task):
                    return (labels.task_name(task, _NOTHING), "asyncio"), _NOTHING, False
                if kind.label is not None:
                    return kind.label, _NOTHING, False
        raw, _ = stacks.running(frame, getcurrent(), switches.of_thread(ident), task)
        label = labels.label_of(task, raw, ident)
        if kind is not None:
            # One that serves requests may be followed by others of its kind: they are asked, too.
            serves = raw.owner is not None or labels.route_of(raw.frames)
            kind.asked = not serves
            if _has_default_name(task):
                kind.label = label
        return label, raw, bool(hub) or (task is not None and raw.owner is None)

    def _kind(self, code: CodeType, frame: FrameType) -> _Kind:
        kind = self._kinds.get((id(code), 0)) or self._new_kind(code, None)
        if kind.is_bridges:
            called = stacks.walk(frame)[0].f_code
            kind = self._kinds.get((id(code), id(called))) or self._new_kind(code, called)
        return kind

    def _new_kind(self, code: CodeType, called: CodeType | None) -> _Kind:
        if len(self._kinds) >= _CACHE_LIMIT:
            self._kinds.clear()
        key = id(code), 0 if called is None else id(called)
        kind = self._kinds[key] = _Kind(code, called or code)
        return kind

    def _look_for_route(self, unit: Unit) -> None:
        """Its framework may have found the request's route in the meantime."""
        route = labels.route_of_request(unit.unrouted)
        if route is not None:
            unit.unrouted = None
            with self._lock:
                unit.group = self._recorder.group(route, "asyncio")

    def _request(self, frame: FrameType, other: greenlet | None, hub: str) -> Any:
        """The request that is served above an await, None without one.

        Where a greenlet waits in a hub, True has to do: what is kept here stays until its next
        wait is over, and between requests that may be long.
        """
        found = self._frame_that_serves(frame)
        if found is None and not hub and other is not None:
            found = self._frame_that_serves(other.gr_frame)
        if found is None or hub:
            return None if found is None else True
        request = variables.value_in(found, ("scope", "environ", "self"))
        return True if request is None else request

    def _frame_that_serves(self, frame: FrameType | None) -> FrameType | None:
        known = self._serving
        one = frame
        for _ in range(_SEARCH_DEPTH):
            if one is None:
                break
            code = one.f_code
            found = known.get(id(code))
            if found is None:
                if len(known) >= _CACHE_LIMIT:
                    known.clear()
                found = known[id(code)] = code, labels.takes_request(code)
            if found[1]:
                return one
            one = one.f_back
        return None

    def _close(self, key: Any, unit: Unit) -> None:
        if self.known.get(key) is unit:
            del self.known[key]
        self._repeats.add(unit, self._rows)


class Nests:
    """Awaits that are open inside of one another, by who makes them: each one's own time.

    One that never ends, because its greenlet was dropped, goes with the next end above it.
    """

    #: Owners whose tables are looked through for dead ones when there are so many.
    PRUNE_AT = 4096

    def __init__(self) -> None:
        # key -> the owner, weakly, and for each open await its start and the time of those inside
        self._open: dict[Any, tuple[ref[Any] | None, list[list[int]]]] = {}
        self._prune_at = self.PRUNE_AT

    def begin(self, owner: Any, start_ns: int) -> None:
        """An await begins."""
        key = (get_ident(),) if owner is None else id(owner)
        found = self._open.get(key)
        if found is None or (found[0] is not None and found[0]() is not owner):
            if len(self._open) >= self._prune_at:
                self._prune()
            found = self._open[key] = None if owner is None else ref(owner), []
        found[1].append([start_ns, 0])

    def end(self, owner: Any, start_ns: int, duration_ns: int) -> int:
        """The await that began at that time is over: its time less that of those inside of it."""
        key = (get_ident(),) if owner is None else id(owner)
        found = self._open.get(key)
        if found is None:
            return duration_ns
        opened, inside_ns = found[1], 0
        while opened and opened[-1][0] >= start_ns:
            inside_ns += opened.pop()[1]
        if opened:
            opened[-1][1] += duration_ns
        else:
            self._open.pop(key, None)
        return max(duration_ns - inside_ns, 0)

    def clear(self) -> None:
        """Forget all."""
        self._open.clear()

    def _prune(self) -> None:
        for key, (owner, _) in list(self._open.items()):
            if owner is not None and owner() is None:
                self._open.pop(key, None)
        self._prune_at = max(self.PRUNE_AT, 2 * len(self._open))


def _has_default_name(task: Any) -> bool:
    try:
        return labels.is_default_name(task.get_name())
    except Exception as error:  # a task class of somebody's own
        if from_signal_handler(error):
            raise
        return False
