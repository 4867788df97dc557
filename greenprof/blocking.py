"""Loop blockers in production: `greenprof.watch_blocks()`, which needs no profiler."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from greenprof._native import RLock
from greenprof.errors import ProfilerStateError
from greenprof.samplers import mainthread
from greenprof.samplers.blocks import BlockInfo, Blocks

__all__ = ["BlockInfo", "BlockWatch", "watch_blocks"]

_lock = RLock()
_watches: list[BlockWatch] = []


class BlockWatch:
    """Watches every event loop and hub of the process; see `watch_blocks`.

    A context manager, plain and async; or `start` and `stop`, from any thread.
    """

    def __init__(
        self,
        limit: float = 0.1,
        callback: Callable[[BlockInfo], None] | None = None,
        *,
        events: bool = True,
    ) -> None:
        self._options = limit, callback, events
        self._blocks: Blocks | None = None
        Blocks(limit)  # complains of the limit here rather than at the start

    @property
    def running(self) -> bool:
        """Whether it watches just now."""
        return self._blocks is not None

    @property
    def warnings(self) -> list[str]:
        """What did not work since the start, one line each."""
        return [] if self._blocks is None else self._blocks.warnings

    def start(self) -> Self:
        """Start watching. Raises ProfilerStateError if it watches already."""
        with _lock:
            if self._blocks is not None:
                raise ProfilerStateError(
                    "this watch runs already: stop it before starting it again"
                )
            limit, callback, events = self._options
            blocks = self._blocks = Blocks(limit, callback, events=events)
            _watches.append(self)
            try:
                blocks.start()
            except BaseException:  # of a signal handler of the program's, perhaps
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """Stop watching; a loop that is being kept is reported as it stands. More do nothing."""
        with _lock:
            blocks, self._blocks = self._blocks, None
            if self in _watches:
                _watches.remove(self)
        # Without the lock: the callback may still be running, and use it.
        if blocks is not None:
            blocks.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def watch_blocks(
    limit: float = 0.1,
    callback: Callable[[BlockInfo], None] | None = None,
    *,
    events: bool = True,
) -> BlockWatch:
    """Watch for tasks that keep their event loop, and greenlets that keep their hub.

    ::

        def report(block):
            log.warning("%s:%d kept the loop for %.2f s", block.path, block.line, block.duration)

        greenprof.watch_blocks(0.1, report).start()

    `limit` is in seconds, from 0.01 on. `callback` gets a `BlockInfo` for each time when it is over,
    in a thread of greenprof's own; what it raises is logged, once. With `events`, the OpenTelemetry
    span that was current in the blocking task gets an event ``greenprof.loop.blocked``.

    Raises OptionError for a limit that makes no sense.
    """
    return BlockWatch(limit, callback, events=events)


def _running() -> list[Blocks]:
    return [watch._blocks for watch in list(_watches) if watch._blocks is not None]


def _at_exit() -> None:
    while _watches:
        _watches[-1].stop()


def _before_fork() -> None:
    _lock.acquire()
    for blocks in _running():
        blocks.before_fork()


def _after_fork_in_parent() -> None:
    for blocks in _running():
        blocks.after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()
    for watch in _watches:
        if watch._blocks is not None:
            watch._blocks.abandon()
            watch._blocks = None
    _watches.clear()
    mainthread.after_fork_in_child()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    os.register_at_fork(after_in_parent=mainthread.request_after_fork)
