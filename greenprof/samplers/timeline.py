"""What happened in which order: who had the thread, who awaited what, who blocked the loop.

Records as it comes, into a ring: a few numbers for each stretch, and what a task is called once.
How slices lie within one another, and which belong together, is found out when a profile is made
(`greenprof.samplers.slicing`).
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final, Protocol

from greenprof._native import allocate_lock, time
from greenprof.frames import FrameTable
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.profiles import ProfileBuilder, Slice, SliceKind, Track
from greenprof.samplers import steps
from greenprof.samplers.places import UNKNOWN, Places
from greenprof.samplers.slicing import Stretch, TrackSlices, link_children
from greenprof.samplers.syncruns import SyncRuns
from greenprof.samplers.tracks import TrackOf, Tracks

__all__ = ["DEFAULT_MAX_SLICES", "Timeline"]

DEFAULT_MAX_SLICES: Final = 200_000

#: Whether there are stretches older than what is asked for is looked at every so many.
DROP_EVERY: Final = 64

# Number, start, end, track, place or site, kind. Packed, since 200,000 tuples would take 30 MB.
_RECORD: Final = Struct("<QqqiiB")
_RUN, _RUN_IN_HUB, _AWAIT, _BLOCK = range(4)


class Observed(Protocol):
    """Who tells of awaits, or of blocks, and knows later where they were."""

    observer: Callable[[Any, int, int, int, int], None] | None

    def placed_site(self, site: int) -> tuple[int, int, str]:
        """The group, the stack and the name that a site has in the profile filled last."""


class Timeline:
    """Records a timeline, until stopped; to be started once.

    At most `max_slices` stretches are kept, the latest ones of the last `seconds`, up to now or to
    its end. Awaits come from `account`, loop blockers from `blocks`, each None if it is not to be
    had; both have to be filled into a profile before this.

    On uvloop, whose steps nothing can be put round, of what ran only sync code is seen.
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
        self._tracks = Tracks(self._oldest_ns)
        self._places = Places()
        self._sync_runs = SyncRuns(self._ran_sync)
        self._running = False
        self._stopped_ns = 0
        #: What ended before was dropped: it is older than what is asked for.
        self._kept_ns = 0
        self._dropped = 0
        self._dropping = allocate_lock()
        self._problem: str | None = None
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
        self._sync_runs.start()

    def stop(self) -> None:
        """Stop, from any thread; what was recorded stays. A second call does nothing."""
        if self._running:
            self._stopped_ns = time.monotonic_ns()
            lasting = self._lasting(self._numbers)
            self._running = False
            self._ring.extend(lasting)
        # Again if the first call was interrupted.
        self._sync_runs.stop()
        steps.remove_listener(self._ran)
        self._leave()

    def abandon(self) -> None:
        """Forget everything in a forked child, where the listeners did not come along."""
        self._running = False
        self._dropping = allocate_lock()
        self._tracks.abandon()
        self._places.abandon()
        self._ring.clear()
        self._sync_runs.abandon()
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
        problem = self._problem or steps.problem()
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
        track = self._tracks.of(owner, ident, first=True)
        number = next(self._numbers)
        self._ring.append(self._run(number, kind, track, owner, start_ns, end_ns))
        if not number % DROP_EVERY:
            self._drop(end_ns)

    def _run(
        self, number: int, kind: str, track: TrackOf, owner: Any, start_ns: int, end_ns: int
    ) -> bytes:
        track.last_ns = end_ns
        place, run = UNKNOWN, _RUN
        if kind != "asyncio":
            run = _RUN_IN_HUB
        elif track.owner() is owner:
            place = self._places.suspended_in(owner)
        else:
            place = self._places.called(owner)
        return _RECORD.pack(number, start_ns, end_ns, track.number, place, run)

    def _ran_sync(self, task: Any, ident: int, start_ns: int, end_ns: int) -> None:
        """Sync code has had the thread, on uvloop."""
        track = self._tracks.of(task, ident)
        number = next(self._numbers)
        self._ring.append(self._run(number, "uvloop", track, task, start_ns, end_ns))
        if not number % DROP_EVERY:
            self._drop(end_ns)

    def _awaited(self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int) -> None:
        self._observed(owner, ident, start_ns, end_ns, site, _AWAIT)

    def _blocked(self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int) -> None:
        self._observed(owner, ident, start_ns, end_ns, site, _BLOCK)

    def _observed(
        self, owner: Any, ident: int, start_ns: int, end_ns: int, site: int, kind: int
    ) -> None:
        try:
            track = self._tracks.of(owner, ident)
            track.last_ns = end_ns
            number = next(self._numbers)
            self._ring.append(_RECORD.pack(number, start_ns, end_ns, track.number, site, kind))
            if not number % DROP_EVERY:
                self._drop(end_ns)
        except Exception as error:  # objects of any library, looked at for their names
            if from_signal_handler(error):
                raise
            try:
                self._problem = reason(error)[:200]
            except RecursionError:  # it was raised at the limit, and still holds
                self._problem = type(error).__name__

    def _lasting(self, numbers: Iterator[int]) -> list[bytes]:
        """Records of the stretches that last."""
        now_ns = time.monotonic_ns()
        found = []
        for ident in steps.lasting(now_ns):
            stretch = steps.current(ident)
            if stretch is None:
                continue
            track = self._tracks.of(stretch.owner, ident)
            start_ns, number = stretch.start_ns, next(numbers)
            found.append(self._run(number, stretch.kind, track, stretch.owner, start_ns, now_ns))
        return found

    def _drop(self, now_ns: int) -> None:
        """Drop stretches that are older than what is asked for, more than have come since the last time."""
        if self._seconds == math.inf or not self._dropping.acquire(False):
            return
        try:
            self._kept_ns = now_ns - int(self._seconds * 1e9)
            for _ in range(2 * DROP_EVERY):
                if not self._ring or _RECORD.unpack(self._ring[0])[2] >= self._kept_ns:
                    break
                self._ring.popleft()
                self._dropped += 1
        finally:
            self._dropping.release()

    def _oldest_ns(self) -> int:
        """When the oldest stretch that is kept ended, or may have."""
        # In the order of their ends, but for those of several threads.
        full = len(self._ring) == self._ring.maxlen
        return int(_RECORD.unpack(self._ring[0])[2]) if full else self._kept_ns

    # The result.

    def fill(self, builder: ProfileBuilder, table: FrameTable, started_ns: int) -> None:
        """Put what was recorded so far into a profile."""
        # In one step in C: the writers cannot come between.
        records = list(self._ring)
        dropped = self._dropped
        latest = max((_RECORD.unpack(one)[0] for one in records[-64:]), default=0)
        self.lost_slices = max(latest - len(records) - dropped, 0)
        if self._running:
            # They are in no ring, and counted when they end.
            records += self._lasting(itertools.repeat(0))
        now_ns = time.monotonic_ns() if self._running else self._stopped_ns
        since_ns = started_ns
        if self._seconds < math.inf:
            since_ns = max(since_ns, now_ns - int(self._seconds * 1e9))
        tracks: dict[int, TrackOf] = {}
        found: dict[int, TrackSlices] = {}
        places: dict[int, tuple[int, str]] = {}
        for _, start_ns, end_ns, number, where, kind in _RECORD.iter_unpack(b"".join(records)):
            if end_ns < since_ns:
                continue
            slices = found.get(number)
            if slices is None:
                track = self._tracks.get(number)
                if track is None:
                    continue
                tracks[number] = track
                slices = found[number] = TrackSlices(track.label)
            if kind in (_RUN, _RUN_IN_HUB):
                at = places.get(where)
                if at is None:
                    at = places[where] = self._places.placed(where, builder, table)
                slices.runs.append(Stretch(start_ns, end_ns, *at, whole=kind == _RUN_IN_HUB))
            else:
                self._add_observed(slices, kind, Stretch(start_ns, end_ns), where)
        children = [(number, track.parent) for number, track in tracks.items()]
        for slices in found.values():
            slices.nest()
        link_children(found, children)
        for number in sorted(found):
            self._write(builder, tracks[number], found[number], started_ns)

    def _add_observed(self, slices: TrackSlices, kind: int, stretch: Stretch, site: int) -> None:
        teller = self._account if kind == _AWAIT else self._blocks
        if teller is not None:
            group, stretch.stack, stretch.name = teller.placed_site(site)
            if stretch.stack >= 0:
                slices.group = group
        (slices.awaits if kind == _AWAIT else slices.blocks).append(stretch)

    def _write(
        self, builder: ProfileBuilder, track: TrackOf, slices: TrackSlices, started_ns: int
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
