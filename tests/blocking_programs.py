"""What the tests of loop blockers share: a watch, what it told of, and ways to keep a loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from greenprof.frames import FrameTable
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo
from greenprof.samplers.blocks import BlockInfo, Blocks

#: Long enough for a machine that has more to do than cores not to go over it by itself.
LIMIT_S = 0.1


def burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class Watched:
    """What a watch found: told of one by one, and in a profile."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.told: list[BlockInfo] = []
        self.observed: list[tuple[Any, int, int, int, int]] = []

    def profile(self) -> Profile:
        builder = ProfileBuilder()
        self.blocks.fill(builder, FrameTable(), 0)
        return builder.build(ProfileInfo())

    def of(self, function: str) -> list[BlockInfo]:
        """Those of one function."""
        return [one for one in self.told if one.function.rpartition(".")[2] == function]


@contextlib.contextmanager
def watching(limit_s: float = LIMIT_S, **options: Any) -> Iterator[Watched]:
    found: list[BlockInfo] = []
    blocks = Blocks(limit_s, found.append, **options)
    watched = Watched(blocks)
    watched.told = found
    blocks.observer = lambda *one: watched.observed.append(one)
    blocks.start()
    try:
        yield watched
    finally:
        blocks.stop()
