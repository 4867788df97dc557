"""Prints, as Markdown, what profilers cost: `python -m benchmarks.overhead`.

Six programs (benchmarks/programs/) under greenprof in several settings, and under other profilers, each by its own
command line and in a process of its own. They take turns, round by round, forwards and backwards; a ratio is to the
run shortly before without any profiler. From within, a program measures the part of its life in which it
does the same again and again; what comes before and after is a table of its own.

Needs the test extra, which brings its own PostgreSQL; with the extra `bench` it shows the others. The first round takes some
seven minutes, later ones half of it: what makes a program twice as dear, or more, is not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import machine, put_into
from benchmarks.peers import PEERS
from benchmarks.programs.shop import Shop
from tests.postgres import running_postgres

FOLDER = Path(__file__).with_name("programs")
REPOSITORY = FOLDER.parent.parent
LIMIT_S = 45.0
PLAIN = "no profiler"
DEAR = 2.0
DEAR_ROUNDS = 1
NEIGHBOURS = 5
"""Runs under profilers after one without any, which they are set beside: a machine does not stay as it is."""

PROGRAMS = {
    "queries": "many small queries",
    "fastapi_service": "FastAPI service",
    "ping_pong": "greenlet ping-pong",
    "gevent_echo": "gevent server",
    "idle_tasks": "10,000 idle tasks",
    "parsing": "CPU alone",
}
SERVERS = ("fastapi_service", "gevent_echo")
"""Programs with clients: they have answers a second; what they took before and after has the clients in it."""
LEFT_OUT = frozenset(
    {
        "greenprof",
        "py-spy --idle",
        "ddtrace, fixed rate",
        "austin --sleepless",
        "viztracer --log_async",
    }
)
"""Settings of peers that are for attribution: builtins counted, waits shown."""
QUICK = ("greenprof, 100 Hz", "greenprof.trace(), from 5 ms", "cProfile")

Way = Callable[[Sequence[str], Path], list[str]]


def plainly(program: Sequence[str], _output: Path) -> list[str]:
    return [sys.executable, *program]


def by_greenprof(*options: str) -> Way:
    def command(program: Sequence[str], output: Path) -> list[str]:
        given = ["--quiet", "--force", "--format", "gprof", "-o", str(output), *options]
        return [sys.executable, "-m", "greenprof", "run", *given, *program]

    return command


def traced(shortest_ms: str, program: Sequence[str], _output: Path) -> list[str]:
    return [sys.executable, str(FOLDER / "under_trace.py"), shortest_ms, *program]


def ways() -> dict[str, Way]:
    """Greenprof's settings and the peers that are installed, by the name of their row."""
    watched = ("--awaits", "--block-limit", "100ms")
    found: dict[str, Way] = {
        PLAIN: plainly,
        "greenprof, 100 Hz": by_greenprof(),
        "... without awaits": by_greenprof("--no-awaits"),
        "... and all awaits": by_greenprof("--awaits"),
        "... and loop blockers": by_greenprof(*watched),
        "... and a timeline": by_greenprof(*watched, "--timeline", "all"),
        "greenprof, 1000 Hz": by_greenprof("--rate", "1000"),
        "greenprof.trace(), from 5 ms": partial(traced, "5"),
        "greenprof.trace(), every await": partial(traced, "0"),
        "greenprof, exact, CPU clock": by_greenprof("--engine", "exact", "--no-awaits"),
        "greenprof, exact, wall clock": by_greenprof(
            "--engine", "exact", "--exact-clock", "wall", "--no-awaits"
        ),
    }
    for peer in PEERS.values():
        version = peer.version()
        if version is None or peer.name in LEFT_OUT or "--builtins" in peer.name:
            continue
        shown = peer.name.replace(peer.tool, f"{peer.tool} {version}", 1)
        found[shown] = peer.command
    return found


class Run(NamedTuple):
    """What a program took under a profiler: for each unit of its work in steady state, and around that."""

    cpu_s: float
    wall_s: float
    around_cpu_s: float
    around_wall_s: float
    per_s: float
    p50_s: float
    p99_s: float


class FailedError(Exception):
    """A program did not do its work under a profiler."""


def run(way: Way, program: str, url: str, seconds: float) -> Run:
    """Raises FailedError where there is no result, or a wrong one."""
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        result = folder / "result.json"
        given = ["--seconds", f"{seconds:g}", "--url", url, "--result", str(result)]
        script = [str(FOLDER / f"{program}.py"), *given, "--above", str(os.getpid())]
        (folder / "out").mkdir()
        command = way(script, folder / "out" / "profile")
        started = time.monotonic()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment(),
                start_new_session=True,
            )
            limit = threading.Timer(LIMIT_S + 5 * seconds, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            timed_out = not limit.is_alive()
            limit.cancel()
        wall_s = time.monotonic() - started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a profiler left behind
        if timed_out:
            raise FailedError(f"takes more than {LIMIT_S + 5 * seconds:.0f} s")
        if not result.exists():
            said = (folder / "log").read_text(errors="replace").strip().splitlines()
            last = said[-1] if said else "it said nothing"
            raise FailedError(f"ends with {process.returncode}: {last[:200]}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if not found["units"] or found.get("failed"):
        raise FailedError(f"{found.get('failed', 0)} requests failed, {found['units']} answered")
    return Run(
        found["cpu_s"] / found["units"],
        found["wall_s"] / found["units"],
        usage.ru_utime + usage.ru_stime - found["cpu_s"],
        wall_s - found["wall_s"],
        found.get("per_s", 0.0),
        found.get("p50_s", 0.0),
        found.get("p99_s", 0.0),
    )


def environment() -> dict[str, str]:
    """Ours, with modules compiled once, as those are that pip installed."""
    kept = {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


class Cell:
    """A program under a profiler: its runs, each beside the plain one of the same round."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Run, Run]] = []
        self.failure = ""

    def is_worth_another(self, round_: int) -> bool:
        dear = len(self.pairs) >= DEAR_ROUNDS and self.median(lambda one: one.cpu_s) > DEAR
        return not self.failure and (round_ < DEAR_ROUNDS or not dear)

    def ratios(self, figure: Callable[[Run], float]) -> list[float]:
        return [figure(one) / figure(plain) for one, plain in self.pairs]

    def median(self, figure: Callable[[Run], float]) -> float:
        return statistics.median(self.ratios(figure))

    def ratio(self, figure: Callable[[Run], float]) -> str:
        """The median, and all there was."""
        if not self.pairs:
            return "fails"
        ratios = self.ratios(figure)
        digits = 2 if statistics.median(ratios) < 10 else 1
        shown = f"{statistics.median(ratios):.{digits}f}"
        if len(ratios) == 1:
            return shown
        return f"{shown} ({min(ratios):.{digits}f}-{max(ratios):.{digits}f})"


Found = dict[str, dict[str, Cell]]
"""By way and program."""


def measured(options: argparse.Namespace, url: str) -> Found:
    known = ways()
    found: Found = {
        way: {program: Cell() for program in options.programs}
        for way in known
        if way == PLAIN or (way.startswith(QUICK) if options.quick else options.only in way)
    }
    for round_ in range(options.rounds):
        for program in options.programs:
            plain: Run | None = None
            for way in turns(found, program, round_):
                cell = found[way][program]
                try:
                    one = run(known[way], program, url, options.seconds)
                except FailedError as error:
                    if way == PLAIN:
                        raise  # nothing to set the others beside
                    cell.failure = str(error)
                    one = None
                if one is not None:
                    plain = one if way == PLAIN or plain is None else plain
                    cell.pairs.append((one, plain))
                if options.each:
                    print(f"{round_} {program}, {way}: {cell.failure or one}", file=sys.stderr)
    return found


def turns(found: Found, program: str, round_: int) -> Iterator[str]:
    """Who runs when in a round: forwards and backwards, and the plain program every few runs."""
    order = [way for way in found if way != PLAIN and found[way][program].is_worth_another(round_)]
    if round_ % 2:
        order.reverse()
    for at, way in enumerate(order):
        if at % NEIGHBOURS == 0:
            yield PLAIN
        yield way


def tables(found: Found, programs: Sequence[str]) -> Iterator[str]:
    titles = " | ".join(PROGRAMS[program] for program in programs)
    for title, figure in (
        ("CPU time", lambda one: one.cpu_s),
        ("wall time", lambda one: one.wall_s),
    ):
        yield f"| {title}, ratio | {titles} |"
        yield f"|---|{'--:|' * len(programs)}"
        for way, cells in found.items():
            shown = (
                base(cell, figure) if way == PLAIN else cell.ratio(figure)
                for cell in cells.values()
            )
            yield f"| {way} | {' | '.join(shown)} |"
        yield ""
    yield from answers(found, [program for program in programs if program in SERVERS])
    yield from around(found, [program for program in programs if program not in SERVERS])
    for way, cells in found.items():
        for program, cell in cells.items():
            if cell.failure:
                yield f"{way} on {PROGRAMS[program]}: {cell.failure}\n"


def base(cell: Cell, figure: Callable[[Run], float]) -> str:
    took_s = statistics.median(figure(one) for one, _ in cell.pairs)
    return f"{took_s * 1e3:.3g} ms"


def answers(found: Found, programs: Sequence[str]) -> Iterator[str]:
    """Requests a second, and how long they took."""
    if not programs:
        return
    titles = (f"{PROGRAMS[program]}: requests/s | p50, ms | p99, ms" for program in programs)
    yield f"| | {' | '.join(titles)} |"
    yield f"|---|{'--:|' * 3 * len(programs)}"
    for way, cells in found.items():
        shown = []
        for program in programs:
            runs = [one for one, _ in cells[program].pairs]
            if not runs:
                shown += ["fails", "", ""]
                continue
            shown.append(f"{statistics.median(one.per_s for one in runs):,.0f}")
            shown.append(f"{statistics.median(one.p50_s for one in runs) * 1e3:.2f}")
            shown.append(f"{statistics.median(one.p99_s for one in runs) * 1e3:.2f}")
        yield f"| {way} | {' | '.join(shown)} |"
    yield ""


def around(found: Found, programs: Sequence[str]) -> Iterator[str]:
    """What a profiler takes to start and to end, writing its file, more than the program without it."""
    if not programs:
        return
    yield "| start and end, more than without | CPU | wall |"
    yield "|---|--:|--:|"
    for way, cells in found.items():
        pairs = [pair for program in programs for pair in cells[program].pairs]
        if way == PLAIN or not pairs:
            continue
        cpu_s = statistics.median(one.around_cpu_s - plain.around_cpu_s for one, plain in pairs)
        wall_s = statistics.median(one.around_wall_s - plain.around_wall_s for one, plain in pairs)
        yield f"| {way} | {cpu_s:.2f} s | {wall_s:.2f} s |"
    yield ""


async def fill(url: str) -> None:
    shop = Shop(url)
    await shop.fill()
    await shop.close()


def lines(options: argparse.Namespace) -> Iterator[str]:
    with running_postgres() as postgres:
        url = postgres.url("asyncpg")
        asyncio.run(fill(url))
        found = measured(options, url)
    yield (
        f"{machine()}; {options.rounds} round{'s' * (options.rounds > 1)} of {options.seconds:g} s in steady state;"
        " medians, and the least and the most of all rounds:"
    )
    yield ""
    yield from tables(found, options.programs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="in steady state, of each run")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    parser.add_argument("--only", default="", help="profilers whose name contains this")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS])
    parser.add_argument("--each", action="store_true", help="each run as well, as they come")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its tables")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.2
    written = list(lines(options))
    print("\n".join(written))
    if options.into is not None:
        put_into(options.into, "benchmarks.overhead", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
