"""What the looks at the main thread and at all others share: who looks just now, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenprof._native import main_thread_ident
from greenprof.printable import reason
from greenprof.samplers.observer import Observation, Observer
from greenprof.samplers.recorder import Recorder

if TYPE_CHECKING:
    from greenprof.profiles import State

#: Different errors that are told apart.
MAX_ERRORS = 20


class Ledger:
    """The recorder, the observer, and whose turn it is.

    A signal handler cannot wait for the thread that it interrupts, so nobody waits for a turn:
    whoever finds it `taken` lets the tick be, and the next one accounts for its time. It is taken
    so::

        if not ledger.running or ledger.taken:
            return
        try:
            ledger.taken = True
            ...
        finally:
            ledger.taken = False

    No call lies between the question and the answer, and so the interpreter neither changes
    threads there nor runs signal handlers: those of the program may raise, and a lock that was
    taken just before would stay so.
    """

    def __init__(self, period_ns: int, max_nodes: int) -> None:
        self.period_ns = period_ns
        self.running = False
        self.taken = False
        self.errors: dict[str, int] = {}
        self.warnings: list[str] = []
        self.recorder = Recorder(max_nodes)
        self.main_ident = main_thread_ident()
        self.observer = Observer(self.recorder, period_ns, self.main_ident)

    def note(self, error: Exception) -> None:
        """Count an error of ours: a look that came to nothing."""
        try:
            text = reason(error)
        except RecursionError:  # it was raised at the limit, and still holds
            text = type(error).__name__
        if text in self.errors or len(self.errors) < MAX_ERRORS:
            self.errors[text] = self.errors.get(text, 0) + 1

    def add(self, seen: Observation, state: State, wall_ns: int, cpu_ns: int) -> None:
        """Add one observation."""
        self.recorder.add(seen.group, seen.thread, seen.node, state, wall_ns, cpu_ns, seen.span)
