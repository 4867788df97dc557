"""Says once, by logging, that something of the program's failed inside greenprof's hands."""

from __future__ import annotations

import logging

from greenprof.printable import reason

__all__ = ["complain_once"]

_log = logging.getLogger("greenprof")
_said: set[str] = set()


def complain_once(what: str, error: Exception) -> None:
    """Log that a callable of the program's failed, once for each."""
    if what not in _said:
        _said.add(what)
        _log.warning(
            "the %s that greenprof.trace() was given failed, and is left out: %s",
            what,
            reason(error),  # itself it would be kept, with its frames, by whoever keeps log records
        )
