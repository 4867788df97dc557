"""Fuzzes the reader of `.gprof` files by hand, guided by coverage: not part of the suite.

    pip install atheris
    python -m tests.fuzz_profile_file CORPUS -max_total_time=600

Without a folder for the corpus it starts with the profiles that the tests know. What it finds is a
file that ends in anything but a profile that all formats write, or one line; it is kept as
`crash-...`, and `python -m tests.fuzz_profile_file crash-...` runs it once more. Options are
libFuzzer's: `-max_total_time=SECONDS`, `-rss_limit_mb=2048`, `-timeout=20`.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 17
INSTRUMENTED = [
    f"greenprof.{name}" for name in ("columns", "event_columns", "profile_file", "profiles")
]


def main(arguments: Sequence[str]) -> None:
    """Runs until it finds something, or until it is stopped."""
    atheris = importlib.import_module("atheris")
    # Its hooks see what is imported below them, for the first time.
    with atheris.instrument_imports(include=INSTRUMENTED):
        files: Any = importlib.import_module("tests.hostile_files")

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """Changes what is inside of a file: its compression hides that from a mutator of bytes."""
        inside = files.decoded(data)
        if inside is None or seed % 8 == 0:
            return bytes(atheris.Mutate(data, min(len(data) + 32, most)))
        later = files.later_parts(data)
        if later and seed % 3 == 0:
            return (data[: len(data) - len(later)] + mutate(later, most, seed // 3))[:most]
        changed = bytes(atheris.Mutate(inside, min(len(inside) + 64, MOST_BYTES)))
        return bytes(files.sealed(changed) + later)[:most]

    def one(data: bytes) -> None:
        files.outcome(data)

    with contextlib.ExitStack() as stack:
        words = list(arguments)
        if all(word.startswith("-") for word in words):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for number, seed in enumerate(files.seeds()):
                (folder / f"seed-{number}").write_bytes(seed)
            words.append(str(folder))
        options = [sys.argv[0], f"-max_len={MOST_BYTES}", *words]
        atheris.Setup(options, one, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
