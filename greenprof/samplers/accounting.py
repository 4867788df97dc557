"""How a thread's CPU time is spread over what was seen, and how "computing" is told from "stuck"."""

from __future__ import annotations

import time

from greenprof.profiles import State
from greenprof.samplers.recorder import Recorder

#: So many looks share the CPU time of the interval that they fall into: enough for their mix to
#: be that of the program, few enough to follow it as it changes.
LOOKS = 32


class CpuAccount:
    """Spreads one thread's CPU time, which is known exactly, over looks at what was using it.

    Each look stands for a stretch of time, its weight. What the thread's CPU clock says in the
    end is divided in that proportion. Looks must not be chosen by what they see: to give each
    interval's CPU time to the look that ends it, say, would favour what comes last in a burst.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._used_ns = 0
        self._seen: list[tuple[int, int, int, int, int]] = []

    def used(self, cpu_ns: int) -> None:
        """Add CPU time that the thread has used."""
        self._used_ns += cpu_ns

    def saw(self, group: int, thread: int, node: int, weight_ns: int, span: int) -> None:
        """Add a look at the thread while it was on the CPU, in a span (-1: none)."""
        self._seen.append((group, thread, node, span, max(weight_ns, 1)))
        if len(self._seen) >= LOOKS:
            self.settle()

    def settle(self) -> None:
        """Divide what was used since the last time; without a look it is left for the next."""
        seen, self._seen = self._seen, []
        if not seen or self._used_ns <= 0:
            return
        rest, self._used_ns = self._used_ns, 0
        weights = sum(weight for *_, weight in seen)
        for group, thread, node, span, weight in seen:
            share = rest * weight // weights
            rest -= share
            weights -= weight
            self._recorder.add_cpu(group, thread, node, share, span)


class Probe:
    """A tick inside a call, which may compute or wait, until a second look has told which.

    `weight_ns` is the time that the tick stands for, `used_ns` the CPU time used in it; `who` is
    what the thread ran for: a task, a greenlet; `span` the span that it ran in, -1 without one.
    """

    __slots__ = (
        "cpu_ns",
        "group",
        "node",
        "own_ns",
        "span",
        "thread",
        "used_ns",
        "wall_ns",
        "weight_ns",
        "who",
    )

    def __init__(
        self,
        group: int,
        thread: int,
        node: int,
        weight_ns: int,
        used_ns: int,
        who: tuple[int, int],
        span: int,
    ) -> None:
        self.group = group
        self.thread = thread
        self.node = node
        self.weight_ns = weight_ns
        self.used_ns = used_ns
        self.who = who
        self.span = span
        self.wall_ns = self.cpu_ns = self.own_ns = 0

    def begin(self, cpu_ns: int, own_ns: int) -> None:
        """Measure from here: a handler that took `own_ns` of CPU time has ended."""
        self.cpu_ns = cpu_ns
        self.own_ns += own_ns
        self.wall_ns = time.monotonic_ns()

    def state(self, now_ns: int, cpu_ns: int, who: tuple[int, int]) -> State:
        """What the thread did, given its clocks a moment later and what it runs for by then.

        One that has gone on to somebody else had not been stuck for long.
        """
        asleep = 2 * (cpu_ns - self.cpu_ns) < now_ns - self.wall_ns
        return State.BLOCKED if asleep and who == self.who else State.ON_CPU


def weight_of(elapsed_ns: int, used_ns: int, period_ns: int) -> int:
    """The time that a look on the CPU stands for, where `elapsed_ns` have gone since the last.

    A tick that comes late, after a long call, stands for no more than the thread used meanwhile.
    """
    return min(elapsed_ns, max(used_ns, period_ns))


__all__ = ["LOOKS", "CpuAccount", "Probe", "weight_of"]
