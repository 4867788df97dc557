"""The lines that wait, and what was counted of their awaits: a table for each thread."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from greenprof._native import RLock, current_frames, get_ident, thread_local
from greenprof.profiles import (
    AwaitStats,
    Frame,
    FrameKind,
    FrameOrigin,
    ProfileBuilder,
    State,
)
from greenprof.samplers.recorder import Placed, Recorder
from greenprof.stacks import RawStack

__all__ = ["Row", "SiteKey", "Sites", "Totals"]

#: Threads' tables are looked through for those of ended threads when there are so many.
FOLD_AT = 64
#: Group; id of the line's code; offset in it; id of the awaited code, or a name.
SiteKey = tuple[int, int, int, "int | str"]

# An identity that no thread has.
_NOBODY = 0


class _Site(NamedTuple):
    """A line that waits for one operation, in one group."""

    group: int
    node: int
    awaited: str
    bridge: str
    thread: int
    """The one that awaited it first."""
    line: tuple[int, int]
    """Id of its code, and number: calls that share a line differ in their offset."""
    codes: tuple[CodeType, CodeType | None]
    """Kept, so that their ids stay taken."""


class Row(NamedTuple):
    """What is shown as one: a line's awaits of one operation."""

    line: tuple[int, int]
    group: int
    awaited: str
    bridge: str


class Totals:
    """The awaits of one site in one thread."""

    __slots__ = (
        "cancelled",
        "count",
        "durations",
        "errors",
        "max_ns",
        "min_ns",
        "own_ns",
        "site",
        "total_ns",
    )

    def __init__(self, site: int) -> None:
        self.site = site
        self.count = self.total_ns = self.own_ns = self.max_ns = self.errors = self.cancelled = 0
        self.min_ns = 1 << 62
        self.durations: dict[int, int] = {}

    def add(self, other: Totals) -> None:
        """Add what another thread counted."""
        self.count += other.count
        self.total_ns += other.total_ns
        self.own_ns += other.own_ns
        self.min_ns = min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        self.errors += other.errors
        self.cancelled += other.cancelled
        for bucket, count in list(other.durations.items()):
            self.durations[bucket] = self.durations.get(bucket, 0) + count


class Sites:
    """All sites. Each thread adds to a table of its own, so only what is new takes the lock."""

    def __init__(self, recorder: Recorder, lock: RLock, most: int) -> None:
        #: Awaits whose site went over the cap.
        self.lost = 0
        self._recorder = recorder
        self._lock = lock
        self._most = most
        self._here = thread_local()
        # Each with its thread's identity. Those of ended threads are added up in one, by site.
        self._tables: list[tuple[int, dict[Any, Totals]]] = []
        self._fold_at = FOLD_AT
        self._sites: list[_Site] = []
        self._known: dict[SiteKey, int] = {}

    def __len__(self) -> int:
        return len(self._sites)

    def row_of(self, site: int) -> Row:
        """What a site has in common with those that are shown as one with it."""
        found = self._sites[site]
        return Row(found.line, found.group, found.awaited, found.bridge)

    def table(self) -> dict[SiteKey, Totals]:
        """This thread's totals by site."""
        table: dict[SiteKey, Totals] | None = getattr(self._here, "table", None)
        if table is None:
            table = self._here.table = {}
            with self._lock:
                if len(self._tables) >= self._fold_at:
                    self._fold()
                self._tables.append((get_ident(), table))
        return table

    def _fold(self) -> None:
        """Add up what threads have counted that are gone: some programs start one for each request."""
        alive = current_frames()
        if alive is None:
            return
        # An identity is used again: of several tables the last one is that of the living thread.
        latest = {ident: table for ident, table in self._tables if ident in alive}
        kept = [(ident, table) for ident, table in self._tables if latest.get(ident) is table]
        gone: dict[Any, Totals] = {}
        for ident, table in self._tables:
            if latest.get(ident) is not table:
                for one in table.values():
                    gone.setdefault(one.site, Totals(one.site)).add(one)
        # In one step: a signal handler may raise between any two.
        self._tables = [(_NOBODY, gone), *kept]
        self._fold_at = max(FOLD_AT, 2 * len(self._tables))

    def new(
        self,
        key: SiteKey,
        line: int,
        codes: tuple[CodeType, CodeType | None],
        describe: Callable[[], tuple[str, str, RawStack, str]],
    ) -> Totals | None:
        """Make a site's totals in this thread's table; None, if there are too many sites.

        `describe` says what is awaited, over which bridge, the stack down to the line, the thread.
        """
        with self._lock:
            site = self._known.get(key)
            if site is None:
                if len(self._sites) >= self._most:
                    self.lost += 1
                    return None
                awaited, bridge, raw, thread = describe()
                node = self._recorder.node(raw)
                number = self._recorder.thread(thread)
                found = _Site(key[0], node, awaited, bridge, number, (key[1], line), codes)
                # A signal handler may raise between any two of these: a site is there first.
                self._sites.append(found)
                site = self._known[key] = len(self._sites) - 1
        totals = self.table()[key] = Totals(site)
        return totals

    def stats(self, placed: Placed) -> list[AwaitStats]:
        """What all threads counted at each site so far; the counts may be 0."""
        sites, totals = self._totals()
        return [
            AwaitStats(
                group=placed.groups[site.group],
                stack=placed.node(site.node),
                awaited=site.awaited,
                bridge=site.bridge,
                count=one.count,
                total_ns=one.total_ns,
                min_ns=one.min_ns if one.count else 0,
                max_ns=one.max_ns,
                errors=one.errors,
                cancelled=one.cancelled,
                durations=one.durations,
            )
            for site, one in zip(sites, totals, strict=True)
        ]

    def add_samples(self, placed: Placed, builder: ProfileBuilder) -> None:
        """Add the time of the awaits as samples of tasks that wait, nested ones' only once."""
        for site, one in zip(*self._totals(), strict=True):
            if one.count:
                awaited = Frame(
                    site.awaited, "", kind=FrameKind.AWAITED, origin=FrameOrigin.LIBRARY
                )
                node = builder.node(placed.node(site.node), builder.frame(awaited))
                group, thread = placed.groups[site.group], placed.threads[site.thread]
                builder.add(group, thread, node, State.AWAITING, one.count, one.own_ns)

    def _totals(self) -> tuple[list[_Site], list[Totals]]:
        sites = list(self._sites)
        totals = [Totals(site) for site in range(len(sites))]
        for _, table in list(self._tables):
            for one in list(table.values()):
                if one.site < len(totals):
                    totals[one.site].add(one)
        return sites, totals
