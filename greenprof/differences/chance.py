"""How far a change may be chance, where a time was sampled and not measured.

A time that was seen in n looks is off by about 1/sqrt(n) of itself, as counts of random events are
(Poisson's distribution). A change within two of these standard errors is noise; from three on it is
none.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final, NamedTuple

from greenprof.profiles import Profile, Sample, State

__all__ = ["CLEAR_ERRORS", "NOISE_ERRORS", "Chance", "Timed", "chance_of", "observed"]

NOISE_ERRORS: Final = 2.0
CLEAR_ERRORS: Final = 3.0


class Chance(enum.StrEnum):
    """What to make of a change."""

    CLEAR = ""
    """More than sampling would make of the same program; or no change at all."""
    MAYBE = "maybe"
    NOISE = "noise"
    """As large a change is to be expected between two profiles of the same program."""


class Timed(NamedTuple):
    """A time, and in how many looks it was seen."""

    time_ns: int
    seen: int


def chance_of(before: Timed, after: Timed) -> Chance:
    """Return whether the times differ by more than sampling does."""
    change = abs(after.time_ns - before.time_ns)
    error = (_variance(before) + _variance(after)) ** 0.5
    if not change or change >= CLEAR_ERRORS * error:
        return Chance.CLEAR
    return Chance.MAYBE if change >= NOISE_ERRORS * error else Chance.NOISE


def _variance(timed: Timed) -> float:
    return timed.time_ns**2 / max(timed.seen, 1)


def observed(profile: Profile) -> Profile:
    """Return the profile with observations in the place of nanoseconds.

    What is computed from it (`function_table`, ...) says in how many looks a time was seen.
    """

    def counts(sample: Sample) -> Sample:
        # Looks at a wait that used the CPU as well are divided as their time is.
        share = sample.cpu_ns / sample.wall_ns if sample.wall_ns else 1.0
        if sample.state is State.ON_CPU:
            share = 1.0
        return dataclasses.replace(
            sample, wall_ns=sample.count, cpu_ns=int(sample.count * min(share, 1.0))
        )

    return dataclasses.replace(profile, samples=[counts(sample) for sample in profile.samples])
