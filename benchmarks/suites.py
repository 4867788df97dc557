"""Runs other people's test suites with and without greenprof: the same tests have to pass.

python -m benchmarks.suites                              greenlet's, greenback's, SQLAlchemy's, gevent's
python -m benchmarks.suites --quick                      a small part
python -m benchmarks.suites --mode "1000 Hz"             one mode; may be repeated
python -m benchmarks.suites --into docs/benchmarks.md    and put the table there

Exits with 1 where a test that ends well without greenprof does not with it, and names it. The
modes, and what may differ for what reason, are in tests/other_suites.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import machine, put_into
from tests import other_suites
from tests.other_suites import Suite
from tests.postgres import running_postgres

# Modules of gevent's suite that need no network and take seconds. Each is a process of its own.
GEVENT = (
    *("test___monitor", "test__contextvars", "test__event", "test__greenlet", "test__hub"),
    *("test__local", "test__monkey_select", "test__pool", "test__queue", "test__select"),
    *("test__semaphore", "test__signal", "test__socket", "test__subprocess", "test__threading_2"),
    *("test__threadpool", "test__timeout"),
)
QUICK_GEVENT = ("test__event", "test__queue")
QUICK_SQLALCHEMY = ("test_results", "test_rowcount")

Row = tuple[str, Counter[str], dict[str, dict[str, str]]]


def suites(*, quick: bool) -> Iterator[tuple[str, list[Suite]]]:
    """Names of rows, and the suites that a row sums up."""
    yield "greenlet", [other_suites.greenlets(whole=not quick)]
    yield "greenback", [other_suites.greenbacks()]
    modules = QUICK_SQLALCHEMY if quick else ()
    yield (
        "SQLAlchemy's suite for dialects, aiosqlite",
        [other_suites.sqlalchemys("sqlite+aiosqlite:///suite.db", *modules)],
    )
    if not quick:
        for driver in ("asyncpg", "psycopg_async"):
            with running_postgres() as server:
                yield (
                    f"SQLAlchemy's suite for dialects, {driver}",
                    [other_suites.sqlalchemys(server.url(driver))],
                )
    names = QUICK_GEVENT if quick else GEVENT
    yield f"gevent, {len(names)} modules", [other_suites.gevents(name) for name in names]


def row(name: str, parts: Sequence[Suite], modes: Sequence[str]) -> Row:
    plain: Counter[str] = Counter()
    differing: dict[str, dict[str, str]] = {mode: {} for mode in modes}
    for number, suite in enumerate(parts):
        with tempfile.TemporaryDirectory(prefix="greenprof-suites-") as folder:
            found = other_suites.compared(suite, modes, Path(folder) / str(number))
        plain.update(found["plain"][0].values())
        for mode in modes:
            differing[mode].update(found[mode][1])
    return name, plain, differing


def table(rows: Sequence[Row], modes: Sequence[str]) -> list[str]:
    lines = [
        "| suite | tests that pass | skipped | fail here | "
        + " | ".join(f"differ at {mode}" if "Hz" in mode else f"differ: {mode}" for mode in modes)
        + " |",
        "|---|" + "---:|" * (3 + len(modes)),
    ]
    for name, plain, differing in rows:
        figures = [plain["passed"], plain["skipped"], plain["failed"]]
        figures += [len(differing[mode]) for mode in modes]
        lines.append(f"| {name} | " + " | ".join(map(str, figures)) + " |")
    return [*lines, "", f"Measured on {machine()}."]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small part")
    known = [mode for mode in other_suites.MODES if mode != "plain"]
    parser.add_argument("--mode", action="append", choices=known, help="only this one")
    parser.add_argument("--only", metavar="WORD", help="only suites with this in their name")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table into this page")
    arguments = parser.parse_args()
    modes = arguments.mode or (["everything"] if arguments.quick else known)
    rows = []
    for name, parts in suites(quick=arguments.quick):
        if arguments.only and arguments.only not in name:
            continue
        rows.append(row(name, parts, modes))
        _, plain, differing = rows[-1]
        if not plain["passed"]:
            print(f"{name}: no test of it passes here; is the test extra whole?", file=sys.stderr)
            return 1
        print(f"{name}: {dict(plain)}", flush=True)
        for mode, tests in differing.items():
            for test, outcome in tests.items():
                print(f"  {mode}: {test}: {outcome}", flush=True)
    lines = table(rows, modes)
    print("\n".join(lines))
    if arguments.into:
        put_into(arguments.into, "benchmarks.suites", ["", *lines])
    return int(any(tests for _, _, differing in rows for tests in differing.values()))


if __name__ == "__main__":
    sys.exit(main())
