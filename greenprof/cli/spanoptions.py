"""The options of `greenprof run` that are about spans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from greenprof.cli.outputs import STDOUT, Output
from greenprof.cli.recordoptions import seconds_in
from greenprof.errors import OutputError
from greenprof.output import check_output
from greenprof.printable import printable

if TYPE_CHECKING:
    from greenprof.cli.otlp import Destination
    from greenprof.cli.spans import RunSpans

__all__ = ["OTLP", "Plan", "minimum", "otlp", "plan", "recording", "spans", "stack"]

OTLP = "--otlp"
STACKS = ("never", "slow", "always")
SLOW_S = 0.1


class Plan(NamedTuple):
    """What was asked for, as far as it could be checked beforehand."""

    destination: Destination | None
    path: tuple[str, str] | None
    """As it was typed, and made absolute."""
    force: bool
    options: dict[str, Any]


def _minimum(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    return None if value is None else seconds_in(value)


def _stack(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[str, float] | None:
    """When spans carry their stack, and from how many seconds on if it is "slow"."""
    if value is None:
        return None
    if value in STACKS:
        return value, SLOW_S
    if not value[:1].isdigit():
        raise click.BadParameter(
            f"{value!r} is none of {', '.join(STACKS)}, nor a duration such as 50ms"
        )
    return "slow", seconds_in(value)


otlp = click.option(
    OTLP,
    "otlp",
    metavar="[ENDPOINT]",
    help="Send a span of each await over a bridge, and the program's own spans, to an OpenTelemetry"
    " collector: http://HOST:4318, or HOST:4317 for gRPC."
    "  [default: what the OTEL_EXPORTER_OTLP_ variables say, else localhost:4318]",
)
spans = click.option(
    "--spans",
    "spans",
    metavar="PATH",
    help="Write the spans there, one line of OTLP JSON for a batch of them.",
)
minimum = click.option(
    "--span-min",
    "span_min",
    metavar="DURATION",
    callback=_minimum,
    help="No spans for awaits that are shorter, such as 5ms, unless another span is inside."
    "  [default: 0s]",
)
stack = click.option(
    "--span-stack",
    "span_stack",
    metavar="WHEN",
    callback=_stack,
    help="Which of these spans carry the whole stack: never, slow (100ms and longer), always,"
    " or a duration such as 50ms.  [default: never]",
)


def plan(
    endpoint: str | None,
    path: str | None,
    span_min: float | None,
    span_stack: tuple[str, float] | None,
    *,
    force: bool,
    outputs: Sequence[Output],
) -> Plan | None:
    """Checks what can be checked before the program runs; None where no spans are asked for.

    Raises OutputError for an output that cannot be, UsageError for options that make no sense alone.
    """
    if endpoint is None and path is None:
        for name, value in (("--span-min", span_min), ("--span-stack", span_stack)):
            if value is not None:
                raise click.UsageError(f"{name} is about spans: add --otlp or --spans FILE")
        return None
    destination = None
    if endpoint is not None:
        from greenprof.cli.otlp import find_destination

        destination = find_destination(endpoint)
    absolute = None
    if path is not None:
        if path == STDOUT:
            raise OutputError(
                "--spans writes while the program does: give a file name, not standard output"
            )
        absolute = str(Path.cwd() / path)
        if any(output.is_at(absolute) for output in outputs):
            raise OutputError(f"{printable(path)} is given twice: name each output once")
        check_output(path, force=force)
    options: dict[str, Any] = {}
    if span_min is not None:
        options["min_duration"] = span_min
    if span_stack is not None:
        options["stack"], options["slow_duration"] = span_stack
    paths = None if path is None or absolute is None else (path, absolute)
    return Plan(destination, paths, force, options)


def recording(planned: Plan | None, service: str, *, quiet: bool) -> RunSpans | None:
    """What records the spans that were planned. Only here OpenTelemetry is imported."""
    if planned is None:
        return None
    from greenprof.cli.spans import RunSpans, SpanFile

    file = None if planned.path is None else SpanFile(*planned.path, planned.force)
    return RunSpans(planned.options, planned.destination, file, service, quiet)
