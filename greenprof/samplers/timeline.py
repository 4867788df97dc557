"""What happened in which order: who had the thread, who awaited what, who blocked the loop.

Records as it comes, into a ring: a few numbers for each stretch, and what a task is called once.
How slices lie within one another, and which belong together, is found out when a profile is made
(`greenprof.samplers.slicing`).
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable
from struct import Struct
from types import CodeType, CoroutineType
from typing import Any, Final, Protocol
from weakref import ref

from greenlet import greenlet

from greenprof import awaitables, labels, stacks, switches
from greenprof._native import RLock, time
from greenprof.frames import FrameTable, origin_of
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import FrameOrigin, ProfileBuilder, Slice, SliceKind, Track
from greenprof.samplers import steps
from greenprof.samplers.slicing import Stretch, TrackSlices, link_children

__all__ = ["DEFAULT_MAX_SLICES", "Timeline"]

DEFAULT_MAX_SLICES: Final = 200_000
#: Tracks of tasks that are gone are pruned when they have doubled since; below this nobody cares.
PRUNE_AT: Final = 1_024
#: Lines at which tasks were suspended, and names of callbacks, that are told apart.
MAX_PLACES: Final = 10_000
# How deep in a chain of awaits the program's own line is looked for.
_DEPTH: Final = 64

# Number, start, end, track, place or site, kind. Packed, since 200,000 tuples would take 30 MB.
_RECORD: Final = Struct("<QqqiiB")
_RUN, _RUN_IN_HUB, _AWAIT, _BLOCK = range(4)
_UNKNOWN: Final = 0


class Observed(Protocol):
    """Who tells of awaits, or of blocks, and knows later where they were."""

    observer: Callable[[Any, int, int, int, int], None] | None

    def placed_site(self, site: int) -> tuple[int, int, str]:
        """The group, the stack and the name that a site has in the profile filled last."""


class _Track:
    """A task, a greenlet or a thread."""

    __slots__ = ("kind", "label", "last_ns", "name", "number", "owner", "parent", "thread")

    def __init__(
        self, number: int, owner: Callable[[], Any], name: str, label: str, kind: str, thread: str
    ) -> None:
        self.number = number
        self.owner = owner
        self.name = name
        self.label = label
        self.kind = kind
        self.thread = thread
        #: Number of the track of the task that awaits this one, -1 if none is known.
        self.parent = -1
        self.last_ns = 0


def _nobody() -> None:
    return None


class Timeline:
    """Records a timeline, until stopped; to be started once.

    At most `max_slices` stretches are kept, the latest ones; in a profile, those of the last
    `seconds`, up to now or to its end. Awaits come from `account`, loop blockers from `blocks`,
    each None if it is not to be had; both have to be filled into a profile before this.

    On uvloop, whose steps nothing can be put round, there are awaits and blockers only.
    """

    def __init__(
        self,
        account: Observed | None = None,
        blocks: Observed | None = None,
        *,
        max_slices: int = DEFAULT_MAX_SLICES,
        seconds: float = math.inf,
    ) -> None:
        self._account = account
        self._blocks = blocks
        self._seconds = seconds
        self._ring: deque[bytes] = deque(maxlen=max_slices)
        self._numbers = itertools.count(1)
        self._lock = RLock()
        self._owners: dict[int, _Track] = {}
        self._threads: dict[int, _Track] = {}
        self._tracks: dict[int, _Track] = {}
        self._next_track = itertools.count()
        self._prune_at = PRUNE_AT
        # Where a task was suspended, (id(code), offset), or the name of a callback -> its number.
        self._places: dict[Any, int] = {}
        # Keeps the code objects alive, so that their ids stay taken.
        self._place_of: list[tuple[CodeType, int] | str] = [""]
        self._own: dict[int, tuple[CodeType, bool]] = {}
        self._running = False
        self._stopped_ns = 0
        self.lost_slices = 0
        """Stretches that later ones took the place of, in the profile filled last."""

    # What a profiler calls.

    def start(self) -> None:
        """Start, from any thread."""
        self._running = True
        if self._account is not None:
            self._account.observer = self._awaited
        if self._blocks is not None:
            self._blocks.observer = self._blocked
        steps.add_listener(self._ran)

    def stop(self) -> None:
        """Stop, from any thread; what was recorded stays. A second call does nothing."""
        if self._running:
            self._stopped_ns = time.monotonic_ns()
            lasting = self._lasting()
            self._running = False
            self._ring.extend(lasting)
        # Again if the first call was interrupted.
        steps.remove_listener(self._ran)
        self._leave()

    def abandon(self) -> None:
        """Forget everything in a forked child, where the listeners did not come along."""
        self._running = False
        self._lock = RLock()
        self._ring.clear()
        self._leave()

    def _leave(self) -> None:
        for one, observer in ((self._account, self._awaited), (self._blocks, self._blocked)):
            # Not by identity: a bound method is made anew each time.
            if one is not None and one.observer == observer:
                one.observer = None

    def before_fork(self) -> None:
        """Nothing is held that a child could miss."""

    def after_fork_in_parent(self) -> None:
        """Nothing was given back."""

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        problem = steps.problem()
        return [] if problem is None else [f"a stretch is not in the timeline: {problem}"]

    @property
    def cost_ns(self) -> int:
        """Not known: it is spent between the program's steps."""
        return 0

    # What happens, in the program's threads.

    def _ran(
        self, kind: str, ident: int, _loop: Any, owner: Any, start_ns: int, end_ns: int
    ) -> None:
        """A stretch has ended; see `greenprof.samplers.steps`."""
        track = self._owners.get(id(owner))
        if track is None or track.owner() is not owner:
            track = self._track_of(owner, ident, first=True)
        self._ring.append(self._record_run(kind, track, owner, start_ns, end_ns))

    def _record_run(
        self, kind: str, track: _Track, owner: Any, start_ns: int, end_ns: int
    ) -> bytes:
        track.last_ns = end_ns
        place, run = _UNKNOWN, _RUN
        if kind != "asyncio":
            run = _RUN_IN_HUB
        elif track.owner() is owner:
            place = self._suspended_at(owner)
        else:
            place = self._place(_callback_name(owner))
        return _RECORD.pack(next(self._numbers), start_ns, end_ns, track.number, place, run)

    def _awaited(self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int) -> None:
        self._observed(owner, ident, start_ns, end_ns, site, _AWAIT)

    def _blocked(self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int) -> None:
        self._observed(owner, ident, start_ns, end_ns, site, _BLOCK)

    def _observed(
        self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int, kind: int
    ) -> None:
        try:
            track = self._owners.get(id(owner))
            if track is None or track.owner() is not owner:
                track = self._track_of(owner, ident)
            track.last_ns = end_ns
            self._ring.append(
                _RECORD.pack(next(self._numbers), start_ns, end_ns, track.number, site, kind)
            )
        except Exception as error:  # objects of any library, looked at for their names
            if from_signal_handler(error):
                raise

    def _lasting(self) -> list[bytes]:
        """Records of the stretches that last."""
        now_ns = time.monotonic_ns()
        found = []
        for ident in steps.lasting(now_ns):
            stretch = steps.current(ident)
            if stretch is None:
                continue
            track = self._track_of(stretch.owner, ident)
            found.append(
                self._record_run(stretch.kind, track, stretch.owner, stretch.start_ns, now_ns)
            )
        return found

    # Tracks.

    def _track_of(self, owner: Any, ident: int, *, first: bool = False) -> _Track:
        """The track of a task or greenlet; for all else that of the thread."""
        is_task = awaitables.is_task(owner)
        if not is_task and (not isinstance(owner, greenlet) or owner.parent is None):
            return self._thread_track(ident)
        track = self._owners.get(id(owner))
        if track is not None and track.owner() is owner:
            return track
        try:
            reference = ref(owner)
        except TypeError:
            return self._thread_track(ident)
        followed = switches.of_thread(ident)
        if is_task:
            raw = stacks.suspended(owner, followed, above=False)
        else:
            raw = stacks.suspended_greenlet(owner, followed)
        label, kind = labels.label_of(owner, raw, ident)
        parent = -1
        if is_task and first:
            awaiting, _ = awaitables.awaited_by(owner)
            known = self._owners.get(id(awaiting))
            if known is not None and known.owner() is awaiting:
                parent = known.number
        track = self._add_track(
            reference, _name_of(owner, label), label, kind, labels.thread_name(ident)
        )
        track.parent = parent
        self._owners[id(owner)] = track
        return track

    def _thread_track(self, ident: int) -> _Track:
        thread = threading._active.get(ident)  # type: ignore[attr-defined]
        track = self._threads.get(ident)
        # An identity is used again when its thread has ended.
        if track is not None and track.owner() is thread:
            return track
        label = labels.thread_name(ident)
        name = str(getattr(thread, "name", label))
        owner = _nobody if thread is None else ref(thread)
        track = self._threads[ident] = self._add_track(owner, name, label, "thread", label)
        return track

    def _add_track(
        self, owner: Callable[[], Any], name: str, label: str, kind: str, thread: str
    ) -> _Track:
        with self._lock:
            if len(self._tracks) >= self._prune_at:
                self._prune()
            track = _Track(next(self._next_track), owner, name, label, kind, thread)
            self._tracks[track.number] = track
        return track

    def _prune(self) -> None:
        """Drop the tracks of which the ring has nothing any more, and whose owners are gone."""
        for key, track in list(self._owners.items()):
            if track.owner() is None:
                self._owners.pop(key, None)
        full = len(self._ring) == self._ring.maxlen
        oldest_ns = _RECORD.unpack(self._ring[0])[2] if full else 0
        for number, track in list(self._tracks.items()):
            # Records come in the order of their ends, but for those of several threads.
            if track.owner() is None and track.last_ns < oldest_ns:
                del self._tracks[number]
        self._prune_at = max(PRUNE_AT, 2 * len(self._tracks))

    # Places.

    def _place(self, key: tuple[int, int] | str, code: CodeType | None = None) -> int:
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= MAX_PLACES:
                return _UNKNOWN
            with self._lock:
                found = self._places.setdefault(key, len(self._place_of))
                if found == len(self._place_of):
                    what = key if isinstance(key, str) else (code, key[1])
                    self._place_of.append(what)  # type: ignore[arg-type]
        return found

    def _suspended_at(self, task: Any) -> int:
        """The number of the program's own line, the innermost one, that a task is suspended in."""
        awaitable = awaitables.coroutine_of(task)
        innermost = None
        for _ in range(_DEPTH):
            if type(awaitable) is not CoroutineType:
                break
            code = awaitable.cr_code
            known = self._own.get(id(code))
            if known is None:
                if len(self._own) >= MAX_PLACES:
                    self._own.clear()
                own = origin_of(code.co_filename) is FrameOrigin.APP
                known = self._own[id(code)] = code, own
            if known[1]:
                innermost = awaitable
            awaitable = awaitable.cr_await
        frame = None if innermost is None else innermost.cr_frame
        if innermost is None or frame is None:
            return _UNKNOWN
        code = innermost.cr_code
        return self._place((id(code), frame.f_lasti), code)

    # The result.

    def fill(self, builder: ProfileBuilder, table: FrameTable, started_ns: int) -> None:
        """Put what was recorded so far into a profile."""
        # In one step in C: the writers cannot come between.
        records = list(self._ring)
        latest = max((_RECORD.unpack(one)[0] for one in records[-64:]), default=0)
        self.lost_slices = max(latest - len(records), 0)
        if self._running:
            records += self._lasting()
        now_ns = time.monotonic_ns() if self._running else self._stopped_ns
        since_ns = started_ns
        if self._seconds < math.inf:
            since_ns = max(since_ns, now_ns - int(self._seconds * 1e9))
        found: dict[int, TrackSlices] = {}
        places: dict[int, tuple[int, str]] = {}
        for _, start_ns, end_ns, number, where, kind in _RECORD.iter_unpack(b"".join(records)):
            track = self._tracks.get(number)
            if track is None or end_ns < since_ns:
                continue
            slices = found.get(number)
            if slices is None:
                slices = found[number] = TrackSlices(track.label)
            if kind in (_RUN, _RUN_IN_HUB):
                at = places.get(where)
                if at is None:
                    at = places[where] = self._placed(where, builder, table)
                slices.runs.append(Stretch(start_ns, end_ns, *at, whole=kind == _RUN_IN_HUB))
            else:
                self._add_observed(slices, kind, Stretch(start_ns, end_ns), where)
        children = [(number, self._tracks[number].parent) for number in found]
        for slices in found.values():
            slices.nest()
        link_children(found, children)
        for number in sorted(found):
            self._write(builder, self._tracks[number], found[number], started_ns)

    def _placed(self, where: int, builder: ProfileBuilder, table: FrameTable) -> tuple[int, str]:
        """The stack and the name that a place has in a profile."""
        place = self._place_of[where]
        if isinstance(place, str):
            return -1, place
        return builder.node(-1, builder.frame(table.frame(*place, 0, False))), ""

    def _add_observed(self, slices: TrackSlices, kind: int, stretch: Stretch, site: int) -> None:
        teller = self._account if kind == _AWAIT else self._blocks
        if teller is not None:
            group, stretch.stack, stretch.name = teller.placed_site(site)
            if stretch.stack >= 0:
                slices.group = group
        (slices.awaits if kind == _AWAIT else slices.blocks).append(stretch)

    def _write(
        self, builder: ProfileBuilder, track: _Track, slices: TrackSlices, started_ns: int
    ) -> None:
        # What awaits were accounted to is better known: a request's route may come late.
        group = slices.group
        if group < 0 or track.kind == "thread":
            group = builder.group(track.label, track.kind)
        number = builder.track(Track(track.name, group, builder.thread(track.thread)))
        for kind, stretches in (
            (SliceKind.RUN, slices.runs),
            (SliceKind.AWAIT, slices.awaits),
            (SliceKind.BLOCK, slices.blocks),
        ):
            for one in stretches:
                start_ns = one.start_ns - started_ns
                duration_ns = one.end_ns - one.start_ns
                builder.add_slice(
                    Slice(number, kind, start_ns, duration_ns, one.stack, one.name, one.flow)
                )


def _callback_name(callback: Any) -> str:
    """The name of what a loop called, for a person."""
    for _ in range(4):
        inner = getattr(callback, "func", None)  # functools.partial
        if inner is None:
            break
        callback = inner
    name = getattr(callback, "__qualname__", None)
    return name[:200] if isinstance(name, str) else type(callback).__name__


def _name_of(owner: Any, label: str) -> str:
    """The name of one task or greenlet among those that share a label."""
    try:
        find = getattr(owner, "get_name", None)
        name = getattr(owner, "name", None) if find is None else find()
    except Exception as error:  # a class of somebody's own
        if from_signal_handler(error):
            raise
        name = None
    return name[:200] if isinstance(name, str) and name else label
