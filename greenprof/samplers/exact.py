"""The exact engine: every call counted and timed by yappi, in one tree across greenlets.

yappi keeps its figures for each function in each greenlet, by a number that it asks for at each
call. The number given here is that of a node in a tree of unified stacks (`exact_calls`), so what
comes back is exact for each path: how often it was called, and the time of its own.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

import _yappi  # type: ignore[import-not-found]  # yappi's part in C
from greenlet import getcurrent

from greenprof import bridges, switches
from greenprof._native import time
from greenprof.errors import OptionError, ProfilerStateError
from greenprof.frames import FrameTable
from greenprof.profiles import (
    DEFAULT_MAX_NODES,
    OVERFLOW_NAME,
    Frame,
    FrameOrigin,
    ProfileBuilder,
    State,
)
from greenprof.samplers.exact_calls import Calls
from greenprof.samplers.exact_coroutines import references_taken
from greenprof.samplers.exact_figures import Figures
from greenprof.samplers.exact_tree import Node, Tree
from greenprof.stacks import walk

CLOCKS: Final = ("cpu", "wall")
_CLOCK_NUMBERS: Final = {"wall": 0, "cpu": 1}
_GREENLETS, _THREADS = 1, 0
# How long to wait for other threads that are in the middle of a callback.
_PATIENCE_S: Final = 1.0
_PAUSE_S: Final = 0.001


class ExactEngine:
    """Counts and times every call in this process until stopped; to be started once.

    `clock` is "cpu" or "wall". `only` are names of modules ("app", "sqlalchemy.orm"; what is below
    them as well): the functions of others are not told apart, their time is that of the nearest
    function above that is. Raises OptionError for another clock.
    """

    def __init__(
        self, clock: str = "cpu", *, only: Sequence[str] = (), max_nodes: int = DEFAULT_MAX_NODES
    ) -> None:
        if clock not in CLOCKS:
            raise OptionError(f"the clock is {clock!r}: give one of {', '.join(CLOCKS)}")
        self._clock = clock
        self._only = tuple(only)
        self._tree = Tree(max_nodes, self._only)
        self._calls = Calls(self._tree, _yappi._profile_event)
        self._figures = Figures()
        self._running = False
        self._follows = False
        self._hook: Any = None
        self._earlier_hook: Any = None
        self._earlier_yappi: tuple[str, str] | None = None
        self._cost_each_ns = 0.0

    def start(self) -> None:
        """Start, from any thread. After an error, `stop` undoes what was done.

        Raises ProfilerStateError if yappi runs already, or holds somebody's figures.
        """
        _refuse_if_used()
        bridges.bridges()  # loads them here rather than in the first call
        self._earlier_yappi = _yappi.get_clock_type(), _yappi.get_context_backend()
        gives_back = _takes_references()
        _yappi.set_clock_type(_CLOCK_NUMBERS[self._clock])
        _yappi.set_context_backend(_GREENLETS)
        _yappi.set_context_name_callback(None)
        self._follows = True
        switches.follow()
        switches.add_listener(self._calls.switched)
        _yappi.set_context_id_callback(self._calls.contexts.callback())
        _yappi.set_tag_callback(self._calls.callback(gives_back))
        self._hook = self._thread_begins
        self._earlier_hook = threading.getprofile()
        threading.setprofile(self._hook)
        self._running = True
        _yappi.start(1, 1)

    def _thread_begins(self, frame: Any, event: str, arg: Any) -> None:
        """Profile hook of a new thread, for its first event."""
        earlier = self._earlier_hook
        if earlier is not None:
            earlier(frame, event, arg)
        if not self._running:
            sys.setprofile(earlier)
            return
        current = getcurrent()
        if id(current) not in self._calls.contexts:
            self._calls.contexts.begin_thread(current)
            self._calls.thread_begins()
        _yappi._profile_event(frame, event, arg)  # puts yappi's own hook in the place of this one

    def stop(self) -> None:
        """Stop, from any thread; the figures stay. A second call does nothing."""
        if self._running:
            self._finish_calls()
        self._running = False
        _yappi.stop() if self._earlier_yappi is not None else None
        if self._hook is not None and threading.getprofile() == self._hook:
            threading.setprofile(self._earlier_hook)
        self._hook = None
        if self._follows:
            self._follows = False
            switches.remove_listener(self._calls.switched)
            switches.unfollow()
        if self._earlier_yappi is not None:
            self._figures.read(_yappi.enum_func_stats, self._tree.nodes)
            self._calls.here.entered.forget()
            self._leave_yappi()

    def _finish_calls(self) -> None:
        """Have yappi count the time of the calls under way in this thread and its greenlets."""
        contexts, current = self._calls.contexts, getcurrent()
        frame = sys._getframe()
        own = contexts.get(id(current))
        suspended = [
            (number, 2 * len(walk(one.gr_frame)) + 2)
            for one, number in contexts.living()
            if one is not current and one.gr_frame is not None and _same_thread(one, current)
        ]
        leave = _yappi._profile_event
        here = 2 * len(walk(frame)) + 2
        try:
            for number, calls in suspended:
                contexts[id(current)] = number
                deque(map(leave, repeat(frame, calls), repeat("return"), repeat(None)), maxlen=0)
        finally:
            if own is not None:
                contexts[id(current)] = own
        deque(map(leave, repeat(frame, here), repeat("return"), repeat(None)), maxlen=0)

    def _leave_yappi(self) -> None:
        """Give yappi back as it was found, and its memory."""
        if self._earlier_yappi is None:
            return
        clock, backend = self._earlier_yappi
        deadline = time.monotonic() + _PATIENCE_S
        while self._calls.busy() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        if self._calls.busy():
            return
        self._earlier_yappi = None
        _yappi.set_tag_callback(None)
        _yappi.set_context_id_callback(None)
        _yappi.clear_stats()
        _yappi.set_clock_type(_CLOCK_NUMBERS[clock.lower()])
        _yappi.set_context_backend(_GREENLETS if backend == "GREENLET" else _THREADS)
        public = sys.modules.get("yappi")
        if public is not None:
            public.set_context_backend(backend.lower())  # with its callbacks
        self._calls.settle()

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        self._running = self._follows = False
        if self._earlier_yappi is not None:
            _yappi.stop()
            self._leave_yappi()
        if self._hook is not None and threading.getprofile() == self._hook:
            threading.setprofile(self._earlier_hook)
        self._hook = None

    def before_fork(self) -> None:
        """Nothing: there is no thread to stop."""

    def after_fork_in_parent(self) -> None:
        """Nothing, likewise."""

    def fill(self, builder: ProfileBuilder, table: FrameTable, started_ns: int) -> None:  # noqa: ARG002
        """Put the calls into a profile. While it runs, calls under way have no time of their own."""
        if self._running:
            self._figures.read(_yappi.enum_func_stats, self._tree.nodes)
        groups = []
        for name, kind, tasks in self._tree.groups:
            groups.append(builder.group(name, kind))
            builder.count_tasks(groups[-1], tasks)
        threads = [builder.thread(name) for name in self._tree.threads]
        nodes = list(self._tree.nodes)
        own = self._figures.self_ns if self._clock == "cpu" else self._wall_ns(nodes)
        placed: dict[int, int] = {}
        for node in nodes:
            if node.parent is None:
                placed[node.number] = -1
            else:
                frame = builder.frame(_frame_of(node, table))
                placed[node.number] = builder.node(placed[node.parent.number], frame)
            ns = own.get(node.number, 0)
            if not node.calls and not ns:
                continue
            where = groups[node.group], threads[node.thread], placed[node.number]
            if self._clock == "wall" and node.awaits:
                builder.add(*where, State.AWAITING, 0, ns, 0)
                builder.add(*where, State.ON_CPU, node.calls, 0, 0)
            else:
                builder.add(*where, State.ON_CPU, node.calls, ns, ns)

    def _wall_ns(self, nodes: list[Node]) -> dict[int, int]:
        """Each node's time less that of what it called or waited for."""
        total = self._figures.total_ns
        own = dict(total)
        for node in nodes:
            parent = node.parent
            if parent is not None and parent.number in own:
                own[parent.number] -= total.get(node.number, 0)
        return {number: max(ns, 0) for number, ns in own.items()}

    @property
    def cost_ns(self) -> int:
        """The time that asking which node a call belongs to took, about."""
        return round(self._cost_each_ns * self._figures.events)

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        found = []
        if self._only:
            found.append(f"only functions of {', '.join(self._only)} are told apart (see --only)")
        if self._tree.over:
            found.append("over the limit of stored stack nodes; raise max_nodes")
        for text, times in self._calls.troubles.items():
            found.append(f"calls were lost to {text} ({times} times)")
        return found


def _refuse_if_used() -> None:
    if _yappi.is_running():
        raise ProfilerStateError(
            "yappi runs already in this process: stop it before the exact engine uses it"
        )
    if _yappi._get_start_flags() is not None:
        raise ProfilerStateError(
            "yappi holds figures in this process: call yappi.clear_stats() before the exact "
            "engine uses it"
        )


_taken: int | None = None


def _takes_references() -> bool:
    global _taken
    if _taken is None:
        _taken = references_taken(lambda: _yappi.start(0, 0), _yappi.stop)
        _yappi.clear_stats()
    return _taken == 1


def _same_thread(one: Any, other: Any) -> bool:
    return switches.main_of(one) is switches.main_of(other)


def _frame_of(node: Node, table: FrameTable) -> Frame:
    if node.code is None:
        return Frame(OVERFLOW_NAME, "", origin=FrameOrigin.LIBRARY)
    return table.at_line(node.code, node.code.co_firstlineno, node.kind, node.crosses)
