"""Records timelines of code in tests that notes itself when it did what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from greenprof._native import time
from greenprof.frames import FrameTable
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, Slice, SliceKind
from greenprof.samplers.awaits import AwaitAccount
from greenprof.samplers.timeline import Timeline

RUN, AWAIT, BLOCK = SliceKind.RUN, SliceKind.AWAIT, SliceKind.BLOCK
MS = 1_000_000


class Recorded:
    """A timeline; its times are those of `time.monotonic_ns`."""

    def __init__(self, account: AwaitAccount, timeline: Timeline) -> None:
        builder, table = ProfileBuilder(), FrameTable()
        account.fill(builder, table, 0)
        timeline.fill(builder, table, 0)
        self.profile: Profile = builder.build(ProfileInfo())

    def tracks(self) -> list[tuple[str, str, str]]:
        """Name, group and thread of each track."""
        profile = self.profile
        return [
            (track.name, profile.groups[track.group].name, profile.threads[track.thread])
            for track in profile.tracks
        ]

    def of(self, name: str, *kinds: SliceKind) -> list[Slice]:
        """The slices of the track of a name, of all kinds by default."""
        [track] = [n for n, track in enumerate(self.profile.tracks) if track.name == name]
        return [
            one
            for one in self.profile.slices
            if one.track == track and (not kinds or one.kind in kinds)
        ]

    def line_of(self, one: Slice) -> tuple[str, int]:
        """The function and the line that a slice's stack ends with, from the function's first."""
        frame = self.profile.stack(one.stack)[-1]
        return frame.name.rpartition("<locals>.")[2], frame.line - frame.first_line


class Recording:
    """While it records, and after."""

    def __init__(self, **options: Any) -> None:
        self.account = AwaitAccount()
        self.timeline = Timeline(self.account, **options)

    def result(self) -> Recorded:
        return Recorded(self.account, self.timeline)


@contextmanager
def recording(**options: Any) -> Iterator[Recording]:
    record = Recording(**options)
    record.timeline.start()
    record.account.start()
    try:
        yield record
    finally:
        record.account.stop()
        record.timeline.stop()


class Truth:
    """What a program noted of itself: from when to when it did what, in which task."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, int, int]] = []

    def burn(self, what: str, ns: int = MS) -> None:
        task = asyncio.current_task()
        start_ns = time.monotonic_ns()
        while time.monotonic_ns() - start_ns < ns:
            pass
        end_ns = time.monotonic_ns()
        self.noted.append((task.get_name() if task else "", what, start_ns, end_ns))


def around(slices: list[Slice], start_ns: int, end_ns: int) -> list[Slice]:
    """The slices that a stretch is within."""
    return [
        one
        for one in slices
        if one.start_ns <= start_ns and end_ns <= one.start_ns + one.duration_ns
    ]


def run(main: Callable[[], Coroutine[Any, Any, None]], **options: Any) -> Recorded:
    with recording(**options) as record:
        asyncio.run(main())
    return record.result()


def assert_nested(slices: list[Slice]) -> None:
    open_until: list[int] = []
    # An await and what ran for it may begin together; the await is the longer one, or as long.
    for one in sorted(slices, key=lambda one: (one.start_ns, -one.duration_ns, one.kind is RUN)):
        while open_until and open_until[-1] <= one.start_ns:
            open_until.pop()
        end_ns = one.start_ns + one.duration_ns
        assert not open_until or end_ns <= open_until[-1]
        open_until.append(end_ns)
