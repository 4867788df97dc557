"""Prints, as Markdown, what each engine costs: `python -m benchmarks.engines`.

Three programs under each of greenprof's engines and under other profilers: CPU time of the process, as ratios to
the same program without any. Each pair has a process of its own, and they take turns, so that whatever else the machine does
hits all of them alike. Takes a few minutes; needs the test extra, which brings its own PostgreSQL, and shows
viztracer and pyinstrument where they are installed. With `--into docs/cost.md` the tables take the place of
those between the file's two marks.
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
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from benchmarks.engine_models import Shop
from benchmarks.engine_programs import PLAIN, PROGRAMS, WAYS, missing
from benchmarks.figures import put_into
from tests.postgres import running_postgres

TITLES = {"sqlalchemy": "SQLAlchemy, PostgreSQL", "gevent": "gevent", "cpu": "CPU alone"}
BESIDE = ("yappi", "viztracer", "pyinstrument")
TURN_LIMIT_S = 60


class Turn(NamedTuple):
    """What one turn of a program took."""

    cpu_ns: int
    calls: int | None


class Worker:
    """A program under a profiler, in a process of its own that does a turn when it is asked to."""

    def __init__(self, program: str, way: str, url: str) -> None:
        self.turns: list[Turn] = []
        self.failure = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine_programs", program, way, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def turn(self, *, counts: bool) -> None:
        """Do a turn, unless it has failed before."""
        if self.failure:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("turn\n")
            self._process.stdin.flush()
        answer = self._answer()
        if answer and counts:
            self.turns.append(Turn(**json.loads(answer)))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        limit = threading.Timer(TURN_LIMIT_S, self._process.kill)
        limit.start()
        try:
            answer = self._process.stdout.readline()
        finally:
            limit.cancel()
        if not answer:
            said = self._process.stderr.read().strip().splitlines() or ["it said nothing"]
            self.failure = f"ended with {self._process.wait()}: {said[-1]}"
        return answer

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=20)
        self._process.kill()
        self._process.wait()


def measured(rounds: int, only: str, programs: list[str], url: str) -> dict[str, dict[str, Worker]]:
    """Workers by program and way; every other round goes through them backwards."""
    ways = [way for way in WAYS if missing(way) is None and (way == PLAIN or only in way)]
    found: dict[str, dict[str, Worker]] = {}
    for program in programs:
        with contextlib.ExitStack() as stack:
            workers = found[program] = {}
            for way in ways:
                workers[way] = Worker(program, way, url)
                stack.callback(workers[way].close)
            for at in range(rounds + 1):
                # The first one warms up: caches of profilers, connections.
                for way in ways if at % 2 else reversed(ways):
                    workers[way].turn(counts=at > 0)
    return found


def tables(found: dict[str, dict[str, Worker]]) -> Iterator[str]:
    """Medians of ratios within the same rounds, which a busy machine leaves alone."""
    titles = " | ".join(TITLES[program] for program in found)
    yield f"| CPU time of a turn | {titles} |"
    yield f"|---|{'--:|' * len(found)}"
    ways = list(next(iter(found.values())))
    for way in ways:
        cells = [cost(workers[way], workers[PLAIN]) for workers in found.values()]
        yield f"| {way} | {' | '.join(cells)} |"
    yield ""
    yield f"| calls counted in a turn | {titles} |"
    yield f"|---|{'--:|' * len(found)}"
    for way in ways:
        counts = [calls(workers[way]) for workers in found.values()]
        if any(counts):
            yield f"| {way} | {' | '.join(counts)} |"
    for workers in found.values():
        for way, worker in workers.items():
            if worker.failure:
                yield f"\n{way} {worker.failure}"


def cost(worker: Worker, plain: Worker) -> str:
    if worker.failure:
        return "fails"
    if worker is plain:
        return f"{statistics.median(turn.cpu_ns for turn in plain.turns) / 1e6:.0f} ms"
    pairs = zip(worker.turns, plain.turns, strict=True)
    return f"{statistics.median(one.cpu_ns / base.cpu_ns for one, base in pairs):.2f}"


def calls(worker: Worker) -> str:
    counts = [turn.calls for turn in worker.turns if turn.calls is not None]
    return f"{statistics.median(counts):,.0f}" if counts else ""


def lines(rounds: int, only: str, programs: list[str]) -> Iterator[str]:
    with running_postgres() as postgres:
        url = postgres.url("asyncpg")
        shop = Shop(url)

        async def fill() -> None:
            await shop.fill()
            await shop.close()

        asyncio.run(fill())
        found = measured(rounds, only, programs, url)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    with_versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in BESIDE if missing_package(name) is None
    )
    yield f"CPython {platform.python_version()}, {with_versions}, medians of {rounds} rounds, {day}:\n"
    yield from tables(found)


def missing_package(name: str) -> str | None:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="profilers whose name contains this")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS])
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its tables")
    options = parser.parse_args()
    written = []
    for line in lines(options.rounds, options.only, options.programs):
        written.append(line)
        print(line, flush=True)
    if options.into is not None:
        put_into(options.into, "benchmarks.engines", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
