"""Numbers out of a profile: what the summary, the exporters and the reports show.

Three clocks: CPU time; the time that tasks were suspended ("await"); and the wall clock that each
task lives by, which has both, and calls that block. Tasks wait side by side, so wall times add up to
more than the profile's duration. Time counts once: CPU time that a task used while it was
awaiting, ready, blocked or idle is CPU time, and only the rest of that wall time is the state's. All
times are integer nanoseconds.

The exact engine's profiles are read the same way, but for what a sample's count is: the calls that
its stack's last function was given there. What it measured by the wall clock stands in the place of
CPU time: a function ran, or it blocked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from greenprof.clocks import CLOCKS, check_clock
from greenprof.profiles import FrameKind, FrameOrigin, Profile, Sample, State
from greenprof.sites import (
    WAITS,
    AwaitRow,
    AwaitSite,
    BlockRow,
    RepeatRow,
    await_rows,
    await_sites,
    block_rows,
    function_key,
    origin_of,
    repeat_rows,
    sample_sites,
    waited_ns,
)

__all__ = [
    "CLOCKS",
    "AwaitRow",
    "AwaitSite",
    "BlockRow",
    "FunctionRow",
    "GroupRow",
    "RepeatRow",
    "Totals",
    "TraceRow",
    "WeightedStack",
    "await_rows",
    "await_sites",
    "block_rows",
    "check_clock",
    "counted_ns",
    "function_key",
    "function_table",
    "group_table",
    "is_exact",
    "origin_of",
    "repeat_rows",
    "sample_sites",
    "totals",
    "trace_table",
    "weighted_stacks",
]


@dataclass(slots=True)
class Totals:
    """The whole profile in a few numbers."""

    duration_ns: int = 0
    process_cpu_ns: int = 0
    cpu_ns: int = 0
    """CPU time attributed to samples."""
    unattributed_cpu_ns: int = 0
    """The rest of the process's CPU time: before the first sample, interpreter, other threads."""
    wall_ns: int = 0
    """All time lived by tasks, whatever their state."""
    # Of the states, wall time less the CPU time used meanwhile.
    awaiting_ns: int = 0
    ready_ns: int = 0
    blocked_ns: int = 0
    idle_ns: int = 0
    samples: int = 0
    """Observations; of the exact engine, calls."""
    tasks: int = 0


@dataclass(slots=True)
class GroupRow:
    """A task group: all of its tasks together."""

    name: str
    kind: str
    tasks: int
    wall_ns: int = 0
    """All time lived by the tasks, idle time included."""
    cpu_ns: int = 0
    # Of the states, wall time less the CPU time used meanwhile.
    awaiting_ns: int = 0
    ready_ns: int = 0
    blocked_ns: int = 0
    idle_ns: int = 0
    samples: int = 0

    def weight_ns(self, clock: str) -> int:
        """Return what to sort by: time that was not idle, CPU time, or time suspended."""
        if clock == "wall":
            return max(self.wall_ns - self.idle_ns, self.cpu_ns)
        return self.cpu_ns if clock == "cpu" else self.awaiting_ns + self.ready_ns


@dataclass(slots=True)
class FunctionRow:
    """A function: time in itself, and in itself with all that it called ("total").

    "await" is the time when its task was suspended, awaiting or ready. A recursive function counts
    once in its total.
    """

    name: str
    path: str
    first_line: int
    module: str
    origin: FrameOrigin
    boundary: bool
    """Internals of a bridge."""
    self_cpu_ns: int = 0
    total_cpu_ns: int = 0
    self_await_ns: int = 0
    total_await_ns: int = 0
    self_blocked_ns: int = 0
    total_blocked_ns: int = 0
    calls: int = 0
    """As the exact engine counted them; 0 in a profile that was sampled."""

    def self_ns(self, clock: str) -> int:
        """Return the time in the function itself that counts under a clock."""
        return counted_ns(clock, self.self_cpu_ns, self.self_await_ns, self.self_blocked_ns)

    def total_ns(self, clock: str) -> int:
        """Return the time in the function and its callees that counts under a clock."""
        return counted_ns(clock, self.total_cpu_ns, self.total_await_ns, self.total_blocked_ns)


class TraceRow(NamedTuple):
    """What was seen of one trace."""

    trace_id: str
    group: int
    """The task group that spent most of the trace's time."""
    spans: int
    """Its spans that something was seen of."""
    time_ns: int
    parts: dict[int, Sample]
    """What belongs to it of the profile's samples, by their indexes."""


class WeightedStack(NamedTuple):
    """A stack and how much it weighs; `label` tells what its leaf was doing ("": it ran)."""

    group: int
    thread: int
    stack: int
    label: str
    weight_ns: int


class _Times(NamedTuple):
    """What samples say of the stacks that they are of, by node."""

    cpu_ns: list[int]
    await_ns: list[int]
    blocked_ns: list[int]


_AWAIT_LABELS: Final = {State.AWAITING: "[await]", State.READY: "[ready]"}
# What each clock counts beside the CPU time, which "await" leaves out.
_LABELS: Final[dict[str, dict[State, str]]] = {
    "wall": {**_AWAIT_LABELS, State.BLOCKED: "[blocked]", State.IDLE: "[idle]"},
    "cpu": {},
    "await": _AWAIT_LABELS,
}


def counted_ns(clock: str, cpu_ns: int, await_ns: int, blocked_ns: int) -> int:
    """Return what of some time counts under a clock."""
    if clock == "wall":
        return cpu_ns + await_ns + blocked_ns
    return cpu_ns if clock == "cpu" else await_ns


def is_exact(profile: Profile) -> bool:
    """Whether calls were counted and timed, not samples taken."""
    return profile.info.engine == "exact"


def totals(profile: Profile) -> Totals:
    """Return the sums over the whole profile."""
    info = profile.info
    result = Totals(duration_ns=info.duration_ns, process_cpu_ns=info.process_cpu_ns)
    for row in group_table(profile):
        result.tasks += row.tasks
        for field in fields(Totals):
            if field.name.endswith("_ns") and hasattr(row, field.name):
                added = getattr(result, field.name) + getattr(row, field.name)
                setattr(result, field.name, added)
        result.samples += row.samples
    result.unattributed_cpu_ns = max(info.process_cpu_ns - result.cpu_ns, 0)
    return result


def group_table(profile: Profile, *, clock: str = "wall") -> list[GroupRow]:
    """Return the task groups, those with most time (that was not idle) under the clock first."""
    check_clock(clock)
    rows = [GroupRow(group.name, group.kind, group.count) for group in profile.groups]
    for sample in profile.samples:
        row = rows[sample.group]
        row.samples += sample.count
        row.wall_ns += sample.wall_ns
        row.cpu_ns += sample.cpu_ns
        rest_ns = waited_ns(sample)
        if sample.state is State.AWAITING:
            row.awaiting_ns += rest_ns
        elif sample.state is State.READY:
            row.ready_ns += rest_ns
        elif sample.state is State.BLOCKED:
            row.blocked_ns += rest_ns
        elif sample.state is State.IDLE:
            row.idle_ns += rest_ns
    return sorted(rows, key=lambda row: (-row.weight_ns(clock), row.name, row.kind))


def function_table(profile: Profile, *, clock: str = "wall") -> list[FunctionRow]:
    """Return all functions that were seen, those with the largest total first."""
    check_clock(clock)
    rows: dict[tuple[str, str, int], FunctionRow] = {}
    row_of_frame = []
    numbers: dict[tuple[str, str, int], int] = {}
    number_of_frame = []
    for frame in profile.frames:
        key = function_key(frame)
        row = rows.get(key)
        if row is None:
            boundary = frame.kind is FrameKind.BOUNDARY
            row = rows[key] = FunctionRow(*key, frame.module, origin_of(frame), boundary)
        row_of_frame.append(row)
        number_of_frame.append(numbers.setdefault(key, len(numbers)))
    outermost = _outermost(profile, number_of_frame)
    for name, times in _times_by_node(profile)._asdict().items():
        own = _by_function(profile, number_of_frame, times)
        _add_callees(profile, times)
        total = _by_function(profile, number_of_frame, times, outermost)
        for row, own_ns, total_ns in zip(rows.values(), own, total, strict=True):
            setattr(row, f"self_{name}", own_ns)
            setattr(row, f"total_{name}", total_ns)
    if is_exact(profile):
        for sample in profile.samples:
            if sample.state is State.ON_CPU and sample.stack >= 0:
                row_of_frame[profile.nodes[sample.stack][1]].calls += sample.count
    return sorted(
        rows.values(),
        key=lambda row: (-row.total_ns(clock), -row.self_ns(clock), row.path, row.first_line),
    )


def weighted_stacks(profile: Profile, *, clock: str = "wall") -> Iterator[WeightedStack]:
    """Yield what a flame graph draws: stacks with a weight in nanoseconds.

    Time that ran weighs its CPU time and has no label. Under the wall clock, waiting adds its wall
    time (less the CPU time that was used meanwhile) under a label: "[await]", "[ready]",
    "[blocked]" or "[idle]". Under the CPU clock only CPU time counts, under the await clock only
    what has the labels "[await]" and "[ready]".
    """
    check_clock(clock)
    labels = _LABELS[clock]
    for sample in profile.samples:
        if sample.cpu_ns and clock != "await":
            yield WeightedStack(sample.group, sample.thread, sample.stack, "", sample.cpu_ns)
        label = labels.get(sample.state)
        rest_ns = waited_ns(sample)
        if label is not None and rest_ns:
            yield WeightedStack(sample.group, sample.thread, sample.stack, label, rest_ns)


def trace_table(profile: Profile, *, clock: str = "wall") -> list[TraceRow]:
    """Return the traces that samples are linked to, those with the most time first.

    Idle time does not count here: a trace may have a span round a loop that has nothing to do.
    """
    check_clock(clock)
    parts: dict[str, dict[int, Sample]] = {}
    spans: dict[str, set[int]] = {}
    for part in profile.span_samples:
        trace_id = profile.spans[part.span].trace_id
        spans.setdefault(trace_id, set()).add(part.span)
        samples = parts.setdefault(trace_id, {})
        found = samples.get(part.sample)
        if found is None:
            found = samples[part.sample] = dataclasses.replace(
                profile.samples[part.sample], count=0, wall_ns=0, cpu_ns=0
            )
        found.count += part.count
        found.wall_ns += part.wall_ns
        found.cpu_ns += part.cpu_ns
    rows = []
    for trace_id, samples in parts.items():
        times: dict[int, int] = dict.fromkeys((one.group for one in samples.values()), 0)
        for one in samples.values():
            waited = waited_ns(one)
            awaited = waited if one.state in WAITS else 0
            blocked = waited if one.state is State.BLOCKED else 0
            times[one.group] += counted_ns(clock, one.cpu_ns, awaited, blocked)
        group = max(times, key=lambda group: (times[group], -group))
        time_ns = sum(times.values())
        # In the order of the samples, not in that in which spans came to them.
        own = dict(sorted(samples.items()))
        rows.append(TraceRow(trace_id, group, len(spans[trace_id]), time_ns, own))
    rows.sort(key=lambda row: (-row.time_ns, row.trace_id))
    return rows


def _times_by_node(profile: Profile) -> _Times:
    own = _Times(*([0] * len(profile.nodes) for _ in range(3)))
    for sample in profile.samples:
        if sample.stack < 0:
            continue
        own.cpu_ns[sample.stack] += sample.cpu_ns
        if sample.state in WAITS:
            own.await_ns[sample.stack] += waited_ns(sample)
        elif sample.state is State.BLOCKED:
            own.blocked_ns[sample.stack] += waited_ns(sample)
    return own


def _add_callees(profile: Profile, times: list[int]) -> None:
    """Add to each node what is below it."""
    nodes = profile.nodes
    for node in range(len(nodes) - 1, -1, -1):
        parent = nodes[node][0]
        if parent >= 0:
            times[parent] += times[node]


def _by_function(
    profile: Profile, number_of_frame: list[int], times: list[int], counted: bytes | None = None
) -> list[int]:
    """Return the sums of nodes' times by function; with `counted`, of those that have a 1 there."""
    sums = [0] * (max(number_of_frame, default=-1) + 1)
    for node, time_ns in enumerate(times):
        if time_ns and (counted is None or counted[node]):
            sums[number_of_frame[profile.nodes[node][1]]] += time_ns
    return sums


def _outermost(profile: Profile, number_of_frame: list[int]) -> bytes:
    """Return for each node 1 if its function is in no level above it, else 0."""
    nodes = profile.nodes
    # Lists of children as two tables, the last entry of one being that of the roots, at -1.
    first, following = [-1] * (len(nodes) + 1), [-1] * len(nodes)
    for node, (parent, _) in enumerate(nodes):
        following[node] = first[parent]
        first[parent] = node
    above = [0] * (max(number_of_frame, default=-1) + 1)
    found = bytearray(len(nodes))
    node = first[-1]
    while node >= 0:
        number = number_of_frame[nodes[node][1]]
        if not above[number]:
            found[node] = 1
        above[number] += 1
        below = first[node]
        while below < 0 <= node:
            above[number_of_frame[nodes[node][1]]] -= 1
            below = following[node]
            node = nodes[node][0]
        node = below
    return bytes(found)
