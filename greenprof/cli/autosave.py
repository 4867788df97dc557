"""Keeps what was recorded so far in a file, for a process that is killed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from greenprof._native import time
from greenprof.cli.outputs import Output, automatic_path
from greenprof.cli.terminal import complain
from greenprof.errors import GreenprofError, ProfilerStateError
from greenprof.output import append_output, identity, write_output
from greenprof.profile_file import MAX_LATER_PARTS
from greenprof.samplers import mainthread
from greenprof.samplers.marks import Marks
from greenprof.samplers.pacing import GaveWayError
from greenprof.samplers.ticker import Ticker

if TYPE_CHECKING:
    from greenprof.profiler import Profiler

__all__ = ["DEFAULT_S", "SUFFIX", "Autosave", "Saving", "saving_beside"]

DEFAULT_S = 5.0
SUFFIX = ".autosave.gprof"
#: The part of the time that saving the whole profile may take, and adding what is new as well:
#: what took 25 ms of CPU time does not happen again for 10 s, however short the interval is.
SHARE = 0.0025
#: Samples to keep in mind, of some 150 bytes each: of more than that there are only wholes.
MAX_MARKS = 200_000
#: What has been added, compressed, before there is a whole again; a reader takes 32 MB inflated.
MAX_PARTS_BYTES = 1 << 20
#: How soon to try again where somebody needed the profiler in the middle of a save.
RETRY_S = 0.5
NO_FOLDERS = (("dev",), ("proc",))


class Saving(NamedTuple):
    """Where to, and how often."""

    path: str
    every_s: float

    def of(self, profiler: Profiler) -> Autosave:
        """What does it."""
        return Autosave(profiler, self.path, every_s=self.every_s)


def saving_beside(
    outputs: Sequence[Output], label: str, folder: Path, every_s: float | None
) -> Saving | None:
    """The file `app-20260131-120000-4711.autosave.gprof`, where the first of the outputs will be.

    None with no time, which is never.
    """
    if every_s is None:
        return None
    found = [Path(one.path).parent for one in outputs if Path(one.path).parent.is_dir()]
    # Not in /dev/fd, nor where "-" would be.
    found = [one for one in found if one.is_absolute() and one.parts[1:2] not in NO_FOLDERS]
    return Saving(str(automatic_path(label, SUFFIX, (found or [folder])[0])), every_s)


class Autosave:
    """Saves the profile of a running profiler into the file `path`, again and again.

    The whole profile is saved as often as a small share of the time allows, into a new file that takes
    the place of the old one; in between, what is new is added to the file, as a later part, every
    `every_s` seconds. Readers leave out a part that is cut short. So whoever looks, or is killed, in
    the middle of a save has the one before. Exact engine and timelines have no parts: they are saved
    as a whole, at `every_s` or as the share allows. The file is not forced to the disk itself: it
    outlives the process, but not the machine. A save that fails is told of once, and tried again. A
    file of that name that comes from somewhere else is let be.

    To be started once, when the profiler runs.
    """

    def __init__(self, profiler: Profiler, path: str, *, every_s: float) -> None:
        self._profiler = profiler
        self._path = path
        self._every_s = every_s
        self._ticker = Ticker(self._tick, every_s)
        self._leaving = True
        self._told = False
        self._due_ns = 0
        # The file that was written last, by device and inode.
        self._written: tuple[int, int] | None = None
        # What of the profile is in it; None where only wholes are saved.
        self._marks: Marks | None = None
        self._whole_due_ns = 0
        self._parts = self._parts_bytes = 0

    @property
    def path(self) -> str:
        """Where it saves to."""
        return self._path

    @property
    def saved(self) -> bool:
        """Whether its file is there."""
        return self._written is not None and self._written == identity(self._path)

    def start(self) -> None:
        """Begin; the first save comes after `every_s`."""
        self._leaving = False
        self._wait(self._every_s)
        self._profiler.run_beside(self)
        self._ticker.start()

    def stop(self) -> None:
        """Save no more, from any thread. The file stays. A second call does nothing."""
        self._leaving = True
        self._ticker.stop()

    def discard(self) -> None:
        """Stop, and remove the file: what it has is somewhere else."""
        self.stop()
        if self.saved:
            with contextlib.suppress(OSError):
                Path(self._path).unlink()
        self._written = None

    # What a profiler calls.

    def before_fork(self) -> None:
        """End the thread: Python warns of forks in a process of several."""
        leaving, self._leaving = self._leaving, True
        self._ticker.stop_for_fork()
        self._leaving = leaving

    def after_fork_in_parent(self) -> None:
        """Take the thread back, as soon as the fork is over."""
        mainthread.run_after_fork(self._take_thread_back)

    def _take_thread_back(self) -> None:
        if not self._leaving:
            # Programs that fork often are to be saved all the same.
            self._wait(max(self._due_ns - time.monotonic_ns(), 0) / 1e9)
            self._ticker.start()

    def abandon(self) -> None:
        """Forget everything in a forked child: the file is the parent's."""
        self._leaving = True
        self._ticker.abandon()
        self._written = None

    @property
    def cost_ns(self) -> int:
        """CPU time that saving took."""
        return self._ticker.cost_ns

    # In the saving thread.

    def _tick(self) -> None:
        sys.setprofile(None)  # the exact engine's, which is for the program's threads
        began_ns: int = time.thread_time_ns()
        next_s = self._every_s
        whole = self._is_whole_due()
        try:
            if whole:
                self._save_whole()
            else:
                self._add_part()
        except GaveWayError:
            next_s = min(RETRY_S, self._every_s)
        except ProfilerStateError:
            pass  # it has been stopped
        except Exception as error:
            self._tell(error)
        pause_s = (time.thread_time_ns() - began_ns) / 1e9 / SHARE
        if whole:
            self._whole_due_ns = time.monotonic_ns() + round(pause_s * 1e9)
        if whole and self._marks is not None:
            pause_s = 0.0  # which is for the whole alone
        self._wait(max(next_s, pause_s))

    def _is_whole_due(self) -> bool:
        return (
            self._marks is None
            or not self.saved
            or time.monotonic_ns() >= self._whole_due_ns
            or self._parts >= MAX_LATER_PARTS
            or self._parts_bytes > MAX_PARTS_BYTES
        )

    def _save_whole(self) -> None:
        marks = Marks() if self._profiler.adds_up else None
        data = self._profiler.snapshot_at_leisure(lambda: self._leaving, marks)
        write_output(self._path, data, force=self.saved)
        self._written = identity(self._path)
        self._parts = self._parts_bytes = 0
        if marks is not None:
            marks.keep()
        self._marks = marks if marks is not None and len(marks) <= MAX_MARKS else None

    def _add_part(self) -> None:
        data = self._profiler.snapshot_at_leisure(lambda: self._leaving, self._marks)
        append_output(self._path, data)
        self._parts += 1
        self._parts_bytes += len(data)
        if self._marks is not None:
            self._marks.keep()

    def _wait(self, seconds: float) -> None:
        self._due_ns = time.monotonic_ns() + round(seconds * 1e9)
        self._ticker.interval_s = seconds

    def _tell(self, error: Exception) -> None:
        if self._told or self._leaving:
            return
        self._told = True
        text = (
            str(error) if isinstance(error, GreenprofError) else f"{type(error).__name__}: {error}"
        )
        complain(f"no autosave: {text} (the profile is still to be written at the end)")
