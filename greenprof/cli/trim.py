"""Takes greenprof's own frames, which stand above the program's first, out of a profile."""

from __future__ import annotations

import sys
from types import CodeType

from greenprof.profiles import Profile, ProfileBuilder

__all__ = ["without_frames_above"]


def without_frames_above(profile: Profile, starter: CodeType) -> Profile:
    """Returns the profile with each stack beginning below `starter`, the function that runs the program.

    Stacks that do not go through it stay as they are, and so do those that end in it: a program's
    threads have no starter, and what greenprof itself does is not the program's.
    """
    identity = (starter.co_qualname, starter.co_filename)
    starters = {
        index for index, frame in enumerate(profile.frames) if (frame.name, frame.path) == identity
    }
    builder = ProfileBuilder(max_nodes=sys.maxsize, max_groups=sys.maxsize)
    for group in profile.groups:
        builder.count_tasks(builder.group(group.name, group.kind), group.count)
    kept: set[int] = set()
    for sample in profile.samples:
        node = sample.stack
        while node >= 0 and node not in kept:
            kept.add(node)
            node = profile.nodes[node][0]
            if node >= 0 and profile.nodes[node][1] in starters:
                break
    renumbered = {-1: -1}
    for node in sorted(kept):
        parent, frame = profile.nodes[node]
        above = -1 if parent >= 0 and profile.nodes[parent][1] in starters else renumbered[parent]
        renumbered[node] = builder.node(above, builder.frame(profile.frames[frame]))
    for sample in profile.samples:
        builder.add(
            sample.group,
            builder.thread(profile.threads[sample.thread]),
            renumbered[sample.stack],
            sample.state,
            sample.count,
            sample.wall_ns,
            sample.cpu_ns,
        )
    return builder.build(profile.info)
