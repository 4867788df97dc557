"""`greenprof diff`: what changed between two saved profiles."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from greenprof.cli import options
from greenprof.cli.outputs import STDOUT, Output, plan_outputs
from greenprof.cli.terminal import say
from greenprof.errors import OutputError
from greenprof.output import write_output
from greenprof.printable import printable

if TYPE_CHECKING:
    from greenprof.differences import Comparison

__all__ = ["command"]

FORMATS = ("html", "text")

EPILOG = """\b
Examples:
  greenprof diff before.gprof after.gprof                  what takes more, what takes less
  greenprof diff before.gprof after.gprof -o diff.html     a flame graph in red and blue
  greenprof diff monday.gprof friday.gprof --scale tasks   as if both had served as many requests
  greenprof diff old.gprof new.gprof --clock cpu --rows 50

\b
Times are compared as they were recorded, which is right where both did the same work. Where they
did not, --scale tasks compares the time of a task (a request), --scale duration that of a second:
the times before are multiplied so that they can be set beside those after.
"""


@click.command(epilog=EPILOG)
@click.argument("before", type=click.Path(readable=False, path_type=Path), required=False)
@click.argument("after", type=click.Path(readable=False, path_type=Path), required=False)
@options.outputs("Where to: .html or .txt; - is standard output. May be repeated.")
@options.format_name
@options.clock
@click.option(
    "--scale",
    type=click.Choice(["none", "duration", "tasks"]),
    default="none",
    show_default=True,
    help="What the times before are scaled to: nothing, the duration after, or the number of tasks after.",
)
@click.option(
    "--rows",
    type=click.IntRange(2, 10_000),
    default=None,
    help="Rows of each table; by default what fits the screen.",
)
@options.force
@options.quiet
def command(
    before: Path | None,
    after: Path | None,
    paths: tuple[str, ...],
    format_name: str | None,
    clock: str,
    scale: str,
    rows: int | None,
    *,
    force: bool,
    quiet: bool,
) -> Callable[[], None]:
    """Compare two saved profiles, the one before a change first."""
    if before is None or after is None:
        raise click.UsageError(
            "two profiles are needed: the .gprof file from before a change, and the one from after"
        )

    def job() -> None:
        outputs = plan_outputs(paths, format_name, force=force)
        for output in outputs:
            _check(output)
        sides = [options.load([path]) for path in (before, after)]
        from greenprof.differences import compare

        comparison = compare(sides[0], sides[1], clock=clock, scale=scale)
        names = str(before), str(after)
        if not outputs and sys.stdout is not None:
            from greenprof.cli.screen import draw
            from greenprof.exporters.difference import Difference

            write_output(STDOUT, draw(Difference(comparison, names, rows=rows or 0), sys.stdout))
        for output in outputs:
            text = _rendered(comparison, names, output.exporter.name, rows)
            write_output(output.path, text, force=force)
            if not quiet and output.path != STDOUT:
                say(f"greenprof: wrote {printable(output.shown)}")

    return job


def _check(output: Output) -> None:
    if output.exporter.name not in FORMATS:
        raise OutputError(
            f"greenprof diff writes html and text, not {output.exporter.name}; "
            "end the name with .html or .txt"
        )


def _rendered(
    comparison: Comparison, names: tuple[str, str], format_name: str, rows: int | None
) -> str:
    if format_name == "html":
        from greenprof.exporters.html.difference import difference_page

        return difference_page(comparison, names)
    from greenprof.exporters.difference import difference_text

    return difference_text(comparison, names, rows=rows or 30)
