"""Collapsed stacks, a line for each: for flamegraph.pl, inferno, speedscope and shell tools."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from greenprof.analysis import weighted_stacks
from greenprof.exporters.depth import shallow
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Frame, Profile

__all__ = ["EXPORTER", "render"]

_MOST_LETTERS: Final = 512 << 20
# Of one level: a name of a megabyte would stand in each line anew.
_LONGEST: Final = 1_000


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return lines of `name (path:line);...;name (path:line) microseconds`, sorted.

    The clocks combine so that nothing counts twice: code that ran weighs its CPU time. Under the
    wall clock, waiting weighs its wall time less the CPU time used meanwhile, and ends in a leaf of
    its own: `[await]` (suspended), `[ready]` (what it awaited is there, the loop is busy),
    `[blocked]` (a call that holds up the thread) or `[idle]`. Under the CPU clock it is left out;
    under the await clock only `[await]` and `[ready]` count.

    Tasks of all groups are added together. Whole microseconds: a stack with less is left out. A
    semicolon in a name becomes a comma; line ends and control characters become escapes. Of very
    deep stacks the lowest levels are left out, see `depth.shallow`, and of a name what is over
    1,000 letters.
    """
    profile = shallow(profile, lambda frame: len(_label(frame)) + 1, _MOST_LETTERS)
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
    label = f"{frame.name}{where}"
    shown = printable(label[: _LONGEST + 1]).replace(";", ",")
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


EXPORTER = Exporter(
    name="collapsed",
    suffixes=(".collapsed",),
    binary=False,
    render=render,
    description="stack lines for flamegraph.pl, inferno, speedscope",
)
