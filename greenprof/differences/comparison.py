"""Two profiles side by side: what takes more, what takes less, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from greenprof.analysis import (
    AwaitRow,
    AwaitSite,
    FunctionRow,
    GroupRow,
    await_rows,
    await_sites,
    check_clock,
    counted_ns,
    function_table,
    group_table,
    is_exact,
    totals,
)
from greenprof.differences.chance import Chance, Timed, chance_of, observed
from greenprof.differences.matching import SCALES, aligned, paired_lines, scale_factors, scaled
from greenprof.errors import OptionError
from greenprof.profiles import FrameOrigin, Profile

__all__ = [
    "AwaitChange",
    "Change",
    "Comparison",
    "FunctionChange",
    "GroupChange",
    "SiteChange",
    "compare",
    "counted_changes",
    "function_changes",
    "group_changes",
    "paired_sites",
    "site_changes",
    "total_changes",
]

_Site = TypeVar("_Site", AwaitSite, AwaitRow)
# Durations that differ by more are pointed out, unless they were scaled away.
_ALIKE: Final = 1.1


class Change(NamedTuple):
    """A number before and after: nanoseconds, or how many."""

    before: int
    after: int

    @property
    def by(self) -> int:
        """How much more it is after; below 0 if less."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two profiles that were made comparable, and what there is to say of that."""

    before: Profile
    """Its functions have the paths and lines that they have after; its times are scaled."""
    after: Profile
    clock: str
    scale: str
    factor: float
    """What the times before were multiplied by, all in all."""
    notes: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether calls were counted: nothing is left to chance then."""
        return is_exact(self.after)


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """A function: time in itself, and with all that it called, under the comparison's clock."""

    name: str
    path: str
    first_line: int
    module: str
    origin: FrameOrigin
    boundary: bool
    own: Change
    total: Change
    calls: Change
    own_chance: Chance
    total_chance: Chance


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A task group: all of its tasks together."""

    name: str
    kind: str
    tasks: Change
    time: Change
    chance: Chance


@dataclass(frozen=True, slots=True)
class SiteChange:
    """A line that waited, as it was sampled."""

    site: AwaitSite
    """As it is after; one that is gone, as it was before."""
    time: Change
    seen: Change
    chance: Chance


@dataclass(frozen=True, slots=True)
class AwaitChange:
    """The awaits of one operation at one line, counted."""

    row: AwaitRow
    """As it is after; one that is gone, as it was before."""
    count: Change
    total: Change
    mean: Change
    """Of a single await: it does not depend on how many there were."""
    p95: Change


def compare(
    before: Profile, after: Profile, *, clock: str = "wall", scale: str = "none"
) -> Comparison:
    """Make two profiles comparable. `scale` is one of SCALES: what the times before are scaled to.

    Raises OptionError for another clock or scale, and for profiles that cannot be compared: calls
    are no samples.
    """
    check_clock(clock)
    if scale not in SCALES:
        raise OptionError(f"cannot scale to {scale!r}; choose {', '.join(SCALES)}")
    recorded = [(profile.info.engine, profile.info.clock) for profile in (before, after)]
    if recorded[0] != recorded[1]:
        said = [
            f"the {engine} engine{f' ({clock})' if clock else ''}" for engine, clock in recorded
        ]
        raise OptionError(
            f"cannot compare a profile of {said[0]} with one of {said[1]}; record both alike"
        )
    whole, factors = scale_factors(before, after, scale)
    return Comparison(
        aligned(scaled(before, whole, factors), after),
        after,
        clock,
        scale,
        whole,
        _notes(before, after, scale, whole),
    )


def _notes(before: Profile, after: Profile, scale: str, factor: float) -> list[str]:
    old, new = before.info.duration_ns, after.info.duration_ns
    notes = []
    if scale == "duration":
        notes.append(f"times before are multiplied by {factor:.3g}, for the duration after")
    elif scale == "tasks":
        notes.append(
            "times before are multiplied, for as many tasks of each group as after "
            f"(threads: by {factor:.3g})"
        )
    elif min(old, new) and max(old, new) > _ALIKE * min(old, new):
        ratio = max(old, new) / min(old, new)
        notes.append(
            f"{'after' if new > old else 'before'} is {ratio:.1f} times as long; if not because it "
            "did the same more slowly, compare with --scale tasks, or --scale duration"
        )
    if before.info.rate_hz != after.info.rate_hz and not is_exact(after):
        notes.append(
            f"the rates differ: {before.info.rate_hz:g} Hz before, {after.info.rate_hz:g} Hz after"
        )
    return notes


def total_changes(comparison: Comparison) -> dict[str, Change]:
    """Return the sums over the whole by name, in nanoseconds."""
    old, new = totals(comparison.before), totals(comparison.after)
    return {
        "long": Change(old.duration_ns, new.duration_ns),
        "CPU": Change(old.process_cpu_ns, new.process_cpu_ns),
        "awaiting": Change(old.awaiting_ns, new.awaiting_ns),
        "ready": Change(old.ready_ns, new.ready_ns),
        "blocked": Change(old.blocked_ns, new.blocked_ns),
        "idle": Change(old.idle_ns, new.idle_ns),
    }


def group_changes(comparison: Comparison) -> list[GroupChange]:
    """Return the task groups, those that changed most first."""

    def table(profile: Profile) -> dict[tuple[str, str], GroupRow]:
        return {(row.name, row.kind): row for row in group_table(profile)}

    def weight(row: GroupRow | None) -> int:
        if row is None:
            return 0
        waited = row.awaiting_ns + row.ready_ns
        return counted_ns(comparison.clock, row.cpu_ns, waited, row.blocked_ns)

    old, new = table(comparison.before), table(comparison.after)
    judge = _Judge(comparison, table)
    changes = []
    for key in {**new, **old}:
        rows = old.get(key), new.get(key)
        tasks = Change(*(0 if row is None else row.tasks for row in rows))
        time = Change(*map(weight, rows))
        changes.append(GroupChange(*key, tasks, time, judge(key, time, weight)))
    return sorted(changes, key=lambda one: (-abs(one.time.by), one.name, one.kind))


def function_changes(comparison: Comparison) -> list[FunctionChange]:
    """Return the functions, those whose total changed most first."""
    clock = comparison.clock

    def table(profile: Profile) -> dict[tuple[str, str, int], FunctionRow]:
        rows = function_table(profile)
        return {(row.name, row.path, row.first_line): row for row in rows}

    def own(row: FunctionRow | None) -> int:
        return 0 if row is None else row.self_ns(clock)

    def total(row: FunctionRow | None) -> int:
        return 0 if row is None else row.total_ns(clock)

    old, new = table(comparison.before), table(comparison.after)
    judge = _Judge(comparison, table)
    changes = []
    for key in {**new, **old}:
        rows = old.get(key), new.get(key)
        [known, *_] = [row for row in reversed(rows) if row is not None]
        selves, all_in = Change(*map(own, rows)), Change(*map(total, rows))
        changes.append(
            FunctionChange(
                *key,
                known.module,
                known.origin,
                known.boundary,
                selves,
                all_in,
                Change(*(0 if row is None else row.calls for row in rows)),
                judge(key, selves, own),
                judge(key, all_in, total),
            )
        )
    return sorted(
        changes,
        key=lambda one: (-abs(one.total.by), -abs(one.own.by), one.path, one.first_line, one.name),
    )


def site_changes(comparison: Comparison) -> list[SiteChange]:
    """Return the sampled await sites, those that changed most first."""
    changes = []
    for old, new in paired_sites(await_sites(comparison.before), await_sites(comparison.after)):
        known = new or old
        if known is None:
            continue
        seen = Change(*(0 if one is None else one.seen for one in (old, new)))
        time = Change(*(0 if one is None else one.wait_ns for one in (old, new)))
        chance = chance_of(Timed(time.before, seen.before), Timed(time.after, seen.after))
        changes.append(SiteChange(known, time, seen, chance))
    return sorted(changes, key=lambda one: (-abs(one.time.by), one.site.path, one.site.line))


def counted_changes(comparison: Comparison) -> list[AwaitChange]:
    """Return the awaits that both profiles counted, those whose total changed most first."""
    if not (comparison.before.awaits and comparison.after.awaits):
        return []
    changes = []
    old_rows = await_rows(comparison.before, by_group=False)
    new_rows = await_rows(comparison.after, by_group=False)
    for old, new in paired_sites(old_rows, new_rows):
        known, rows = new or old, (old, new)
        if known is None:
            continue
        changes.append(
            AwaitChange(
                known,
                Change(*(0 if row is None else row.count for row in rows)),
                Change(*(0 if row is None else row.total_ns for row in rows)),
                Change(*(0 if row is None else row.mean_ns for row in rows)),
                Change(*(0 if row is None else row.percentile_ns(95) for row in rows)),
            )
        )
    return sorted(changes, key=lambda one: (-abs(one.total.by), one.row.site.path, one.row.awaited))


def paired_sites(
    before: Iterable[_Site], after: Iterable[_Site]
) -> list[tuple[_Site | None, _Site | None]]:
    """Return the sites that are the same, None beside what only one of the profiles has.

    The same: in the same function, of the same operation, and in the order of the lines.
    """

    def by_operation(sites: Iterable[_Site]) -> dict[tuple[object, ...], dict[int, _Site]]:
        found: dict[tuple[object, ...], dict[int, _Site]] = {}
        for site in sites:
            operation, line = _operation(site)
            found.setdefault(operation, {})[line] = site
        return found

    old, new = by_operation(before), by_operation(after)
    pairs: list[tuple[_Site | None, _Site | None]] = []
    for operation in {**new, **old}:
        there, here = old.get(operation, {}), new.get(operation, {})
        lines = paired_lines(there, here)
        met = set(lines.values())
        pairs += [(there[line], here[other]) for line, other in lines.items()]
        pairs += [(site, None) for line, site in there.items() if line not in lines]
        pairs += [(None, site) for line, site in here.items() if line not in met]
    return pairs


def _operation(site: AwaitSite | AwaitRow) -> tuple[tuple[object, ...], int]:
    if isinstance(site, AwaitSite):
        return (site.function, site.path, site.first_line, site.awaited), site.line
    frame = site.site
    return (frame.name, frame.path, frame.first_line, site.awaited, site.bridge), frame.line


_Key = TypeVar("_Key")
_Row = TypeVar("_Row")


class _Judge:
    """Judges changes of rows by how often they were seen; of what was counted, none is chance."""

    def __init__(
        self, comparison: Comparison, table: Callable[[Profile], dict[_Key, _Row]]
    ) -> None:
        self._exact = comparison.exact
        self._tables: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
        if not self._exact:
            self._tables = table(observed(comparison.before)), table(observed(comparison.after))

    def __call__(self, key: object, change: Change, amount: Callable[[Any], int]) -> Chance:
        if self._exact:
            return Chance.CLEAR
        seen = [amount(table.get(key)) for table in self._tables]
        return chance_of(Timed(change.before, seen[0]), Timed(change.after, seen[1]))
