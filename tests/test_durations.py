"""Durations by bucket: bounds, order, and percentiles beside those of the very numbers."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from greenprof.durations import MAX_BUCKET, bounds_of, bucket_of, percentile_ns
from tests.profiles import MS

LONGEST = 2**63 - 1
durations = st.one_of(st.integers(0, 100), st.integers(0, 10**10), st.integers(0, LONGEST))


@given(durations)
def test_a_bucket_holds_its_durations_within_a_sixteenth(duration_ns: int) -> None:
    low, high = bounds_of(bucket_of(duration_ns))
    assert low <= duration_ns <= high
    assert high - low <= low / 16


def test_buckets_are_three_percent_wide() -> None:
    """Sixteen to an octave: a bucket's middle is at most 1/33 off anything in it."""
    dice = random.Random(3)
    for _ in range(2000):
        value = round(10 ** dice.uniform(0, 12))
        low, high = bounds_of(bucket_of(value))
        assert low <= value <= high
        assert abs((low + high) // 2 - value) <= 0.0313 * value


def test_buckets_follow_each_other_without_a_gap() -> None:
    assert bucket_of(LONGEST) == MAX_BUCKET
    ends = [bounds_of(bucket) for bucket in range(MAX_BUCKET + 1)]
    assert (ends[0][0], ends[-1][1]) == (0, LONGEST)
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(ends))
    for bucket, (low, high) in enumerate(ends):
        assert bucket_of(low) == bucket_of(high) == bucket


def test_a_clock_read_out_of_order_counts_as_nothing() -> None:
    assert bucket_of(-5) == 0
    assert bucket_of(-(2**40)) == 0


@given(st.lists(durations, min_size=1), st.sampled_from([0, 1, 50, 90, 95, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_numbers_within_a_bucket(
    times_ns: list[int], percent: float
) -> None:
    counted = Counter(map(bucket_of, times_ns))
    exact = sorted(times_ns)[max(math.ceil(len(times_ns) * percent / 100) - 1, 0)]
    found = percentile_ns(counted, percent)
    assert abs(found - exact) <= exact / 16 + 1
    assert bucket_of(found) == bucket_of(exact)


def test_percentiles_of_many_and_of_none() -> None:
    counted = Counter(bucket_of(n * MS) for n in range(1, 1001))
    for percent in (50, 95, 99):
        assert abs(percentile_ns(counted, percent) - percent * 10 * MS) <= percent * 10 * MS * 0.033
    assert percentile_ns({}, 95) == 0
    assert percentile_ns({7: 3}, 50) == 7
