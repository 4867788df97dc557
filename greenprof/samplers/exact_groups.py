"""Whose calls they are: the root of each task's, greenlet's and thread's tree."""

from __future__ import annotations

from types import FrameType
from typing import Any, Final
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import labels, stacks
from greenprof._native import get_ident, main_thread_ident
from greenprof.rawstack import is_run, runs_program
from greenprof.samplers.exact_tree import Node, Tree
from greenprof.stacks import is_hub, walk

#: Tasks remembered with their roots, before the first look for those that are gone.
MIN_TASKS: Final = 4096
#: Groups whose first request's route is waited for.
MAX_UNROUTED: Final = 500


class Groups:
    """The task groups of a tree, each task named when it is first seen."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        # Tasks and greenlets by their ids, threads by their identities' complements.
        self._met: dict[int, tuple[ref[Any], Node]] = {}
        self._prune_at = MIN_TASKS
        # Requests whose route is not known yet, the first of each group.
        self._unrouted: list[tuple[Any, Node]] = []

    def root(self, owner: Any, raw: stacks.RawStack, ident: int) -> Node:
        """The root of the tree of a task, of a greenlet that is one, or of a thread (None)."""
        key = ~ident if owner is None else id(owner)
        found = self._met.get(key)
        if found is not None and (owner is None or found[0]() is owner):
            return found[1]
        name, kind = labels.label_of(owner, raw, ident)
        root = self._tree.root(name, kind, labels.thread_name(ident))
        self._tree.count_task(root)
        self._met[key] = ref(getcurrent() if owner is None else owner), root
        if len(self._met) > self._prune_at:
            self._prune()
        self.name_routes()
        request = None if owner is None else labels.unrouted_request(raw.frames)
        if request is not None and not self._waits_for_route(root):
            self._unrouted.append((request, root))
        return root

    def _prune(self) -> None:
        for key, (reference, _) in list(self._met.items()):
            if reference() is None and key >= 0:
                self._met.pop(key, None)
        self._prune_at = max(MIN_TASKS, 2 * len(self._met))

    def _waits_for_route(self, root: Node) -> bool:
        full = len(self._unrouted) >= MAX_UNROUTED
        return full or any(one.group == root.group for _, one in self._unrouted)

    def name_routes(self) -> None:
        """Name the groups of requests by their routes, which are known a moment after they begin."""
        left = []
        for request, root in self._unrouted:
            route = labels.route_of_request(request)
            if route is None:
                left.append((request, root))
            else:
                self._tree.rename(root, route)
        self._unrouted = left

    def thread_begins(self) -> None:
        """Forget the thread that had the calling one's identity before."""
        self._met.pop(~get_ident(), None)

    def forget(self) -> None:
        """Forget whom the trees belong to; they stay."""
        self.name_routes()
        self._met.clear()
        self._unrouted.clear()


def task_greenlet(current: greenlet) -> greenlet | None:
    """The greenlet below a hub that runs, or runs what runs; None if there is no hub."""
    one = current
    for _ in range(stacks.MAX_PARTS):
        parent = one.parent
        if parent is None:
            return None
        frames = walk(parent.gr_frame)
        if frames and is_hub(frames):
            return one
        one = parent
    return None


def frames_above(frame: FrameType | None) -> list[FrameType]:
    """A frame and those that led to it in its greenlet, innermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def is_outside(frame: FrameType, ident: int) -> bool:
    """Whether it is not the program that runs, but what runs it, in `greenprof run`."""
    if not is_run() or ident != main_thread_ident():
        return False
    return not any(runs_program(one.f_code) for one in frames_above(frame))
