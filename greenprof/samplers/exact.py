"""The exact engine: every call counted and timed by yappi, in one tree across greenlets.

yappi keeps its figures for each function in each greenlet, by a number that it asks for at each
call. The number given here is that of a node in a tree of unified stacks (`exact_calls`), so what
comes back is exact for each path: how often it was called, and the time of its own.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final

import _yappi  # type: ignore[import-not-found]  # yappi's part in C
from greenlet import getcurrent

from greenprof import bridges, switches
from greenprof._native import get_ident, time
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
from greenprof.samplers.exact_calls import MAX_YAPPI_BYTES, Calls
from greenprof.samplers.exact_coroutines import references_taken
from greenprof.samplers.exact_figures import NS, Figures, own_wall_ns
from greenprof.samplers.exact_tree import Node, Tree
from greenprof.samplers.ticker import own_threads
from greenprof.stacks import walk

CLOCKS: Final = ("cpu", "wall")
_CLOCK_NUMBERS: Final = {"wall": 0, "cpu": 1}
_BACKEND_NUMBERS: Final = {"native_thread": 0, "greenlet": 1}
# How long to wait for other threads that are in the middle of a callback.
_PATIENCE_S: Final = 1.0
_PAUSE_S: Final = 0.001
# Calls to time, to know what one costs.
_TRIALS: Final = 200


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
        self._max_nodes = max_nodes
        self._tree = Tree(max_nodes, self._only)
        read = time.thread_time_ns if clock == "cpu" else time.monotonic_ns
        self._calls = Calls(self._tree, _yappi, read)
        self._figures = Figures()
        self._running = False
        self._follows = False
        self._hook: Any = None
        self._earlier_hook: Any = None
        # Clock and backend that yappi had; None where it is not in our hands.
        self._earlier_yappi: tuple[str, str] | None = None
        self._call_cost_ns = self._c_call_cost_ns = 0
        self._started_in = 0
        self._lost = False

    def start(self) -> None:
        """Start, from any thread. After an error, `stop` undoes what was done.

        Raises ProfilerStateError if yappi runs already, or holds somebody's figures.
        """
        if _not_left is not None:
            _not_left._leave_yappi()
        _refuse_if_used()
        bridges.bridges()  # loads them here rather than in the first call
        gives_back = _takes_references()
        before = [_cost_of(call) for call in (_nothing, len)]
        self._earlier_yappi = _yappi.get_clock_type(), _yappi.get_context_backend().lower()
        _yappi.set_clock_type(_CLOCK_NUMBERS[self._clock])
        _yappi.set_context_backend(_BACKEND_NUMBERS["greenlet"])
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
        self._started_in = get_ident()
        _yappi.start(1, 1)  # C functions as well, in all threads
        costs = [_cost_of(call) for call in (_nothing, len)]
        self._call_cost_ns, self._c_call_cost_ns = (
            max(now - then, 0) for now, then in zip(costs, before, strict=True)
        )

    def _thread_begins(self, frame: Any, event: str, arg: Any) -> None:
        """Profile hook of a new thread, for its first event."""
        earlier = self._earlier_hook
        if not self._goes_on():
            sys.setprofile(earlier)
        if earlier is not None:
            earlier(frame, event, arg)
        current = getcurrent()
        if id(current) not in self._calls.contexts:
            self._calls.begin_thread(current, frame)
        # This puts yappi's own hook in the place of this one, so it must not come after `stop`:
        # from the question to the call nobody else gets a turn.
        if self._goes_on():
            _yappi._profile_event(frame, event, arg)

    def _goes_on(self) -> bool:
        return self._running and not self._calls.full

    def stop(self) -> None:
        """Stop, from any thread; the figures stay. A second call does nothing."""
        if self._goes_on():
            looks = self._calls.looks
            self._finish_calls()
            # yappi asks for that call as for any other that is new, if it asks at all.
            self._lost = self._started_in == get_ident() and self._calls.looks == looks
        self._running = False
        self._unhook()
        if self._earlier_yappi is not None:
            _yappi.stop()
        if self._follows:
            switches.remove_listener(self._calls.switched)
            switches.unfollow()
            self._follows = False
        if self._earlier_yappi is not None:
            self._read()
            self._leave_yappi()

    def _unhook(self) -> None:
        """Leave new threads to whoever had them before, if it is still there."""
        earlier = self._earlier_hook
        if earlier is switches._first_event and not switches.following():
            earlier = None
        if self._hook is not None and threading.getprofile() == self._hook:
            threading.setprofile(earlier)
        self._hook = None

    def _finish_calls(self) -> None:
        """Have yappi add the time of the calls under way in this thread and its greenlets."""
        contexts, current, frame = self._calls.contexts, getcurrent(), sys._getframe()
        key = id(current)
        own = contexts.get(key)
        if own is None:
            return
        thread = switches.main_of(current)
        suspended = [
            (number, walk(one.gr_frame))
            for one, number in contexts.living()
            if one is not current and switches.main_of(one) is thread
        ]
        try:
            for number, frames in suspended:
                contexts[key] = number
                self._leave_calls(frame, len(frames))
        finally:
            contexts[key] = own
        self._leave_calls(frame, len(walk(frame)))

    def _leave_calls(self, frame: Any, depth: int) -> None:
        # Between two Python functions there may be one in C; ends of calls too many do nothing.
        times = 2 * depth + 2 if depth else 0
        leave = map(_yappi._profile_event, repeat(frame, times), repeat("return"), repeat(None))
        deque(leave, maxlen=0)

    def _leave_yappi(self) -> None:
        """Give yappi back as it was found, without its figures."""
        global _not_left
        if self._earlier_yappi is None:
            return
        deadline = time.monotonic() + _PATIENCE_S
        while self._calls.busy() and not self._calls.busy_here() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        if self._calls.busy():
            _not_left = self  # what it is in the middle of would break; the next start does it
            return
        _yappi._wait_for_callbacks()
        clock, backend = self._earlier_yappi
        self._earlier_yappi = _not_left = None
        _yappi.set_tag_callback(None)
        _yappi.set_context_id_callback(None)
        _yappi.clear_stats()
        _yappi.set_clock_type(_CLOCK_NUMBERS[clock])
        _yappi.set_context_backend(_BACKEND_NUMBERS[backend])
        public = sys.modules.get("yappi")
        if public is not None:
            public.set_context_backend(backend)  # with its own callbacks
        self._calls.settle()

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        self._running = self._follows = False
        self._unhook()
        if self._earlier_yappi is not None:
            _yappi.stop()
            self._leave_yappi()

    def before_fork(self) -> None:
        """Nothing: there is no thread to stop."""

    def after_fork_in_parent(self) -> None:
        """Nothing, likewise."""

    def _read(self, pause: Callable[[], None] | None = None) -> None:
        self._figures.read(_yappi.enum_func_stats, self._tree.nodes, pause)
        self._calls.groups.name_routes()

    def fill(self, builder: ProfileBuilder, table: FrameTable, started_ns: int) -> None:  # noqa: ARG002
        """Put the calls into a profile. While it runs, calls under way have no time of their own."""
        if self._running:
            self._read(builder.pause)
            if get_ident() in own_threads:
                sys.setprofile(None)  # yappi has begun to count in this thread, too, when asked
        groups = []
        for name, kind, tasks in self._tree.groups:
            groups.append(builder.group(name, kind))
            builder.count_tasks(groups[-1], tasks)
        threads = [builder.thread(name) for name in self._tree.threads]
        nodes = list(self._tree.nodes)
        own_ns = self._own_ns(nodes)
        placed: dict[int, int] = {}
        for node in nodes:
            if node.parent is None:
                placed[node.number] = -1
            else:
                frame = builder.frame(_frame_of(node, table))
                placed[node.number] = builder.node(placed[node.parent.number], frame)
            ns = own_ns.get(node.number, 0)
            if not node.calls and not ns:
                continue
            where = groups[node.group], threads[node.thread], placed[node.number]
            if self._clock == "wall" and node.awaits:
                builder.add(*where, State.AWAITING, 0, ns, 0)
                builder.add(*where, State.ON_CPU, node.calls, 0, 0)
            else:
                builder.add(*where, State.ON_CPU, node.calls, ns, ns)

    def _own_ns(self, nodes: list[Node]) -> dict[int, int]:
        """Each node's own time, by its number, less what finding out about its callees took."""
        if self._clock == "cpu":
            own = dict(self._figures.self_ns)
        else:
            # What yappi takes for a function's own time is that of its own greenlet only.
            own = own_wall_ns(nodes, self._figures.total_ns)
        for number, ns in self._calls.spent_ns.items():
            if number in own:
                own[number] -= ns
        return {number: max(ns, 0) for number, ns in own.items()}

    @property
    def cost_ns(self) -> int:
        """What counting took, about: the number of calls times what one costs, measured at start."""
        return self._counting_ns + sum(self._calls.spent_ns.values())

    @property
    def _counting_ns(self) -> int:
        figures = self._figures
        return figures.calls * self._call_cost_ns + figures.c_calls * self._c_call_cost_ns

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        figures = self._figures
        found = [
            f"exact engine: {figures.calls} calls were counted, each of which took "
            f"{self._call_cost_ns / 1000:.1f} µs more for it, and {self._c_call_cost_ns / 1000:.1f} µs "
            f"for each of the {figures.c_calls} calls of C functions, which are part of their callers; "
            f"that is {self._counting_ns / NS:.2g} s of the times shown"
        ]
        if self._only:
            found.append(
                f"only functions of {', '.join(self._only)} are told apart; the time of others is "
                "their callers'"
            )
        if self._tree.over:
            found.append(
                f"calls went over the limit of {self._max_nodes} stored stack nodes; their "
                "functions are not told apart (raise max_nodes, or --max-nodes; or give modules by only)"
            )
        if self._calls.full:
            found.append(
                f"yappi used more than {MAX_YAPPI_BYTES >> 20} MB, and was stopped before the end: "
                "later calls are not counted (give modules by only, or profile a part)"
            )
        if self._lost:
            found.append(
                "yappi lost touch with the engine before the end, as it does where a program comes to its "
                "recursion limit: calls and times from then on are missing or wrong "
                "(sys.setrecursionlimit, or the sampling engine)"
            )
        found += [
            f"calls were not told apart because of {text} ({times} times)"
            for text, times in self._calls.troubles.items()
        ]
        return found


_not_left: ExactEngine | None = None
_taken: int | None = None


def _refuse_if_used() -> None:
    if _yappi.is_running():
        raise ProfilerStateError(
            "yappi runs in this process already: stop it (yappi.stop()) before the exact engine, "
            "which uses it, is started"
        )
    if _yappi._get_start_flags() is not None:
        raise ProfilerStateError(
            "yappi holds figures of an earlier run: clear them (yappi.clear_stats()) before the "
            "exact engine, which uses it, is started"
        )


def _takes_references() -> bool:
    global _taken
    if _taken is None:
        _taken = references_taken(lambda: _yappi.start(0, 0), _yappi.stop)
        _yappi.clear_stats()
    return _taken == 1


def _nothing(_: Any) -> None:
    pass


def _cost_of(call: Any) -> int:
    """The CPU time of one call, in nanoseconds: the least of a few measurements."""
    found: list[int] = []
    for _ in range(3):
        began: int = time.thread_time_ns()
        for _ in range(_TRIALS):
            call(())
        found.append((time.thread_time_ns() - began) // _TRIALS)
    return min(found)


def _frame_of(node: Node, table: FrameTable) -> Frame:
    if node.code is None:
        return Frame(OVERFLOW_NAME, "", origin=FrameOrigin.LIBRARY)
    return table.at_line(node.code, node.code.co_firstlineno, node.kind, node.crosses)
