"""Looks at the main thread, by signals.

A sampling thread gets the interpreter lock only where the main thread lets go of it, which is at
its I/O, and would see nothing else. So the main thread is interrupted:

- a *wall* tick, every period: what runs, and in which state each task is;
- a *CPU* tick, for every few periods of CPU time that the main thread has used: what uses it;
- a *probe*, a moment after a wall tick that could not tell whether the thread was computing or
  stuck in a call.

Nothing here may raise into the program, except what the program's own signal handlers raise while
ours runs: that is the program's, and is let through.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

from greenprof import idle, loops, switches
from greenprof._native import get_ident, time
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import State
from greenprof.samplers import mainthread
from greenprof.samplers.accounting import CpuAccount, Probe, weight_of
from greenprof.samplers.closing import QuietClosing
from greenprof.samplers.following import Following
from greenprof.samplers.ledger import Ledger
from greenprof.samplers.observer import Observation, ThreadClock
from greenprof.samplers.timers import Timer, TimerUnavailableError, has_timers_to_spare, make_timer
from greenprof.samplers.wakeup import MAX_UNREAD, WakeupDescriptor

#: An event loop with this part of its interval on the CPU clock was busy, wherever it is seen.
BUSY = 0.95
#: Wall ticks that find the thread computing say what uses CPU time as well; ticks of the CPU clock
#: are surer of it, and come once for so many periods of CPU time.
CPU_TICK_PERIODS = 3
#: A loop that used less CPU time than this between two ticks did not come round.
STILL_NS = 100_000
#: How long after an unsure wall tick the probe looks whether the CPU clock has moved.
PROBE_NS = 300_000
#: A handler that comes this part of a period late was held up; see `MainSampler._held_up`.
LATE = 0.25
#: More CPU time than of so many periods at once is that of one call, not a mix of several.
LONG_PERIODS = 3
#: The wake-up descriptor is looked at every so many ticks.
UNREAD_CHECK = 16
#: The tracer is seen to so often, and at each tick while it is there for a burst of awaits.
FOLLOW_NS = 15_000_000
#: So long no signals are sent when a loop begins to close its wake-up socket.
QUIET_NS = 20_000_000

try:
    import resource
except ImportError:  # not a Unix
    _RUSAGE_THREAD = None
else:
    _RUSAGE_THREAD = getattr(resource, "RUSAGE_THREAD", None)  # Linux has it

Look = Callable[[FrameType], None]


class Rest(NamedTuple):
    """What an idle tick found, for as long as the thread stays there.

    `position` tells that it does, `where` and `waiting` are the ids of the stacks of the loop and
    of sync code that waits above it: group, thread, node and span.
    """

    position: tuple[int, int, int]
    where: tuple[int, int, int, int]
    waiting: tuple[int, int, int, int] | None
    accounted: set[int]


class MainSampler:
    """Ticks of the main thread. `ticks` and `missed` count those of the wall clock, `cost_ns` is
    the CPU time that the handlers took, and `too_deep` counts looks at stacks that left no room
    for a look.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ticks = 0
        self.missed = 0
        self.cost_ns = 0
        self.too_deep = 0
        self.clock = ThreadClock(ledger.main_ident, time.monotonic_ns())
        self.following = Following(ledger.main_ident, ledger.observer.watch)
        self._ledger = ledger
        self._observer = ledger.observer
        self._period_ns = ledger.period_ns
        self._timers: list[Timer] = []
        self._wall_timer: Timer | None = None
        self._probe_timer: Timer | None = None
        self._probe: Probe | None = None
        self._wakeup = WakeupDescriptor()
        self._closing = QuietClosing(self._quiet)
        self._paused = False
        self._quiet_until_ns = 0
        self._signals = 0
        self._followed_ns = 0
        self._wall_look = self._wall_tick
        self._due = False
        self._account = CpuAccount(ledger.recorder)
        #: When a tick came too late to say anything.
        self.held_up_ns = 0
        self._slept = 0
        self._rest: Rest | None = None
        # What the last wall tick saw, if the thread had not waited at all.
        self._saturated: tuple[int, int, int, int, int] | None = None
        # Where the sampling thread has seen the thread in a call, and the number of its span.
        self._call: tuple[tuple[int, int], int] | None = None
        self._computing = False  # whether the last handler interrupted code on the CPU

    def begin(self) -> None:
        """Count time from now on."""
        self.clock.wall_ns = self.clock.resumed_ns = time.monotonic_ns()
        watch = self._observer.watch
        watch.last_ns = watch.ticked_ns = self.clock.wall_ns
        self.clock.cpu_ns = self.clock.read_cpu()

    # In the main thread, and not for the first time if a signal handler of the program's raised.

    def open(self) -> None:
        """Start the timers."""
        if not self._ledger.running or mainthread.over:
            return  # stopped before the main thread came round to it; or a daemon thread's, at the end
        switches.adopt_thread()
        self._close_timers()
        self._closing.install()
        cpu_clock = getattr(time, "CLOCK_THREAD_CPUTIME_ID", None)
        try:
            self._wall_timer = self._open_timer(time.CLOCK_MONOTONIC, self._wall_look)
            if cpu_clock is not None:
                self._open_timer(cpu_clock, self._cpu_tick, CPU_TICK_PERIODS)
                if has_timers_to_spare():
                    self._probe_timer = self._open_timer(time.CLOCK_MONOTONIC, self._probe_tick)
        except TimerUnavailableError as error:
            self._ledger.warnings.append(
                "the main thread is sampled with less precision, in favour of calls that release "
                f"the interpreter lock: {error}"
            )
        self._arm()

    def close(self) -> None:
        """Free the timers, and give the signals back."""
        self.give_way()
        self._close_timers()
        self._closing.remove()
        self.following.close()
        switches.release_thread()

    def _open_timer(self, clock: int, look: Look, periods: int = 1) -> Timer:
        timer = make_timer(clock, periods * self._period_ns, partial(self._handle, look))
        self._timers.append(timer)
        timer.open()
        return timer

    def _close_timers(self) -> None:
        for timer in list(self._timers):
            timer.close()
            if timer in self._timers:  # not if a signal handler has stopped the sampler meanwhile
                self._timers.remove(timer)
        self._wall_timer = self._probe_timer = None

    # From any thread.

    def disarm(self) -> None:
        """Send no more signals."""
        for timer in list(self._timers):
            timer.disarm()

    def give_way(self) -> None:
        """Send no signal to a handler that the program has put in the place of ours."""
        for timer in list(self._timers):
            if timer.displaced():
                timer.disarm()
                text = "the program replaced the sampler's handler of signal "
                # One is enough: who takes one real-time signal often takes all of them.
                if not any(known.startswith(text) for known in self._ledger.warnings):
                    self._ledger.warnings.append(
                        f"{text}{timer.signum}; "
                        "the main thread was then sampled with less precision"
                    )

    def interrupt_waiting(self, frame: FrameType) -> None:
        """Have the wall tick end the system call of a main thread that waits for a lock.

        Such a call goes on when ours is the first of two signals that it meets, and the handler
        of the other, which may be Ctrl-C's, then waits for the lock as well.
        """
        if self._wall_timer is not None:
            self._wall_timer.interrupt_calls(idle.waits_for_lock(frame))

    def interrupt_for_fork(self) -> None:
        """Have the main thread come round, if it waits while another thread forks."""
        if self._wall_timer is not None and get_ident() != self._ledger.main_ident:
            self._wall_timer.interrupt_calls(True)

    def resume(self) -> None:
        """Send signals again if they were stopped, and were read since."""
        quiet = time.monotonic_ns() < self._quiet_until_ns
        if self._paused and not quiet and not self._wakeup.unread():
            self._arm()

    def _arm(self) -> None:
        self._paused = False
        for timer in list(self._timers):
            if timer is not self._probe_timer and not timer.displaced():
                timer.arm()

    def _quiet(self) -> None:
        if self._ledger.running and get_ident() == self._ledger.main_ident:
            self._quiet_until_ns = time.monotonic_ns() + QUIET_NS
            self._paused = True
            self.disarm()

    def _pause_if_unread(self, loop: Any, now: int) -> None:
        """Send no more signals while nobody reads those that came."""
        self._wakeup.look_at(loop, now)
        if self._wakeup.unread() > MAX_UNREAD:
            self._paused = True
            self.disarm()

    # Signal handlers. They run in the main thread, in whichever greenlet runs.

    def _handle(self, look: Look, _: int, frame: FrameType | None) -> None:
        ledger = self._ledger
        if frame is None or not ledger.running:
            return
        if ledger.taken:
            self._due = self._due or look is self._wall_look
            return
        try:
            ledger.taken = True
            self._due = False
            while frame.f_code is _HANDLER and frame.f_back is not None:
                frame = frame.f_back  # the one before was about to return
            if self._call is not None:
                self._tell_span(frame)
            look(frame)
            if self._due:
                # It came inside this one, as after a long call in C that kept all of them waiting.
                self._wall_tick(frame)
        except RecursionError:
            self.too_deep += 1  # a call would be one too many here as well
        except Exception as error:
            if from_signal_handler(error):
                raise
            ledger.note(error)
        finally:
            ledger.taken = False

    def _wall_tick(self, frame: FrameType) -> None:
        now, cpu = time.monotonic_ns(), time.thread_time_ns()
        self._signals += 1
        if self._signals % UNREAD_CHECK == 1:
            self._closing.install()
            self._pause_if_unread(loops.running_loop(), now)
        current, asleep = getcurrent(), False
        late = self._held_up(now, cpu)
        if late:
            asleep = self._slept_in_call(frame, current)
            if not asleep:
                self.held_up_ns = now
                return
            now -= late  # it is the moment of the signal that this is a look at
        self.tick(frame, current, now, cpu, asleep=asleep)
        if not self._computing or (self._wall_timer is not None and self._wall_timer.interrupting):
            self.interrupt_waiting(frame)
        if now - self._followed_ns >= FOLLOW_NS or self.following.for_sparing:
            self._followed_ns = now
            self.following.tick(now)
        if self._probe is not None and self._probe_timer is not None and not self._paused:
            self._probe_timer.arm_once(PROBE_NS)
        self._account_for_handler(cpu)

    def _cpu_tick(self, frame: FrameType) -> None:
        cpu = time.thread_time_ns()
        if self._saturated is not None:
            # Wall ticks look at nothing but computing just now: the last of them stands for this.
            self._account.saw(*self._saturated)
            self._computing = True
            self._account_for_handler(cpu)
            return
        seen = self._observer.observe(self._ledger.main_ident, frame, getcurrent(), set())
        self._ledger.add(seen, State.ON_CPU, 0, 0)
        self._account.saw(seen.group, seen.thread, seen.node, self._period_ns, seen.span)
        self._computing = True
        self._account_for_handler(cpu)

    def _probe_tick(self, _: FrameType) -> None:
        cpu = time.thread_time_ns()
        self._resolve_probe(time.monotonic_ns(), cpu, self._who(getcurrent()))
        self._account_for_handler(cpu)

    def _account_for_handler(self, began_cpu_ns: int) -> None:
        """Account for the handler's own CPU time, since `began_cpu_ns`.

        Code that computes pays for what interrupts it, as on the CPU clock that it can read
        itself, and so that the profile sums up to what the process used. Code that waits does not:
        an idle program's profile would be that of its sampler.
        """
        end = time.thread_time_ns()
        own = end - began_cpu_ns
        self.cost_ns += own
        self.clock.resumed_ns = time.monotonic_ns()
        self.clock.cpu_ns += own
        self._slept = _sleeps()
        if self._probe is not None:
            self._probe.begin(end, own)
        elif self._computing:
            self._account.used(own)

    def _held_up(self, now: int, cpu: int) -> int:
        """For how long the signal waited while the thread slept in C code: a hub's loop, a long call.

        Its handler then runs at the first bytecode that comes after, which says nothing about
        the time before, but for `_slept_in_call`. The sampling thread has looked in the meantime,
        or the next tick will. 0 if it did not wait.
        """
        timer = self._wall_timer
        if timer is None:
            return 1
        late = (now - timer.started_ns) % self._period_ns
        if late < max(LATE * self._period_ns, 500_000):
            return 0
        return late if cpu - self.clock.cpu_ns < late // 2 else 0

    def _slept_in_call(self, frame: FrameType, current: greenlet) -> bool:
        """Whether a late signal waited for the end of the call that `frame` stands at, and that slept.

        After a call of C code the interpreter looks for signals before it does anything else. Not
        where a hub may have run in the meantime, since the call is then a switch to it; nor where the
        thread did not sleep, but had to give way to others on the processor.
        """
        if self._wall_timer is None or idle.is_between_calls(frame):
            return False
        if now_slept := _sleeps():
            slept, self._slept = now_slept - self._slept, now_slept
            if not slept:
                return False
        return not self._observer.watch.hubs() and not self._observer.watch.below_hub(current)

    # Accounting. Whoever calls has the turn.

    def tick(
        self,
        frame: FrameType,
        current: greenlet | None,
        now: int,
        cpu: int,
        *,
        asleep: bool = False,
    ) -> None:
        """Account for the time since the main thread's last tick; `asleep`: it has just slept."""
        clock = self.clock
        if now <= clock.wall_ns:
            return  # somebody else has accounted for it
        position = id(frame), frame.f_lasti, id(current)
        if self._rest is not None and self._rests(self._rest, position, now, cpu):
            return
        accounted: set[int] = set()
        # First, for it may be interrupted for good: the next tick then has the time of this one.
        seen = self._observer.observe(self._ledger.main_ident, frame, current, accounted)
        if seen.span < 0 and get_ident() != self._ledger.main_ident:
            seen.span = self._span_of_call(frame)
        since = now - clock.resumed_ns
        elapsed, used = self._advance(now, cpu)
        if used > LONG_PERIODS * self._period_ns:
            # A long call in C, which is one look: those before it have no part in its time.
            self._account.settle()
        self._account.used(used)
        if self._probe is not None:
            self._resolve_probe(now, cpu, self._who(current))
        self._computing = False
        self._rest = None
        self._saturated = None
        idles = False
        if used >= BUSY * since and used <= LONG_PERIODS * self._period_ns:
            self._saturated = seen.group, seen.thread, seen.node, self._period_ns, seen.span
        if idle.is_between_calls(frame):
            self._add_computing(seen, elapsed, used)
        elif used < BUSY * since and seen.idle():
            idles = True
            self._ledger.add(seen, State.IDLE, elapsed, 0)
        elif asleep:
            self._ledger.add(seen, State.BLOCKED, elapsed, 0)
        elif used >= BUSY * since:
            # It hardly waited at all, and is not looked at again to see whether it does now.
            self._add_computing(seen, elapsed, used)
        elif self._probe_timer is not None and get_ident() == self._ledger.main_ident:
            who = self._who(current)
            self._probe = Probe(seen.group, seen.thread, seen.node, elapsed, used, who, seen.span)
        elif 2 * used >= since:
            self._add_computing(seen, elapsed, used)
        else:
            self._ledger.add(seen, State.BLOCKED, elapsed, 0)
        ident = self._ledger.main_ident
        waiting = None
        if current is not None and current.parent is not None:
            waiting = self._observer.suspended_main(ident, current, elapsed, accounted)
        if idles:
            where = seen.group, seen.thread, seen.node, seen.span
            self._rest = Rest(position, where, waiting, accounted)
        self._observer.watch.tick(now, accounted)

    def _span_of_call(self, frame: FrameType) -> int:
        """A number for the span of a thread in a call, whose context only its handler can ask."""
        position = id(frame), frame.f_lasti
        if self._call is None or self._call[0] != position:
            self._call = position, self._ledger.recorder.spans.later()
        return self._call[1]

    def _tell_span(self, frame: FrameType) -> None:
        """Say what the span was, if the call has just returned: that is when the handler comes."""
        call, self._call = self._call, None
        if call is not None and call[0] == (id(frame), frame.f_lasti):
            spans = self._ledger.recorder.spans
            spans.tell(call[1], spans.here())

    def _advance(self, now: int, cpu: int) -> tuple[int, int]:
        """Count a tick; return the time since the last one and the CPU time that was used."""
        clock = self.clock
        elapsed, used = now - clock.wall_ns, cpu - clock.cpu_ns
        clock.wall_ns, clock.cpu_ns = now, cpu
        self.ticks += 1
        self.missed += max(0, round(elapsed / self._period_ns) - 1)
        return elapsed, used

    def _rests(self, rest: Rest, position: tuple[int, int, int], now: int, cpu: int) -> bool:
        """Account for a thread that has nothing to do as at the last tick, if that is so."""
        if position != rest.position or cpu - self.clock.cpu_ns > STILL_NS:
            return False
        elapsed, used = self._advance(now, cpu)
        self._saturated = None
        # What it used was what our signals cost beside their handlers.
        self.cost_ns += used
        self._computing = False
        recorder = self._ledger.recorder
        group, thread, node, span = rest.where
        recorder.add(group, thread, node, State.IDLE, elapsed, 0, span)
        if rest.waiting is not None:
            group, thread, node, span = rest.waiting
            recorder.add(group, thread, node, State.AWAITING, elapsed, 0, span)
        self._observer.watch.tick(now, set(rest.accounted))
        return True

    def _add_computing(self, seen: Observation, elapsed: int, used: int) -> None:
        self._computing = True
        self._ledger.recorder.add(
            seen.group, seen.thread, seen.node, State.ON_CPU, elapsed, 0, seen.span
        )
        weight = weight_of(elapsed, used, self._period_ns)
        self._account.saw(seen.group, seen.thread, seen.node, weight, seen.span)

    def _who(self, current: greenlet | None) -> tuple[int, int]:
        """What the main thread runs for."""
        return id(self._observer.current_task(self._ledger.main_ident)), id(current)

    def _resolve_probe(self, now: int, cpu: int, who: tuple[int, int]) -> None:
        if self._probe is not None:
            self._settle_probe(self._probe.state(now, cpu, who))

    def _settle_probe(self, state: State) -> None:
        probe, self._probe = self._probe, None
        if probe is None:
            return
        recorder = self._ledger.recorder
        where = probe.group, probe.thread, probe.node
        recorder.add(*where, state, probe.weight_ns, 0, probe.span)
        self._computing = state is State.ON_CPU
        if self._computing:
            self._account.used(probe.own_ns)
            weight = weight_of(probe.weight_ns, probe.used_ns, self._period_ns)
            self._account.saw(*where, weight, probe.span)

    def settle(self) -> None:
        """Record what waits for a second look or for its part of the CPU time. With the turn."""
        self._settle_probe(State.ON_CPU)
        self._account.settle()
        self._observer.watch.settle(time.monotonic_ns())


def _sleeps() -> int:
    """How often this thread has gone to sleep by itself so far; 0 where nobody counts it."""
    if _RUSAGE_THREAD is None:
        return 0
    return int(resource.getrusage(_RUSAGE_THREAD).ru_nvcsw)


_HANDLER = MainSampler._handle.__code__
