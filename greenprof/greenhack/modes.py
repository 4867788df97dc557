"""The one setting: whether sync code awaits, or blocks its thread."""

from __future__ import annotations

from typing import Literal

from greenprof.errors import OptionError

__all__ = ["Mode", "blocking", "mode"]

Mode = Literal["async", "blocking"]

#: Read at every call; set by `mode`.
blocking = False


def mode(new: Mode | None = None, /) -> Mode:
    """Set how this process does its I/O, and return how it did so far; without a mode, only that.

    "async", from the start: sync code waits where a loop serves it, through `as_async` or after
    `start_loop`. "blocking": functions decorated by `as_async` from now on stay plain functions,
    and sync code in a thread without a loop blocks that thread while it waits: `exempt` functions
    call what they were given as `blocking`, and everything else runs to its end on a loop of that
    thread's own. Where a loop runs, and in coroutines, nothing differs. Raises OptionError for any
    other mode.
    """
    global blocking
    earlier: Mode = "blocking" if blocking else "async"
    if new is not None:
        if new not in ("async", "blocking"):
            raise OptionError(f'{new!r} is no mode of greenhack: use "async" or "blocking"')
        blocking = new == "blocking"
    return earlier
