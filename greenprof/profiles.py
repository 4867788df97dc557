"""The result of a profiling session: interned frames, a tree of stacks, and samples on it.

A profile needs nothing of the program that was profiled: it opens on any machine.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from greenprof.errors import OptionError, ProfileFileError
from greenprof.events import EventTables
from greenprof.model import (
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    ProfileInfo,
    Repeat,
    Sample,
    Slice,
    SliceKind,
    SpanRef,
    SpanSample,
    State,
    TaskGroup,
    Track,
    info_since,
    merged_info,
)
from greenprof.output import write_output
from greenprof.printable import printable
from greenprof.profile_file import MAGIC, MAX_INFLATED_BYTES, Tables, decode, encode

__all__ = [
    "DEFAULT_MAX_GROUPS",
    "DEFAULT_MAX_NODES",
    "OVERFLOW_NAME",
    "AwaitStats",
    "Block",
    "Frame",
    "FrameKind",
    "FrameOrigin",
    "Profile",
    "ProfileBuilder",
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
]

DEFAULT_MAX_NODES: Final = 200_000
DEFAULT_MAX_GROUPS: Final = 2_000
OVERFLOW_NAME: Final = "[over the stack cap]"
"""Name of the frame that stands for what a stack had below the last stored level."""

_OVERFLOW_FRAME = Frame(OVERFLOW_NAME, "", origin=FrameOrigin.LIBRARY)
_STATE_ORDER = {state: index for index, state in enumerate(State)}

_Key = tuple[int, int, int, State]
"""Group, thread, stack and state of a sample."""
_Counted = TypeVar("_Counted", Sample, SpanSample)


@dataclass(slots=True)
class Profile:
    """What was seen of a program: `samples` point into `groups`, `threads` and the stack tree.

    `nodes` is a prefix tree of stacks: (parent node, frame); a parent stands before its children,
    -1 is the root. There is at most one sample for a (group, thread, stack, state).
    `span_samples` say which part of a sample belongs to which of the `spans`. `awaits`, `repeats`
    and `blocks` are exact, not samples; `slices` are those of the `tracks` of a timeline, in the
    order of their tracks and starts.
    """

    info: ProfileInfo = field(default_factory=ProfileInfo)
    frames: list[Frame] = field(default_factory=list)
    nodes: list[tuple[int, int]] = field(default_factory=list)
    groups: list[TaskGroup] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    spans: list[SpanRef] = field(default_factory=list)
    span_samples: list[SpanSample] = field(default_factory=list)
    awaits: list[AwaitStats] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)

    def stack(self, node: int) -> tuple[Frame, ...]:
        """Return the frames of a stack, root first; none for the node -1."""
        return tuple(self.frames[frame] for frame in self.frame_ids(node))

    def frame_ids(self, node: int) -> list[int]:
        """Return the indexes of a stack's frames, root first."""
        found = []
        while node >= 0:
            node, frame = self.nodes[node]
            found.append(frame)
        found.reverse()
        return found

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the profile to a `.gprof` file ("-": standard output).

        Raises OutputError if the file exists and `force` is false, or cannot be written.
        """
        write_output(path, self.to_bytes(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `.gprof` file. Raises ProfileFileError, one line, if it is not a whole one."""
        source = f"'{printable(os.fspath(path))}'"
        try:
            # Not to read a whole disk image, or /dev/zero, before it is found to be none of ours.
            with Path(path).open("rb") as file:
                data = file.read(len(MAGIC))
                if data == MAGIC:
                    data += file.read(MAX_INFLATED_BYTES)
        except FileNotFoundError:
            raise ProfileFileError(
                f"there is no profile {source}; record one with `greenprof run`"
            ) from None
        except IsADirectoryError:
            raise ProfileFileError(f"{source} is a directory; give a .gprof file") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ProfileFileError(
                f"cannot read {source}: {reason or printable(str(error))}; give a readable .gprof file"
            ) from None
        return cls(*decode(data, source))

    def to_bytes(self) -> bytes:
        """Return the contents of a `.gprof` file."""
        return encode(
            Tables(
                self.info,
                self.frames,
                self.nodes,
                self.groups,
                self.threads,
                self.samples,
                self.spans,
                self.span_samples,
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the contents of a `.gprof` file. Raises ProfileFileError if it is not a whole one."""
        return cls(*decode(data, "the profile"))

    @classmethod
    def merge(cls, profiles: Iterable[Profile]) -> Profile:
        """Return one profile of several processes, or of several runs.

        Times and counters add up, the duration is the longest one. Groups of the same name and kind
        become one. Raises OptionError if there is none to merge.
        """
        merged = list(profiles)
        if not merged:
            raise OptionError("no profiles to merge; give one at least")
        # What the parts stored within their caps must not be lost in the whole.
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        for profile in merged:
            for group in profile.groups:
                builder.count_tasks(builder.group(group.name, group.kind), group.count)
            twins = list(_renumbered(profile, profile.samples, builder))
            for sample in twins:
                builder.add(*_fields(sample))
            for part in profile.span_samples:
                span = builder.span(profile.spans[part.span])
                builder.add_part(span, _key(twins[part.sample]), *_numbers(part))
        return builder.build(merged_info([profile.info for profile in merged]))

    def subtract(self, earlier: Profile) -> Profile:
        """Return what came since an `earlier` snapshot of the same session.

        A group's count is that of the tasks first seen since; it may be 0 beside new samples.
        Raises OptionError if the other is of another session.
        """
        if earlier.info.started_at != self.info.started_at:
            raise OptionError(
                f"cannot subtract a profile started at {earlier.info.started_at or 'an unknown time'} "
                f"from one started at {self.info.started_at or 'an unknown time'}; "
                "give two snapshots of one session"
            )
        common = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        old_keys = [_key(twin) for twin in _renumbered(earlier, earlier.samples, common)]
        keys = [_key(twin) for twin in _renumbered(self, self.samples, common)]
        before = dict(zip(old_keys, earlier.samples, strict=True))
        rest = {
            index: new
            for index, sample in enumerate(self.samples)
            if any(_numbers(new := _difference(sample, before.get(keys[index]))))
        }
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        counts = {(group.name, group.kind): group.count for group in earlier.groups}
        for group in self.groups:
            new_tasks = group.count - counts.get((group.name, group.kind), 0)
            if new_tasks > 0:
                builder.count_tasks(builder.group(group.name, group.kind), new_tasks)
        twins = dict(zip(rest, _renumbered(self, rest.values(), builder), strict=True))
        for twin in twins.values():
            builder.add(*_fields(twin))
        parts_before = {
            (earlier.spans[part.span], old_keys[part.sample]): part for part in earlier.span_samples
        }
        for part in self.span_samples:
            if part.sample in twins:
                ref = self.spans[part.span]
                new_part = _difference(part, parts_before.get((ref, keys[part.sample])))
                twin = twins[part.sample]
                builder.add_part(builder.span(ref), _key(twin), *_numbers(new_part))
        return builder.build(info_since(self.info, earlier.info))


class ProfileBuilder:
    """Collects samples into a profile; equal frames, stacks and samples are stored once.

    Memory is bounded: of a stack that would add a node over `max_nodes`, the stored upper part is
    kept, with one frame named OVERFLOW_NAME below it, and its observations are counted in
    `ProfileInfo.overflow_samples`. Task groups and threads over `max_groups` share one "[other]".

    Not safe for several threads, nor for a signal handler that interrupts it: the owner sees to that.
    """

    def __init__(
        self, max_nodes: int = DEFAULT_MAX_NODES, max_groups: int = DEFAULT_MAX_GROUPS
    ) -> None:
        self._max_nodes = max_nodes
        self._max_groups = max_groups
        self._frames: dict[Frame, int] = {}
        self._nodes: dict[tuple[int, int], int] = {}
        self._groups: dict[tuple[str, str], int] = {}
        self._task_counts: list[int] = []
        self._threads: dict[str, int] = {}
        # (group, thread, stack, state) -> [count, wall_ns, cpu_ns]
        self._samples: dict[_Key, list[int]] = {}
        self._spans: dict[SpanRef, int] = {}
        # (span, sample) -> [count, wall_ns, cpu_ns]
        self._parts: dict[tuple[int, _Key], list[int]] = {}
        self._events = EventTables()
        self._overflow_frame = -1
        self._overflow_nodes: set[int] = set()
        self._overflow_samples = 0

    def frame(self, frame: Frame) -> int:
        """Return the id of a frame."""
        index = self._frames.get(frame)
        if index is not None:
            return index
        if len(self._frames) >= self._max_nodes:
            return self._overflow_frame_id()
        index = self._frames[frame] = len(self._frames)
        return index

    def node(self, parent: int, frame: int) -> int:
        """Return the id of the stack that has `frame` (an id) below the stack `parent` (-1: none)."""
        key = (parent, frame)
        node = self._nodes.get(key)
        if node is not None:
            return node
        if parent in self._overflow_nodes:
            return parent
        if frame == self._overflow_frame or (
            len(self._nodes) - len(self._overflow_nodes) >= self._max_nodes
        ):
            return self._overflow_node(parent)
        node = self._nodes[key] = len(self._nodes)
        return node

    def stack(self, frames: Iterable[int | Frame]) -> int:
        """Return the id of a stack given by its frames or their ids, root first; -1 if empty."""
        node = -1
        for frame in frames:
            node = self.node(node, frame if isinstance(frame, int) else self.frame(frame))
        return node

    def group(self, name: str, kind: str) -> int:
        """Return the id of a task group. Tasks are counted by `count_tasks`."""
        key = (name, kind)
        index = self._groups.get(key)
        if index is not None:
            return index
        if len(self._groups) >= self._max_groups:
            key = ("[other]", kind)
        index = self._groups.setdefault(key, len(self._groups))
        if index == len(self._task_counts):
            self._task_counts.append(0)
        return index

    def count_tasks(self, group: int, count: int = 1) -> None:
        """Say that `count` tasks of a group were seen for the first time."""
        self._task_counts[group] += count

    def thread(self, name: str) -> int:
        """Return the id of a thread's name."""
        index = self._threads.get(name)
        if index is not None:
            return index
        if len(self._threads) >= self._max_groups:
            name = "[other]"
        return self._threads.setdefault(name, len(self._threads))

    def add(
        self,
        group: int,
        thread: int,
        stack: int,
        state: State,
        count: int = 1,
        wall_ns: int = 0,
        cpu_ns: int = 0,
    ) -> None:
        """Add observations of a stack, by the ids that the other methods return."""
        _add(self._samples, (group, thread, stack, state), (count, wall_ns, cpu_ns))
        if stack in self._overflow_nodes:
            self._overflow_samples += count

    def span(self, ref: SpanRef) -> int:
        """Return the id of a span."""
        return self._spans.setdefault(ref, len(self._spans))

    def add_part(
        self,
        span: int,
        sample: tuple[int, int, int, State],
        count: int = 1,
        wall_ns: int = 0,
        cpu_ns: int = 0,
    ) -> None:
        """Say that so much of the sample (group, thread, stack, state) belongs to a span.

        The sample itself is added by `add`; what its parts have more than it has is left out.
        """
        _add(self._parts, (span, sample), (count, wall_ns, cpu_ns))

    def add_await(self, stats: AwaitStats) -> int:
        """Add awaits to those of the same group, stack, operation and bridge; return their index."""
        return self._events.add_await(stats)

    def add_repeat(self, repeat: Repeat) -> None:
        """Add repeats to those of the same site, an index that `add_await` returned."""
        self._events.add_repeat(repeat)

    def add_block(self, block: Block) -> None:
        """Add stretches to those of the same group, thread, loop and innermost application line."""
        self._events.add_block(block)

    def track(self, track: Track) -> int:
        """Return the id of a new track: tasks of one name have one each."""
        return self._events.track(track)

    def add_slice(self, one: Slice) -> None:
        """Add a stretch of a track's time; what lies before the profile's start is cut off."""
        self._events.add_slice(one)

    def build(self, info: ProfileInfo) -> Profile:
        """Return what was collected so far, as a profile that later additions do not change.

        Observations of stacks over the cap are added to the `overflow_samples` of (a copy of) `info`.
        """
        keys = sorted(self._samples, key=lambda key: (*key[:3], _STATE_ORDER[key[3]]))
        # A clock that was read twice out of order must not make a file that does not load.
        samples = [Sample(*key, *(max(number, 0) for number in self._samples[key])) for key in keys]
        spans, span_samples = self._linked(samples)
        frames, nodes = list(self._frames), list(self._nodes)
        events = self._events.build(frames, nodes)
        return Profile(
            info=dataclasses.replace(
                info,
                overflow_samples=info.overflow_samples + self._overflow_samples,
                pids=list(info.pids),
                warnings=list(info.warnings),
            ),
            frames=frames,
            nodes=nodes,
            groups=[
                TaskGroup(name, kind, count)
                for (name, kind), count in zip(self._groups, self._task_counts, strict=True)
            ],
            threads=list(self._threads),
            samples=samples,
            spans=spans,
            span_samples=span_samples,
            **events._asdict(),
        )

    def _linked(self, samples: list[Sample]) -> tuple[list[SpanRef], list[SpanSample]]:
        """The spans that have a part of a sample, and their parts."""
        left = {
            _key(sample): (index, list(_numbers(sample))) for index, sample in enumerate(samples)
        }
        refs = list(self._spans)
        used: dict[SpanRef, int] = {}
        parts = []
        for (span, key), numbers in self._parts.items():
            index, rest = left[key]
            taken = [min(max(number, 0), most) for number, most in zip(numbers, rest, strict=True)]
            if any(taken):
                rest[:] = [most - number for most, number in zip(rest, taken, strict=True)]
                parts.append(SpanSample(used.setdefault(refs[span], len(used)), index, *taken))
        parts.sort(key=lambda part: (part.span, part.sample))
        return list(used), parts

    def _overflow_frame_id(self) -> int:
        if self._overflow_frame < 0:
            self._overflow_frame = self._frames.setdefault(_OVERFLOW_FRAME, len(self._frames))
        return self._overflow_frame

    def _overflow_node(self, parent: int) -> int:
        node = self._nodes.setdefault((parent, self._overflow_frame_id()), len(self._nodes))
        self._overflow_nodes.add(node)
        return node


def _add(table: dict[Any, list[int]], key: Any, numbers: tuple[int, int, int]) -> None:
    found = table.get(key)
    if found is None:
        table[key] = list(numbers)
    else:
        found[:] = [one + other for one, other in zip(found, numbers, strict=True)]


def _key(sample: Sample) -> _Key:
    return sample.group, sample.thread, sample.stack, sample.state


def _numbers(one: Sample | SpanSample) -> tuple[int, int, int]:
    return one.count, one.wall_ns, one.cpu_ns


def _fields(sample: Sample) -> tuple[int, int, int, State, int, int, int]:
    return *_key(sample), *_numbers(sample)


def _renumbered(
    profile: Profile, samples: Iterable[Sample], builder: ProfileBuilder
) -> Iterator[Sample]:
    """Yield samples of a profile with the ids that a builder gives to what they point to."""
    samples = list(samples)
    used = set()
    for sample in samples:
        node = sample.stack
        while node >= 0 and node not in used:
            used.add(node)
            node = profile.nodes[node][0]
    nodes = {-1: -1}
    for node, (parent, frame) in enumerate(profile.nodes):
        if node in used:
            nodes[node] = builder.node(nodes[parent], builder.frame(profile.frames[frame]))
    for sample in samples:
        group = profile.groups[sample.group]
        yield dataclasses.replace(
            sample,
            group=builder.group(group.name, group.kind),
            thread=builder.thread(profile.threads[sample.thread]),
            stack=nodes[sample.stack],
        )


def _difference(one: _Counted, earlier: _Counted | None) -> _Counted:
    if earlier is None:
        return one
    return dataclasses.replace(
        one,
        count=max(one.count - earlier.count, 0),
        wall_ns=max(one.wall_ns - earlier.wall_ns, 0),
        cpu_ns=max(one.cpu_ns - earlier.cpu_ns, 0),
    )
