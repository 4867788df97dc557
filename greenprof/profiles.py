"""The result of a profiling session: interned frames, a tree of stacks, and samples on it.

A profile needs nothing of the program that was profiled: it opens on any machine.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from greenprof.errors import OptionError, ProfileFileError
from greenprof.model import Frame, FrameKind, FrameOrigin, ProfileInfo, Sample, State, TaskGroup
from greenprof.output import write_output
from greenprof.printable import printable
from greenprof.profile_file import MAGIC, MAX_INFLATED_BYTES, Tables, decode, encode

__all__ = [
    "DEFAULT_MAX_GROUPS",
    "DEFAULT_MAX_NODES",
    "OVERFLOW_NAME",
    "Frame",
    "FrameKind",
    "FrameOrigin",
    "Profile",
    "ProfileBuilder",
    "ProfileInfo",
    "Sample",
    "State",
    "TaskGroup",
]

DEFAULT_MAX_NODES: Final = 200_000
DEFAULT_MAX_GROUPS: Final = 2_000
OVERFLOW_NAME: Final = "[over the stack cap]"
"""Name of the frame that stands for what a stack had below the last stored level."""

_OVERFLOW_FRAME = Frame(OVERFLOW_NAME, "", origin=FrameOrigin.LIBRARY)
_STATE_ORDER = {state: index for index, state in enumerate(State)}


@dataclass(slots=True)
class Profile:
    """What was seen of a program: `samples` point into `groups`, `threads` and the stack tree.

    `nodes` is a prefix tree of stacks: (parent node, frame); a parent stands before its children,
    -1 is the root. There is at most one sample for a (group, thread, stack, state).
    """

    info: ProfileInfo = field(default_factory=ProfileInfo)
    frames: list[Frame] = field(default_factory=list)
    nodes: list[tuple[int, int]] = field(default_factory=list)
    groups: list[TaskGroup] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

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
            Tables(self.info, self.frames, self.nodes, self.groups, self.threads, self.samples)
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
            for sample in _renumbered(profile, profile.samples, builder):
                builder.add(*_fields(sample))
        return builder.build(_merged_info([profile.info for profile in merged]))

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
        before = {
            _fields(sample)[:4]: sample for sample in _renumbered(earlier, earlier.samples, common)
        }
        rest = []
        for sample, twin in zip(self.samples, _renumbered(self, self.samples, common), strict=True):
            old = before.get(_fields(twin)[:4])
            new = sample if old is None else _difference(sample, old)
            if new.count or new.wall_ns or new.cpu_ns:
                rest.append(new)
        builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
        counts = {(group.name, group.kind): group.count for group in earlier.groups}
        for group in self.groups:
            new_tasks = group.count - counts.get((group.name, group.kind), 0)
            if new_tasks > 0:
                builder.count_tasks(builder.group(group.name, group.kind), new_tasks)
        for sample in _renumbered(self, rest, builder):
            builder.add(*_fields(sample))
        return builder.build(_info_since(self.info, earlier.info))


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
        self._samples: dict[tuple[int, int, int, State], list[int]] = {}
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
        key = (group, thread, stack, state)
        sample = self._samples.get(key)
        if sample is None:
            self._samples[key] = [count, wall_ns, cpu_ns]
        else:
            sample[0] += count
            sample[1] += wall_ns
            sample[2] += cpu_ns
        if stack in self._overflow_nodes:
            self._overflow_samples += count

    def build(self, info: ProfileInfo) -> Profile:
        """Return what was collected so far, as a profile that later additions do not change.

        Observations of stacks over the cap are added to the `overflow_samples` of (a copy of) `info`.
        """
        keys = sorted(self._samples, key=lambda key: (*key[:3], _STATE_ORDER[key[3]]))
        return Profile(
            info=dataclasses.replace(
                info,
                overflow_samples=info.overflow_samples + self._overflow_samples,
                pids=list(info.pids),
                warnings=list(info.warnings),
            ),
            frames=list(self._frames),
            nodes=list(self._nodes),
            groups=[
                TaskGroup(name, kind, count)
                for (name, kind), count in zip(self._groups, self._task_counts, strict=True)
            ],
            threads=list(self._threads),
            # A clock that was read twice out of order must not make a file that does not load.
            samples=[
                Sample(*key, *(max(number, 0) for number in self._samples[key])) for key in keys
            ],
        )

    def _overflow_frame_id(self) -> int:
        if self._overflow_frame < 0:
            self._overflow_frame = self._frames.setdefault(_OVERFLOW_FRAME, len(self._frames))
        return self._overflow_frame

    def _overflow_node(self, parent: int) -> int:
        node = self._nodes.setdefault((parent, self._overflow_frame_id()), len(self._nodes))
        self._overflow_nodes.add(node)
        return node


def _fields(sample: Sample) -> tuple[int, int, int, State, int, int, int]:
    return (
        sample.group,
        sample.thread,
        sample.stack,
        sample.state,
        sample.count,
        sample.wall_ns,
        sample.cpu_ns,
    )


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


def _difference(sample: Sample, earlier: Sample) -> Sample:
    return dataclasses.replace(
        sample,
        count=max(sample.count - earlier.count, 0),
        wall_ns=max(sample.wall_ns - earlier.wall_ns, 0),
        cpu_ns=max(sample.cpu_ns - earlier.cpu_ns, 0),
    )


_SUMMED: Final = (
    "process_cpu_ns",
    "ticks",
    "missed_ticks",
    "sampler_cpu_ns",
    "overflow_samples",
    "greenlet_switches",
)


def _merged_info(infos: list[ProfileInfo]) -> ProfileInfo:
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
        **{name: sum(getattr(info, name) for info in infos) for name in _SUMMED},
    )


def _info_since(info: ProfileInfo, earlier: ProfileInfo) -> ProfileInfo:
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
