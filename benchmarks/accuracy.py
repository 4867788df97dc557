"""Prints, as Markdown, how near profiles come to the truth: `python -m benchmarks.accuracy --seconds 15`.

Runs the programs of tests/programs, which count what they burn and wait, under `greenprof run` at both
rates. Takes (seconds + 2) x rates x programs; needs the test extra, which brings its own PostgreSQL.
With `--into docs/accuracy.md` the table takes the place of the one between the file's two marks.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import put_into
from tests.accuracy import Row, by_kind, compare, run_profiled
from tests.postgres import running_postgres

PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SQLAlchemy asyncio, asyncpg": ("sqlalchemy_routes", ("--url", "asyncpg")),
    "SQLAlchemy asyncio, psycopg": ("sqlalchemy_routes", ("--url", "psycopg")),
    "greenback": ("greenback_routes", ()),
    "gevent": ("gevent_routes", ()),
    "gevent, patched": ("gevent_routes", ("--patched",)),
    "1 ms of CPU, a tiny socket write": ("socket_writes", ()),
    "calls that block the loop": ("executor_threads", ("--alone",)),
    "the same beside busy executor threads": ("executor_threads", ()),
    "a task that hogs the loop": ("loop_hog", ()),
}


def line(name: str, rate_hz: float, row: Row) -> str:
    return (
        f"| {name} | {row.kind} | {row.route} | {rate_hz:g} | {row.truth_ns / 1e9:.2f} s"
        f" | {row.seen_ns / 1e9:.2f} s | {row.ratio - 1:+.1%} | {row.right_share:.1%} |"
    )


def measured(rates: list[float], seconds: float, only: str, *, routes: bool) -> Iterator[str]:
    """The table, line by line as it is measured."""
    yield f"CPython {platform.python_version()}, {seconds:g} s a run, {datetime.now(UTC):%Y-%m-%d}:\n"
    yield "| program | work | route | Hz | truth | seen | off by | under the right route |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        for name, (program, arguments) in PROGRAMS.items():
            if only not in name:
                continue
            given = [
                postgres.url(part) if part in ("asyncpg", "psycopg") else part for part in arguments
            ]
            for rate_hz in rates:
                profile, works = run_profiled(
                    program, Path(folder), *given, rate_hz=rate_hz, seconds=seconds
                )
                rows = compare(profile, works)
                for row in [*by_kind(rows), *(rows if routes else [])]:
                    yield line(name, rate_hz, row)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 1000.0])
    parser.add_argument("--only", default="", help="programs whose name contains this")
    parser.add_argument("--routes", action="store_true", help="a line for each route as well")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its table")
    options = parser.parse_args()
    table = []
    for text in measured(options.rates, options.seconds, options.only, routes=options.routes):
        table.append(text)
        print(text, flush=True)
    if options.into is not None:
        put_into(options.into, "benchmarks.accuracy", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
