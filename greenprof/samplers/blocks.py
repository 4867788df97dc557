"""Loop blockers: stretches in which somebody kept an event loop, or a hub, for too long.

`steps` times the stretches; a thread of greenprof's own looks at the ones that last, while they
last. What is reported is what was seen in the middle, not where the loop was kept from.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, NamedTuple

from greenlet import greenlet

from greenprof import awaitables, bridges, labels, spancontext, switches
from greenprof._native import RLock, current_frames, get_ident, time
from greenprof.errors import OptionError
from greenprof.frames import FrameTable
from greenprof.interrupted import from_signal_handler
from greenprof.printable import reason
from greenprof.profiles import ProfileBuilder
from greenprof.samplers import mainthread, steps
from greenprof.samplers.blockspans import SpanWatch
from greenprof.samplers.blocktable import (
    MAX_SITES,
    BlockInfo,
    BlockTable,
    attributes_of,
    info_of,
)
from greenprof.samplers.looks import ElsewhereError, Looker, Looks
from greenprof.samplers.polledloops import PolledLoops
from greenprof.samplers.queued import waiting_in
from greenprof.samplers.steps import Stretch
from greenprof.samplers.ticker import Ticker
from greenprof.stacks import RawStack

__all__ = ["BlockInfo", "Blocks", "Observer"]

#: The watching thread comes round so many times within the limit, within these bounds.
LOOKS_IN_LIMIT = 4
MIN_INTERVAL_S = 0.0025
MAX_INTERVAL_S = 0.25
MIN_LIMIT_S = 0.01
MAX_LIMIT_S = 3600.0
#: For how long what was seen of a stretch is kept when it is over, for whoever tells of its end.
KEPT_NS = 1_000_000_000
#: Stretches that have ended and wait for the watching thread.
MAX_ENDED = 10_000
MAX_PROBLEMS = 20

_NS = 1_000_000_000
_log = logging.getLogger("greenprof")

#: Called with the owner, its thread, start, end and site of a stretch over the limit.
Observer = Callable[[Any, int, int, int, int], None]


class _Stall:
    """What was seen of a stretch. It holds nobody's task."""

    __slots__ = ("gone_ns", "left_ns", "looks", "span", "waiting")

    def __init__(self, start_ns: int, limit_ns: int) -> None:
        self.looks = looks = Looks()
        self.waiting = 0
        #: When it was first found to be over.
        self.gone_ns = 0
        #: When control was first seen where it keeps the loop from nothing; 0: never.
        self.left_ns = 0

        def describe(end_ns: int) -> dict[str, Any]:
            look = looks.choose(start_ns, end_ns)
            return attributes_of(look, end_ns - start_ns, self.waiting)

        self.span = SpanWatch(start_ns, limit_ns, describe)


class _Ended(NamedTuple):
    ident: int
    kind: str
    owner: Any
    start_ns: int
    end_ns: int
    waiting: int


class Blocks:
    """Reports stretches over `limit_s` seconds, of every loop and hub of the process.

    `on_block` is called with a `BlockInfo` for each that is over, in a thread of greenprof's own;
    what it raises is logged once. With `events`, the span that was current in the blocking task
    gets an event. `observer` is for timelines; see `Observer`.

    Raises OptionError for a limit that makes no sense.
    """

    def __init__(
        self,
        limit_s: float,
        on_block: Callable[[BlockInfo], None] | None = None,
        *,
        events: bool = True,
    ) -> None:
        self.limit_ns = round(_checked_limit(limit_s) * _NS)
        self.observer: Observer | None = None
        self._on_block = on_block
        self._events = events
        self._table = BlockTable()
        self._looker = Looker(self._table.recorder)
        # (thread, start) -> what was seen of that stretch
        self._stalls: dict[tuple[int, int], _Stall] = {}
        self._ended: deque[_Ended] = deque(maxlen=MAX_ENDED)
        self._untold: deque[BlockInfo] = deque(maxlen=MAX_ENDED)
        # Whoever kept a loop without being seen: how often.
        self._unseen: Counter[str] = Counter()
        self._started_ns = 0
        self._problems: dict[str, int] = {}
        self._running = False
        self._lock = RLock()
        interval_s = self.limit_ns / _NS / LOOKS_IN_LIMIT
        self._ticker = Ticker(self._tick, min(max(interval_s, MIN_INTERVAL_S), MAX_INTERVAL_S))
        self._polled = PolledLoops(self.limit_ns, self._polled_ended)

    # What a profiler calls.

    def start(self) -> None:
        """Start, from any thread. After an error, `stop` undoes what was done."""
        if not self._running:
            self._running = True
            bridges.bridges()  # loads them here rather than during the first look
            switches.follow()
            self._started_ns = time.monotonic_ns()
            steps.add_listener(self._stretch_ended, self.limit_ns)
            self._ticker.start()

    def stop(self) -> None:
        """Stop, from any thread; what lasts still has ended then. A second call does nothing."""
        if not self._running:
            return
        self._running = False
        try:
            self._ticker.stop()
            self._settle()
        finally:
            steps.remove_listener(self._stretch_ended)
            switches.unfollow()
        self._tell()

    def abandon(self) -> None:
        """Forget everything in a forked child: the watching thread did not come along."""
        self._running = False
        self._lock = RLock()
        self._ticker.abandon()
        steps.remove_listener(self._stretch_ended)
        for stall in self._stalls.values():
            stall.span.cancel()
        self._stalls.clear()
        self._ended.clear()
        self._untold.clear()

    def before_fork(self) -> None:
        """End the watching thread: Python warns of forks in a process of several."""
        self._ticker.stop_for_fork()

    def after_fork_in_parent(self) -> None:
        """Take the watching thread back, as soon as the fork is over."""
        mainthread.run_after_fork(self._take_thread_back)

    def _take_thread_back(self) -> None:
        if self._running:
            self._ticker.start()

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        found = [f"loop blockers: {text} ({n} times)" for text, n in self._problems.items()]
        if self._unseen:
            found.append(
                f"{self._unseen.total()} times a loop was kept for longer than the limit, and at "
                f"which line was not seen: by {_listed(self._unseen)}"
            )
        if self._table.over:
            found.append(
                f"{self._table.over} loop blockers are left out: "
                f"no more than {MAX_SITES} lines are told apart"
            )
        return found

    @property
    def cost_ns(self) -> int:
        """CPU time of the watching thread."""
        return self._ticker.cost_ns

    def fill(self, builder: ProfileBuilder, table: FrameTable, _started_ns: int) -> None:
        """Put what has ended so far into a profile."""
        with self._lock:
            self._table.fill(builder, table)

    def placed_site(self, site: int) -> tuple[int, int, str]:
        """What `fill` has made of a site: its group, its stack, and the function's name."""
        return self._table.placed_site(site)

    # In the loop's thread.

    def _stretch_ended(
        self, kind: str, ident: int, loop: Any, owner: Any, start_ns: int, end_ns: int
    ) -> None:
        """Take note of a stretch over the limit; see `steps.add_listener`."""
        waiting = waiting_in(kind, loop, owner)
        if self._events and spancontext.is_loaded():
            stall = self._stalls.get((ident, start_ns)) or _Stall(start_ns, self.limit_ns)
            stall.waiting = waiting
            stall.span.end(stall.left_ns or end_ns, _context_of(owner))
        self._ended.append(_Ended(ident, kind, owner, start_ns, end_ns, waiting))
        self._ticker.wake()

    # In the watching thread.

    def _tick(self) -> None:
        try:
            with self._lock:
                self._record_ended()
                self._polled.tick()
                self._look()
        except Exception as error:
            self._note(error)
        self._tell()

    def _look(self) -> None:
        """Look at every stretch that may go over the limit."""
        now_ns = time.monotonic_ns()
        since_ns = now_ns - self.limit_ns // 2
        # A hub's own callback comes first: it has no stretch of `steps` at the same time.
        found = dict(self._polled.lasting(since_ns))
        lasting = steps.lasting(since_ns)
        if lasting:
            # A thread may have ended in the middle of one, without going back to its hub.
            alive = current_frames()
            if alive is not None:
                steps.forget_threads(set(alive))
        for ident in lasting:
            stretch = steps.current(ident)
            if stretch is not None and stretch.start_ns <= since_ns:
                found[ident] = stretch
        self._forget_past({(ident, one.start_ns) for ident, one in found.items()}, now_ns)
        for ident, stretch in found.items():
            stall = self._stalls.get((ident, stretch.start_ns))
            if stall is None:
                stall = self._stalls[ident, stretch.start_ns] = _Stall(
                    stretch.start_ns, self.limit_ns
                )
            if not stall.looks.is_due(now_ns):
                continue
            try:
                look = self._looker.look(ident, stretch, time.monotonic_ns())
            except ElsewhereError:
                stall.left_ns = stall.left_ns or now_ns
                continue
            if look is None or not _lasts(ident, stretch):
                continue
            stall.looks.add(look)
            if self._events and spancontext.is_loaded():
                stall.span.meet(stretch.context)
                if not _lasts(ident, stretch):
                    stall.span.cancel()

    def _forget_past(self, lasting: set[tuple[int, int]], now_ns: int) -> None:
        for key, stall in list(self._stalls.items()):
            if key in lasting:
                stall.gone_ns = 0
            elif not stall.gone_ns:
                stall.gone_ns = now_ns
            elif now_ns - stall.gone_ns > KEPT_NS:
                # It was under the limit: the end of any other is told of.
                stall.span.cancel()
                del self._stalls[key]

    def _polled_ended(self, ident: int, stretch: Stretch, end_ns: int, waiting: int) -> None:
        stall = self._stalls.get((ident, stretch.start_ns))
        if stall is not None and self._events and spancontext.is_loaded():
            stall.waiting = waiting
            stall.span.end(end_ns, stretch.context)
        kind, owner = stretch.kind, stretch.owner
        self._record(_Ended(ident, kind, owner, stretch.start_ns, end_ns, waiting))

    def _record_ended(self) -> None:
        while self._ended:
            self._record(self._ended.popleft())

    def _record(self, ended: _Ended) -> None:
        stall = self._stalls.pop((ended.ident, ended.start_ns), None)
        if stall is not None and stall.left_ns:
            stall.span.cancel()
            if stall.left_ns - ended.start_ns < self.limit_ns:
                return
            ended = ended._replace(end_ns=stall.left_ns)
        look = None if stall is None else stall.looks.choose(ended.start_ns, ended.end_ns)
        if stall is None or look is None:
            name = _name_of(ended.owner)
            known = name in self._unseen or len(self._unseen) < MAX_PROBLEMS
            self._unseen[name if known else "others"] += 1
            return
        stall.span.cancel()
        start_ns = max(ended.start_ns, self._started_ns)
        duration_ns = ended.end_ns - start_ns
        if duration_ns < self.limit_ns:
            return
        site = self._table.add(look, duration_ns, ended.waiting, ended.kind)
        if self.observer is not None and site >= 0:
            self.observer(ended.owner, ended.ident, start_ns, ended.end_ns, site)
        if self._on_block is not None:
            self._untold.append(info_of(look, duration_ns, ended.waiting, ended.kind))

    def _tell(self) -> None:
        """Tell the program, without a lock that it could come to wait for."""
        on_block = self._on_block
        while on_block is not None and self._untold:
            try:
                on_block(self._untold.popleft())
            except Exception as error:  # the program's
                if from_signal_handler(error):
                    raise
                self._note(error, "the callback failed: ")

    def _note(self, error: Exception, what: str = "") -> None:
        text = f"{what}{reason(error)}"
        if text not in self._problems and len(self._problems) < MAX_PROBLEMS:
            self._problems[text] = 0
            _log.warning("loop blockers: %s", text)
        if text in self._problems:
            self._problems[text] += 1

    def _settle(self) -> None:
        """Record what has ended since the last tick, and what lasts, as if it ended now."""
        with self._lock:
            self._polled.finish()
            self._record_ended()
            now_ns = time.monotonic_ns()
            for ident in steps.lasting(now_ns - self.limit_ns):
                stretch = steps.current(ident)
                if stretch is None or (ident, stretch.start_ns) not in self._stalls:
                    continue
                start_ns, owner, kind, loop, *_ = stretch
                here = ident == get_ident()
                waiting = waiting_in(kind, loop, owner) if here else 0
                self._record(_Ended(ident, kind, owner, start_ns, now_ns, waiting))
            for stall in self._stalls.values():
                stall.span.cancel()
            self._stalls.clear()


def _lasts(ident: int, stretch: Stretch) -> bool:
    if stretch.polled:
        return True  # the next tick will tell
    now = steps.current(ident)
    return now is not None and now.start_ns == stretch.start_ns


def _context_of(owner: Any) -> Context | None:
    """The context that a task or a greenlet has; of a callback, none is known any more."""
    if awaitables.is_task(owner):
        return spancontext.context_of_task(owner)
    return spancontext.context_of_greenlet(owner) if isinstance(owner, greenlet) else None


def _name_of(owner: Any) -> str:
    """What to call a task, a greenlet or a callback of which there is no stack."""
    try:
        if awaitables.is_task(owner):
            return labels.task_name(owner, RawStack())
        if owner is not None and not isinstance(owner, greenlet):
            owner = getattr(owner, "func", owner)  # a partial's
            return f"callback {getattr(owner, '__qualname__', type(owner).__qualname__)}"[:100]
    except Exception as error:  # objects of any class
        if from_signal_handler(error):
            raise
    return "a greenlet"


def _listed(counts: Counter[str]) -> str:
    often = [f"{name} ({n} times)" if n > 1 else name for name, n in counts.most_common(3)]
    return ", ".join([*often, f"{len(counts) - 3} more"] if len(counts) > 3 else often)


def _checked_limit(limit_s: float) -> float:
    try:
        limit = float(limit_s)
    except (TypeError, ValueError, OverflowError):
        limit = 0.0
    if not MIN_LIMIT_S <= limit <= MAX_LIMIT_S:
        raise OptionError(
            f"the limit is {limit_s!r}: give seconds, from {MIN_LIMIT_S} to {MAX_LIMIT_S:.0f}"
        )
    return limit
