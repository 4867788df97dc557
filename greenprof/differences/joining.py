"""Two profiles as one tree of stacks, for pictures that have both."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from greenprof.differences.comparison import Comparison
from greenprof.profiles import Profile, TaskGroup

__all__ = ["Joined", "join"]


@dataclass(frozen=True, slots=True)
class Joined:
    """One profile for two: the frames, stacks, groups and threads of both, equal ones once."""

    profile: Profile
    """Its samples are those after, then those before. The groups' counts are of the tasks after."""
    split: int
    """How many samples are of the profile after."""
    tasks: list[int]
    """Tasks of each group before."""


def join(comparison: Comparison) -> Joined:
    """Return both profiles in one. What is no sample (awaits, spans, slices) is left out."""
    before, after = comparison.before, comparison.after
    frames = list(after.frames)
    frame_ids = {frame: index for index, frame in enumerate(frames)}
    nodes = list(after.nodes)
    node_ids = {node: index for index, node in enumerate(nodes)}
    groups = [(group.name, group.kind) for group in after.groups]
    group_ids = {group: index for index, group in enumerate(groups)}
    counts = [group.count for group in after.groups]
    threads = list(after.threads)
    thread_ids = {name: index for index, name in enumerate(threads)}

    of_frame = [frame_ids.setdefault(frame, len(frame_ids)) for frame in before.frames]
    frames += list(frame_ids)[len(frames) :]
    of_node: list[int] = []
    for parent, frame in before.nodes:
        key = (of_node[parent] if parent >= 0 else -1, of_frame[frame])
        of_node.append(node_ids.setdefault(key, len(node_ids)))
    nodes += list(node_ids)[len(nodes) :]
    of_group = [
        group_ids.setdefault((group.name, group.kind), len(group_ids)) for group in before.groups
    ]
    groups += list(group_ids)[len(groups) :]
    counts += [0] * (len(groups) - len(counts))
    of_thread = [thread_ids.setdefault(name, len(thread_ids)) for name in before.threads]
    threads += list(thread_ids)[len(threads) :]

    tasks = [0] * len(groups)
    for index, group in zip(of_group, before.groups, strict=True):
        tasks[index] += group.count
    moved = [
        dataclasses.replace(
            sample,
            group=of_group[sample.group],
            thread=of_thread[sample.thread],
            stack=of_node[sample.stack] if sample.stack >= 0 else -1,
        )
        for sample in before.samples
    ]
    profile = Profile(
        info=after.info,
        frames=frames,
        nodes=nodes,
        groups=[
            TaskGroup(name, kind, count) for (name, kind), count in zip(groups, counts, strict=True)
        ],
        threads=threads,
        samples=[*after.samples, *moved],
    )
    return Joined(profile, len(after.samples), tasks)
