"""Frames, stacks, task groups and threads stored once, each under a small number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from greenprof.model import Frame, FrameOrigin, TaskGroup

__all__ = ["OVERFLOW_NAME", "Interner", "Renumbering"]

OVERFLOW_NAME: Final = "[over the stack cap]"
"""Name of the frame that stands for what a stack had below the last stored level."""

_OVERFLOW_FRAME = Frame(OVERFLOW_NAME, "", origin=FrameOrigin.LIBRARY)


class Interner:
    """Gives equal frames, stacks, groups and threads one number each, within caps.

    Of a stack that would add a node over `max_nodes`, the stored upper part is kept, with one frame
    named OVERFLOW_NAME below it. Task groups and threads over `max_groups` share one "[other]".
    """

    def __init__(self, max_nodes: int, max_groups: int) -> None:
        self._max_nodes = max_nodes
        self._max_groups = max_groups
        self._frames: dict[Frame, int] = {}
        self._nodes: dict[tuple[int, int], int] = {}
        self._groups: dict[tuple[str, str], int] = {}
        self._task_counts: list[int] = []
        self._threads: dict[str, int] = {}
        self._overflow_frame = -1
        self._overflow_nodes: set[int] = set()

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

    def _overflow_frame_id(self) -> int:
        if self._overflow_frame < 0:
            self._overflow_frame = self._frames.setdefault(_OVERFLOW_FRAME, len(self._frames))
        return self._overflow_frame

    def _overflow_node(self, parent: int) -> int:
        node = self._nodes.setdefault((parent, self._overflow_frame_id()), len(self._nodes))
        self._overflow_nodes.add(node)
        return node


class _Stacks(Protocol):
    """What has frames, stacks, groups and threads under numbers of its own: a profile."""

    frames: list[Frame]
    nodes: list[tuple[int, int]]
    groups: list[TaskGroup]
    threads: list[str]


class Renumbering:
    """Which numbers an interner has for what a profile numbers in its own way; asked for, it stores it."""

    def __init__(self, profile: _Stacks, interner: Interner) -> None:
        self._profile = profile
        self._interner = interner
        self._groups: dict[int, int] = {}
        self._threads: dict[int, int] = {}
        self._nodes = {-1: -1}

    def group(self, group: int) -> int:
        """Return the interner's number of a group."""
        found = self._groups.get(group)
        if found is None:
            own = self._profile.groups[group]
            found = self._groups[group] = self._interner.group(own.name, own.kind)
        return found

    def thread(self, thread: int) -> int:
        """Return the interner's number of a thread."""
        found = self._threads.get(thread)
        if found is None:
            name = self._profile.threads[thread]
            found = self._threads[thread] = self._interner.thread(name)
        return found

    def stack(self, node: int) -> int:
        """Return the interner's number of a stack; -1 of the empty one."""
        found = self._nodes.get(node)
        if found is not None:
            return found
        missing = []
        while node not in self._nodes:
            missing.append(node)
            node = self._profile.nodes[node][0]
        found = self._nodes[node]
        for child in reversed(missing):
            frame = self._profile.frames[self._profile.nodes[child][1]]
            found = self._nodes[child] = self._interner.node(found, self._interner.frame(frame))
        return found
