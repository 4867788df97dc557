"""The exact engine's call tree: one node for each function on each path that led to it.

A node's number is what yappi keeps its figures under (its "tag"). Nodes of one task group and
thread have one root. Trees are bounded: what goes over shares one node below its caller.
"""

from __future__ import annotations

import itertools
from types import CodeType
from typing import Final

from greenprof import bridges
from greenprof.bridges import Part
from greenprof.frames import module_of
from greenprof.samplers.recorder import MAX_GROUPS
from greenprof.shapes import CO_RESUMED
from greenprof.stacks import AWAITED, BOUNDARY, PYTHON
from greenprof.switches import CO_AWAITS

#: Number of what nobody is known to have called.
NOWHERE: Final = 0

# Children are found by the id of their code, which is even, or by one of these beside it: those
# below a greenlet boundary, and those that have to be looked at each time they are entered.
CROSSING: Final = 1
LOOKED_AT: Final = 2

# Below a hub, these wait for events, or switch to whom an event is for.
_HUB_FILES: Final = (
    "selectors.py",
    *(f"eventlet/hubs/{name}.py" for name in ("epolls", "hub", "poll", "selects", "timer")),
)


class Node:
    """A function on one path.

    `children` are by the id of their code; see `Tree.child`. A function that is left out has a
    node as well, for the sake of speed, which shares its number and its children with the one
    above it: `real` is that one, and the node itself for all others. `code` is None for a root,
    and for what went over the cap.
    """

    __slots__ = (
        "begins_task",
        "below_hub",
        "calls",
        "children",
        "code",
        "crosses",
        "group",
        "hands_over",
        "is_bridge",
        "kind",
        "number",
        "parent",
        "real",
        "runs_tasks",
        "segment",
        "thread",
    )

    def __init__(self, number: int, code: CodeType | None, parent: Node | None) -> None:
        self.number = number
        self.code = code
        self.parent = parent
        self.calls = 0
        self.children: dict[int, Node] = {}
        self.real = self
        self.kind = self.segment = PYTHON
        self.crosses = False
        self.hands_over = False
        self.is_bridge = False
        self.runs_tasks = False
        #: A task's own first function, below those that led to it: nobody waits for it by calling it.
        self.begins_task = False
        self.below_hub = False
        self.group: int = -1 if parent is None else parent.group
        self.thread: int = -1 if parent is None else parent.thread

    @property
    def awaits(self) -> bool:
        """Whether it is a coroutine function, or another whose calls are suspended."""
        return self.code is not None and bool(self.code.co_flags & CO_AWAITS)


class Tree:
    """All nodes, and which functions are left out.

    `only` are names of modules: functions of others are left out, but for those of bridges, which
    mark greenlet boundaries. Several threads may add at once.
    """

    def __init__(self, max_nodes: int, only: tuple[str, ...] = ()) -> None:
        self.nodes: list[Node] = []
        self.over = False
        #: What runs the program, and is no part of it.
        self.outside = Node(NOWHERE, None, None)
        #: What a library begins a greenlet with, before it calls what the greenlet is named after.
        self.unnamed = Node(NOWHERE, None, None)
        self._max_nodes = max_nodes
        self._only = only
        self._stand_ins = 0
        self._numbers = itertools.count(NOWHERE + 1)
        self._roots: dict[tuple[int, int], Node] = {}
        self._groups: dict[tuple[str, str], int] = {}
        self._threads: dict[str, int] = {}
        self._tasks: dict[int, int] = {}
        self._renamed: dict[int, str] = {}
        # Whether a function is left out, by its code's id, which stays taken while the code is kept.
        self._left_out: dict[int, tuple[bool, CodeType]] = {}

    def root(self, group: str, kind: str, thread: str) -> Node:
        """The root of a task group's tree in a thread."""
        if (group, kind) not in self._groups and len(self._groups) >= MAX_GROUPS:
            group = "[other]"
        if thread not in self._threads and len(self._threads) >= MAX_GROUPS:
            thread = "[other]"
        key = (
            self._groups.setdefault((group, kind), len(self._groups)),
            self._threads.setdefault(thread, len(self._threads)),
        )
        found = self._roots.get(key)
        if found is None:
            made = self._append(None, None)
            made.group, made.thread = key
            found = self._roots.setdefault(key, made)
        return found

    def count_task(self, root: Node) -> None:
        """Say that a task of a root's group was seen for the first time."""
        self._tasks[root.group] = self._tasks.get(root.group, 0) + 1

    def rename(self, root: Node, name: str) -> None:
        """Give a root's group another name; groups of one name are one in a profile."""
        self._renamed[root.group] = name

    @property
    def groups(self) -> list[tuple[str, str, int]]:
        """Names, kinds and numbers of tasks of the groups, in the order of their numbers."""
        return [
            (self._renamed.get(number, name), kind, self._tasks.get(number, 0))
            for number, (name, kind) in enumerate(list(self._groups))
        ]

    @property
    def threads(self) -> list[str]:
        """The names of the threads, in the order of their numbers."""
        return list(self._threads)

    def child(self, parent: Node, code: CodeType, module: str | None, mark: int = 0) -> Node:
        """The node of a function below another; `mark`: CROSSING, LOOKED_AT, or 0.

        `module` is the name under which the function's module was imported, if it is known.
        """
        key = id(code) | mark
        found = parent.children.get(key)
        if found is not None:
            return found
        if is_overflow(parent):
            return parent  # over the cap: all that is below it as well
        if parent.number == NOWHERE or self.leaves_out(code, module):
            if self._stand_ins >= self._max_nodes:
                return parent
            self._stand_ins += 1
            return parent.children.setdefault(key, stand_in(parent, code))
        if len(self.nodes) >= self._max_nodes:
            self.over = True
            found = parent.children.get(NOWHERE)
            return self._add(parent, None, NOWHERE) if found is None else found
        return self._add(parent, code, key)

    def _add(self, parent: Node, code: CodeType | None, key: int) -> Node:
        above = parent.real
        made = self._append(code, above)
        crosses = key & CROSSING and code is not None
        made.crosses = bool(crosses)
        made.below_hub = above.below_hub
        made.kind = made.segment = PYTHON if crosses else above.segment
        role = None if code is None else bridges.role_of(code)
        if role is not None:
            made.kind = BOUNDARY
            made.below_hub = made.below_hub or role.part is Part.HUB
            made.hands_over = role.part in (Part.AWAIT_SITE, Part.TRAMPOLINE)
            # What a hub does is others' time; and so is a trampoline's: it drives a task that may
            # have begun before it, elsewhere in the tree.
            made.runs_tasks = role.part in (Part.HUB, Part.TRAMPOLINE)
            if role.part is Part.AWAIT_SITE:
                made.segment = AWAITED
        if made.below_hub and code is not None and code.co_filename.endswith(_HUB_FILES):
            made.runs_tasks = True
        # Of two threads that add the same at once, one's node stays empty.
        return parent.children.setdefault(key, made)

    def _append(self, code: CodeType | None, parent: Node | None) -> Node:
        made = Node(next(self._numbers), code, parent)
        self.nodes.append(made)
        return made

    def leaves_out(self, code: CodeType, module: str | None) -> bool:
        """Whether a function gets no node of its own."""
        known = self._left_out.get(id(code))
        if known is None:
            role = bridges.role_of(code)
            if role is not None:
                left_out = role.part is Part.TRANSPARENT
            else:
                left_out = code.co_filename.startswith(OWN_FOLDER) or not self._wanted(code, module)
            if len(self._left_out) >= bridges.CACHE_LIMIT:
                self._left_out.clear()
            known = self._left_out[id(code)] = left_out, code
        return known[0]

    def _wanted(self, code: CodeType, module: str | None) -> bool:
        if not self._only:
            return True
        names = {module or "", module_of(code.co_filename)}
        return any(
            name == wanted or name.startswith(f"{wanted}.")
            for name in names
            for wanted in self._only
        )


def stand_in(parent: Node, code: CodeType) -> Node:
    """A node for a function that is left out."""
    made = Node(parent.number, code, parent.real.parent)
    made.real = parent.real
    made.children = parent.children
    made.kind, made.segment, made.crosses = parent.kind, parent.segment, parent.crosses
    made.hands_over, made.below_hub = parent.hands_over, parent.below_hub
    made.group, made.thread = parent.group, parent.thread
    return made


def is_overflow(node: Node) -> bool:
    """Whether a node stands for all that went over the cap below another."""
    return node.code is None and node.parent is not None


def mark_of(parent: Node, above: CodeType | None, code: CodeType) -> int:
    """How a child is kept: whoever has to be looked at each time is not found at once."""
    if not code.co_flags & CO_RESUMED:
        return 0
    if parent.is_bridge or parent.real.is_bridge:
        return LOOKED_AT
    if code.co_flags & CO_AWAITS:
        # A task begins below what is no coroutine.
        outside = above is None or not above.co_flags & CO_AWAITS
        return LOOKED_AT if outside and not parent.hands_over else 0
    return 0


def make_bridge(node: Node) -> None:
    """Say that a coroutine awaits on behalf of sync code."""
    real = node.real
    real.is_bridge = node.is_bridge = True
    real.kind = BOUNDARY
    for key, child in list(node.children.items()):
        code = child.code
        if not key & (CROSSING | LOOKED_AT) and code and code.co_flags & CO_RESUMED:
            node.children.setdefault(key | LOOKED_AT, child)
            del node.children[key]


def mark_awaited(node: Node) -> None:
    """Say that a function runs on behalf of sync code that awaits it."""
    real = node.real
    if real.segment != AWAITED:
        real.segment = AWAITED
        if real.kind != BOUNDARY:
            real.kind = AWAITED


# Where this package's own functions are, which are no part of a program's calls.
OWN_FOLDER: Final = __file__.rpartition("samplers")[0]
