"""Prints, as Markdown, what profilers cost: `python -m benchmarks.overhead`.

Six programs (benchmarks/programs/) under greenprof in several settings, and under other profilers, each by its own
command line and in a process of its own, that takes turns, slice by slice, with a process that runs the same program
without any. From within, a program measures slices of the part of its life in which it does the same again and again; a
ratio is the median over slices, each to its neighbour. What comes before and after is a table of its own.

Needs the test extra, which brings its own PostgreSQL; with the extra `bench` it shows the others. Takes half an
hour; what makes a program twice as dear, or more, is not repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks.figures import machine, put_into
from benchmarks.peers import PEERS
from benchmarks.programs.shop import Shop
from benchmarks.programs.steady import ASK, END
from tests.postgres import running_postgres

FOLDER = Path(__file__).with_name("programs")
REPOSITORY = FOLDER.parent.parent
LIMIT_S = 45.0
PLAIN = "no profiler"
CONTROL = "no profiler, once more"
DEAR = 2.0
DEAR_SLICES_S = 15.0
"""When what takes so long is not asked for another slice."""

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
    """Greenprof's settings and the peers that are installed, by the name of their row; first, none at all."""
    watched = ("--awaits", "--block-limit", "100ms")
    found: dict[str, Way] = {
        CONTROL: plainly,
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


class Slice(NamedTuple):
    """What one unit of a program's work took in a slice of its time."""

    cpu_s: float
    wall_s: float


class Edges(NamedTuple):
    """What a program took before the first slice and after the last."""

    cpu_s: float
    wall_s: float


class Answers(NamedTuple):
    """What a server's clients got."""

    per_s: float
    p50_s: float
    p99_s: float


class FailedError(Exception):
    """A program did not do its work under a profiler."""


class Contestant:
    """A program under a profiler, from its start to its end; it works in the slices that it is asked for.

    Whatever it is asked raises FailedError where there is no result, or a wrong one.
    """

    def __init__(self, way: Way, program: str, url: str, seconds: float) -> None:
        self.slices: list[Slice] = []
        self.edges = Edges(0.0, 0.0)
        self.answers: Answers | None = None
        self._stack = contextlib.ExitStack()
        name = tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True)
        self._folder = Path(self._stack.enter_context(name))
        meeting = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        meeting.bind(str(self._folder / "meet"))
        meeting.listen()
        given = ["--seconds", f"{seconds:g}", "--url", url, "--meet", str(self._folder / "meet")]
        script = [str(FOLDER / f"{program}.py"), *given, "--above", str(os.getpid())]
        (self._folder / "out").mkdir()
        command = way(script, self._folder / "out" / "profile")
        started = time.monotonic()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=environment(),
                start_new_session=True,
            )
        self._stack.callback(self._kill)
        try:
            self._talk, self._said = self._met(meeting)
            self._cpu_s = self._listen()["cpu_s"]
        except BaseException:
            self._stack.close()
            raise
        self._wall_s = time.monotonic() - started

    def _met(self, meeting: socket.socket) -> tuple[socket.socket, IO[bytes]]:
        deadline = time.monotonic() + LIMIT_S
        meeting.settimeout(0.2)
        while True:
            try:
                talk, _ = meeting.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise FailedError(self._why()) from None
                if time.monotonic() > deadline:
                    raise FailedError(f"takes more than {LIMIT_S:.0f} s to start") from None
            else:
                self._stack.enter_context(talk)
                talk.settimeout(LIMIT_S)
                return talk, self._stack.enter_context(talk.makefile("rb"))

    def work(self) -> None:
        """One slice."""
        self._talk.sendall(ASK)
        found = self._listen()
        if not found["units"]:
            raise FailedError("nothing was done in a slice")
        self.slices.append(Slice(found["cpu_s"] / found["units"], found["wall_s"] / found["units"]))

    def finish(self) -> None:
        """Let it come to its end."""
        ending = time.monotonic()
        self._talk.sendall(END)
        cpu_s = self._listen()["cpu_s"]
        if asked := self._said.readline():
            found = json.loads(asked)
            if found["failed"]:
                raise FailedError(f"{found['failed']} requests failed")
            self.answers = Answers(found["per_s"], found["p50_s"], found["p99_s"])
        limit = threading.Timer(LIMIT_S, self._kill)
        limit.start()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        limit.cancel()
        if self._process.returncode:
            raise FailedError(self._why())
        self.edges = Edges(
            self._cpu_s + usage.ru_utime + usage.ru_stime - cpu_s,
            self._wall_s + time.monotonic() - ending,
        )

    def close(self) -> None:
        """End it, if it has not ended, with what a profiler left behind."""
        self._stack.close()

    def _listen(self) -> dict[str, Any]:
        try:
            line = self._said.readline()
        except TimeoutError:
            raise FailedError(f"takes more than {LIMIT_S:.0f} s for a slice") from None
        if not line:
            raise FailedError(self._why())
        found: dict[str, Any] = json.loads(line)
        return found

    def _why(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        said = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        return f"ends with {self._process.returncode}: {last[:200]}"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.returncode is None:
            self._process.wait()


class Pair(NamedTuple):
    """A program under a profiler, and without, that took turns, slice by slice."""

    profiled: Contestant
    plain: Contestant

    def ratio(self, of: str) -> float:
        """The median over slices, each beside the plain one next to it."""
        slices = zip(self.profiled.slices, self.plain.slices, strict=True)
        ratios = (getattr(one, of) / getattr(plain, of) for one, plain in slices)
        return float(statistics.median(ratios))


def compete(way: Way, program: str, url: str, options: argparse.Namespace) -> Pair:
    """Raises FailedError if the one under the profiler does."""
    with contextlib.ExitStack() as stack:
        plain = Contestant(plainly, program, url, options.seconds)
        stack.callback(plain.close)
        profiled = Contestant(way, program, url, options.seconds)
        stack.callback(profiled.close)
        deadline = time.monotonic() + DEAR_SLICES_S
        for number in range(options.slices):
            # Whoever is first in a slice is second in the next.
            for one in (plain, profiled) if number % 2 else (profiled, plain):
                one.work()
            if number and time.monotonic() > deadline:
                break
        profiled.finish()
        plain.finish()
    return Pair(profiled, plain)


def environment() -> dict[str, str]:
    """Ours, with modules compiled once, as those are that pip installed."""
    kept = {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


class Cell:
    """A program under a profiler: its runs, each in turns with a plain one."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.failure = ""

    def is_worth_another(self) -> bool:
        dear = bool(self.pairs) and statistics.median(self.ratios("cpu_s")) > DEAR
        return not self.failure and not dear

    def ratios(self, of: str) -> list[float]:
        return [pair.ratio(of) for pair in self.pairs]

    def shown(self, of: str) -> str:
        """The median, and all there was."""
        if not self.pairs:
            return "fails"
        ratios = self.ratios(of)
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
        if (way.startswith(QUICK) if options.quick else options.only in way)
    }
    for round_ in range(options.rounds):
        for program in options.programs:
            for way in found if round_ % 2 == 0 else reversed(found):
                cell = found[way][program]
                if not cell.is_worth_another():
                    continue
                try:
                    cell.pairs.append(compete(known[way], program, url, options))
                except FailedError as error:
                    cell.failure = str(error)
                if options.each:
                    said = cell.failure or f"{cell.ratios('cpu_s')[-1]:.3f}"
                    print(f"{round_} {program}, {way}: {said}", file=sys.stderr)
    return found


def tables(found: Found, programs: Sequence[str]) -> Iterator[str]:
    titles = " | ".join(PROGRAMS[program] for program in programs)
    plain = {
        program: [pair.plain for cells in found.values() for pair in cells[program].pairs]
        for program in programs
    }
    for title, of in (("CPU time", "cpu_s"), ("wall time", "wall_s")):
        yield f"| {title}, ratio | {titles} |"
        yield f"|---|{'--:|' * len(programs)}"
        yield f"| {PLAIN} | {' | '.join(unit(plain[program], of) for program in programs)} |"
        for way, cells in found.items():
            yield f"| {way} | {' | '.join(cell.shown(of) for cell in cells.values())} |"
        yield ""
    yield from answers(found, plain, [program for program in programs if program in SERVERS])
    yield from around(found, [program for program in programs if program not in SERVERS])
    for way, cells in found.items():
        for program, cell in cells.items():
            if cell.failure:
                yield f"{way} on {PROGRAMS[program]}: {cell.failure}\n"


def unit(plain: Sequence[Contestant], of: str) -> str:
    if not plain:
        return ""
    took_s = statistics.median(getattr(one, of) for each in plain for one in each.slices)
    return f"{took_s * 1e3:.3g} ms"


def answers(
    found: Found, plain: dict[str, list[Contestant]], programs: Sequence[str]
) -> Iterator[str]:
    """Requests a second, and how long they took."""
    if not programs:
        return
    titles = (f"{PROGRAMS[program]}: requests/s | p50, ms | p99, ms" for program in programs)
    yield f"| | {' | '.join(titles)} |"
    yield f"|---|{'--:|' * 3 * len(programs)}"
    profiled = {
        way: {program: [pair.profiled for pair in cells[program].pairs] for program in programs}
        for way, cells in found.items()
    }
    for way, servers in {PLAIN: plain, **profiled}.items():
        shown = []
        for program in programs:
            runs = [one.answers for one in servers[program] if one.answers is not None]
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
        edges = [
            (pair.profiled.edges, pair.plain.edges)
            for program in programs
            for pair in cells[program].pairs
        ]
        if not edges:
            continue
        cpu_s = statistics.median(one.cpu_s - plain.cpu_s for one, plain in edges)
        wall_s = statistics.median(one.wall_s - plain.wall_s for one, plain in edges)
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
        f"{machine()}; {options.rounds} round{'s' * (options.rounds > 1)} of {options.slices} slices of"
        f" {options.seconds:g} s; medians, and the least and the most of all rounds:"
    )
    yield ""
    yield from tables(found, options.programs)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    parser.add_argument("--slices", type=int, default=6, help="of each process")
    parser.add_argument("--seconds", type=float, default=0.25, help="of each slice")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    parser.add_argument("--only", default="", help="profilers whose name contains this")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS])
    parser.add_argument("--each", action="store_true", help="each run as well, as they come")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its tables")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.slices, options.seconds = 1, 2, 0.1
    written = list(lines(options))
    print("\n".join(written))
    if options.into is not None:
        put_into(options.into, "benchmarks.overhead", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
