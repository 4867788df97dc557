"""Collapsed stacks, a line for each: for flamegraph.pl, inferno, speedscope and shell tools."""

from __future__ import annotations

from collections import defaultdict

from greenprof.analysis import weighted_stacks
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Frame, Profile

__all__ = ["EXPORTER", "render"]


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return lines of `name (path:line);...;name (path:line) microseconds`, sorted.

    The clocks combine so that nothing counts twice: code that ran weighs its CPU time. Under the
    wall clock, waiting weighs its wall time less the CPU time used meanwhile, and ends in a leaf of
    its own: `[await]` (suspended), `[ready]` (what it awaited is there, the loop is busy),
    `[blocked]` (a call that holds up the thread) or `[idle]`. Under the CPU clock it is left out;
    under the await clock only `[await]` and `[ready]` count.

    Tasks of all groups are added together. Whole microseconds: a stack with less is left out. A
    semicolon in a name becomes a comma; line ends and control characters become escapes.
    """
    labels = [_label(frame) for frame in profile.frames]
    weights: defaultdict[str, int] = defaultdict(int)
    for _, _, node, label, weight_ns in weighted_stacks(profile, clock=clock):
        levels = [labels[frame] for frame in profile.frame_ids(node)]
        if label:
            levels.append(label)
        weights[";".join(levels) or "[no stack]"] += weight_ns
    lines = [
        f"{line} {microseconds}\n"
        for line, weight_ns in sorted(weights.items())
        if (microseconds := round(weight_ns / 1000))
    ]
    return "".join(lines)


def _label(frame: Frame) -> str:
    where = f" ({frame.path}:{frame.line})" if frame.path else ""
    return printable(f"{frame.name}{where}").replace(";", ",")


EXPORTER = Exporter(
    name="collapsed",
    suffixes=(".collapsed",),
    binary=False,
    render=render,
    description="stack lines for flamegraph.pl, inferno, speedscope",
)
