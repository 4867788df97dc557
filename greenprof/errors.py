"""Every error greenprof raises on purpose: what is wrong, with the offending value, and what to do."""

from __future__ import annotations

__all__ = [
    "GreenprofError",
    "LoopStateError",
    "NoLoopError",
    "OptionError",
    "OutputError",
    "ProfileFileError",
    "ProfilerStateError",
    "ProgramError",
]


class GreenprofError(Exception):
    """Base of greenprof's own errors.

    The message is one line for a person: what is wrong and the mend. `exit_code` is what the
    command line exits with when the error reaches it.
    """

    exit_code: int = 2


class ProfileFileError(GreenprofError):
    """A `.gprof` file that cannot be read: missing, foreign, cut, damaged or too new."""


class OutputError(GreenprofError):
    """An output that cannot be written: it exists, its folder does not, no permission, no such format."""


class ProfilerStateError(GreenprofError):
    """A profiler used in the wrong order: a second one at once, or a stop without a start."""


class OptionError(GreenprofError, ValueError):
    """An option with a value that makes no sense, such as a rate of zero."""


class ProgramError(GreenprofError):
    """The program to profile cannot be run: no such script, a directory, no such module."""


class NoLoopError(GreenprofError, RuntimeError):
    """Something async was called as if it were sync where nothing can wait for it."""


class LoopStateError(GreenprofError, RuntimeError):
    """A loop of greenhack's used in the wrong order: started below another one, or used after its end."""
