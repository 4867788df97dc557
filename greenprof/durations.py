"""Many durations in few numbers: counts by bucket, from which percentiles follow.

Sixteen buckets for each power of two, so that a bucket's middle is off by 3 % at most. Counts of
several processes add up, which percentiles themselves do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_BUCKET", "bounds_of", "bucket_of", "percentile_ns"]

_PER_OCTAVE: Final = 16
_LINEAR_BITS: Final = 5  # up to 31 ns each duration is its own bucket
MAX_BUCKET: Final = (63 - _LINEAR_BITS) * _PER_OCTAVE + 2 * _PER_OCTAVE - 1
"""The bucket of the longest time that a signed 64-bit number of nanoseconds holds."""


def bucket_of(duration_ns: int) -> int:
    """Return the bucket that a duration falls into; a negative one is none at all."""
    over = duration_ns.bit_length() - _LINEAR_BITS
    if over <= 0 or duration_ns < 0:
        return max(duration_ns, 0)
    return over * _PER_OCTAVE + (duration_ns >> over)


def bounds_of(bucket: int) -> tuple[int, int]:
    """Return the shortest and the longest duration in a bucket, in nanoseconds."""
    if bucket < 2 * _PER_OCTAVE:
        return bucket, bucket
    over = bucket // _PER_OCTAVE - 1
    start = (bucket - over * _PER_OCTAVE) << over
    return start, start + (1 << over) - 1


def percentile_ns(durations: Mapping[int, int], percent: float) -> int:
    """Return the duration that `percent` of those counted do not go over, within 3 %; 0 of none."""
    total = sum(durations.values())
    rank = max(1, -int(-total * percent // 100))
    seen = 0
    for bucket in sorted(durations):
        seen += durations[bucket]
        if seen >= rank:
            low, high = bounds_of(bucket)
            return (low + high) // 2
    return 0
