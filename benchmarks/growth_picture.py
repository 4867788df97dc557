"""Draws the curves of `benchmarks.growth`. Needs matplotlib."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, NamedTuple

KB, MB = 1_000, 1_000_000
Results = dict[str, dict[int, dict[str, Any]]]


class _Row(NamedTuple):
    """Two panels, of cost and of memory: the programs in them, and what the horizontal axis counts."""

    programs: tuple[str, ...]
    axis: str
    is_log: bool


ROWS = (
    _Row(("tasks", "greenlets"), "idle tasks", True),
    _Row(("recursion", "chains"), "levels of a stack", True),
    _Row(("stacks",), "distinct stacks, of twenty levels", True),
    _Row(("hour", "new-code"), "minutes, by a fast clock", False),
)
COLOURS = ("#1f6feb", "#d1570c")
STYLE = {
    # The same file for the same figures.
    "svg.hashsalt": "greenprof",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(results: Results, names: dict[str, str], path: Path) -> None:
    """Write the picture. On white, so that a page's dark theme leaves it readable."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    plots: Any = importlib.import_module("matplotlib.pyplot")
    with plots.rc_context(STYLE):
        figure, axes = plots.subplots(len(ROWS), 2, figsize=(8.6, 10.4), layout="constrained")
        for row, (cost, memory) in zip(ROWS, axes, strict=True):
            for program, colour in zip(row.programs, COLOURS, strict=False):
                _curves(cost, memory, program, names[program], results[program], colour)
            _finish(cost, memory, row)
        axes[0][0].set_title(
            "CPU time of a tick, in µs; at 100 Hz, 100 µs are 1 % of a core", fontsize=9
        )
        axes[0][1].set_title("memory that it adds", fontsize=9)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, facecolor="white", metadata=metadata, dpi=110)
        plots.close(figure)


def _curves(
    cost: Any, memory: Any, program: str, name: str, found: dict[int, dict[str, Any]], colour: str
) -> None:
    looks = {"color": colour, "marker": "o", "markersize": 3}
    if program in ("hour", "new-code"):
        ((_, result),) = found.items()
        across = [row["minute"] for row in result["rows"]]
        ticks = [row["tick_us"] for row in result["rows"]]
        bytes_ = [row["memory"] for row in result["rows"]]
        looks["marker"] = ""
    else:
        across = list(found)
        ticks = [result["tick_us"] for result in found.values()]
        bytes_ = [result["memory"] for result in found.values()]
    if program == "stacks":
        first = [result["first_us"] for result in found.values()]
        cost.plot(across, first, **{**looks, "color": COLOURS[1]}, label="seen for the first time")
        name = "seen before"
    cost.plot(across, ticks, **looks, label=name)
    memory.plot(across, bytes_, **looks, label=name)


def _finish(cost: Any, memory: Any, row: _Row) -> None:
    for panel in (cost, memory):
        panel.set_xlabel(row.axis)
        if row.is_log:
            panel.set_xscale("log")
            panel.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
            panel.xaxis.set_minor_formatter("")
    cost.set_ylim(bottom=0)
    cost.legend(fontsize=8)
    if row.is_log:
        memory.set_yscale("log")
        low, high = memory.get_ylim()
        # A decade at least, or there would be no number at the axis.
        memory.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
        memory.yaxis.set_minor_formatter("")
    else:
        memory.set_ylim(bottom=0)
    memory.yaxis.set_major_formatter(lambda number, _: size(number))


def size(number: float) -> str:
    """Bytes, at an axis."""
    return f"{number / MB:g} MB" if number >= MB else f"{number / KB:g} kB"
