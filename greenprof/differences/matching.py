"""What of one profile is the same thing in another, although lines and folders have moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from greenprof.analysis import is_exact
from greenprof.profiles import AwaitStats, Frame, Profile, Sample

__all__ = ["SCALES", "aligned", "paired_lines", "scale_factors", "scaled"]

SCALES = ("none", "duration", "tasks")
"""What the times before can be scaled to: nothing, the duration after, the number of tasks after."""

# Beyond so many pairs of lines, only their order tells.
_MOST_PAIRS = 10_000


def aligned(before: Profile, after: Profile) -> Profile:
    """Return `before` with its functions under the paths and first lines that they have in `after`.

    Functions are the same by module and qualified name; of several with the same name in one module
    (lambdas, redefinitions), as `paired_lines` pairs their first lines. What `after` does not have
    keeps its own path and line.
    """
    there = _functions(after.frames)
    found: dict[tuple[str, str, int], tuple[str, int]] = {}
    for name, own in _functions(before.frames).items():
        other = there.get(name, {})
        for first_line, other_line in paired_lines(own, other).items():
            found[(*name, first_line)] = other[other_line], other_line
    frames = []
    for frame in before.frames:
        path, first_line = found.get(
            (*_name(frame), frame.first_line), (frame.path, frame.first_line)
        )
        frames.append(dataclasses.replace(frame, path=path, first_line=first_line))
    return dataclasses.replace(before, frames=frames)


def paired_lines(before: Iterable[int], after: Iterable[int]) -> dict[int, int]:
    """Return line -> line for those that are most likely the same, in the same order.

    As many lines on both sides are the same ones, in their order. Otherwise lines that moved by as
    much belong together: the distance that makes most of them meet (the shortest one of several),
    and so on for the lines between those.
    """
    pairs: dict[int, int] = {}
    todo = [(sorted(set(before)), sorted(set(after)))]
    while todo:
        old, new = todo.pop()
        if len(old) == len(new) or len(old) * len(new) > _MOST_PAIRS:
            pairs.update(zip(old, new, strict=False))
        elif old and new:
            shift = _best_shift(old, new)
            lines = set(new)
            start = other = 0
            for place, line in enumerate(old):
                if line + shift in lines:
                    pairs[line] = line + shift
                    met = new.index(line + shift, other)
                    todo.append((old[start:place], new[other:met]))
                    start, other = place + 1, met + 1
            todo.append((old[start:], new[other:]))
    return pairs


def _best_shift(old: Sequence[int], new: Sequence[int]) -> int:
    counts: dict[int, int] = {}
    for line in old:
        for other in new:
            counts[other - line] = counts.get(other - line, 0) + 1
    return max(counts, key=lambda shift: (counts[shift], -abs(shift), shift))


def _name(frame: Frame) -> tuple[str, str]:
    # A script that is run has a module of its own, "__main__", whatever its file is called.
    return frame.module or frame.path, frame.name


def _functions(frames: Iterable[Frame]) -> dict[tuple[str, str], dict[int, str]]:
    """First lines of the functions of each name, with their paths."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for frame in frames:
        found.setdefault(_name(frame), {}).setdefault(frame.first_line, frame.path)
    return found


def scale_factors(before: Profile, after: Profile, scale: str) -> tuple[float, list[float]]:
    """Return what times before are multiplied by: those of the whole, and of each task group.

    "tasks" makes each group's as if it had had as many tasks as after; a group that only one of
    the profiles has stays as it is, and threads go by all tasks together.
    """
    if scale == "duration" and before.info.duration_ns and after.info.duration_ns:
        factor = after.info.duration_ns / before.info.duration_ns
        return factor, [factor] * len(before.groups)
    if scale != "tasks":
        return 1.0, [1.0] * len(before.groups)
    counts = {
        (group.name, group.kind): group.count for group in after.groups if group.kind != "thread"
    }
    pairs = [(group.count, counts.get((group.name, group.kind), 0)) for group in before.groups]
    common = [pair for pair in pairs if all(pair)]
    all_before, all_after = sum(old for old, _ in common), sum(new for _, new in common)
    whole = all_after / all_before if common else 1.0
    factors = [
        whole if group.kind == "thread" else new / old if old and new else 1.0
        for group, (old, new) in zip(before.groups, pairs, strict=True)
    ]
    return whole, factors


def scaled(profile: Profile, whole: float, factors: Sequence[float]) -> Profile:
    """Return a profile with its times multiplied: by its group's factor what is of a task group.

    Calls and awaits are multiplied as well; observations are not, for they say how well a time is
    known.
    """
    if whole == 1 and all(factor == 1 for factor in factors):
        return profile
    exact = is_exact(profile)

    def sample(old: Sample) -> Sample:
        factor = factors[old.group]
        return dataclasses.replace(
            old,
            count=round(old.count * factor) if exact else old.count,
            wall_ns=round(old.wall_ns * factor),
            cpu_ns=round(old.cpu_ns * factor),
        )

    def stats(old: AwaitStats) -> AwaitStats:
        factor = factors[old.group]
        return dataclasses.replace(
            old, count=round(old.count * factor), total_ns=round(old.total_ns * factor)
        )

    return dataclasses.replace(
        profile,
        info=dataclasses.replace(
            profile.info, process_cpu_ns=round(profile.info.process_cpu_ns * whole)
        ),
        samples=[sample(old) for old in profile.samples],
        awaits=[stats(old) for old in profile.awaits],
    )
