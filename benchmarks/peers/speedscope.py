"""The reader of speedscope's file format, which several profilers write: https://www.speedscope.app/file-format-schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.base import Stack

UNITS_S = {
    "seconds": 1.0,
    "milliseconds": 1e-3,
    "microseconds": 1e-6,
    "nanoseconds": 1e-9,
}


def stacks(path: Path) -> Iterator[Stack]:
    """The stacks of all profiles (threads, tasks) of a file that has samples, not events.

    Raises ValueError for profiles that count no time.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    names = [frame["name"] for frame in data["shared"]["frames"]]
    for profile in data["profiles"]:
        if profile["type"] != "sampled" or profile["unit"] not in UNITS_S:
            raise ValueError(f"{path}: a profile of {profile['type']} {profile['unit']}")
        unit_s = UNITS_S[profile["unit"]]
        for frames, weight in zip(profile["samples"], profile["weights"], strict=True):
            yield tuple(names[frame] for frame in frames), weight * unit_s
