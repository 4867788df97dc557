"""Prints, as Markdown, what greenprof costs while it looks: `python -m benchmarks.switched`.

The programs of `benchmarks.overhead`, each in one process whose `greenprof.Profiler` is switched on and off in turns.
Two processes that run the same program differ by some percent, by where their memory lies; a process is no
other one than itself. Needs the test extra; takes about seven minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import machine, put_into
from benchmarks.overhead import FOLDER, PROGRAMS, Contestant, FailedError, fill
from tests.postgres import running_postgres

SETTINGS: dict[str, dict[str, Any] | None] = {
    "no profiler": None,
    "100 Hz": {"rate_hz": 100},
    "... without awaits": {"rate_hz": 100, "awaits": False},
    "1000 Hz": {"rate_hz": 1000},
}
SETTLE = 4
"""Slices after a switch that count for nothing: a program's switches are followed at first, until it is known."""


def under(given: dict[str, Any], program: Sequence[str], _output: Path) -> list[str]:
    return [sys.executable, str(FOLDER / "under_profiler.py"), json.dumps(given), *program]


def ratios(given: dict[str, Any] | None, program: str, url: str, options: Any) -> list[float]:
    """CPU time with to without, for each time that it was on. Raises FailedError."""
    with contextlib.closing(
        Contestant(partial(under, given or {}), program, url, options.seconds)
    ) as one:
        took_s = []
        for number in range(2 * options.times + 1):
            if number and given is not None:
                one.switch(number % 2 == 1)
            one.slices.clear()
            for _ in range(SETTLE + options.slices):
                one.work()
            took_s.append(statistics.median(each.cpu_s for each in one.slices[SETTLE:]))
        one.finish()
    # Those without are before and after.
    return [2 * took_s[at] / (took_s[at - 1] + took_s[at + 1]) for at in range(1, len(took_s), 2)]


def shown(found: Sequence[float]) -> str:
    """The median in percent, and the middle half."""
    low, middle, high = statistics.quantiles(((each - 1) * 100 for each in found), n=4)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def lines(options: argparse.Namespace) -> Iterator[str]:
    yield (
        f"{machine()}; {options.times} times on, of {options.slices} slices of {options.seconds:g} s; medians, and"
        " the middle half:"
    )
    yield ""
    yield f"| CPU time, percent more | {' | '.join(PROGRAMS[each] for each in options.programs)} |"
    yield f"|---|{'--:|' * len(options.programs)}"
    with running_postgres() as postgres:
        url = postgres.url("asyncpg")
        asyncio.run(fill(url))
        for name, given in SETTINGS.items():
            cells = []
            for program in options.programs:
                try:
                    cells.append(shown(ratios(given, program, url, options)))
                except FailedError as error:
                    print(f"{name}, {program}: {error}", file=sys.stderr)
                    cells.append("fails")
            yield f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=6, help="that it is on")
    parser.add_argument("--slices", type=int, default=6, help="that count, each time on and off")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each slice")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS])
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its table")
    options = parser.parse_args()
    if options.quick:
        options.times, options.slices, options.seconds = 2, 1, 0.1
    written = list(lines(options))
    print("\n".join(written))
    if options.into is not None:
        put_into(options.into, "benchmarks.switched", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
