"""The options of `greenprof run` that say what is recorded, and how."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from greenprof.cli.outputs import Output

__all__ = ["profiler_options", "recorded", "seconds_in"]

Command = TypeVar("Command")

DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(us|µs|ms|s)")
UNITS_S = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
ALL = "all"
OFF = "off"
TIMELINES = "chrome"
"""The format that shows timelines."""


def seconds_in(text: str) -> float:
    """A duration as it is typed, in seconds. Raises BadParameter."""
    found = DURATION.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration; give one with its unit, such as 5ms")
    return float(found[1]) * UNITS_S[found[2]]


def _rate(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        rate_hz = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no number; give samples per second") from None
    from greenprof.profiler import Profiler

    # It knows what it can do, and says so before any program has run.
    return Profiler(rate_hz).rate_hz


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    seconds = seconds_in(value)
    if not seconds:
        raise click.BadParameter(f"{value!r} is no time at all; give a longer one, such as 100ms")
    return seconds


def _timeline(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    return math.inf if value == ALL else _duration(ctx, param, value)


def _autosave(ctx: click.Context, param: click.Parameter, value: str) -> float | None:
    return None if value == OFF else _duration(ctx, param, value)


_OPTIONS = (
    click.option(
        "--rate",
        "rate_hz",
        default="100",
        callback=_rate,
        metavar="HZ",
        show_default=True,
        help="Samples per second.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["sampling", "exact"]),
        default="sampling",
        show_default=True,
        help="Look many times a second, or count and time every single call, which makes calls"
        " several times as slow.",
    ),
    click.option(
        "--exact-clock",
        type=click.Choice(["cpu", "wall"]),
        help="What the exact engine measures of each function.  [default: cpu]",
    ),
    click.option(
        "--only",
        metavar="MODULE",
        multiple=True,
        help="Have the exact engine tell apart only this module's, or package's, functions. May be"
        " repeated.",
    ),
    click.option(
        "--awaits/--no-awaits",
        default=None,
        help="Count and measure every await over a bridge.  [default: with pauses where that takes"
        " more than 0.5 % of the time]",
    ),
    click.option(
        "--repeat-min",
        type=click.IntRange(min=0),
        metavar="COUNT",
        help="Report an await that one task or request makes so often, or oftener; 0 for none."
        "  [default: 10]",
    ),
    click.option(
        "--block-limit",
        callback=_duration,
        metavar="DURATION",
        help="Report what keeps an event loop for longer, such as 100ms.  [default: nothing]",
    ),
    click.option(
        "--timeline",
        callback=_timeline,
        metavar="DURATION",
        help="Record what happened when, of the last so many seconds, such as 30s, or all."
        "  [default: all, with an output that is a timeline]",
    ),
    click.option(
        "--max-nodes",
        type=click.IntRange(min=1),
        metavar="COUNT",
        help="Tell apart so many levels of all distinct stacks; each takes some 200 bytes."
        "  [default: 200,000]",
    ),
    click.option(
        "--autosave",
        callback=_autosave,
        default="5s",
        show_default=True,
        metavar="DURATION",
        help="Save what is recorded so far this often, should the program be killed; or off.",
    ),
)


def recorded(command: Command) -> Command:
    """Adds the options to a command, as keyword arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)  # type: ignore[type-var]
    return command


def profiler_options(
    ctx: click.Context, given: Mapping[str, Any], outputs: Sequence[Output]
) -> dict[str, Any]:
    """What `Profiler` is to be told. Raises UsageError for options that make no sense together."""
    chosen = {
        name: given[name] for name in ("rate_hz", "engine", "awaits", "block_limit", "timeline")
    }
    if given["engine"] == "exact":
        if ctx.get_parameter_source("rate_hz") is not ParameterSource.DEFAULT:
            raise click.UsageError("--rate is about sampling: leave it out with --engine exact")
        chosen["clock"] = given["exact_clock"] or "cpu"
        chosen["only"] = given["only"]
    else:
        for name, value in (("--exact-clock", given["exact_clock"]), ("--only", given["only"])):
            if value:
                raise click.UsageError(f"{name} is about the exact engine: add --engine exact")
    if given["repeat_min"] is not None:
        if given["awaits"] is False:
            raise click.UsageError("--repeat-min is about awaits: leave --no-awaits out")
        chosen["repeat_min"] = given["repeat_min"]
    if given["max_nodes"] is not None:
        chosen["max_nodes"] = given["max_nodes"]
    if chosen["timeline"] is None and any(one.exporter.name == TIMELINES for one in outputs):
        chosen["timeline"] = math.inf
    return chosen
