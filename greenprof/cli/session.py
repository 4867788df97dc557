"""The recording under `greenprof run`: from before the program's first line until its process is about to end."""

from __future__ import annotations

import atexit
import contextlib
import enum
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from greenprof._native import get_ident, thread_local, time
from greenprof.cli.descriptors import more_descriptors
from greenprof.cli.endings import tell_of_endings
from greenprof.cli.terminal import complain
from greenprof.errors import GreenprofError

if TYPE_CHECKING:
    from greenprof.cli.autosave import Autosave, Saving
    from greenprof.cli.spans import RunSpans
    from greenprof.profiler import Profiler
    from greenprof.profiles import Profile

__all__ = ["Session"]

# Signals that end a process unless it says otherwise; SIGINT is an exception in Python programs.
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# `timeout` and process managers send SIGTERM twice within microseconds; a person who sends a second
# one later wants the process gone.
PATIENCE_NS = 1_000_000_000
# For who ends the process from one thread while another one writes the profile.
END_LIMIT_S = 10.0


class Phase(enum.Enum):
    NEW = "new"
    RECORDING = "recording"
    FINISHING = "finishing"
    DONE = "done"


class Session:
    """Records this process and hands the profile to `deliver` at the end.

    The end is after the program's non-daemon threads and its `atexit` handlers; at a signal that
    ends the process: a default SIGTERM or SIGHUP; or at `os._exit`. A handler that the program
    installs rules instead. Before the process becomes another program (`os.execv`) `deliver` has the
    profile so far, and again at the end where that failed. Where it returns False something could not
    be written, and the file of `saving` stays, which otherwise is there only until then.
    Forked children leave the profile alone, but those that `in_child` is called in, which may
    `begin_again`. `spans` are recorded for as long.
    """

    def __init__(
        self,
        deliver: Callable[[Profile], bool | None],
        spans: RunSpans | None = None,
        in_child: Callable[[Session], None] | None = None,
        saving: Saving | None = None,
    ) -> None:
        self._deliver = deliver
        self._spans = spans
        self._saving = saving
        self._autosave: Autosave | None = None
        self._begin_in_child = in_child
        self._phase = Phase.NEW
        self._pid = os.getpid()
        self._profiler: Profiler | None = None
        self._ending_signal: int | None = None
        self._ending_since_ns = 0
        self._finishing = 0
        self._at_end_of_thread: Any = None

    @property
    def recording(self) -> bool:
        """Whether it records: `deliver` is called with the profile so far then."""
        return self._phase is Phase.RECORDING

    def start(self, recorded: dict[str, Any], *, command: str) -> None:
        """Starts to record, with these options of `Profiler`. Raises GreenprofError where that is not possible."""
        # Before anything else registers itself: handlers run last to first, so ours runs after those
        # of the program and of every module it imports.
        atexit.register(self._at_exit)
        self._record(recorded, command)
        os.register_at_fork(after_in_child=self._in_child)
        tell_of_endings(self._at_os_exit, self._before_exec)

    def begin_again(
        self,
        deliver: Callable[[Profile], bool | None],
        recorded: dict[str, Any],
        *,
        command: str,
        saving: Saving | None = None,
    ) -> None:
        """Records a forked child, which has a profile of its own. Raises GreenprofError likewise."""
        self._deliver, self._spans, self._pid = deliver, None, os.getpid()
        self._saving = saving
        self._record(recorded, command)
        self._at_end_of_thread = thread_local()
        self._at_end_of_thread.held = _AtEndOfThread(self._at_exit)

    def _record(self, recorded: dict[str, Any], command: str) -> None:
        from greenprof.profiler import Profiler

        self._profiler = Profiler(**recorded, outermost=True, command=command)
        self._profiler.start()
        self._phase = Phase.RECORDING
        if self._spans is not None:
            self._spans.start()
        for number in ENDING_SIGNALS:
            # An ignored one (nohup) stays ignored.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._on_ending_signal)
        self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        if self._saving is not None and self._profiler is not None:
            self._autosave = self._saving.of(self._profiler)
            self._autosave.start()

    def discard(self) -> None:
        """Stops and keeps nothing: the program never began."""
        atexit.unregister(self._at_exit)
        recording, self._phase = self._phase is Phase.RECORDING, Phase.DONE
        self._restore_signals()
        if self._autosave is not None:
            self._autosave.discard()
        if recording and self._profiler is not None:
            self._profiler.stop()
            if self._spans is not None:
                self._spans.discard()

    def _at_exit(self) -> None:
        try:
            self._finish()
        except KeyboardInterrupt:
            # One that came before they were held.
            self._finish()

    def _finish(self) -> None:
        with _interrupts_held():
            self._finish_undisturbed()

    def _finish_undisturbed(self) -> None:
        if self._phase is not Phase.RECORDING or self._profiler is None:
            return
        self._phase, self._finishing = Phase.FINISHING, get_ident()
        if self._autosave is not None:
            self._autosave.stop()
        if self._spans is not None:
            # They go out while the profile is written.
            with _one_line_errors("spans were lost"):
                self._spans.stop()
        self._deliver_result(self._profiler.stop)
        if self._spans is not None:
            with _one_line_errors("spans were lost"):
                self._spans.finish()
        self._phase = Phase.DONE
        if self._ending_signal is not None:
            self._end_by(self._ending_signal)
        self._restore_signals()

    def _deliver_result(self, result: Callable[[], Profile]) -> None:
        delivered: bool | None = False
        with more_descriptors(), _one_line_errors("no profile was written"):
            delivered = self._deliver(result())
        if self._autosave is not None:
            if delivered is not False:
                self._autosave.discard()
            elif self._autosave.saved:
                complain(f"what was recorded some seconds ago is in '{self._autosave.path}'")

    def _at_os_exit(self) -> None:
        if os.getpid() != self._pid:
            return
        if self._phase is Phase.RECORDING:
            self._finish()
        # Another thread is at it, unless a signal handler has interrupted this one.
        deadline = time.monotonic() + END_LIMIT_S
        while self._phase is Phase.FINISHING and self._finishing != get_ident():
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)

    def _before_exec(self) -> Callable[[], None]:
        profiler = self._profiler
        if os.getpid() != self._pid or self._phase is not Phase.RECORDING or profiler is None:
            return _nothing
        if self._autosave is not None:
            self._autosave.stop()
        with _interrupts_held():
            self._deliver_result(profiler.snapshot)
        return self._save_now_and_then

    def _on_ending_signal(self, number: int, _frame: FrameType | None) -> None:
        now_ns = time.monotonic_ns()
        if self._phase is Phase.FINISHING and self._ending_signal is None:
            self._ending_signal, self._ending_since_ns = number, now_ns
        elif self._phase is Phase.FINISHING and now_ns - self._ending_since_ns < PATIENCE_NS:
            return
        elif self._phase is Phase.RECORDING:
            self._ending_signal, self._ending_since_ns = number, now_ns
            self._finish()
        else:
            self._end_by(number)

    def _end_by(self, number: int) -> None:
        """Ends the process as the signal would have ended it without greenprof."""
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _in_child(self) -> None:
        recorded, self._phase = self._phase is Phase.RECORDING, Phase.DONE
        self._autosave = None
        self._restore_signals()
        if recorded and self._begin_in_child is not None:
            self._begin_in_child(self)

    def _restore_signals(self) -> None:
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) == self._on_ending_signal:
                # Only a main thread may; any other one ends with the process's own end anyway.
                with contextlib.suppress(ValueError):
                    signal.signal(number, signal.SIG_DFL)


def _nothing() -> None:
    pass


class _AtEndOfThread:
    """Finishes when the thread goes that holds it.

    A thread that forked is all that the child has. When its function returns, the process ends, with
    no `atexit`, unless a thread of ours is left.
    """

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish = finish
        self._pid = os.getpid()

    def __del__(self) -> None:
        # In a fork of the fork another one takes this one's place.
        if os.getpid() == self._pid:
            self._finish()


@contextlib.contextmanager
def _one_line_errors(what: str) -> Iterator[None]:
    try:
        yield
    except GreenprofError as error:
        complain(str(error))
    except Exception as error:
        # The program is done and its exit code stands; a traceback of ours would look like its own.
        complain(f"{what}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets a second, impatient Ctrl-C not destroy a profile that takes a moment to write."""
    before = signal.getsignal(signal.SIGINT)
    held = False
    if callable(before):
        with contextlib.suppress(
            ValueError
        ):  # not the main thread: no KeyboardInterrupt comes here
            signal.signal(signal.SIGINT, lambda *_: None)
            held = True
    try:
        yield
    finally:
        if held:
            signal.signal(signal.SIGINT, before)
