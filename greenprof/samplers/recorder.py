"""Where samples go while the program runs: every stack once, numbers added up.

A stack's frames go into a prefix tree, keyed by code object and bytecode offset; names and lines
are found when a profile is made. Most samples are of a stack that was seen before, which one
hash of its frames tells.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from operator import attrgetter
from types import CodeType
from typing import NamedTuple

from greenprof.frames import FrameTable, position_of
from greenprof.profiles import (
    DEFAULT_MAX_NODES,
    OVERFLOW_NAME,
    Frame,
    FrameKind,
    FrameOrigin,
    ProfileBuilder,
    State,
)
from greenprof.samplers.marks import Marks
from greenprof.samplers.spanlinks import SampleKey, SpanLinks
from greenprof.stacks import RawStack

#: Whole stacks remembered by their hash; the tree stays when these are forgotten.
MAX_REMEMBERED = 50_000
#: Frames that are looked up together, where the whole stack is not remembered.
CHUNK = 12
MAX_GROUPS = 2_000
#: Room for the samples of a few stacks in every state.
MIN_SAMPLES = 10_000

_code_of = attrgetter("f_code")
_lasti_of = attrgetter("f_lasti")


class Recorder:
    """Adds up samples. One writer at a time; `fill` may run while it writes.

    Memory is bounded by `max_nodes` in the tree of stacks and twice as many samples. Of a stack
    that goes over, the part that is stored already is kept, with a marker below it.
    """

    def __init__(self, max_nodes: int = DEFAULT_MAX_NODES) -> None:
        self._max_nodes = max_nodes
        self._max_samples = max(2 * max_nodes, MIN_SAMPLES)
        # (parent, id(code) or id(text), offset * 8 + boundary * 4 + kind) -> node
        self._children: dict[tuple[int, int, int], int] = {}
        # Keeps the code objects alive, so that their ids stay taken.
        self._nodes: list[tuple[int, CodeType | str, int]] = []
        self._stored = 0
        self._remembered: dict[int, int] = {}
        # Parts of stacks, by the node above them and their frames.
        self._parts: dict[int, int] = {}
        # (group, thread, node, state) -> [count, wall_ns, cpu_ns]
        self._samples: dict[SampleKey, list[int]] = {}
        self.spans = SpanLinks()
        self._groups: dict[tuple[str, str], int] = {}
        self._tasks: list[int] = []
        # A group that all tasks have left -> the one that the last went to.
        self._moved: dict[int, int] = {}
        self._threads: dict[str, int] = {}

    def group(self, name: str, kind: str) -> int:
        """The id of a task group."""
        found = self._groups.get((name, kind))
        if found is not None:
            return found
        if len(self._groups) >= MAX_GROUPS:
            name = "[other]"
        found = self._groups.setdefault((name, kind), len(self._groups))
        if found == len(self._tasks):
            self._tasks.append(0)
        return found

    def move_task(self, group: int, better: int) -> None:
        """Say that a task counted in one group is of another: its name was not known at first."""
        self._tasks[group] -= 1
        self._tasks[better] += 1
        if not self._tasks[group]:
            self._moved[group] = better

    def count_task(self, group: int) -> None:
        """Say that a task of this group was seen for the first time."""
        self._tasks[group] += 1

    def _final(self, group: int) -> int:
        """The group that a group's samples belong to in the end."""
        for _ in range(len(self._moved)):
            if self._tasks[group] or group not in self._moved:
                break
            group = self._moved[group]
        return group

    def thread(self, name: str) -> int:
        """The id of a thread's name."""
        if name not in self._threads and len(self._threads) >= MAX_GROUPS:
            name = "[other]"
        return self._threads.setdefault(name, len(self._threads))

    def node(self, raw: RawStack, below: int = -1) -> int:
        """The id of a stack, or of one below another (-1: none)."""
        frames = raw.frames
        try:
            offsets = tuple(map(_lasti_of, frames))
        except AttributeError:  # lines that a library kept have no bytecode offset
            offsets = tuple([position_of(frame)[1] for frame in frames])
        codes: list[CodeType] = []
        first = raw.segments[0] if raw.segments else None
        if raw.form:
            key = hash((raw.form, offsets, first, raw.leaf, below))
        else:
            codes = list(map(_code_of, frames))
            key = hash(
                (
                    tuple(map(id, codes)),
                    offsets,
                    tuple(raw.segments),
                    tuple(sorted(raw.edges)),
                    raw.leaf,
                    below,
                )
            )
        found = self._remembered.get(key)
        if found is not None:
            return found
        codes = codes or list(map(_code_of, frames))
        ids = tuple(map(id, codes))
        node = below
        kinds = raw.kinds()
        # Most stacks differ from others at their inner end alone.
        known = 0
        for end in range(CHUNK, len(codes), CHUNK):
            here = slice(known, end)
            part = hash((node, ids[here], offsets[here], tuple(kinds[here])))
            found = self._parts.get(part)
            if found is None:
                for code, offset, (kind, crosses) in zip(
                    codes[here], offsets[here], kinds[here], strict=True
                ):
                    node = self._child(node, code, offset * 8 + crosses * 4 + kind)
                    if node < 0:
                        return ~node
                if len(self._parts) >= MAX_REMEMBERED:
                    self._parts.clear()
                self._parts[part] = node
            else:
                node = found
            known = end
        for code, offset, (kind, crosses) in zip(
            codes[known:], offsets[known:], kinds[known:], strict=True
        ):
            node = self._child(node, code, offset * 8 + crosses * 4 + kind)
            if node < 0:
                return ~node
        if raw.leaf is not None:
            node = self._child(node, sys.intern(raw.leaf), 0)
            if node < 0:
                return ~node
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = node
        return node

    def _child(self, parent: int, what: CodeType | str, position: int) -> int:
        """The node below `parent`; the complement of a marker's node if the tree is full."""
        key = (parent, id(what), position)
        found = self._children.get(key)
        if found is not None:
            return found
        if self._stored >= self._max_nodes:
            return ~self._marker(parent)
        self._stored += 1
        return self._append(key, parent, what, position)

    def _marker(self, parent: int) -> int:
        key = (parent, id(OVERFLOW_NAME), 0)
        found = self._children.get(key)
        return self._append(key, parent, OVERFLOW_NAME, 0) if found is None else found

    def _append(
        self, key: tuple[int, int, int], parent: int, what: CodeType | str, position: int
    ) -> int:
        found = self._children[key] = len(self._nodes)
        self._nodes.append((parent, what, position))
        return found

    def add(
        self,
        group: int,
        thread: int,
        node: int,
        state: State,
        wall_ns: int,
        cpu_ns: int,
        span: int = -1,
    ) -> SampleKey:
        """Add one observation, made in a span (-1: none); return the sample that it went to."""
        key = (group, thread, node, state)
        sample = self._samples.get(key)
        if sample is None:
            key, sample = self._new_sample(key)
        sample[0] += 1
        sample[1] += wall_ns
        sample[2] += cpu_ns
        if span >= 0:
            self.spans.add(span, key, 1, wall_ns, cpu_ns)
        return key

    def add_cpu(self, group: int, thread: int, node: int, cpu_ns: int, span: int = -1) -> None:
        """Add CPU time to a stack that was observed on the CPU."""
        key = (group, thread, node, State.ON_CPU)
        sample = self._samples.get(key)
        if sample is None:
            key, sample = self._new_sample(key)
        sample[2] += cpu_ns
        if span >= 0:
            self.spans.add(span, key, 0, 0, cpu_ns)

    def _new_sample(self, key: SampleKey) -> tuple[SampleKey, list[int]]:
        sample = None
        if len(self._samples) >= self._max_samples:
            # Many groups or threads with the same stacks: theirs are not told apart any more.
            key = (key[0], key[1], self._marker(-1), key[3])
            sample = self._samples.get(key)
        if sample is None:
            sample = self._samples[key] = [0, 0, 0]
        return key, sample

    def place(
        self,
        builder: ProfileBuilder,
        table: FrameTable,
        tasks: list[int] | None = None,
        only: Iterable[int] | None = None,
    ) -> Placed:
        """Put all stacks, groups and threads into a profile; return the ids that they have there.

        `tasks` may be other numbers of tasks than those counted, `only` some of the stacks.
        """
        tasks = list(self._tasks) if tasks is None else tasks
        names = list(self._groups)
        groups = [builder.group(*names[self._final(group)]) for group in range(len(names))]
        threads = [builder.thread(name) for name in list(self._threads)]
        for group, count in zip(groups, tasks, strict=False):
            builder.count_tasks(group, count)
        if only is not None:
            return self._place_some(builder, table, only, groups, threads)
        nodes = [-1]  # at 0: the root, whose id is -1
        cut: set[int] = set()
        for index, (parent, what, position) in enumerate(list(self._nodes)):
            if what is OVERFLOW_NAME:
                cut.add(index)
            frame = builder.frame(_frame(table, what, position))
            nodes.append(builder.node(nodes[parent + 1], frame))
        return Placed(groups, threads, nodes, cut)

    def _place_some(
        self,
        builder: ProfileBuilder,
        table: FrameTable,
        only: Iterable[int],
        groups: list[int],
        threads: list[int],
    ) -> Placed:
        nodes, cut = {0: -1}, set()
        for node in only:
            missing, above = [], node
            while above + 1 not in nodes:
                missing.append(above)
                above = self._nodes[above][0]
            for index in reversed(missing):
                parent, what, position = self._nodes[index]
                frame = builder.frame(_frame(table, what, position))
                nodes[index + 1] = builder.node(nodes[parent + 1], frame)
            if node >= 0 and self._nodes[node][1] is OVERFLOW_NAME:
                cut.add(node)
        return Placed(groups, threads, nodes, cut)

    def fill(self, builder: ProfileBuilder, table: FrameTable, marks: Marks | None = None) -> int:
        """Put everything into a profile; return how many observations went over the cap.

        With `marks`, put only what is new by them; the observations over the cap are all of them.
        """
        parts = list(self.spans.parts())  # before the samples, which may grow meanwhile
        # One step in C: the writer cannot come between.
        samples: Sequence[tuple[SampleKey, Sequence[int]]] = list(self._samples.items())
        if marks is None:
            placed = self.place(builder, table)
        else:
            samples, parts, tasks = marks.news(samples, parts, list(self._tasks), builder.pause)
            placed = self.place(builder, table, tasks, {key[2] for key, _ in samples})
        over = 0
        for key, (count, wall_ns, cpu_ns) in samples:
            builder.add(*placed.sample(key), count, wall_ns, cpu_ns)
            if key[2] in placed.cut:
                over += count
        for ref, key, numbers in parts:
            builder.add_part(builder.span(ref), placed.sample(key), *numbers)
        return over if marks is None else marks.over(over)


class Placed(NamedTuple):
    """The ids that a recorder's groups, threads and stacks have in a profile."""

    groups: list[int]
    threads: list[int]
    nodes: list[int] | dict[int, int]
    cut: set[int]
    """The recorder's nodes that stand for what went over the cap."""

    def node(self, node: int) -> int:
        """The id of a stack (-1: none)."""
        return self.nodes[node + 1]

    def sample(self, key: SampleKey) -> SampleKey:
        """The ids of a sample."""
        group, thread, node, state = key
        return self.groups[group], self.threads[thread], self.nodes[node + 1], state


def _frame(table: FrameTable, what: CodeType | str, position: int) -> Frame:
    if isinstance(what, str):
        if what is OVERFLOW_NAME:
            return Frame(what, "", origin=FrameOrigin.LIBRARY)
        return Frame(f"<{what}>", "", kind=FrameKind.AWAITED, origin=FrameOrigin.STDLIB)
    offset, marks = position >> 3, position & 7
    kind, crosses = marks & 3, bool(marks & 4)
    if offset < -1:
        return table.at_line(what, -offset - 1, kind, crosses)
    return table.frame(what, offset, kind, crosses)
