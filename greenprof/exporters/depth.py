"""Stacks of deep recursion, made fit for formats that write each stack out from its root.

A function that calls itself 10,000 times has 10,000 stacks, of 5,000 levels on average: a profile
stores them as a tree, of 10,000 nodes; written out they are 50 million frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from greenprof.model import MAX_NUMBER
from greenprof.profiles import Frame, FrameOrigin, Profile, Sample, SpanSample

__all__ = ["MOST_FRAMES", "shallow"]

MOST_FRAMES: Final = 20_000_000
"""Of all stacks that are written out, together."""


def shallow(
    profile: Profile, size_of: Callable[[Frame], int] | None = None, most: int | None = None
) -> Profile:
    """Return the profile, or one whose deepest levels are left out, if its stacks are too long.

    Too long: written out once for each sample they are more than `most` (MOST_FRAMES), in frames or
    in what `size_of` says of each. Then as few levels as possible are left out, the deepest ones:
    what was seen there is added up below one frame, "[N and more levels below]", and a warning
    says so. Times and counts stay.
    """
    limit = MOST_FRAMES if most is None else most
    depths = _depths(profile)
    sizes = [1 if size_of is None else size_of(frame) for frame in profile.frames]
    ends = [sample.stack for sample in profile.samples if sample.stack >= 0]
    deepest = max(depths, default=0)
    if len(ends) * deepest * max(sizes, default=0) <= limit:
        return profile
    high = deepest
    if _written(profile, depths, sizes, ends, high) <= limit:
        return profile
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if _written(profile, depths, sizes, ends, middle) <= limit:
            low = middle
        else:
            high = middle
    return _cut(profile, depths, max(low, 1))


def _depths(profile: Profile) -> list[int]:
    """For each node the number of its levels; a parent stands before its children."""
    depths: list[int] = []
    for parent, _ in profile.nodes:
        depths.append(depths[parent] + 1 if parent >= 0 else 1)
    return depths


def _written(
    profile: Profile,
    depths: Sequence[int],
    sizes: Sequence[int],
    ends: Sequence[int],
    levels: int,
) -> int:
    """The size of all stacks, with no more than so many levels of each."""
    sums: list[int] = []
    for (parent, frame), depth in zip(profile.nodes, depths, strict=True):
        above = sums[parent] if parent >= 0 else 0
        sums.append(above + sizes[frame] if depth <= levels else above)
    return sum(sums[end] for end in ends)


def _cut(profile: Profile, depths: Sequence[int], levels: int) -> Profile:
    marker = Frame(f"[{levels:,} and more levels below]", "", origin=FrameOrigin.LIBRARY)
    frames = [*profile.frames, marker]
    nodes = list(profile.nodes)
    marks: dict[int, int] = {}
    kept: list[int] = []
    """For each node itself, or the marker below the last level above it that stays."""
    for node, ((parent, _), depth) in enumerate(zip(profile.nodes, depths, strict=True)):
        if depth <= levels:
            kept.append(node)
        elif depth > levels + 1:
            kept.append(kept[parent])
        else:
            mark = marks.get(parent)
            if mark is None:
                mark = marks[parent] = len(nodes)
                nodes.append((parent, len(frames) - 1))
            kept.append(mark)
    samples: dict[tuple[object, ...], Sample] = {}
    numbers: dict[tuple[object, ...], int] = {}
    places: list[int] = []
    for sample in profile.samples:
        stack = kept[sample.stack] if sample.stack >= 0 else -1
        key = (sample.group, sample.thread, stack, sample.state)
        places.append(numbers.setdefault(key, len(numbers)))
        found = samples.get(key)
        if found is None:
            samples[key] = dataclasses.replace(sample, stack=stack)
        else:
            found.count = min(found.count + sample.count, MAX_NUMBER)
            found.wall_ns = min(found.wall_ns + sample.wall_ns, MAX_NUMBER)
            found.cpu_ns = min(found.cpu_ns + sample.cpu_ns, MAX_NUMBER)
    parts: dict[tuple[int, int], SpanSample] = {}
    for part in profile.span_samples:
        place = part.span, places[part.sample]
        one = parts.get(place)
        if one is None:
            parts[place] = dataclasses.replace(part, sample=place[1])
        else:
            one.count = min(one.count + part.count, MAX_NUMBER)
            one.wall_ns = min(one.wall_ns + part.wall_ns, MAX_NUMBER)
            one.cpu_ns = min(one.cpu_ns + part.cpu_ns, MAX_NUMBER)
    warning = (
        f"stacks are shown {levels:,} levels deep: with all of theirs they would be too long "
        "for this format"
    )
    return dataclasses.replace(
        profile,
        info=dataclasses.replace(profile.info, warnings=[*profile.info.warnings, warning]),
        frames=frames,
        nodes=nodes,
        samples=list(samples.values()),
        span_samples=list(parts.values()),
    )
