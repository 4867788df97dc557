"""When awaits are counted that nobody asked for: in bursts, and those that are open then to their end.

If only those were counted that fit between two pauses, the long ones would be missing.
"""

from __future__ import annotations

from typing import Any, Protocol

from greenprof.samplers.budget import SHARE, Budget

__all__ = ["Bursts"]

#: Awaits that are open when a pause begins are counted all the same if they end within this time, as
#: long as the switches until then cost no more than that.
CLOSING_NS = 1_000_000_000
CLOSING_COST_NS = 5_000_000
#: What a switch costs in all while there is something open in a pause, to what it costs else.
CLOSING = 1.5


class Opened(Protocol):
    """Whoever counts."""

    open: dict[int, Any]

    def let_be(self) -> None:
        """Forget the awaits that are open."""


class Bursts:
    """Bursts and pauses of one account, as its budget has them. Times are those of `time.monotonic_ns`."""

    def __init__(self, budget: Budget, account: Opened) -> None:
        self.budget = budget
        #: How many pauses are over.
        self.pauses = 0
        self._account = account
        # In a pause: until when what is open is counted, 0 if nothing is; and what that has cost.
        self._closing_until_ns = 0
        self._closing_cost_ns = 0
        self._cut = 0

    def is_paused(self, now_ns: int, *, unseen: bool = False) -> bool:
        """Whether no await is to begin just now; a pause that is over ends here, and a burst too.

        With `unseen`, nobody has seen switches since the pause was over.
        """
        budget = self.budget
        if not budget.paused_until_ns:
            if now_ns >= budget.burst_until_ns and budget.end_burst(now_ns):
                self.close(now_ns)
            return budget.paused_until_ns > 0
        if budget.is_paused(now_ns, unseen=unseen):
            return True
        if not self._closing_until_ns:
            # Whoever was noted by a switch that the end of the tracer came in between.
            self._account.let_be()
        self._closing_until_ns = 0
        self.pauses += 1
        return False

    def close(self, now_ns: int) -> None:
        """A pause begins: what is open is counted, and nothing else."""
        if self._has_open():
            self._closing_cost_ns = 0
            self._closing_until_ns = now_ns + CLOSING_NS

    def is_closing(self, now_ns: int) -> bool:
        """Whether in this pause something is still counted to its end."""
        if not self._closing_until_ns:
            return False
        if now_ns < self._closing_until_ns and self._closing_cost_ns < CLOSING_COST_NS:
            return True
        self._cut += len(self._account.open) - (0 in self._account.open)
        self._closing_until_ns = 0
        self._account.let_be()
        return False

    def note_end(self) -> None:
        """In a pause, an await has ended."""
        if not self._has_open():
            self._closing_until_ns = 0

    def charge(self, cost_ns: int, now_ns: int) -> None:
        """Take off what switches have cost."""
        if self._closing_until_ns:
            cost_ns = round(CLOSING * cost_ns)
            self._closing_cost_ns += cost_ns
        if self.budget.charge(cost_ns, now_ns):
            self.close(now_ns)

    def warnings(self, counted_ns: int, whole_ns: int) -> list[str]:
        """What a reader has to know of an account that counted for so long, of so long in all."""
        found = []
        if counted_ns < whole_ns:
            found.append(
                f"awaits were counted for {counted_ns / 1e9:.3g} of {whole_ns / 1e9:.3g} s: unless "
                f"it is asked for (--awaits, or awaits=True), counting takes {SHARE:.1%} of the "
                "time at most"
            )
        if self._cut:
            found.append(
                f"{self._cut} awaits were not counted: they took long, and counting paused "
                "before they were over"
            )
        return found

    def _has_open(self) -> bool:
        opened = self._account.open
        return len(opened) > (0 in opened)
