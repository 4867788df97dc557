"""Prints, as Markdown, what more of everything costs: `python -m benchmarks.growth`.

Tasks, levels of a stack, distinct stacks, hours: CPU time of a tick, memory, size of the profile, each in a process of
its own (`benchmarks.growth_programs`). With `--picture docs/images/growth.svg` the curves are drawn as well, which
needs matplotlib, of the extra `bench`. Takes four minutes; needs the test extra.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import machine, put_into

KB, MB = 1_000, 1_000_000
Result = dict[str, Any]


class Series(NamedTuple):
    """A program of `benchmarks.growth_programs`, and what of it there is more and more of."""

    program: str
    name: str
    numbers: tuple[int, ...]
    quick: tuple[int, ...]


SERIES = (
    Series("tasks", "asyncio tasks", (10, 100, 1_000, 10_000, 100_000), (10, 1_000)),
    Series("greenlets", "gevent greenlets", (10, 100, 1_000, 10_000), (10, 1_000)),
    Series("recursion", "calls", (10, 50, 100, 200, 500), (10, 100)),
    Series("chains", "awaits, in 100 tasks", (10, 50, 100, 200, 500), (10, 100)),
    Series("stacks", "stacks", (10, 100, 1_000, 10_000, 30_000), (10, 1_000)),
    Series("hour", "the same functions", (60,), (1,)),
    Series("new-code", "new functions and names all the time", (30,), (1,)),
)
WINDOW_S, QUICK_WINDOW_S = 1.5, 0.5
LIMIT_S = 600


def measured(program: str, number: int, window_s: float) -> Result:
    """What a program says, run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.growth_programs",
        program,
        str(number),
        str(window_s),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    found: Result = json.loads(done.stdout)
    return found


def all_results(quick: bool, say: Callable[[str], None]) -> dict[str, dict[int, Result]]:
    """Measure everything, one after another."""
    found: dict[str, dict[int, Result]] = {}
    for series in SERIES:
        for number in series.quick if quick else series.numbers:
            say(f"{series.program} {number:,}")
            result = measured(series.program, number, QUICK_WINDOW_S if quick else WINDOW_S)
            found.setdefault(series.program, {})[number] = result
    return found


def lines(results: dict[str, dict[int, Result]]) -> Iterator[str]:
    """The figures, as Markdown."""
    yield f"{machine()}; 100 Hz:"
    yield ""
    yield from _table(results, ("tasks", "greenlets"), "tasks that wait")
    yield from _table(results, ("recursion", "chains"), "levels of a stack")
    yield from _stacks(results["stacks"])
    yield from _hours(results)


def _table(
    results: dict[str, dict[int, Result]], programs: tuple[str, ...], what: str
) -> Iterator[str]:
    names = {series.program: series.name for series in SERIES}
    columns = ("µs a tick", "memory", "profile")
    heads = [f"{names[program]}: {column}" for program in programs for column in columns]
    yield f"| {what} | {' | '.join(heads)} |"
    yield f"|--:|{'--:|' * len(heads)}"
    for number in results[programs[0]]:
        cells = []
        for program in programs:
            result = results[program].get(number)
            if result is None:
                cells += ["-"] * len(columns)
                continue
            cells += [f"{result['tick_us']:.0f}", size(result["memory"]), size(result["size"])]
        yield f"| {number:,} | {' | '.join(cells)} |"
    yield ""


def _stacks(results: dict[int, Result]) -> Iterator[str]:
    yield "| distinct stacks | µs a tick, the first time | later | memory | nodes | profile | over the cap |"
    yield f"|--:|{'--:|' * 6}"
    for number, result in results.items():
        over = result["over"] / max(2 * number, 1)
        yield (
            f"| {number:,} | {result['first_us']:.0f} | {result['tick_us']:.0f} | {size(result['memory'])} "
            f"| {result['nodes']:,} | {size(result['size'])} | {over:.0%} |"
        )
    yield ""


def _hours(results: dict[str, dict[int, Result]]) -> Iterator[str]:
    names = {series.program: series.name for series in SERIES}
    for program in ("hour", "new-code"):
        ((minutes, result),) = results[program].items()
        rows = result["rows"]
        shown = [rows[max(len(rows) * part // 6 - 1, 0)] for part in range(1, 7)]
        minute = " | ".join(f"{row['minute']:.3g}" for row in shown)
        yield f"| {names[program]}, minutes | {minute} |"
        yield f"|---|{'--:|' * len(shown)}"
        yield f"| memory | {' | '.join(size(row['memory']) for row in shown)} |"
        cost = " | ".join(f"{row['tick_us']:.0f}" for row in shown)
        yield f"| µs a tick, of the sampler | {cost} |"
        yield ""
        yield (
            f"{minutes} minutes: {result['ticks']:,} ticks, {result['awaits']:,} awaits, {result['blocks']:,} loop "
            f"blockers, {result['slices']:,} slices in the timeline's last minute, {result['groups']:,} task groups, "
            f"{result['nodes']:,} stack nodes, {result['over']:,} samples over a cap; the profile has "
            f"{size(result['size'])}."
        )
        yield ""


def size(number: float) -> str:
    """Bytes, for a person."""
    return f"{number / MB:.1f} MB" if number >= MB else f"{number / KB:.0f} kB"


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the figures into this page")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves (.svg, .png)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep what was measured, or take it from there"
    )
    options = parser.parse_args()
    if options.json is not None and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
        results = {
            program: {int(number): result for number, result in found.items()}
            for program, found in kept.items()
        }
    else:
        results = all_results(options.quick, lambda text: print(text, file=sys.stderr, flush=True))
        if options.json is not None:
            options.json.write_text(json.dumps(results), encoding="utf-8")
    found = list(lines(results))
    found.pop()  # the blank line after the last table
    for line in found:
        say(line)
    if options.into is not None:
        put_into(options.into, "benchmarks.growth", found)
    if options.picture is not None:
        from benchmarks.growth_picture import draw

        draw(results, {series.program: series.name for series in SERIES}, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
