"""Where tasks wait, or keep others waiting: for each the line that its owner can change.

As it was sampled (`await_sites`), and as it was counted (`await_rows`, `repeat_rows`, `block_rows`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from greenprof.durations import percentile_ns
from greenprof.profiles import AwaitStats, Frame, FrameKind, FrameOrigin, Profile, Sample, State

__all__ = [
    "WAITS",
    "AwaitRow",
    "AwaitSite",
    "BlockRow",
    "RepeatRow",
    "await_rows",
    "await_sites",
    "block_rows",
    "function_key",
    "origin_of",
    "repeat_rows",
    "sample_sites",
    "waited_ns",
]

UNKNOWN: Final = "?"
WAITS: Final = frozenset({State.AWAITING, State.READY})
"""The states of a task that is suspended."""
_NO_STACK: Final = Frame("[no stack]", "", origin=FrameOrigin.LIBRARY)


@dataclass(slots=True)
class AwaitSite:
    """A line that waited, and what for."""

    function: str
    path: str
    line: int
    module: str
    origin: FrameOrigin
    awaited: str
    """Qualified name of what was awaited, "?" if it is not known."""
    seen: int = 0
    """Observations."""
    # Less the CPU time that was used meanwhile.
    awaiting_ns: int = 0
    ready_ns: int = 0
    first_line: int = 0
    """Of the function."""

    @property
    def wait_ns(self) -> int:
        """All waiting, whether what was awaited had come or not."""
        return self.awaiting_ns + self.ready_ns


@dataclass(slots=True)
class AwaitRow:
    """All awaits over a bridge of one operation at one line, counted: none is left out."""

    site: Frame
    """The line that waited."""
    awaited: str
    """Qualified name of what was awaited, "?" if it is not known."""
    bridge: str
    group: int
    """Index of the task group; -1 for those of several together."""
    stack: int
    """The first way to it that was seen."""
    count: int = 0
    total_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0
    errors: int = 0
    cancelled: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    """Counts by bucket, see `greenprof.durations`."""

    @property
    def mean_ns(self) -> int:
        """The average, 0 of none."""
        return self.total_ns // self.count if self.count else 0

    def percentile_ns(self, percent: float) -> int:
        """Return the time that `percent` of the awaits did not go over, within 3 %."""
        # A bucket's middle may lie beyond what was seen.
        return min(max(percentile_ns(self.durations, percent), self.min_ns), self.max_ns)

    def add(self, stats: AwaitStats) -> None:
        """Add awaits of the same line and operation."""
        if stats.count:
            self.min_ns = min(self.min_ns, stats.min_ns) if self.count else stats.min_ns
            self.max_ns = max(self.max_ns, stats.max_ns)
        self.count += stats.count
        self.total_ns += stats.total_ns
        self.errors += stats.errors
        self.cancelled += stats.cancelled
        self.durations.update(stats.durations)


@dataclass(slots=True)
class RepeatRow:
    """A line at which single tasks, or requests, awaited the same again and again.

    One query may be several awaits: of the cursor, of its rows. What took longest has the counts,
    and the time is that of all. See `profiles.Repeat`.
    """

    site: Frame
    awaited: str
    """The operation that took longest of those that were repeated there."""
    bridge: str
    group: int
    stack: int
    units: int = 0
    """Tasks, or requests where a task serves several."""
    awaits: int = 0
    """Of the operation, by all of these tasks."""
    most: int = 0
    total_ns: int = 0
    """Time in the awaits of all operations that were repeated there."""
    units_ns: int = 0
    others: list[str] = field(default_factory=list)
    """The other operations, the longest time first."""

    @property
    def per_unit(self) -> float:
        """How often one of them awaited the operation, on average."""
        return self.awaits / self.units if self.units else 0.0

    @property
    def operations(self) -> str:
        """The operation, and how many others there are."""
        return f"{self.awaited} and {len(self.others)} more" if self.others else self.awaited


@dataclass(slots=True)
class BlockRow:
    """A line that kept an event loop, or a hub, from going on. See `profiles.Block`."""

    site: Frame
    """The innermost line of the application, else the innermost one."""
    inside: str
    """The qualified name of what that line had called when it was looked at, "" if nothing."""
    group: int
    thread: int
    stack: int
    """Of the longest stretch."""
    count: int
    total_ns: int
    worst_ns: int
    waiting: int
    """Tasks that could have gone on, at the most."""
    loop: str


def function_key(frame: Frame) -> tuple[str, str, int]:
    """Return what a function is told by: its name, path and first line. Frames differ by line too."""
    return frame.name, frame.path, frame.first_line


def origin_of(frame: Frame) -> FrameOrigin:
    """Return whose code it is; what has no file is a note at a stack's end, such as "<Future>"."""
    return frame.origin if frame.path else FrameOrigin.LIBRARY


def waited_ns(sample: Sample) -> int:
    """Return a sample's wall time less the CPU time used meanwhile, which counts as CPU time."""
    return max(sample.wall_ns - sample.cpu_ns, 0)


def await_sites(profile: Profile) -> list[AwaitSite]:
    """Return where tasks waited, the longest wait first.

    The site of a wait that went through a bridge is the innermost line of the application above
    the bridge's last hand-over of an awaitable; without a bridge, the innermost line of the
    application. Where no line of the application takes part, it is the line just above.
    """
    return sample_sites(profile)[0]


def sample_sites(profile: Profile) -> tuple[list[AwaitSite], list[int]]:
    """Return the await sites, and for each sample the index of its site (-1: no wait)."""
    sites: dict[tuple[str, str, int, int, str], AwaitSite] = {}
    by_stack: dict[int, AwaitSite] = {}
    ways = _Ways(profile)
    of_sample: list[AwaitSite | None] = []
    for sample in profile.samples:
        if sample.state not in WAITS:
            of_sample.append(None)
            continue
        site = by_stack.get(sample.stack)
        if site is None:
            frame, awaited = ways.site_of(sample.stack)
            key = (*function_key(frame), frame.line, awaited)
            site = sites.get(key)
            if site is None:
                site = sites[key] = AwaitSite(
                    frame.name,
                    frame.path,
                    frame.line,
                    frame.module,
                    frame.origin,
                    awaited,
                    first_line=frame.first_line,
                )
            by_stack[sample.stack] = site
        of_sample.append(site)
        site.seen += sample.count
        if sample.state is State.AWAITING:
            site.awaiting_ns += waited_ns(sample)
        else:
            site.ready_ns += waited_ns(sample)
    ordered = sorted(sites.values(), key=lambda site: (-site.wait_ns, site.path, site.line))
    index = {id(site): number for number, site in enumerate(ordered)}
    return ordered, [-1 if site is None else index[id(site)] for site in of_sample]


def await_rows(profile: Profile, *, by_group: bool = True) -> list[AwaitRow]:
    """Return the awaits over bridges that were counted, those that took longest in all first.

    Without `by_group`, those of all task groups are one row for each line and operation.
    """
    rows: dict[tuple[object, ...], AwaitRow] = {}
    for stats in profile.awaits:
        site = _leaf(profile, stats.stack)
        group = stats.group if by_group else -1
        key = (group, *function_key(site), site.line, stats.awaited, stats.bridge)
        row = rows.get(key)
        if row is None:
            row = rows[key] = AwaitRow(site, stats.awaited, stats.bridge, group, stats.stack)
        row.add(stats)
    return sorted(rows.values(), key=lambda row: (-row.total_ns, row.site.path, row.site.line))


def repeat_rows(profile: Profile) -> list[RepeatRow]:
    """Return the lines whose awaits single tasks or requests repeated, the longest time first."""
    rows: dict[tuple[object, ...], RepeatRow] = {}
    for repeat in profile.repeats:
        stats = profile.awaits[repeat.site]
        site = _leaf(profile, stats.stack)
        key = (stats.group, *function_key(site), site.line, stats.awaited, stats.bridge)
        row = rows.get(key)
        if row is None:
            row = RepeatRow(site, stats.awaited, stats.bridge, stats.group, stats.stack)
            rows[key] = row
        row.units += repeat.units
        row.awaits += repeat.awaits
        row.most = max(row.most, repeat.most)
        row.total_ns += repeat.total_ns
        row.units_ns += repeat.units_ns
    lines: dict[tuple[object, ...], RepeatRow] = {}
    for row in sorted(rows.values(), key=lambda row: -row.total_ns):
        line = lines.setdefault((row.group, *function_key(row.site), row.site.line), row)
        if line is not row:
            line.others.append(row.awaited)
            line.total_ns += row.total_ns
            line.units_ns = max(line.units_ns, row.units_ns)
    return sorted(lines.values(), key=lambda row: (-row.total_ns, row.site.path, row.site.line))


def block_rows(profile: Profile) -> list[BlockRow]:
    """Return the lines that kept a loop from going on, those that took longest in all first."""
    rows: list[BlockRow] = []
    if not profile.blocks:
        return rows
    ways = _Ways(profile)
    for block in profile.blocks:
        site, inside = ways.block_of(block.stack)
        rows.append(
            BlockRow(
                site,
                inside,
                block.group,
                block.thread,
                block.stack,
                block.count,
                block.total_ns,
                block.worst_ns,
                block.waiting,
                block.loop,
            )
        )
    return sorted(rows, key=lambda row: (-row.total_ns, row.site.path, row.site.line))


def _leaf(profile: Profile, node: int) -> Frame:
    """The line that waited: the recorder ends a site's stack with it."""
    return _NO_STACK if node < 0 else profile.frames[profile.nodes[node][1]]


class _Ways:
    """What a site is found by, for each stack of a profile: in one walk down the tree of stacks.

    Deep recursion has many stacks of many levels; to look at each from its root would take hours.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        nodes, frames = profile.nodes, profile.frames
        # All are nodes, of the way from the root to this one; -1 where there is none.
        self._app: list[int] = []
        """The innermost line of the application."""
        self._below_app: list[int] = []
        """What that line had called."""
        self._plain: list[int] = []
        """The innermost one that is no bridge's."""
        self._run: list[int] = []
        """Where the bridge frames begin that end here."""
        self._handover: list[tuple[int, int]] = []
        """The innermost run of them that hands over an awaitable, and what is below it.

        A run that starts a greenlet has plain frames below it; it is not one.
        """
        for node, (parent, number) in enumerate(nodes):
            frame = frames[number]
            bridge = frame.kind is FrameKind.BOUNDARY
            app = self._app[parent] if parent >= 0 else -1
            in_run = parent >= 0 and self._run[parent] >= 0
            handover = self._handover[parent] if parent >= 0 else (-1, -1)
            below_app = self._below_app[parent] if parent >= 0 else -1
            if frame.origin is FrameOrigin.APP and frame.path and not bridge:
                self._app.append(node)
                self._below_app.append(-1)
            else:
                self._app.append(app)
                self._below_app.append(node if app == parent >= 0 else below_app)
            if bridge:
                self._run.append(self._run[parent] if in_run else node)
                self._plain.append(self._plain[parent] if parent >= 0 else -1)
                # Of the run itself it is known when it has ended.
                self._handover.append(handover)
            else:
                if in_run and frame.kind is FrameKind.AWAITED:
                    handover = self._run[parent], node
                self._run.append(-1)
                self._plain.append(node)
                self._handover.append(handover)

    def frame(self, node: int) -> Frame:
        return self._profile.frames[self._profile.nodes[node][1]]

    def site_of(self, node: int) -> tuple[Frame, str]:
        """The line that waits, and what it waits for."""
        if node < 0:
            return _NO_STACK, UNKNOWN
        start, below = (self._run[node], node) if self._run[node] >= 0 else self._handover[node]
        if start >= 0:
            awaited = self.frame(below).qualified_name
            above = self._profile.nodes[start][0]
            if above < 0:
                return self.frame(start), awaited
            found = self._app[above] if self._app[above] >= 0 else self._plain[above]
            return self.frame(found), awaited
        site = self._app[node]
        if site < 0:
            parent = self._profile.nodes[node][0]
            return (
                (self.frame(node), UNKNOWN)
                if parent < 0
                else (
                    self.frame(parent),
                    self.frame(node).qualified_name,
                )
            )
        called = self._below_app[node]
        return self.frame(site), self.frame(called).qualified_name if called >= 0 else UNKNOWN

    def block_of(self, node: int) -> tuple[Frame, str]:
        """The line that keeps a loop from going on, and what it had called if that is another."""
        if node < 0:
            return _NO_STACK, ""
        site = self._app[node] if self._app[node] >= 0 else node
        return self.frame(site), self.frame(node).qualified_name if site != node else ""
