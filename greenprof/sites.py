"""Where tasks wait: for each wait the line that its owner can change, and what it awaits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, Sample, State

__all__ = [
    "WAITS",
    "AwaitSite",
    "await_sites",
    "function_key",
    "origin_of",
    "sample_sites",
    "waited_ns",
]

UNKNOWN: Final = "?"
WAITS: Final = frozenset({State.AWAITING, State.READY})
"""The states of a task that is suspended."""


@dataclass(slots=True)
class AwaitSite:
    """A line that waited, and what for."""

    function: str
    path: str
    line: int
    module: str
    origin: FrameOrigin
    awaited: str
    """Qualified name of what was awaited, "?" if it is not known."""
    seen: int = 0
    """Observations."""
    # Less the CPU time that was used meanwhile.
    awaiting_ns: int = 0
    ready_ns: int = 0
    first_line: int = 0
    """Of the function."""

    @property
    def wait_ns(self) -> int:
        """All waiting, whether what was awaited had come or not."""
        return self.awaiting_ns + self.ready_ns


def function_key(frame: Frame) -> tuple[str, str, int]:
    """Return what a function is told by: its name, path and first line. Frames differ by line too."""
    return frame.name, frame.path, frame.first_line


def origin_of(frame: Frame) -> FrameOrigin:
    """Return whose code it is; what has no file is a note at a stack's end, such as "<Future>"."""
    return frame.origin if frame.path else FrameOrigin.LIBRARY


def waited_ns(sample: Sample) -> int:
    """Return a sample's wall time less the CPU time used meanwhile, which counts as CPU time."""
    return max(sample.wall_ns - sample.cpu_ns, 0)


def await_sites(profile: Profile) -> list[AwaitSite]:
    """Return where tasks waited, the longest wait first.

    The site of a wait that went through a bridge is the innermost line of the application above
    the bridge's last hand-over of an awaitable; without a bridge, the innermost line of the
    application. Where no line of the application takes part, it is the line just above.
    """
    return sample_sites(profile)[0]


def sample_sites(profile: Profile) -> tuple[list[AwaitSite], list[int]]:
    """Return the await sites, and for each sample the index of its site (-1: no wait)."""
    sites: dict[tuple[str, str, int, int, str], AwaitSite] = {}
    by_stack: dict[int, AwaitSite] = {}
    of_sample: list[AwaitSite | None] = []
    for sample in profile.samples:
        if sample.state not in WAITS:
            of_sample.append(None)
            continue
        site = by_stack.get(sample.stack)
        if site is None:
            frame, awaited = _await_site(profile.stack(sample.stack))
            key = (*function_key(frame), frame.line, awaited)
            site = sites.get(key)
            if site is None:
                site = sites[key] = AwaitSite(
                    frame.name,
                    frame.path,
                    frame.line,
                    frame.module,
                    frame.origin,
                    awaited,
                    first_line=frame.first_line,
                )
            by_stack[sample.stack] = site
        of_sample.append(site)
        site.seen += sample.count
        if sample.state is State.AWAITING:
            site.awaiting_ns += waited_ns(sample)
        else:
            site.ready_ns += waited_ns(sample)
    ordered = sorted(sites.values(), key=lambda site: (-site.wait_ns, site.path, site.line))
    index = {id(site): number for number, site in enumerate(ordered)}
    return ordered, [-1 if site is None else index[id(site)] for site in of_sample]


def _await_site(stack: tuple[Frame, ...]) -> tuple[Frame, str]:
    if not stack:
        return Frame("[no stack]", "", origin=FrameOrigin.LIBRARY), UNKNOWN
    handover = _last_handover(stack)
    if handover is not None:
        start, end = handover
        above = stack[:start]
        awaited = stack[min(end, len(stack) - 1)].qualified_name
        site = _innermost_app(above)
        if site is None:
            outside = [frame for frame in above if frame.kind is not FrameKind.BOUNDARY]
            return (outside or stack[:1])[-1], awaited
        return stack[site], awaited
    site = _innermost_app(stack)
    if site is None:
        site = max(len(stack) - 2, 0)
    below = stack[site + 1 : site + 2]
    return stack[site], below[0].qualified_name if below else UNKNOWN


def _innermost_app(frames: Iterable[Frame]) -> int | None:
    found = None
    for index, frame in enumerate(frames):
        bridge = frame.kind is FrameKind.BOUNDARY
        if frame.origin is FrameOrigin.APP and frame.path and not bridge:
            found = index
    return found


def _last_handover(stack: tuple[Frame, ...]) -> tuple[int, int] | None:
    """Find the last run of bridge frames that hands over an awaitable: (start, end) in the stack.

    A run that starts a greenlet has plain frames below it; it is not one.
    """
    end = len(stack)
    while end > 0:
        if stack[end - 1].kind is not FrameKind.BOUNDARY:
            end -= 1
            continue
        start = end
        while start > 0 and stack[start - 1].kind is FrameKind.BOUNDARY:
            start -= 1
        if end == len(stack) or stack[end].kind is FrameKind.AWAITED:
            return start, end
        end = start
    return None
