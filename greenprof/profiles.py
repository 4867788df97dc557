"""The result of a profiling session: interned frames, a tree of stacks, and samples on it.

A profile needs nothing of the program that was profiled: it opens on any machine.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from greenprof.errors import OptionError, ProfileFileError
from greenprof.events import Events, EventTables, events_since
from greenprof.interning import OVERFLOW_NAME, Interner, Renumbering
from greenprof.model import (
    MAX_NUMBER,
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
    nanoseconds_between,
)
from greenprof.output import write_output
from greenprof.printable import printable
from greenprof.profile_file import MAGIC, MAX_FILE_BYTES, Tables, decode, encode

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

_STATE_ORDER = {state: index for index, state in enumerate(State)}

_Key = tuple[int, int, int, State]
"""Group, thread, stack and state of a sample."""
_Numbers = tuple[int, int, int]
"""Count, wall time and CPU time of a sample, or of a part of one."""
_Counted = Sample | SpanSample


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
                    data += file.read(MAX_FILE_BYTES)
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
        return cls._joined(decode(data, source))

    def to_bytes(self, pause: Callable[[], None] | None = None) -> bytes:
        """Return the contents of a `.gprof` file. `pause` is called every millisecond or so."""
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
                self.awaits,
                self.repeats,
                self.blocks,
                self.tracks,
                self.slices,
            ),
            pause,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the contents of a `.gprof` file. Raises ProfileFileError if it is not a whole one."""
        return cls._joined(decode(data, "the profile"))

    @classmethod
    def _joined(cls, parts: list[Tables]) -> Self:
        """One profile of the parts of a file."""
        profiles = [cls(*part) for part in parts]
        if len(profiles) == 1:
            return profiles[0]
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        for profile in profiles:
            ids = builder.add_samples(profile)
        builder.add_events(profile, ids)
        whole = builder.build(profile.info)
        return cls(*(getattr(whole, field.name) for field in dataclasses.fields(whole)))

    @classmethod
    def merge(cls, profiles: Iterable[Profile]) -> Profile:
        """Return one profile of several processes, or of several runs.

        Times and counters add up, the duration is the longest one. Groups of the same name and kind
        become one; the tracks of timelines stay apart, from the start of the first profile on.
        Raises OptionError if there is none to merge, or if calls would be added to samples.
        """
        merged = list(profiles)
        if not merged:
            raise OptionError("no profiles to merge; give one at least")
        info = merged_info([profile.info for profile in merged])
        # What the parts stored within their caps must not be lost in the whole.
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        for profile in merged:
            ids = builder.add_samples(profile)
            builder.add_events(profile, ids, nanoseconds_between(info, profile.info))
        return builder.build(info)

    def subtract(self, earlier: Profile) -> Profile:
        """Return what came since an `earlier` snapshot of the same session.

        A group's count is that of the tasks first seen since; it may be 0 beside new samples. The
        shortest and the longest of the awaits since are known within 6 %, the worst block and the
        most repeats of one task may be those of the whole session.
        Raises OptionError if the other is of another session.
        """
        if earlier.info.started_at != self.info.started_at:
            raise OptionError(
                f"cannot subtract a profile started at {earlier.info.started_at or 'an unknown time'} "
                f"from one started at {self.info.started_at or 'an unknown time'}; "
                "give two snapshots of one session"
            )
        common = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        old_ids, ids = Renumbering(earlier, common), Renumbering(self, common)
        old_keys = [_key(sample, old_ids) for sample in earlier.samples]
        keys = [_key(sample, ids) for sample in self.samples]
        before = dict(zip(old_keys, earlier.samples, strict=True))
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        counts = {(group.name, group.kind): group.count for group in earlier.groups}
        for group in self.groups:
            new_tasks = group.count - counts.get((group.name, group.kind), 0)
            if new_tasks > 0:
                builder.count_tasks(builder.group(group.name, group.kind), new_tasks)
        new_ids = Renumbering(self, builder)
        new_keys: dict[int, _Key] = {}
        for index, sample in enumerate(self.samples):
            numbers = _difference(sample, before.get(keys[index]))
            if any(numbers):
                new_keys[index] = _key(sample, new_ids)
                builder.add(*new_keys[index], *numbers)
        parts_before = {
            (earlier.spans[part.span], old_keys[part.sample]): part for part in earlier.span_samples
        }
        for part in self.span_samples:
            if part.sample in new_keys:
                ref = self.spans[part.span]
                numbers = _difference(part, parts_before.get((ref, keys[part.sample])))
                builder.add_part(builder.span(ref), new_keys[part.sample], *numbers)
        events = events_since(self, earlier, ids, old_ids, earlier.info.duration_ns)
        builder.add_events(events, new_ids)
        return builder.build(info_since(self.info, earlier.info))


class ProfileBuilder(Interner):
    """Collects samples into a profile; equal frames, stacks and samples are stored once.

    Memory is bounded: of a stack that would add a node over `max_nodes`, the stored upper part is
    kept, with one frame named OVERFLOW_NAME below it, and its observations are counted in
    `ProfileInfo.overflow_samples`. Task groups and threads over `max_groups` share one "[other]".

    Not safe for several threads, nor for a signal handler that interrupts it: the owner sees to that.
    """

    def __init__(
        self, max_nodes: int = DEFAULT_MAX_NODES, max_groups: int = DEFAULT_MAX_GROUPS
    ) -> None:
        super().__init__(max_nodes, max_groups)
        # (group, thread, stack, state) -> [count, wall_ns, cpu_ns]
        self._samples: dict[_Key, list[int]] = {}
        self._spans: dict[SpanRef, int] = {}
        # (span, sample) -> [count, wall_ns, cpu_ns]
        self._parts: dict[tuple[int, _Key], list[int]] = {}
        self._events = EventTables()
        self._overflow_samples = 0

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

    def pause(self) -> None:
        """Called now and then by who fills it; nothing here."""

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

    def add_samples(self, profile: Profile) -> Renumbering:
        """Add another profile's samples, with what of them is in spans; return its numbers here."""
        for group in profile.groups:
            self.count_tasks(self.group(group.name, group.kind), group.count)
        ids = Renumbering(profile, self)
        keys = [_key(sample, ids) for sample in profile.samples]
        for key, sample in zip(keys, profile.samples, strict=True):
            self.add(*key, *_numbers(sample))
        for part in profile.span_samples:
            self.add_part(self.span(profile.spans[part.span]), keys[part.sample], *_numbers(part))
        return ids

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

    def add_events(self, events: Events | Profile, ids: Renumbering, shift_ns: int = 0) -> None:
        """Add another profile's awaits, repeats, blocks, tracks and slices, these so much later."""
        self._events.add_all(events, ids, shift_ns)

    def build(self, info: ProfileInfo) -> Profile:
        """Return what was collected so far, as a profile that later additions do not change.

        Observations of stacks over the cap are added to the `overflow_samples` of (a copy of) `info`.
        """
        keys = sorted(self._samples, key=lambda key: (*key[:3], _STATE_ORDER[key[3]]))
        samples = [self.sample(key) for key in keys]
        spans, span_samples = self._linked(keys, samples)
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
                TaskGroup(name, kind, min(count, MAX_NUMBER))
                for (name, kind), count in zip(self._groups, self._task_counts, strict=True)
            ],
            threads=list(self._threads),
            samples=samples,
            spans=spans,
            span_samples=span_samples,
            **events._asdict(),
        )

    def sample(self, key: tuple[int, int, int, State]) -> Sample:
        """Return the sample (group, thread, stack, state) as it is by now."""
        # A clock that was read twice out of order must not make a file that does not load.
        return Sample(*key, *(min(max(number, 0), MAX_NUMBER) for number in self._samples[key]))

    def _linked(
        self, keys: list[_Key], samples: list[Sample]
    ) -> tuple[list[SpanRef], list[SpanSample]]:
        """The spans that have a part of a sample, and their parts."""
        left = {key: (index, list(_numbers(samples[index]))) for index, key in enumerate(keys)}
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


def _add(table: dict[Any, list[int]], key: Any, numbers: _Numbers) -> None:
    found = table.get(key)
    if found is None:
        table[key] = list(numbers)
    else:
        found[:] = [one + other for one, other in zip(found, numbers, strict=True)]


def _key(sample: Sample, ids: Renumbering) -> _Key:
    return (
        ids.group(sample.group),
        ids.thread(sample.thread),
        ids.stack(sample.stack),
        sample.state,
    )


def _numbers(one: _Counted) -> _Numbers:
    return one.count, one.wall_ns, one.cpu_ns


def _difference(one: _Counted, earlier: _Counted | None) -> _Numbers:
    if earlier is None:
        return _numbers(one)
    return (
        max(one.count - earlier.count, 0),
        max(one.wall_ns - earlier.wall_ns, 0),
        max(one.cpu_ns - earlier.cpu_ns, 0),
    )
