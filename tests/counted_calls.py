"""Programs that count their own calls, and what the exact engine made of them."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from greenprof.frames import FrameTable
from greenprof.profiles import Frame, Profile, ProfileBuilder, ProfileInfo, Sample, State
from greenprof.samplers.exact import ExactEngine

MS = 1_000_000

#: What the program itself counted, by the name of the function.
counted: Counter[str] = Counter()
_files: set[str] = set()


def count() -> None:
    """Count a call of whoever calls this."""
    code = sys._getframe(1).f_code
    counted[code.co_name] += 1
    _files.add(code.co_filename)


def burn(milliseconds: float) -> None:
    """Use CPU time, by this thread's clock, which nobody else's load moves."""
    count()
    until = time.thread_time_ns() + milliseconds * MS
    while time.thread_time_ns() < until:
        pass


@dataclass(frozen=True)
class Counted:
    """A profile of the exact engine, looked at by functions' names."""

    profile: Profile
    engine: ExactEngine

    def names(self, sample: Sample) -> list[str]:
        return [frame.name.rpartition(".")[2] for frame in self.profile.stack(sample.stack)]

    def calls(self) -> Counter[str]:
        """The calls of functions in the files of those that count themselves."""
        found: Counter[str] = Counter()
        for sample in self.profile.samples:
            stack = self.profile.stack(sample.stack)
            if stack and stack[-1].path in _files and sample.count:
                found[self.names(sample)[-1]] += sample.count
        return found

    def total_ms(self, name: str, *, clock: str = "cpu") -> float:
        """A function's time with all that it called or waited for."""
        return sum(
            _ms(sample, clock)
            for sample in self.profile.samples
            if any(name == frame.name.rpartition(".")[2] for frame in self.own_frames(sample))
        )

    def own_frames(self, sample: Sample) -> list[Frame]:
        return [frame for frame in self.profile.stack(sample.stack) if frame.path in _files]

    def self_ms(self, name: str, *, clock: str = "cpu") -> float:
        return sum(
            _ms(sample, clock)
            for sample in self.profile.samples
            if self.names(sample)[-1:] == [name]
        )

    def paths(self, *wanted: str) -> set[tuple[str, ...]]:
        """The stacks that were called, of these functions alone; with `|` at greenlet boundaries."""
        found = set()
        for sample in self.profile.samples:
            path: list[str] = []
            crossed = False
            for frame in self.profile.stack(sample.stack):
                crossed = crossed or frame.crosses
                name = frame.name.rpartition(".")[2]
                if name in wanted and frame.path in _files:
                    path.extend(["|", name] if crossed else [name])
                    crossed = False
            if path and sample.count:
                found.add(tuple(path))
        return found

    def groups(self) -> dict[str, tuple[str, int]]:
        return {group.name: (group.kind, group.count) for group in self.profile.groups}

    def states(self) -> set[State]:
        return {sample.state for sample in self.profile.samples}


def _ms(sample: Sample, clock: str) -> float:
    return {"cpu": sample.cpu_ns, "wall": sample.wall_ns}[clock] / MS


def profile_of(engine: ExactEngine) -> Counted:
    builder = ProfileBuilder(max_nodes=400_000)
    engine.fill(builder, FrameTable(), 0)
    return Counted(builder.build(ProfileInfo(engine="exact")), engine)


@contextmanager
def counting(clock: str = "cpu", **options: Any) -> Iterator[Callable[[], Counted]]:
    """Count the calls of a block; what it gives returns the profile so far, or in the end."""
    counted.clear()
    _files.clear()
    engine = ExactEngine(clock, **options)
    # A collection of all that the tests have made so far would be part of what it comes in.
    gc.collect()
    gc.freeze()
    try:
        engine.start()
        yield lambda: profile_of(engine)
    finally:
        engine.stop()
        gc.unfreeze()


def assert_counts_agree(found: Counted, names: Sequence[str] = ()) -> None:
    """Every function that counted itself was called as often as the engine says, no more, no less."""
    assert counted
    calls = found.calls()
    wrong = {name: (calls[name], times) for name, times in counted.items() if calls[name] != times}
    assert not wrong, f"calls of the engine, and the program's own: {wrong}"
    assert set(names) <= set(counted), f"not called: {set(names) - set(counted)}"
