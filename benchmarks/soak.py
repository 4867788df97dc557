"""Prints, as Markdown, what becomes of a service after minutes of load: `python -m benchmarks.soak --minutes 3`.

examples/orders serves SQLite, or PostgreSQL, and its visitors (orders.load) use it from a process of their own, with
and without greenprof: sampling 100 times a second, loop blockers watched, and a span of every await sent to a
collector, rotel, where it is installed, else to a small receiver that counts. The memory of the service is read
every second. Orders that visitors place are taken out again: a growing shop is a growing report of its sales.
Takes twice the minutes, and some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.figures import machine, put_into
from benchmarks.programs.steady import cpu_s_of
from greenprof.profiles import Profile
from tests import collector
from tests.postgres import free_port, running_postgres

REPOSITORY = Path(__file__).parent.parent
ORDERS = REPOSITORY / "examples" / "orders"
START_LIMIT_S = 60.0
END_LIMIT_S = 120.0
WARM_UP = 1 / 3
"""The part of the time whose memory is no part of the slope."""
BLOCK_S = 10
MB = 2**20


@dataclass
class Soaked:
    """What one service did."""

    said: str = ""
    answered: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    memory: list[int] = field(default_factory=list)
    """In bytes, each second."""
    ended: int = 0
    stderr: str = ""

    @property
    def slope(self) -> tuple[float, float]:
        """MB an hour after the warm-up, and what it may be off by (95 %).

        A straight line through the means of ten seconds each: neighbouring seconds say the same twice.
        """
        later = self.memory[round(len(self.memory) * WARM_UP) :]
        size = BLOCK_S if len(later) >= 4 * BLOCK_S else 1
        means = [
            statistics.fmean(later[at : at + size]) for at in range(0, len(later) - size + 1, size)
        ]
        hours = [at * size / 3600 for at in range(len(means))]
        if len(means) < 3:
            return 0.0, float("inf")
        line = statistics.linear_regression(hours, means)
        off = sum(
            (mean - line.slope * hour - line.intercept) ** 2
            for hour, mean in zip(hours, means, strict=True)
        )
        middle = statistics.fmean(hours)
        spread = sum((hour - middle) ** 2 for hour in hours)
        error = (off / (len(means) - 2) / spread) ** 0.5
        return line.slope / MB, 2.2 * error / MB


async def take_out_orders(url: str, until: asyncio.Event) -> None:
    """All but the latest that visitors placed, each second."""
    engine = create_async_engine(url)
    newest = await _newest(engine)
    first = newest + 1
    while not until.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), 1.0)
        # Some seconds' orders stay: a visitor may be looking at them.
        before = newest
        newest = await _newest(engine)
        async with engine.begin() as connection:
            for table, column in (("order_line", "order_id"), ("customer_order", "id")):
                statement = f"DELETE FROM {table} WHERE {column} >= :first AND {column} <= :last"
                await connection.execute(text(statement), {"first": first, "last": before - 50})
    await engine.dispose()


async def _newest(engine: Any) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(text("SELECT max(id) FROM customer_order")) or 0)


async def visited(
    service: subprocess.Popen[bytes], url: str, port: int, options: argparse.Namespace
) -> Soaked:
    """Lets visitors in, and reads the service's memory meanwhile."""
    soaked = Soaked()
    ended = asyncio.Event()
    cleaning = asyncio.create_task(take_out_orders(url, ended))
    started, cpu_s = time.monotonic(), cpu_s_of(service.pid)
    visitors = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orders.load", f"http://127.0.0.1:{port}"),
        *("--seconds", f"{options.minutes * 60:g}", "--visitors", str(options.visitors)),
        cwd=ORDERS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    saying = asyncio.create_task(visitors.communicate())
    while not saying.done():
        soaked.memory.append(resident(service.pid))
        await asyncio.wait([saying], timeout=1.0)
    said, _ = await saying
    soaked.seconds = time.monotonic() - started
    soaked.cpu_s = cpu_s_of(service.pid) - cpu_s
    ended.set()
    await cleaning
    soaked.said = said.decode().strip()
    counts = re.search(r"(\d+) requests in \S+ s, (\d+) failed", soaked.said)
    if counts is None:
        raise RuntimeError(f"the visitors gave up:\n{soaked.said[-2000:]}")
    soaked.answered, soaked.failed = int(counts[1]) - int(counts[2]), int(counts[2])
    return soaked


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def wait_until_it_serves(service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while "serving http" not in log.read_text(encoding="utf-8"):
        if service.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service did not start: {log.read_text(encoding='utf-8')}")
        time.sleep(0.05)


def soak(
    runner: Sequence[str], url: str, folder: Path, environment: dict[str, str], options: Any
) -> Soaked:
    """The service, run by `runner`, and its visitors."""
    port, log, errors = free_port(), folder / "log", folder / "errors"
    with log.open("wb") as stdout, errors.open("wb") as stderr:
        service = subprocess.Popen(
            [*runner, str(ORDERS / "main.py"), *("--serve", "--port", str(port))],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=folder,
            env={**os.environ, **environment, "ORDERS_DATABASE_URL": url},
        )
    try:
        wait_until_it_serves(service, log)
        soaked = asyncio.run(visited(service, url, port, options))
        service.send_signal(signal.SIGINT)
        soaked.ended = service.wait(END_LIMIT_S)
    finally:
        service.kill()
        service.wait()
    soaked.stderr = errors.read_text(encoding="utf-8", errors="replace")
    return soaked


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[tuple[dict[str, str], str, list[int]]]:
    """What to set in the environment, what receives, and, after the block, how many spans came."""
    counted: list[int] = []
    with (
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak_receiver"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        assert process.stdout is not None
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        name, protocol = "a receiver that counts", "grpc"
        if collector.available():
            behind: Any = SimpleNamespace(grpc_endpoint=endpoint)
            rotel = stack.enter_context(collector.running_collector(behind, folder))
            name, protocol, endpoint = "rotel", "http/protobuf", rotel.http_endpoint
        settings = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        }
        yield settings, name, counted
        time.sleep(2.0)  # what is on its way
        said, _ = process.communicate(timeout=20)
        counted.append(int(said))


def table(plain: Soaked, profiled: Soaked) -> Iterator[str]:
    yield "| | without | with greenprof |"
    yield "|---|--:|--:|"
    both = (plain, profiled)
    rows = {
        "requests answered": [f"{one.answered:,}" for one in both],
        "... in a second": [f"{one.answered / one.seconds:.1f}" for one in both],
        "requests failed, or without an answer": [f"{one.failed}" for one in both],
        "CPU of the service for a request, ms": [
            f"{one.cpu_s / one.answered * 1e3:.1f}" for one in both
        ],
        "growth after the first third, MB an hour": [
            f"{one.slope[0]:+.1f} ± {one.slope[1]:.1f}" for one in both
        ],
    }
    for minute in range(max(len(one.memory) for one in both) // 60 + 1):
        parts = [one.memory[minute * 60 : minute * 60 + 60] for one in both]
        if all(len(part) > 5 for part in parts):
            shown = [f"{statistics.fmean(part) / MB:.1f}" for part in parts]
            rows[f"memory in minute {minute + 1}, MB"] = shown
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells)} |"


def lines(options: argparse.Namespace) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        url = f"sqlite+aiosqlite:///{folder / 'orders.db'}"
        if options.postgres:
            url = stack.enter_context(running_postgres()).url("asyncpg")
        plain = soak([sys.executable], url, folder, {}, options)
        profile = folder / "profile.gprof"
        runner = [sys.executable, "-m", "greenprof", "run", "--force", "-o", str(profile)]
        runner += ["--block-limit", "100ms", "--otlp"]
        with receiving(folder) as (environment, receiver, counted):
            profiled = soak(runner, url, folder, environment, options)
        size, info = profile.stat().st_size, Profile.load(profile).info
    database = "PostgreSQL" if options.postgres else "SQLite"
    yield (
        f"{machine()}; {database}, {options.visitors} visitors, {options.minutes:g} minutes each,"
        f" spans sent to {receiver}:"
    )
    yield ""
    yield from table(plain, profiled)
    yield ""
    yield (
        f"Spans that arrived: {counted[0]:,}. Looks: {info.ticks:,}, of which"
        f" {info.missed_ticks:,} missed; the profile takes {size / 1e3:,.0f} kB. What greenprof said:"
    )
    yield ""
    # The rest of standard error is Ctrl-C in the service, which ends it.
    for line in profiled.stderr.replace(f"{folder}/", "").splitlines():
        if line.startswith("greenprof:"):
            yield f"    {line}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of load, with and without each")
    parser.add_argument("--visitors", type=int, default=6)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL in the place of SQLite")
    parser.add_argument("--quick", action="store_true", help="15 seconds each, to see that it runs")
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round the table")
    options = parser.parse_args()
    if options.quick:
        options.minutes = 0.25
    written = list(lines(options))
    print("\n".join(written))
    if options.into is not None:
        put_into(options.into, "benchmarks.soak", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
