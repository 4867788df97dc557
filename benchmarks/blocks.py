"""Prints, as Markdown, what watching for loop blockers costs: `python -m benchmarks.blocks`.

Each program in turns with and without a watch, in one process of its own, so that whatever else the
machine does hits both alike. Takes about a minute; needs the test extra. With
`--into docs/loop-blockers.md` the table takes the place of the one between the file's two marks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import put_into
from greenprof.blocking import watch_blocks

ROUNDS = 15
LIMIT_S = 0.1
IDLE_S = 3.0


async def _steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _asyncio(count: int) -> None:
    asyncio.run(_steps(count))


def _uvloop(count: int) -> None:
    import uvloop

    uvloop.run(_steps(count))


def _sqlalchemy(count: int) -> None:
    from sqlalchemy.util import concurrency

    await_ = getattr(concurrency, "await_", None) or concurrency.await_only

    def sync() -> None:
        for _ in range(count):
            await_(asyncio.sleep(0))

    asyncio.run(concurrency.greenlet_spawn(sync))


def _gevent(count: int) -> None:
    import gevent

    def work() -> None:
        for _ in range(count):
            gevent.sleep(0)

    gevent.spawn(work).join()


def _eventlet(count: int) -> None:
    import eventlet

    def work() -> None:
        for _ in range(count):
            eventlet.sleep(0)

    eventlet.spawn(work).wait()


# What is measured, and how many of it a round makes.
PROGRAMS: dict[str, tuple[str, Callable[[int], None], int]] = {
    "asyncio": ("a task's step (`sleep(0)`), asyncio", _asyncio, 20_000),
    "uvloop": ("a task's step (`sleep(0)`), uvloop", _uvloop, 20_000),
    "sqlalchemy": ("an await over SQLAlchemy's bridge (`sleep(0)`)", _sqlalchemy, 10_000),
    "gevent": ("a greenlet's turn (`sleep(0)`), gevent", _gevent, 20_000),
    "eventlet": ("a greenlet's turn (`sleep(0)`), eventlet", _eventlet, 10_000),
}


def _seconds(program: Callable[[int], None], count: int) -> float:
    # Of the processor: the machine may have more to do.
    began = time.process_time()
    program(count)
    return (time.process_time() - began) / count


def measure(name: str) -> tuple[float, float]:
    """CPU seconds for one without and with a watch: medians of many rounds."""
    _, program, count = PROGRAMS[name]
    plain, watched = [], []
    program(count)
    for _ in range(ROUNDS):
        plain.append(_seconds(program, count))
        with watch_blocks(LIMIT_S):
            watched.append(_seconds(program, count))
    return statistics.median(plain), statistics.median(watched)


def idle(name: str) -> float:
    """CPU seconds that a second of a loop that waits costs with a watch, beyond those without."""
    runs = {"asyncio": asyncio.run}
    if name == "uvloop":
        import uvloop

        runs["uvloop"] = uvloop.run

    def used(watch: contextlib.AbstractContextManager[object]) -> float:
        with watch:
            began = time.process_time()
            runs[name](asyncio.sleep(IDLE_S))
            return time.process_time() - began

    return (used(watch_blocks(LIMIT_S)) - used(contextlib.nullcontext())) / IDLE_S


def _in_process(*arguments: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.blocks", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    values: list[float] = json.loads(found.stdout)
    return values


def table() -> str:
    lines = [
        f"Python {platform.python_version()}, {platform.system()}, {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| | alone | watched | more |",
        "|---|---:|---:|---:|",
    ]
    for name, (title, _, _) in PROGRAMS.items():
        plain, watched = _in_process("--only", name)
        more = (watched - plain) * 1e6
        lines.append(f"| {title} | {plain * 1e6:.2f} µs | {watched * 1e6:.2f} µs | {more:.2f} µs |")
    lines += [
        "",
        *(
            f"A loop of {name} that waits: {_in_process('--idle', name)[0]:.2%} of a processor."
            for name in ("asyncio", "uvloop")
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="a file with the two marks")
    parser.add_argument("--only", choices=PROGRAMS, help="one program, as JSON")
    parser.add_argument("--idle", choices=("asyncio", "uvloop"), help="one idle loop, as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only)))
    elif options.idle:
        print(json.dumps([idle(options.idle)]))
    elif options.into:
        put_into(options.into, "benchmarks.blocks", [table()])
    else:
        print(table())


if __name__ == "__main__":
    main()
