"""Prints, as Markdown, how much of what a program did each profiler puts under the right route.

`python -m benchmarks.attribution`: every program of PROGRAMS, which knows its own truth (tests/programs/truth.py),
runs under every profiler of benchmarks.peers that is installed. Needs the extras test and bench; takes about
(seconds + 2) x 13 x programs. With `--into docs/benchmarks.md` the table takes the place of the one there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import machine, put_into
from benchmarks.peers import PEERS, Peer, Stack
from tests.accuracy import Work, load_truth
from tests.postgres import running_postgres
from tests.running import PROGRAMS as FOLDER

PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain functions": ("plain_routes", ("--url", "psycopg")),
    "SQLAlchemy asyncio": ("sqlalchemy_routes", ("--url", "asyncpg")),
    "greenback": ("greenback_routes", ()),
    "gevent": ("gevent_routes", ()),
    "asyncio and threads": ("executor_threads", ()),
}
# Never better in any row: they know fewer callers, look more seldom, or break calls off where they await. They
# are for benchmarks.overhead.
NOT_BEST = ("yappi, CPU clock", "yappi, wall clock", "ddtrace", "viztracer --log_async")
DRIVERS = ("asyncpg", "psycopg")
LIMIT_S = 60.0


class Score(NamedTuple):
    """Of a kind of work, as shares of its truth; what is in neither was not seen at all."""

    right: float
    elsewhere: float
    """Seen in the work's function, but under another route, or under none."""


class Seen(NamedTuple):
    """Of a kind of work, in seconds."""

    truth_s: float
    seen_s: float
    right_s: float

    @property
    def score(self) -> Score:
        # A clock of wall time counts more for CPU work than its CPU: what is seen is the whole then.
        whole_s = max(self.truth_s, self.seen_s)
        return Score(self.right_s / whole_s, (self.seen_s - self.right_s) / whole_s)


def is_right(work: Work, routed: Sequence[str]) -> bool:
    """Whether the names on a stack that carry a route are this route's, from its endpoint to the work.

    A name may stand there twice, or another of the same route between them: profilers differ in how they
    show coroutines.
    """
    rest = iter(routed)
    in_order = all(name in rest for name in (*work.chain, work.function))
    return in_order and all(name.endswith(f"_{work.route}") for name in routed)


def judged(works: Iterable[Work], stacks: Iterable[Stack]) -> dict[str, Seen]:
    """By kind of work: how much of it there was, and how much of it these stacks hold."""
    works = [work for work in works if work.chain]  # without a chain it is a route's whole life
    routed = {name for work in works for name in (*work.chain, work.function)}
    by_function = {work.function: work for work in works}
    truths = dict.fromkeys((work.kind for work in works), 0)
    for work in works:
        truths[work.kind] += work.total_ns
    found = {kind: Seen(total_ns / 1e9, 0.0, 0.0) for kind, total_ns in truths.items()}
    for names, seconds in stacks:
        on_stack = [name for name in names if name in routed]
        innermost = next((name for name in reversed(on_stack) if name in by_function), None)
        if innermost is None:
            continue
        work = by_function[innermost]
        truth_s, seen_s, right_s = found[work.kind]
        right_s += seconds if is_right(work, on_stack) else 0.0
        found[work.kind] = Seen(truth_s, seen_s + seconds, right_s)
    return found


def run(
    peer: Peer, program: str, given: Sequence[str], options: argparse.Namespace
) -> dict[str, Score]:
    """The program under the profiler, in a process of its own. Raises RuntimeError where either fails."""
    with tempfile.TemporaryDirectory(prefix="attribution-") as name:
        truth, output = Path(name) / "truth.json", Path(name) / "profile"
        arguments = ["--seconds", f"{options.seconds:g}", "--truth", str(truth), *given]
        command = peer.command([str(FOLDER / f"{program}.py"), *arguments], output, options.rate)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=name,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=LIMIT_S + options.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise RuntimeError("does not end") from None
        if not truth.exists():
            raise RuntimeError(f"ended with {process.returncode}: {said.strip()[-500:]}")
        works = load_truth(truth)
        scores: dict[str, Score] = {}
        for clock in peer.clocks:
            found = judged(works, peer.stacks(output, clock))
            scores = better({kind: seen.score for kind, seen in found.items()}, scores)
        return scores


def better(one: dict[str, Score], other: dict[str, Score]) -> dict[str, Score]:
    """The better of two settings', or clocks', scores for each kind of work."""
    return {kind: max(score, other.get(kind, score)) for kind, score in {**other, **one}.items()}


def cell(score: Score | None) -> str:
    if score is None:
        return "fails"
    right, elsewhere = (round(100 * share) for share in score)
    return f"{right} ({elsewhere})" if elsewhere else f"{right}"


def table(found: dict[str, dict[str, dict[str, Score]]], tools: Mapping[str, str]) -> Iterator[str]:
    """Lines of Markdown; `found` by program, tool and kind of work."""
    yield f"| program | work | {' | '.join(f'{tool} {version}' for tool, version in tools.items())} |"
    yield f"|---|---|{'--:|' * len(tools)}"
    for program, by_tool in found.items():
        kinds = list(dict.fromkeys(kind for scores in by_tool.values() for kind in scores))
        for kind in kinds:
            cells = (cell(by_tool.get(tool, {}).get(kind)) for tool in tools)
            yield f"| {program} | {kind} | {' | '.join(cells)} |"


def measured(options: argparse.Namespace) -> list[str]:
    peers = [
        peer
        for peer in PEERS.values()
        if options.only in peer.name and peer.name not in NOT_BEST and peer.version() is not None
    ]
    tools = {peer.tool: str(peer.version()) for peer in peers}
    found: dict[str, dict[str, dict[str, Score]]] = {}
    failures = []
    with running_postgres() as postgres:
        for title, (program, arguments) in PROGRAMS.items():
            if options.programs not in title:
                continue
            given = [postgres.url(part) if part in DRIVERS else part for part in arguments]
            by_tool = found[title] = {}
            for peer in peers:
                try:
                    scores = run(peer, program, given, options)
                except Exception as error:
                    failures.append(f"{peer.name} on {title}: {error}")
                    continue
                if options.each:
                    shown = {kind: cell(score) for kind, score in scores.items()}
                    print(f"{title}, {peer.name}: {json.dumps(shown)}", file=sys.stderr, flush=True)
                by_tool[peer.tool] = better(scores, by_tool.get(peer.tool, {}))
    heading = (
        f"{machine()}, {options.seconds:g} s a run, {options.rate:g} Hz where a rate can be set:"
    )
    return [heading, "", *table(found, tools), *(f"\n{failure}" for failure in failures)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rate", type=float, default=500.0, help="looks a second")
    parser.add_argument(
        "--quick", action="store_true", help="a second for each run, to see that it runs"
    )
    parser.add_argument("--only", default="", help="profilers whose name contains this")
    parser.add_argument("--programs", default="", help="programs whose title contains this")
    parser.add_argument(
        "--each", action="store_true", help="each setting's scores as well, as they come"
    )
    parser.add_argument("--into", type=Path, help="a Markdown file with the marks round its table")
    options = parser.parse_args()
    if options.quick:
        options.seconds = 1.0
    lines = measured(options)
    print("\n".join(lines))
    if options.into is not None:
        put_into(options.into, "benchmarks.attribution", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
