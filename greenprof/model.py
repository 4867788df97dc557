"""The records that a profile is made of. `greenprof.profiles` exports them; import them from there."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from greenprof.errors import OptionError
from greenprof.printable import printable

__all__ = [
    "MAX_NUMBER",
    "AwaitStats",
    "Block",
    "Frame",
    "FrameKind",
    "FrameOrigin",
    "ProfileInfo",
    "Repeat",
    "Sample",
    "Slice",
    "SliceKind",
    "SpanRef",
    "SpanSample",
    "State",
    "TaskGroup",
    "Track",
    "how_measured",
    "info_since",
    "merged_info",
    "nanoseconds_between",
]


MAX_NUMBER: Final = 2**63 - 1
"""The largest that a file holds; sums stop there."""


class FrameKind(enum.StrEnum):
    """What a frame is in a stack that is split between greenlets."""

    PYTHON = "python"
    BOUNDARY = "boundary"
    """Internals of a bridge: `greenlet_spawn`, `await_`, a trampoline."""
    AWAITED = "awaited"
    """Runs on behalf of sync code that awaits it."""

    # Enum hashes in Python code; these are parts of keys that are looked up at every sample.
    __hash__ = str.__hash__


class FrameOrigin(enum.StrEnum):
    """Whose code a frame is, decided where it was recorded: other machines have other folders."""

    APP = "app"
    LIBRARY = "library"
    STDLIB = "stdlib"

    __hash__ = str.__hash__


class State(enum.StrEnum):
    """What a task was seen doing."""

    ON_CPU = "on-cpu"
    AWAITING = "awaiting"
    """Suspended on something that is not there yet."""
    READY = "ready"
    """What it waited for is there, but its loop is busy with somebody else."""
    BLOCKED = "blocked"
    """Inside a call that holds up the thread, and with it the loop."""
    IDLE = "idle"
    """Nothing to do."""

    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Frame:
    """One level of a stack: a function, and the line in it that runs or waits (0: unknown)."""

    name: str
    path: str
    line: int = 0
    first_line: int = 0
    kind: FrameKind = FrameKind.PYTHON
    origin: FrameOrigin = FrameOrigin.APP
    module: str = ""
    crosses: bool = False
    """First frame of another greenlet: a greenlet boundary lies just above it."""

    @property
    def qualified_name(self) -> str:
        """`module.name`, or the name alone where the module is not known."""
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks that are one to a reader: the requests of a route, the workers of a pool."""

    name: str
    kind: str
    """"asyncio", "greenlet" or "thread"."""
    count: int = 0
    """Distinct tasks seen."""


@dataclass(slots=True)
class Sample:
    """All observations of one stack in one state, within one task group and one thread."""

    group: int
    thread: int
    stack: int
    """Node of the stack tree; -1 for an empty stack."""
    state: State
    count: int
    """Observations."""
    wall_ns: int
    """Wall time lived by tasks: two tasks that wait side by side for a second make two seconds."""
    cpu_ns: int


@dataclass(frozen=True, slots=True)
class SpanRef:
    """An OpenTelemetry span, by the ids in lower-case hex under which it was exported."""

    trace_id: str
    span_id: str


@dataclass(slots=True)
class SpanSample:
    """The part of a sample that was observed while a span was current.

    `span` and `sample` are indexes. A sample's parts never sum up to more than the sample; what
    is left of it was seen in no span, or in one that is not known.
    """

    span: int
    sample: int
    count: int
    wall_ns: int
    cpu_ns: int


@dataclass(slots=True)
class AwaitStats:
    """All awaits of one operation at one site, exactly: none is left out.

    `stack` ends with the line that waited, the one that its owner can change; of several ways to
    it, the first that was seen. `durations` are counts by bucket, see `greenprof.durations`.
    """

    group: int
    stack: int
    awaited: str
    """Qualified name of what was awaited, "?" if it is not known."""
    bridge: str
    """"sqlalchemy", "greenback", "gevent", ...; "generic" for one that nobody has described."""
    count: int
    total_ns: int
    min_ns: int
    max_ns: int
    errors: int = 0
    """Those that ended by an exception, but for cancellations."""
    cancelled: int = 0
    durations: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Repeat:
    """An await that one task or one request made again and again, for the same operation.

    Of those tasks and requests alone that made it as often as the threshold, or oftener.
    """

    site: int
    """Index of its `AwaitStats`."""
    units: int
    """Tasks, or requests where a task serves several."""
    awaits: int
    """All of their repeated awaits together."""
    most: int
    """The most that one of them made."""
    total_ns: int
    """Time in those awaits."""
    units_ns: int
    """From the first await to the end of the last one of each of them, of any site."""


@dataclass(slots=True)
class Block:
    """How one line kept an event loop, or a hub, from going on: stretches over the limit."""

    group: int
    thread: int
    stack: int
    """What ran in the middle of the longest stretch."""
    count: int
    total_ns: int
    worst_ns: int
    waiting: int
    """Tasks that were ready to go on and could not, at the most."""
    loop: str
    """"asyncio", "uvloop" or "gevent"."""


class SliceKind(enum.StrEnum):
    """What a stretch on a timeline is."""

    RUN = "run"
    """The task had the thread."""
    AWAIT = "await"
    BLOCK = "block"
    """It had the thread for longer than the limit."""

    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Track:
    """One task, greenlet or thread on a timeline."""

    name: str
    group: int
    thread: int


@dataclass(slots=True)
class Slice:
    """A stretch of a track's time, in nanoseconds since the profile's start."""

    track: int
    kind: SliceKind
    start_ns: int
    duration_ns: int
    stack: int
    """Node of the stack tree; -1 where it is not known."""
    name: str
    """What is awaited, or runs."""
    flow: int = 0
    """Slices of one number belong together: a sync line that awaits, and what runs for it. 0: none."""


@dataclass(slots=True)
class ProfileInfo:
    """What was recorded, where, and what it cost."""

    command: str = ""
    python: str = ""
    greenprof: str = ""
    started_at: str = ""
    """ISO 8601, UTC."""
    duration_ns: int = 0
    process_cpu_ns: int = 0
    rate_hz: float = 0.0
    ticks: int = 0
    missed_ticks: int = 0
    sampler_cpu_ns: int = 0
    overflow_samples: int = 0
    """Observations whose stack went over the cap on stored stacks."""
    greenlet_switches: int = 0
    pids: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    profile_id: str = ""
    """Of the session; spans recorded meanwhile have it as `greenprof.profile.id`. After a merge:
    those of all parts, separated by ", "."""
    engine: str = "sampling"
    """"sampling", or "exact": a sample's count is then the number of calls that its stack made."""
    clock: str = ""
    """What the exact engine measured: "cpu" or "wall"."""
    block_limit_ns: int = 0
    """From which time on a blocked loop was reported; 0: not at all."""
    repeat_min: int = 0
    """How often one task makes an await before it counts as repeated; 0: not looked for."""
    lost_awaits: int = 0
    """Awaits whose site went over the cap on sites; they are in no `AwaitStats`."""
    lost_slices: int = 0
    """Slices of the timeline that later ones took the place of."""


_SUMMED: Final = (
    "process_cpu_ns",
    "ticks",
    "missed_ticks",
    "sampler_cpu_ns",
    "overflow_samples",
    "greenlet_switches",
    "lost_awaits",
    "lost_slices",
)


def merged_info(infos: list[ProfileInfo]) -> ProfileInfo:
    """What several processes, or several runs, were.

    Raises OptionError if they were not measured alike: calls and samples, or times of two clocks,
    do not add up.
    """
    measured = list(dict.fromkeys(map(how_measured, infos)))
    if len(measured) > 1:
        raise OptionError(
            f"cannot merge profiles of the {measured[0]} with those of the {measured[1]}: "
            "they do not add up; give profiles recorded alike"
        )

    def distinct(texts: Iterable[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if text]

    return ProfileInfo(
        command=" + ".join(distinct(info.command for info in infos)),
        python=", ".join(distinct(info.python for info in infos)),
        greenprof=", ".join(distinct(info.greenprof for info in infos)),
        started_at=min(distinct(info.started_at for info in infos), default=""),
        duration_ns=max(info.duration_ns for info in infos),
        rate_hz=max(info.rate_hz for info in infos),
        pids=list(dict.fromkeys(pid for info in infos for pid in info.pids)),
        warnings=distinct(text for info in infos for text in info.warnings),
        profile_id=", ".join(distinct(info.profile_id for info in infos)),
        engine=infos[0].engine,
        clock=infos[0].clock,
        # The lower ones: what a profile reports is over it.
        block_limit_ns=min(filter(None, (info.block_limit_ns for info in infos)), default=0),
        repeat_min=min(filter(None, (info.repeat_min for info in infos)), default=0),
        **{name: min(sum(getattr(info, name) for info in infos), MAX_NUMBER) for name in _SUMMED},
    )


def how_measured(info: ProfileInfo) -> str:
    """What numbers have to have in common to add up, in words: "exact engine, cpu clock"."""
    clock = f", {info.clock} clock" if info.clock else ""
    return printable(f"{info.engine} engine{clock}")


def nanoseconds_between(first: ProfileInfo, second: ProfileInfo) -> int:
    """How much later the second one started; 0 if it did not, or if that is not known."""
    try:
        since = datetime.fromisoformat(second.started_at) - datetime.fromisoformat(first.started_at)
    except (ValueError, TypeError):
        return 0
    return max(since // timedelta(microseconds=1) * 1000, 0)


def info_since(info: ProfileInfo, earlier: ProfileInfo) -> ProfileInfo:
    """What a session was since an earlier snapshot of it."""
    try:
        since = datetime.fromisoformat(info.started_at) + timedelta(
            microseconds=earlier.duration_ns // 1000
        )
        started_at = since.isoformat()
    except (ValueError, OverflowError):
        started_at = info.started_at
    return dataclasses.replace(
        info,
        started_at=started_at,
        duration_ns=max(info.duration_ns - earlier.duration_ns, 0),
        pids=list(info.pids),
        warnings=[text for text in info.warnings if text not in earlier.warnings],
        **{name: max(getattr(info, name) - getattr(earlier, name), 0) for name in _SUMMED},
    )
