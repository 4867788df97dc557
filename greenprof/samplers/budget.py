"""How much of a program's time counting its awaits may take, unless it was asked for."""

from __future__ import annotations

from greenprof._native import time

__all__ = ["SHARE", "Budget"]

#: The part of the time that passes.
SHARE = 0.005
#: So much ahead, and no more: an hour in which nothing happens does not pay for a busy one.
CREDIT_NS = 40_000_000
#: After a pause there is to be so much of it.
RESUMED_NS = CREDIT_NS // 2
#: One await of so many is looked at, and stands for the others.
EACH = 16
#: What an await costs in all, to what is seen of it: the rest is in the switches before, and in
#: what the program finds no more in the caches (`python -m benchmarks.awaits`).
WHOLE = 1.5


class Budget:
    """Tells when to pause: at the latest, when the time that was taken is more than was earned.

    Times are those of `time.monotonic_ns`. The figures of several threads may get lost between
    one another; they are but a sample.
    """

    def __init__(self, now_ns: int) -> None:
        #: When the pause is over that lasts; 0: none does.
        self.paused_until_ns = 0
        self._began_ns = now_ns
        self._pauses_ns = 0
        self._paused_ns = 0
        self._credit_ns = float(CREDIT_NS)
        self._earned_at_ns = now_ns
        self._turn = 0

    def begin(self) -> int:
        """Counting begins: this thread's CPU time by then if this one is looked at, else 0."""
        self._turn += 1
        if self._turn % EACH:
            return 0
        before_ns: int = time.thread_time_ns()
        begun_ns: int = time.thread_time_ns()
        # What asking costs is no part of it, and `end` asks again.
        self._credit_ns += WHOLE * EACH * (begun_ns - before_ns)
        return begun_ns

    def end(self, begun_ns: int, now_ns: int) -> bool:
        """Counting is over that `begin` looks at; return whether there has to be a pause."""
        self._credit_ns -= WHOLE * EACH * (time.thread_time_ns() - begun_ns)
        return self._pause_if_spent(now_ns)

    def _pause_if_spent(self, now_ns: int) -> bool:
        self._earn(now_ns)
        if self._credit_ns >= 0 or self.paused_until_ns:
            return False
        self._paused_ns = now_ns
        self.paused_until_ns = now_ns + round((RESUMED_NS - self._credit_ns) / SHARE)
        return True

    def charge(self, cost_ns: int, now_ns: int) -> bool:
        """Take something else off that counting costs; return whether there has to be a pause."""
        self._credit_ns -= min(cost_ns, CREDIT_NS)
        return self._pause_if_spent(now_ns)

    def is_paused(self, now_ns: int) -> bool:
        """Whether the pause lasts that `paused_until_ns` tells of; if not, it is over."""
        if now_ns < self.paused_until_ns:
            return True
        if self.paused_until_ns:
            self._earn(now_ns)
            self._pauses_ns += now_ns - self._paused_ns
            self.paused_until_ns = 0
        return False

    def counted_ns(self, now_ns: int) -> tuple[int, int]:
        """For how long awaits were counted, of how long in all."""
        lasts_ns = now_ns - self._paused_ns if self.paused_until_ns else 0
        whole_ns = now_ns - self._began_ns
        return whole_ns - self._pauses_ns - lasts_ns, whole_ns

    def _earn(self, now_ns: int) -> None:
        earned = SHARE * (now_ns - self._earned_at_ns)
        self._earned_at_ns = now_ns
        self._credit_ns = min(self._credit_ns + earned, CREDIT_NS)
