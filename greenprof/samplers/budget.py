"""How much of a program's time counting its awaits may take, unless it was asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from greenprof._native import time

__all__ = ["SHARE", "Budget"]

#: The part of the time that passes.
SHARE = 0.005
#: So much at first: what is over within a second is counted whole, or a good part of it.
AHEAD_NS = 30_000_000
#: So much ahead later, and no more: an hour in which nothing happens does not pay for a busy one.
CREDIT_NS = 10_000_000
#: So much behind: then counting ends at once.
DEBT_NS = 6_000_000
#: A burst and the pause after it take about so long, half as much more or less: they keep step with nothing
#: that the program does.
CYCLE_NS = 300_000_000
#: What is left, or owed, is spread over so many of them.
SPREAD = 8
#: A burst is no shorter than the time between two looks of a sampler, who takes the tracer in and out.
LEAST_NS = 10_000_000
#: The least part of what it may take that it is planned to take, whatever is owed.
LEAST = 0.1
#: What counting takes is the mean of bursts, each of which counts so much of the one after it.
KEPT = 0.8
#: One await of so many is looked at, and stands for the others; but for the first ones, which cost
#: what no later one does.
EACH = 4
FIRST = 64
#: What an await costs in all, to what is seen of it: the rest is in the switches before, and in
#: what the program finds no more in the caches (`python -m benchmarks.awaits`).
WHOLE = 2.2

_Given = TypeVarTuple("_Given")
_Found = TypeVar("_Found")


class Budget:
    """Tells when awaits are counted: in bursts, so that no more is taken than was earned.

    At first until what is there ahead is used up. From then on how long a burst takes is settled before it
    begins: if it ended when it has taken so much, times with few awaits would be seen for longer than
    those with many, and the former's would be too many beside the latter's.

    Times are those of `time.monotonic_ns`. The figures of several threads may get lost between
    one another; they are but a sample.
    """

    def __init__(self, now_ns: int) -> None:
        #: When the pause is over that lasts; 0: none does.
        self.paused_until_ns = 0
        #: When the burst is over, if it is not for what it costs.
        self.burst_until_ns = now_ns + CYCLE_NS
        # How long it was to take when it was planned; 0 if no pause went before it.
        self._burst_ns = 0
        self._burst_began_ns = now_ns
        self._burst_cost_ns = 0.0
        # Of the last bursts, the later the more.
        self._cost_ns = self._time_ns = 0.0
        self._began_ns = now_ns
        self._pauses_ns = 0
        self._paused_ns = 0
        self._credit_ns = float(AHEAD_NS)
        self._earned_at_ns = now_ns
        self._turn = 0
        # Of the await that is looked at: what `exactly` has taken off already.
        self._apart_ns = 0
        self._random = random.Random(0x6177)  # noqa: S311  # the program's own generator stays untouched

    def begin(self, start_ns: int) -> int:
        """An await that began at that time is counted now.

        Returns this thread's CPU time by then if this one is looked at, else 0.
        """
        if not self._turn:
            # What was before has none, and says nothing of what is counted of how many.
            self._began_ns, self._pauses_ns = start_ns, 0
        self._turn += 1
        if self._turn > FIRST and self._turn % EACH:
            return 0
        self._apart_ns = 0
        before_ns: int = time.thread_time_ns()
        begun_ns: int = time.thread_time_ns()
        # What asking costs is no part of it, and `end` asks again.
        return begun_ns + (begun_ns - before_ns)

    def end(self, begun_ns: int, now_ns: int) -> bool:
        """Counting is over that `begin` looks at; return whether a pause has to begin."""
        taken_ns = time.thread_time_ns() - begun_ns - self._apart_ns
        stands_for = EACH if self._turn > FIRST else 1
        return self.charge(WHOLE * stands_for * max(taken_ns, 0), now_ns)

    def exactly(self, function: Callable[[*_Given], _Found]) -> Callable[[*_Given], _Found]:
        """The same function, of which each call counts for itself.

        For what is rare and dear: if that is looked at by chance, and stands for the others, what
        there is for seconds is gone; if not, it costs nothing.
        """

        def measured(*given: *_Given) -> _Found:
            begun_ns = time.thread_time_ns()
            try:
                return function(*given)
            finally:
                taken_ns = time.thread_time_ns() - begun_ns
                self._apart_ns += taken_ns
                self._take(taken_ns)

        return measured

    def charge(self, cost_ns: float, now_ns: int) -> bool:
        """Take off what counting costs; return whether a pause has to begin."""
        self._take(cost_ns)
        if self.paused_until_ns:
            return False
        self._earn(now_ns)
        least_ns = -DEBT_NS if self._burst_ns else 0
        return self._credit_ns < least_ns and self.end_burst(now_ns)

    def _take(self, cost_ns: float) -> None:
        self._credit_ns -= cost_ns
        self._burst_cost_ns += cost_ns

    def end_burst(self, now_ns: int) -> bool:
        """Plan the next one; return whether a pause begins until then."""
        over_ns = min(now_ns, self.burst_until_ns)
        self._earn(now_ns)
        self._cost_ns = KEPT * self._cost_ns + self._burst_cost_ns
        self._time_ns = KEPT * self._time_ns + max(over_ns - self._burst_began_ns, 1)
        self._burst_cost_ns = 0.0
        cycle_ns = CYCLE_NS * (0.5 + self._random.random())
        earned_ns = SHARE * cycle_ns
        to_take_ns = max(earned_ns + self._credit_ns / SPREAD, LEAST * earned_ns)
        counted = to_take_ns / cycle_ns / max(self._cost_ns / self._time_ns, 1e-9)
        if counted >= 1 and self._owed_ns() <= 0:
            self._burst_ns = 0
            self._burst_began_ns, self.burst_until_ns = now_ns, now_ns + round(cycle_ns)
            return False
        counted = min(counted, 1.0)
        least_ns = LEAST_NS * (1 + 0.5 * self._random.random())
        self._burst_ns = round(max(counted * cycle_ns, least_ns))
        pause_ns = max(self._burst_ns / counted - self._burst_ns, self._owed_ns() / SHARE)
        self._paused_ns = over_ns
        self.paused_until_ns = max(over_ns + round(pause_ns), now_ns + 1)
        return True

    def _owed_ns(self) -> float:
        # To be paid back before the next burst, or that would end for what it costs.
        return -self._credit_ns

    def is_paused(self, now_ns: int, *, unseen: bool = False) -> bool:
        """Whether there is a pause; one that is over ends here, and a burst begins.

        With `unseen`, nobody has seen awaits since the pause was over.
        """
        if now_ns < self.paused_until_ns:
            return True
        if not self.paused_until_ns:
            return False
        self._earn(now_ns)
        began_ns = now_ns if unseen else self.paused_until_ns
        if self._owed_ns() > 0:
            # What was open has cost too much in the meantime.
            self.paused_until_ns = now_ns + round(self._owed_ns() / SHARE) + 1
            return True
        # Not from its first await on, or each would have at least one, however few there are.
        self._burst_began_ns, self.burst_until_ns = began_ns, began_ns + self._burst_ns
        self._pauses_ns += began_ns - self._paused_ns
        self.paused_until_ns = 0
        return now_ns >= self.burst_until_ns and self.end_burst(now_ns)

    def counted_ns(self, now_ns: int) -> tuple[int, int]:
        """For how long awaits were counted, of how long in all, both from the first one on."""
        lasts_ns = now_ns - self._paused_ns if self.paused_until_ns else 0
        whole_ns = now_ns - self._began_ns
        return whole_ns - self._pauses_ns - lasts_ns, whole_ns

    def _earn(self, now_ns: int) -> None:
        earned = SHARE * (now_ns - self._earned_at_ns)
        self._earned_at_ns = now_ns
        self._credit_ns = max(min(self._credit_ns + earned, CREDIT_NS), self._credit_ns)
