"""Holds a profile against what the program knows about itself (tests/programs/truth.py)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from greenprof.profiles import Profile, Sample
from tests.running import PROGRAMS, run_greenprof

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Work:
    """One line of a program's truth: `function` did this, below the functions of `chain`."""

    kind: str
    route: str
    function: str
    chain: tuple[str, ...]
    clock: str
    calls: int
    total_ns: int


@dataclass(frozen=True)
class Row:
    """Truth and profile side by side, for a route's work, or for all routes' work of a kind."""

    kind: str
    route: str
    clock: str
    truth_ns: int
    seen_ns: int
    right_ns: int
    """What of `seen_ns` lies below the right functions, and below no other route's."""

    @property
    def ratio(self) -> float:
        return self.seen_ns / self.truth_ns

    @property
    def right_share(self) -> float:
        return self.right_ns / self.seen_ns if self.seen_ns else 0.0

    def sampling_error(self, rate_hz: float) -> float:
        """The relative standard error of looking at this much time at random moments."""
        return 1 / math.sqrt(self.truth_ns / 1e9 * rate_hz)


def load_truth(path: Path) -> list[Work]:
    lines = json.loads(path.read_text(encoding="utf-8"))["work"]
    return [Work(**{**line, "chain": tuple(line["chain"])}) for line in lines]


def weight_ns(sample: Sample, clock: str) -> int:
    if clock == "cpu":
        return sample.cpu_ns
    return sample.wall_ns if clock in ("wall", sample.state) else 0


def compare(profile: Profile, works: Iterable[Work]) -> list[Row]:
    """One row for each work.

    A sample is seen where the work's function is on its stack. It is right where the functions that carry
    a route's name are those of the chain, in their order, down to the work's function.
    """
    works = list(works)
    routed = {name for work in works for name in (*work.chain, work.function)}
    seen = dict.fromkeys(works, 0)
    right = dict.fromkeys(works, 0)
    for sample in profile.samples:
        names = tuple(frame.name for frame in profile.stack(sample.stack) if frame.name in routed)
        for work in works:
            if work.function not in names:
                continue
            weight = weight_ns(sample, work.clock)
            seen[work] += weight
            expected = (*work.chain, work.function)
            others = [name for name in names if not name.endswith(f"_{work.route}")]
            if names[: len(expected)] == expected and not others:
                right[work] += weight
    return [
        Row(work.kind, work.route, work.clock, work.total_ns, seen[work], right[work])
        for work in works
    ]


def by_kind(rows: Iterable[Row]) -> list[Row]:
    """The rows of all routes added up, one for each kind of work."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.kind, row.clock), []).append(row)
    return [
        Row(
            kind,
            "all",
            clock,
            sum(row.truth_ns for row in same),
            sum(row.seen_ns for row in same),
            sum(row.right_ns for row in same),
        )
        for (kind, clock), same in kinds.items()
    ]


def format_rows(rows: Iterable[Row]) -> str:
    """A table for a failing test's message."""
    return "\n".join(
        f"{row.kind:38} {row.route:8} {row.clock:9} truth {row.truth_ns / 1e6:9.1f} ms"
        f"  seen {row.seen_ns / 1e6:9.1f} ms = {row.ratio:6.1%}  right {row.right_share:6.1%}"
        for row in rows
    )


def run_profiled(
    program: str, folder: Path, *arguments: str, rate_hz: float, seconds: float
) -> tuple[Profile, list[Work]]:
    """Runs a program of tests/programs under `greenprof run`; returns the profile and the truth."""
    profile, truth = folder / f"{program}.gprof", folder / f"{program}.json"
    run_greenprof(
        *("run", "--quiet", "--force"),
        *("--rate", f"{rate_hz:g}"),
        "-o",
        profile,
        PROGRAMS / f"{program}.py",
        *("--seconds", str(seconds)),
        "--truth",
        truth,
        *arguments,
        limit_s=START_LIMIT_S + 3 * seconds,
    )
    return Profile.load(profile), load_truth(truth)
