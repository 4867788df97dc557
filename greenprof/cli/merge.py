"""`greenprof merge`: several saved profiles as one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from greenprof.cli import options
from greenprof.cli.delivery import write
from greenprof.cli.outputs import STDOUT, plan_outputs
from greenprof.cli.terminal import say
from greenprof.errors import OptionError
from greenprof.output import write_output
from greenprof.printable import printable

__all__ = ["command"]

EPILOG = """\b
Examples:
  greenprof merge worker1.gprof worker2.gprof -o all.gprof
  greenprof merge worker*.gprof -o all.html     as a report; any format of greenprof export
  greenprof merge worker1.gprof worker2.gprof   the summary of both

\b
Times, samples and counts add up; the duration is the longest one. Timelines stand side by side,
by the times at which the profiles were started. Profiles of the exact engine are merged with
their like only: numbers of calls and numbers of samples do not add up, nor do two clocks.
"""


@click.command(epilog=EPILOG)
@options.files
@options.outputs(
    "Where to; - is standard output. May be repeated. Without any, the summary is shown."
)
@options.format_name
@options.clock
@options.force
@options.quiet
def command(
    files: tuple[Path, ...],
    paths: tuple[str, ...],
    format_name: str | None,
    clock: str,
    *,
    force: bool,
    quiet: bool,
) -> Callable[[], None]:
    """Make one profile of several: of a service's workers, or of several runs."""

    def job() -> None:
        outputs = plan_outputs(paths, format_name, force=force)
        _check_distinct(files)
        profile = options.load(files)
        for output in outputs:
            write(profile, output, clock, force=force)
            if not quiet and output.path != STDOUT:
                say(f"greenprof: wrote {printable(output.shown)}")
        if outputs or sys.stdout is None:
            return
        from greenprof.cli.screen import draw
        from greenprof.exporters.summary import summary_renderable

        write_output(STDOUT, draw(summary_renderable(profile, clock=clock), sys.stdout))

    return job


def _check_distinct(files: Sequence[Path]) -> None:
    """Raises OptionError for a file that is given twice, by whatever names: it would count twice."""
    known: set[Path] = set()
    for path in files:
        try:
            place = path.resolve()
        except (OSError, RuntimeError, ValueError):
            continue  # reading it will say what is wrong
        if place in known:
            raise OptionError(
                f"'{printable(str(path))}' is given twice and would count twice: "
                "name each profile once"
            )
        known.add(place)
