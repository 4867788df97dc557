"""The sampler: looks at every thread, task and greenlet at a steady rate, on two clocks.

The main thread is interrupted by signals, because a sampling thread gets the interpreter lock
only where the main thread lets go of it, which is at its I/O, and would see nothing else:

- a *wall* tick, every period: what runs, and in which state each task is;
- a *CPU* tick, for every period of CPU time that the main thread has used: what uses it;
- a *probe*, a moment after a wall tick that could not tell whether the thread was computing or
  stuck in a call.

A sampling thread looks at the other threads, and at the main thread where that has not come
round to its signal handler: inside a C loop (gevent), or a long call that released the lock.

Nothing here may raise into the program, except what the program's own signal handlers raise while
ours runs: that is the program's, and is let through.
"""

from __future__ import annotations

import os
import sys
import time
from types import FrameType, TracebackType

from greenlet import getcurrent, greenlet

from greenprof import bridges, idle, loops, switches
from greenprof._native import allocate_lock, get_ident, get_native_id, start_new_thread
from greenprof.profiles import State
from greenprof.samplers.mainthread import main_thread_ident, run_in_main_thread
from greenprof.samplers.observer import Observation, Observer, ThreadClock
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.timers import NS, Timer, TimerUnavailableError, make_timer
from greenprof.samplers.wakeup import MAX_UNREAD, WakeupSocket

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

#: A wall tick with this part of its interval on the CPU clock was surely on the CPU.
SURELY_ON_CPU = 0.95
#: How long after an unsure wall tick the probe looks whether the CPU clock has moved.
PROBE_NS = 300_000
#: A handler that comes this part of a period late was held up; see `Sampler._held_up`.
LATE = 0.25
#: The sampling thread looks for the main thread after this many periods without a tick.
OVERDUE = 1.6
#: Without other threads to look at, the sampling thread need not come round more often.
ALONE_NS = 10_000_000
#: The loop's wake-up socket is looked at every so many ticks.
UNREAD_CHECK = 16
MAX_ERRORS = 20
#: So often in a row nobody holds the lock for a tick.
MAX_DENIED = 100


class Probe:
    """A wall tick that could not tell "on the CPU" from "blocked", and waits for a second look."""

    __slots__ = (
        "code",
        "cpu_ns",
        "group",
        "lasti",
        "node",
        "own_ns",
        "thread",
        "wall_ns",
        "weight_ns",
    )

    def __init__(self, seen: Observation, frame: FrameType, weight_ns: int) -> None:
        self.group, self.thread, self.node = seen.group, seen.thread, seen.node
        self.code, self.lasti = frame.f_code, frame.f_lasti
        self.weight_ns = weight_ns
        self.wall_ns = self.cpu_ns = self.own_ns = 0


class Sampler:
    """Samples this process until stopped; to be started once.

    `ticks` and `missed` count the main thread's wall ticks, `handler_cost_ns` and
    `thread_cost_ns` the CPU time that sampling took in the main and in its own thread.
    """

    def __init__(self, rate_hz: float, max_nodes: int) -> None:
        self.period_ns = round(NS / rate_hz)
        self.ticks = 0
        self.missed = 0
        self.handler_cost_ns = 0
        self.thread_cost_ns = 0
        self.errors: dict[str, int] = {}
        self.warnings: list[str] = []
        self.recorder = Recorder(max_nodes)
        self._main_ident = main_thread_ident()
        self._observer = Observer(self.recorder, self.period_ns, self._main_ident)
        # Whoever records holds it; nobody waits for it, least of all a signal handler.
        self._lock = allocate_lock()
        self._main = ThreadClock(self._main_ident, time.monotonic_ns())
        self._others: dict[int, ThreadClock] = {}
        self._wall_timer: Timer | None = None
        self._cpu_timer: Timer | None = None
        self._probe_timer: Timer | None = None
        self._probe: Probe | None = None
        self._socket = WakeupSocket()
        self._paused = False
        self._cpu_seen: list[tuple[int, int, int]] = []
        self._interval_cpu_ns = 0  # handlers' own, that the code they interrupted pays for
        self._computing = False  # whether the last handler interrupted code on the CPU
        self._signals = 0
        self._switches = 0
        self._running = False
        self._stopped = False
        self._wakeup = allocate_lock()
        self._finished = allocate_lock()

    def start(self) -> None:
        """Start sampling, from any thread."""
        self._running = True
        self._main.wall_ns = self._main.resumed_ns = time.monotonic_ns()
        self._observer.watch.last_ns = self._main.wall_ns
        self._main.cpu_ns = self._main.read_cpu()
        bridges.bridges()  # loads them here rather than in the first tick
        switches.follow()
        run_in_main_thread(self._start_timers)
        self._wakeup.acquire()
        self._finished.acquire()
        start_new_thread(self._run_thread, ())

    def stop(self) -> None:
        """Stop sampling, from any thread. Samples stay."""
        self._running = False
        self._wakeup.release()
        self._finished.acquire()
        for timer in self._timers():
            timer.delete()
        self._settle_probe(State.ON_CPU)
        self._switches += self.switches
        run_in_main_thread(self._restore_signals)
        switches.unfollow()
        self._stopped = True

    @property
    def switches(self) -> int:
        """The number of greenlet switches seen so far."""
        if self._stopped:
            return self._switches
        return self._switches + sum(state.position()[0] for state in switches.all_threads())

    def abandon(self) -> None:
        """Forget everything in a forked child, where threads and timers did not come along."""
        self._running = False
        run_in_main_thread(self._restore_signals)

    def _timers(self) -> list[Timer]:
        timers = (self._wall_timer, self._cpu_timer, self._probe_timer)
        return [timer for timer in timers if timer is not None]

    def _start_timers(self) -> None:
        if not self._running:
            return
        switches.adopt_thread()
        native_id = get_native_id()
        cpu_clock = getattr(time, "CLOCK_THREAD_CPUTIME_ID", None)
        try:
            self._wall_timer = make_timer(
                time.CLOCK_MONOTONIC, self.period_ns, self._on_wall, native_id
            )
            if cpu_clock is not None:
                self._cpu_timer = make_timer(cpu_clock, self.period_ns, self._on_cpu, native_id)
                self._probe_timer = make_timer(
                    time.CLOCK_MONOTONIC, self.period_ns, self._on_probe, native_id
                )
        except TimerUnavailableError as error:
            self.warnings.append(
                "the main thread is sampled with less precision, in favour of calls that release "
                f"the interpreter lock: {error}"
            )
        self._arm()

    def _arm(self) -> None:
        self._paused = False
        for timer in (self._wall_timer, self._cpu_timer):
            if timer is not None:
                timer.arm()

    def _pause_if_unread(self) -> None:
        """Send no more signals while the loop does not read those that came."""
        self._socket.look_at(loops.running_loop())
        if self._socket.unread() > MAX_UNREAD:
            self._paused = True
            for timer in self._timers():
                timer.disarm()

    def _restore_signals(self) -> None:
        for timer in self._timers():
            if timer.displaced():
                self.warnings.append(
                    f"the program replaced the sampler's handler of signal {timer.signum}; "
                    "the main thread was then sampled with less precision"
                )
            timer.restore()
        switches.release_thread()

    # Signal handlers. They run in the main thread, in whichever greenlet runs.

    def _on_wall(self, _: int, frame: FrameType | None) -> None:
        if frame is None or not self._running or not self._lock.acquire(False):
            return
        try:
            now, cpu = time.monotonic_ns(), time.thread_time_ns()
            self._signals += 1
            if self._signals % UNREAD_CHECK == 0:
                self._pause_if_unread()
            if not self._held_up(now, cpu):
                self._main_tick(frame, getcurrent(), now, cpu)
                followed = switches.of_thread(self._main_ident)
                if followed is not None:
                    followed.check()
                if self._probe is not None and self._probe_timer is not None and not self._paused:
                    self._probe_timer.arm_once(PROBE_NS)
                self._account_for_handler(cpu)
        except Exception as error:
            self._note(error)
        finally:
            self._lock.release()

    def _on_cpu(self, _: int, frame: FrameType | None) -> None:
        if frame is None or not self._running or not self._lock.acquire(False):
            return
        try:
            cpu = time.thread_time_ns()
            seen = self._observer.observe(self._main_ident, frame, getcurrent(), set())
            self._cpu_seen.append((seen.group, seen.thread, seen.node))
            self._computing = True
            self._account_for_handler(cpu)
        except Exception as error:
            self._note(error)
        finally:
            self._lock.release()

    def _on_probe(self, _: int, frame: FrameType | None) -> None:
        if frame is None or not self._running or not self._lock.acquire(False):
            return
        try:
            cpu = time.thread_time_ns()
            self._resolve_probe(time.monotonic_ns(), cpu, frame)
            self._account_for_handler(cpu)
        except Exception as error:
            self._note(error)
        finally:
            self._lock.release()

    def _account_for_handler(self, began_cpu_ns: int) -> None:
        """Account for the handler's own CPU time, since `began_cpu_ns`.

        Code that computes pays for what interrupts it, as on the CPU clock that it can read
        itself, and so that the profile sums up to what the process used. Code that waits does not:
        an idle program's profile would be that of its sampler.
        """
        end = time.thread_time_ns()
        own = end - began_cpu_ns
        self.handler_cost_ns += own
        self._main.resumed_ns = time.monotonic_ns()
        probe = self._probe
        if probe is not None:
            probe.cpu_ns, probe.wall_ns = end, self._main.resumed_ns
            probe.own_ns += own
        self._main.cpu_ns += own
        if self._computing:
            self._interval_cpu_ns += own

    def _held_up(self, now: int, cpu: int) -> bool:
        """Whether the signal waited while the thread slept in C code: a hub's loop, a long call.

        Its handler then runs at the first bytecode that comes after, which says nothing about
        the time before. The sampling thread has looked in the meantime, or the next tick will.
        """
        timer = self._wall_timer
        if timer is None:
            return True
        late = (now - timer.started_ns) % self.period_ns
        if late < max(LATE * self.period_ns, 500_000):
            return False
        return cpu - self._main.cpu_ns < late // 2

    def _note(self, error: Exception) -> None:
        """Count an error of ours; let through what the program's own signal handler raised."""
        if _is_foreign(error.__traceback__):
            raise error
        text = f"{type(error).__name__}: {error}"
        if text in self.errors or len(self.errors) < MAX_ERRORS:
            self.errors[text] = self.errors.get(text, 0) + 1

    # Ticks. Whoever calls holds the lock.

    def _main_tick(self, frame: FrameType, current: greenlet | None, now: int, cpu: int) -> None:
        """Account for the time since the main thread's last tick."""
        main = self._main
        elapsed, used, since = now - main.wall_ns, cpu - main.cpu_ns, now - main.resumed_ns
        main.wall_ns, main.cpu_ns = now, cpu
        interval_cpu, self._interval_cpu_ns = self._interval_cpu_ns + used, 0
        self.ticks += 1
        self.missed += max(0, round(elapsed / self.period_ns) - 1)
        self._resolve_probe(now, cpu, frame)
        cpu_seen, self._cpu_seen = self._cpu_seen, []
        self._computing = False
        accounted: set[int] = set()
        seen = self._observer.observe(self._main_ident, frame, current, accounted)
        if used >= SURELY_ON_CPU * since:
            # What runs now ran all the time, as far as anybody can tell.
            self._computing = True
            self._add(seen, State.ON_CPU, elapsed, interval_cpu)
        else:
            self._attribute(interval_cpu, cpu_seen)
            self._add_unsure(seen, frame, elapsed, asleep=2 * used < since)
        self._observer.suspended_main(self._main_ident, current, elapsed, accounted)
        self._observer.watch.tick(now, self._observer.loops(), accounted)

    def _attribute(self, cpu_ns: int, seen: list[tuple[int, int, int]]) -> None:
        """Put an interval's CPU time down to what its CPU ticks saw.

        Those come for every period of CPU time, so an interval without one leaves its CPU time
        to the next that has one.
        """
        self._main.unattributed_ns += cpu_ns
        if seen:
            share = self._main.unattributed_ns // len(seen)
            self._main.unattributed_ns = 0
            for group, thread, node in seen:
                self.recorder.add(group, thread, node, State.ON_CPU, 0, share)

    def _add_unsure(
        self, seen: Observation, frame: FrameType, elapsed: int, *, asleep: bool
    ) -> None:
        """Record a tick whose interval was not all on the CPU."""
        if seen.idle():
            self._add(seen, State.IDLE, elapsed, 0)
        elif self._probe_timer is not None and get_ident() == self._main_ident:
            self._computing = idle.is_between_calls(frame)
            if self._computing:
                self._add(seen, State.ON_CPU, elapsed, 0)
            else:
                self._probe = Probe(seen, frame, elapsed)
        else:
            self._add(seen, _state_in_call(frame) if asleep else State.ON_CPU, elapsed, 0)

    def _add(self, seen: Observation, state: State, wall_ns: int, cpu_ns: int) -> None:
        self.recorder.add(seen.group, seen.thread, seen.node, state, wall_ns, cpu_ns)

    def _resolve_probe(self, now: int, cpu: int, frame: FrameType) -> None:
        probe = self._probe
        if probe is None:
            return
        stuck = frame.f_code is probe.code and frame.f_lasti == probe.lasti
        asleep = 2 * (cpu - probe.cpu_ns) < now - probe.wall_ns
        self._computing = not (stuck and asleep)
        self._settle_probe(State.ON_CPU if self._computing else _state_in_call(frame))
        if self._computing:
            self._interval_cpu_ns += probe.own_ns

    def _settle_probe(self, state: State) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            self.recorder.add(probe.group, probe.thread, probe.node, state, probe.weight_ns, 0)

    # The sampling thread

    def _run_thread(self) -> None:
        denied = 0
        try:
            while self._running:
                pause = self.period_ns if self._others else max(self.period_ns, ALONE_NS)
                if self._wakeup.acquire(True, pause / NS) or not self._running:
                    break
                if denied > MAX_DENIED:
                    # A signal handler of the program's raised just where ours had taken it.
                    self._lock = allocate_lock()
                denied += 1
                if self._lock.acquire(False):
                    denied = 0
                    try:
                        self._thread_tick()
                    except Exception as error:
                        self._note(error)
                    finally:
                        self._lock.release()
                self.thread_cost_ns = time.thread_time_ns()
        finally:
            self._finished.release()

    def _thread_tick(self) -> None:
        frames = sys._current_frames()
        frames.pop(get_ident(), None)
        switches.leave_patched_threading()
        now = time.monotonic_ns()
        main_frame = frames.pop(self._main_ident, None)
        self._look_at_main(main_frame, now)
        for ident in [ident for ident in self._others if ident not in frames]:
            del self._others[ident]
        alive = {*frames, self._main_ident}
        self._observer.forget_threads(alive)
        self._switches += switches.forget_threads(alive)
        for ident, frame in frames.items():
            clock = self._others.get(ident)
            if clock is None:
                self._others[ident] = ThreadClock(ident, now)
            else:
                self._look_at_thread(clock, frame)
        watch = self._observer.watch
        if now - watch.last_ns > OVERDUE * self.period_ns:
            watch.tick(now, self._observer.loops(), set())

    def _look_at_main(self, frame: FrameType | None, now: int) -> None:
        """Tick for the main thread if it has not come round to it."""
        if self._paused and not self._socket.unread():
            self._arm()
        if frame is None or now - self._main.wall_ns < OVERDUE * self.period_ns:
            return
        while frame.f_code.co_filename.startswith(_OWN_FOLDER) and frame.f_back is not None:
            frame = frame.f_back  # it waits for the interpreter lock in a handler of ours
        followed = switches.of_thread(self._main_ident)
        current = None if followed is None else _running_greenlet(followed)
        # The interpreter lock is held from the copy of the frames to here, but for an unlucky
        # forced switch; the frame would then be an old one, of this thread still.
        self._main_tick(frame, current, now, self._main.read_cpu())
        self._main.resumed_ns = now

    def _look_at_thread(self, clock: ThreadClock, frame: FrameType) -> None:
        now, cpu = time.monotonic_ns(), clock.read_cpu()
        elapsed, used = now - clock.wall_ns, cpu - clock.cpu_ns
        if used == 0 and clock.last is not None and clock.last[3] is not State.ON_CPU:
            # It has not run since: it is where it was. Most threads of most programs are.
            clock.wall_ns = now
            self.recorder.add(*clock.last, elapsed, 0)
            return
        followed = switches.of_thread(clock.ident)
        count = 0 if followed is None else followed.position()[0]
        current = None if followed is None else _running_greenlet(followed)
        accounted: set[int] = set()
        seen = self._observer.observe(clock.ident, frame, current, accounted)
        if followed is not None and followed.position()[0] != count:
            return  # it switched greenlets meanwhile: no stack that ever was
        clock.wall_ns, clock.cpu_ns = now, cpu
        clock.unattributed_ns += used
        if 2 * used >= elapsed:
            state = State.ON_CPU
        else:
            state = State.IDLE if seen.idle() else _state_in_call(frame)
        credit = 0
        if state is not State.IDLE:
            # What was used while it was seen idle belongs to work that was not seen.
            credit, clock.unattributed_ns = clock.unattributed_ns, 0
        self._add(seen, state, elapsed, credit)
        # A thread that runs a loop or greenlets has more to it than its own state.
        plain = seen.group == self._observer.thread_group(clock.ident) and (
            current is None or current.parent is None
        )
        clock.last = (seen.group, seen.thread, seen.node, state) if plain else None
        self._observer.suspended_main(clock.ident, current, elapsed, accounted)


def _state_in_call(frame: FrameType) -> State:
    """The state of a thread that uses no CPU and has work: stuck in a call, or kept from running."""
    return State.ON_CPU if idle.is_between_calls(frame) else State.BLOCKED


def _running_greenlet(followed: switches.Switches) -> greenlet | None:
    reference = followed.position()[1]
    return None if reference is None else reference()


def _is_foreign(traceback: TracebackType | None) -> bool:
    """Whether an exception came from outside greenprof and the modules that it calls.

    A signal handler of the program's can run inside ours; its frames are on the traceback then.
    """
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith((_OWN_FOLDER, *_CALLED)):
            return True
        traceback = traceback.tb_next
    return False


_CALLED = tuple(
    path
    for name in ("asyncio.tasks", "asyncio.events", "weakref", "_weakrefset", "random", "threading")
    if (path := getattr(sys.modules.get(name), "__file__", None)) is not None
)
