"""Who has a row on a timeline: each task, greenlet and thread, named when it is first seen."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from greenlet import greenlet

from greenprof import awaitables, labels, stacks, switches
from greenprof._native import RLock
from greenprof.interrupted import from_signal_handler

__all__ = ["TrackOf", "Tracks"]

#: Tracks of owners that are gone are pruned when all have doubled since; below this nobody cares.
PRUNE_AT: Final = 1_024


class TrackOf:
    """A task, a greenlet or a thread; `owner` is a weak reference to it, or gives None."""

    __slots__ = ("kind", "label", "last_ns", "name", "number", "owner", "parent", "thread")

    def __init__(
        self, number: int, owner: Callable[[], Any], name: str, label: str, kind: str, thread: str
    ) -> None:
        self.number = number
        self.owner = owner
        self.name = name
        self.label = label
        self.kind = kind
        self.thread = thread
        #: Number of the track of the task that awaits this one, -1 if none is known.
        self.parent = -1
        #: When something was last recorded of it.
        self.last_ns = 0


class Tracks:
    """The tracks so far, but for those that nothing is left of.

    `oldest` gives the time before which nothing is kept.
    """

    def __init__(self, oldest: Callable[[], int], prune_at: int = PRUNE_AT) -> None:
        self._oldest = oldest
        self._prune_at = self._least = prune_at
        self._lock = RLock()
        self._owners: dict[int, TrackOf] = {}
        self._threads: dict[int, TrackOf] = {}
        self._tracks: dict[int, TrackOf] = {}
        self._next = itertools.count()

    def __len__(self) -> int:
        return len(self._tracks)

    def get(self, number: int) -> TrackOf | None:
        """The track of a number, None if it was dropped."""
        return self._tracks.get(number)

    def abandon(self) -> None:
        """Go without the lock that another thread held when the process forked."""
        self._lock = RLock()

    def of(self, owner: Any, ident: int, *, first: bool = False) -> TrackOf:
        """The track of a task or greenlet; for all else that of the thread.

        `first`: its first step is just over, and whoever awaits it waits now.
        """
        track = self._owners.get(id(owner))
        if track is not None and track.owner() is owner:
            return track
        is_task = awaitables.is_task(owner)
        if not is_task and (not isinstance(owner, greenlet) or owner.parent is None):
            return self._of_thread(ident)
        try:
            reference = ref(owner)
        except TypeError:  # a task class of somebody's own
            return self._of_thread(ident)
        followed = switches.of_thread(ident)
        if is_task:
            raw = stacks.suspended(owner, followed, above=False)
        else:
            raw = stacks.suspended_greenlet(owner, followed)
        label, kind = labels.label_of(owner, raw, ident)
        name = _name_of(owner, label)
        track = self._add(reference, name, label, kind, labels.thread_name(ident))
        if is_task and first:
            awaiting, _ = awaitables.awaited_by(owner)
            known = self._owners.get(id(awaiting))
            if known is not None and known.owner() is awaiting:
                track.parent = known.number
        self._owners[id(owner)] = track
        return track

    def _of_thread(self, ident: int) -> TrackOf:
        thread = threading._active.get(ident)  # type: ignore[attr-defined]
        track = self._threads.get(ident)
        # An identity is used again when its thread has ended.
        if track is not None and track.owner() is thread:
            return track
        label = labels.thread_name(ident)
        name = str(getattr(thread, "name", label))
        owner = _nobody if thread is None else ref(thread)
        track = self._threads[ident] = self._add(owner, name, label, "thread", label)
        return track

    def _add(
        self, owner: Callable[[], Any], name: str, label: str, kind: str, thread: str
    ) -> TrackOf:
        with self._lock:
            if len(self._tracks) >= self._prune_at:
                self._prune()
            track = TrackOf(next(self._next), owner, name, label, kind, thread)
            self._tracks[track.number] = track
        return track

    def _prune(self) -> None:
        """Drop the tracks of which nothing is kept any more, and whose owners are gone."""
        oldest_ns = self._oldest()
        for number, track in list(self._tracks.items()):
            if track.owner() is None and track.last_ns < oldest_ns:
                del self._tracks[number]
        for key, track in list(self._owners.items()):
            if track.owner() is None:
                self._owners.pop(key, None)
        for key, track in list(self._threads.items()):
            if track.number not in self._tracks:
                self._threads.pop(key, None)
        self._prune_at = max(self._least, 2 * len(self._tracks))


def _nobody() -> None:
    return None


def _name_of(owner: Any, label: str) -> str:
    """The name of one task or greenlet among those that share a label."""
    try:
        find = getattr(owner, "get_name", None)
        name = getattr(owner, "name", None) if find is None else find()
    except Exception as error:  # a class of somebody's own
        if from_signal_handler(error):
            raise
        name = None
    return name[:200] if isinstance(name, str) and name else label
