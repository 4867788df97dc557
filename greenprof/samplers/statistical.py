"""The sampler: looks at every thread, task and greenlet at a steady rate, on two clocks.

Signals look at the main thread (`greenprof.samplers.mainsampler`), a thread at all others
(`greenprof.samplers.threadsampler`).
"""

from __future__ import annotations

from greenprof import bridges, switches
from greenprof._native import time
from greenprof.samplers import mainthread
from greenprof.samplers.following import Sparing
from greenprof.samplers.ledger import Ledger
from greenprof.samplers.mainsampler import MainSampler
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.threadsampler import ThreadSampler
from greenprof.samplers.timers import NS


class Sampler:
    """Samples this process until stopped; to be started once."""

    def __init__(self, rate_hz: float, max_nodes: int) -> None:
        self._ledger = Ledger(round(NS / rate_hz), max_nodes)
        self._main = MainSampler(self._ledger)
        self._thread = ThreadSampler(self._ledger, self._main)
        self._follows = False
        self._switches: int | None = None

    def spare(self, sparing: Sparing) -> None:
        """Say who else follows switches and does without them for a while. Before `start`."""
        self._main.following.sparing = sparing

    def start(self) -> None:
        """Start sampling, from any thread. After an error, `stop` undoes what was done."""
        bridges.bridges()  # loads them here rather than in the first tick
        self._follows = True
        switches.follow()
        self._main.begin()
        self._thread.begin()
        self._ledger.running = True
        mainthread.run_in_main_thread(self._main.open)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling, from any thread. Samples stay. A second call does nothing.

        What a signal handler of the program's raises in the middle of it is raised in the end.
        """
        try:
            self._stop()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._ledger.running = False
        self._thread.stop()
        self._main.disarm()
        self._main.settle()
        if self._switches is None:
            self._switches = self.switches
        if self._follows:
            switches.unfollow()
            self._follows = False
        mainthread.run_in_main_thread(self._main.close)

    def abandon(self) -> None:
        """Forget everything in a forked child, where threads and timers did not come along."""
        self._ledger.running = False
        mainthread.run_in_main_thread(self._main.close)

    def before_fork(self) -> None:
        """Go without the sampling thread for a moment."""
        # It is the main thread that takes it back.
        self._main.interrupt_for_fork()
        self._thread.stop_for_fork()

    def after_fork_in_parent(self) -> None:
        """Take the sampling thread back, as soon as the fork is over."""
        mainthread.run_after_fork(self._take_thread_back)

    def _take_thread_back(self) -> None:
        if self._ledger.running:
            self._thread.start()

    def settle(self) -> None:
        """Record what is known but not recorded yet, if nobody looks just now."""
        ledger = self._ledger
        if ledger.taken:
            return
        try:
            ledger.taken = True
            self._main.settle()
        finally:
            ledger.taken = False

    @property
    def recorder(self) -> Recorder:
        """Where the samples are."""
        return self._ledger.recorder

    @property
    def ticks(self) -> int:
        """The number of wall ticks of the main thread."""
        return self._main.ticks

    @property
    def missed(self) -> int:
        """The number of wall ticks that should have been and were not."""
        return self._main.missed

    @property
    def cost_ns(self) -> int:
        """The CPU time that sampling took."""
        return self._main.cost_ns + self._thread.cost_ns

    @property
    def switches(self) -> int:
        """The number of greenlet switches so far; where not all were seen, as many as there will have been."""
        if self._switches is not None:
            return self._switches
        living = sum(state.position()[0] for state in switches.all_threads())
        seen_ns, whole_ns = self._main.following.seen_of(time.monotonic_ns())
        main = switches.of_thread(self._ledger.main_ident)
        unseen = 0 if main is None else main.position()[0] * (whole_ns - seen_ns) // seen_ns
        return self._thread.switches + living + unseen

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""
        found = [*self._ledger.warnings, *self._ledger.recorder.spans.warnings]
        found += [
            f"a sample was lost to {text} ({n} times)" for text, n in self._ledger.errors.items()
        ]
        return found
