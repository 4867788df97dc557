"""Looks at the other threads, from a thread of its own.

And at the main thread where that has not come round to its signal handler: inside a C loop
(gevent), or a long call that released the interpreter lock.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from greenlet import greenlet

from greenprof import idle, switches
from greenprof._native import (
    Latch,
    allocate_lock,
    count_threads,
    cpu_clocks,
    current_frames,
    get_ident,
    get_native_id,
    start_new_thread,
    time,
)
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import State
from greenprof.samplers import mainthread
from greenprof.samplers.ledger import Ledger
from greenprof.samplers.mainsampler import BUSY, MainSampler
from greenprof.samplers.observer import ThreadClock, state_in_call
from greenprof.samplers.ticker import own_threads
from greenprof.samplers.timers import NS

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

#: The sampling thread looks for the main thread after this many periods without a tick.
OVERDUE = 1.6
#: Without other threads that do anything, and while the main thread looks after itself, the sampling
#: thread need not come round more often.
ALONE_NS = 50_000_000
#: While it is the only one, and none has begun or ended since, it looks once in so many times.
EACH_ALONE = 4
#: One that has used CPU time is looked at so long at each tick.
BUSY_NS = 500_000_000
#: A look that had to wait this long for the interpreter lock comes where somebody let go of it;
#: unless it waited for as long as Python lets others wait, and then took it from code that ran on.
LATE_NS = 1_000_000
#: So many of those in a row are left out, and the next stands for their time too.
MAX_LEFT_OUT = 5
#: Threads that a tick comes to, and those of them whose stacks it walks.
MAX_THREADS = 32
MAX_LOOKS = 2
#: How long to wait for the end of a thread that has let go of everything.
EXIT_NS = 1_000_000_000

#: A thread's stack cannot be asked for then.
OTHER_INTERPRETERS = (
    "while the program had other interpreters, no thread but the main one was looked at: "
    "CPython cannot say what threads run then"
)

# What a thread does to itself; everything else that is sent to the process is the program's.
_SYNCHRONOUS = {signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGABRT} | (
    {signal.SIGBUS} if hasattr(signal, "SIGBUS") else set()
)


class ThreadSampler:
    """The sampling thread. It can be started anew after a stop, and goes on where it was.

    `cost_ns` is the CPU time that it took, `switches` the number of greenlet switches in threads
    that have ended.
    """

    def __init__(self, ledger: Ledger, main: MainSampler) -> None:
        self.cost_ns = 0
        self.switches = 0
        self._ledger = ledger
        self._main = main
        self._others: dict[int, ThreadClock] = {}
        self._ticked_ns = 0
        self._next = 0
        self._late = False
        # Of looks that found nobody else: how many threads Python has started, and how often that was all since.
        self._alone_of = -1
        self._left_alone = 0
        self._main_was_overdue = False
        self._busy_until_ns = 0
        self._ident = 0
        self._native_id = 0
        self._leaving = False
        # Told to leave, and has left; none without a thread.
        self._locks: tuple[Any, Latch] | None = None

    def begin(self) -> None:
        """Count the time of the threads that there are from now on."""
        self._ticked_ns = time.monotonic_ns()
        clocks = _clocks()
        for ident in current_frames() or ():
            if ident not in (self._ledger.main_ident, self._ident):
                self._others[ident] = ThreadClock(ident, self._ticked_ns, clocks)

    def start(self) -> None:
        """Start the thread, unless there is one."""
        if self._locks is not None:
            return
        locks = allocate_lock(), Latch()
        locks[0].acquire()
        self._leaving = False
        self._locks = locks
        try:
            start_new_thread(self._run, locks)
        except BaseException:
            self._locks = None  # nobody would ever say that it has left
            raise

    def stop(self) -> None:
        """End the thread, and wait until it lets go of everything."""
        if self._locks is None:
            return
        wakeup, finished = self._locks
        self._leaving = True
        if wakeup.locked():
            wakeup.release()
        if get_ident() != self._ident:  # not even by a finalizer that runs in it
            finished.wait()
        self._locks = None

    def stop_for_fork(self) -> None:
        """End the thread, and wait until the system knows it no more.

        Python warns of forks in a process of several threads; ours is no thread of the program's.
        """
        self.stop()
        deadline = time.monotonic_ns() + EXIT_NS
        # Not os.path.exists(): that takes what a signal handler raises for its answer.
        while os.access(f"/proc/self/task/{self._native_id}", os.F_OK):
            if time.monotonic_ns() > deadline:
                break
            time.sleep(0.0001)

    def _run(self, wakeup: Any, finished: Latch) -> None:
        ledger = self._ledger
        earlier_ns = self.cost_ns
        try:
            self._ident, self._native_id = get_ident(), get_native_id()
            if hasattr(signal, "pthread_sigmask"):
                # A program may keep signals from all of its threads to wait for them (sigwait);
                # here they would meet their default, which is the end of the process.
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _SYNCHRONOUS)
            while ledger.running and not self._leaving and self._locks == (wakeup, finished):
                busy_ns = max(self._busy_until_ns, self._main.held_up_ns + BUSY_NS)
                needed = self._main_was_overdue or time.monotonic_ns() < busy_ns
                pause_ns = ledger.period_ns if needed else max(ledger.period_ns, ALONE_NS)
                due_ns = time.monotonic_ns() + pause_ns
                if wakeup.acquire(True, pause_ns / NS):
                    break
                waited_ns = time.monotonic_ns() - due_ns
                self._late = LATE_NS < waited_ns < sys.getswitchinterval() * NS
                mainthread.schedule()
                if not needed and self._is_alone():
                    continue
                self._look()
                self.cost_ns = earlier_ns + time.thread_time_ns()
        finally:
            finished.open()

    def _is_alone(self) -> bool:
        """Whether there is nobody to look at: no other thread, and a main thread that ticks."""
        self._left_alone += 1
        main_ns = time.monotonic_ns() - self._main.clock.wall_ns
        return (
            self._left_alone < EACH_ALONE
            and count_threads() == self._alone_of
            and main_ns <= OVERDUE * self._ledger.period_ns
        )

    def _look(self) -> None:
        ledger = self._ledger
        if not ledger.running or ledger.taken:
            return
        try:
            ledger.taken = True
            self._tick()
        except Exception as error:
            ledger.note(error)
        finally:
            ledger.taken = False

    # Ticks. Whoever calls has the turn.

    def _tick(self) -> None:
        frames = current_frames()
        if frames is None:
            if OTHER_INTERPRETERS not in self._ledger.warnings:
                self._ledger.warnings.append(OTHER_INTERPRETERS)
            self._look_at_main(None, time.monotonic_ns())
            return
        for own in (get_ident(), *own_threads):
            frames.pop(own, None)
        switches.leave_patched_threading()
        self._main.give_way()
        observer = self._ledger.observer
        now = time.monotonic_ns()
        self._look_at_main(frames.pop(self._ledger.main_ident, None), now)
        for ident in [ident for ident in self._others if ident not in frames]:
            del self._others[ident]
        alive = {*frames, self._ledger.main_ident}
        observer.forget_threads(alive)
        self.switches += switches.forget_threads(alive)
        new = frames.keys() - self._others.keys()
        clocks = _clocks() if new else None
        for ident in new:
            self._meet(ident, now, clocks)
        looks = MAX_LOOKS
        for ident in self._in_turn(list(frames)):
            self._others[ident].read_cpu()
            if self._others[ident].ended:
                # Another thread has that one's identity now.
                observer.forget_threads(alive - {ident})
                self._meet(ident, now)
            looks -= self._look_at_thread(self._others[ident], frames[ident])
            self._next += 1
            if not looks:
                break
        self._ticked_ns = now
        self._left_alone = 0
        self._alone_of = -1 if frames else count_threads()
        observer.recorder.spans.prune()
        watch = observer.watch
        if now - watch.ticked_ns > OVERDUE * self._ledger.period_ns:
            watch.tick(now, set())

    def _meet(self, ident: int, now: int, clocks: Mapping[int, int] | None = None) -> None:
        self._busy_until_ns = now + BUSY_NS
        clock = self._others[ident] = ThreadClock(ident, now, clocks)
        clock.count_since(self._ticked_ns)
        clock.left_out = MAX_LEFT_OUT  # there may be no second look

    def _in_turn(self, idents: list[int]) -> list[int]:
        """A bounded part of the threads, beginning after those of the last tick.

        One that has to wait for its turn is accounted for when it comes.
        """
        if not idents:
            return idents
        start = self._next % len(idents)
        return (idents[start:] + idents[:start])[:MAX_THREADS]

    def _look_at_main(self, frame: FrameType | None, now: int) -> None:
        """Tick for the main thread if it has not come round to it."""
        main = self._main
        main.resume()
        overdue = now - main.clock.wall_ns > OVERDUE * self._ledger.period_ns
        self._main_was_overdue = overdue
        if frame is None or not overdue:
            return
        first = frame
        while frame.f_code.co_filename.startswith(_OWN_FOLDER) and frame.f_back is not None:
            frame = frame.f_back  # it waits for the interpreter lock in a handler of ours
        main.interrupt_waiting(frame)
        current = main.following.running()
        # The thread may have gone on since the frames were copied, and the greenlet have another
        # stack by now.
        moved = (current_frames() or {}).get(self._ledger.main_ident) is not first
        if moved or _is_suspended(current):
            return
        main.tick(frame, current, now, main.clock.read_cpu())
        main.clock.resumed_ns = now

    def _look_at_thread(self, clock: ThreadClock, frame: FrameType) -> bool:
        """Account for a thread; return whether its stack had to be walked."""
        now, cpu = time.monotonic_ns(), clock.read_cpu()
        if clock.ended:
            return False
        elapsed, used = now - clock.wall_ns, cpu - clock.cpu_ns
        if used == 0 and clock.last is not None and clock.last[3] is not State.ON_CPU:
            # It has not run since: it is where it was. Most threads of most programs are.
            clock.wall_ns = now
            recorder = self._ledger.recorder
            recorder.add(*clock.last, elapsed, 0, clock.last_span)
            if clock.waiting is not None:
                group, thread, node, span = clock.waiting
                recorder.add(group, thread, node, State.AWAITING, elapsed, 0, span)
            return False
        if (
            self._late
            and used
            and clock.left_out < MAX_LEFT_OUT
            and not idle.is_between_calls(frame)
        ):
            # It was seen where it let go of the lock, or took over from who did: that is where
            # its I/O is, and not where its time goes.
            clock.left_out += 1
            return False
        clock.left_out = 0
        if used:
            self._busy_until_ns = now + BUSY_NS
        followed = switches.of_thread(clock.ident)
        count = 0 if followed is None else followed.position()[0]
        current = None if followed is None else followed.running()
        # It may have gone on since all were copied; from here on the count tells.
        latest = (current_frames() or {}).get(clock.ident)
        if latest is None or _is_suspended(current):
            return True
        frame = latest
        observer = self._ledger.observer
        accounted: set[int] = set()
        seen = observer.observe(clock.ident, frame, current, accounted)
        if followed is not None and followed.position()[0] != count:
            return True  # it switched greenlets meanwhile: no stack that ever was
        clock.wall_ns, clock.cpu_ns = now, cpu
        clock.unattributed_ns += used
        wall = elapsed
        credit = 0
        if used < BUSY * elapsed and seen.idle():
            # What was used meanwhile belongs to work that was not seen: to the next that is.
            state = State.IDLE
            wall -= used
            clock.unseen_ns += used
        else:
            state = State.ON_CPU if 2 * used >= elapsed else state_in_call(frame)
            credit, clock.unattributed_ns = clock.unattributed_ns, 0
        if state is State.ON_CPU:
            wall += clock.unseen_ns
            clock.unseen_ns = 0
        self._ledger.add(seen, state, wall, credit)
        clock.last = seen.group, seen.thread, seen.node, state
        clock.last_span = seen.span
        clock.waiting = observer.suspended_main(clock.ident, current, elapsed, accounted)
        return True


def _is_suspended(current: greenlet | None) -> bool:
    """Whether a greenlet that is noted as running is not: the tracer is about to note another."""
    return current is not None and current.gr_frame is not None


def _clocks() -> dict[int, int] | None:
    """All threads' clocks at once; None if one ended meanwhile, and each has to be asked for by itself."""
    try:
        return cpu_clocks()
    except OSError as error:
        if from_signal_handler(error):
            raise
        return None
