"""`greenprof export`: turns a saved profile into a file of another format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from greenprof.cli import options
from greenprof.cli.delivery import write
from greenprof.cli.outputs import STDOUT, plan_outputs
from greenprof.cli.terminal import say
from greenprof.printable import printable

__all__ = ["command"]

EPILOG = """\b
Examples:
  greenprof export app.gprof -o report.html            open it in a browser
  greenprof export app.gprof -o app.speedscope.json    open it at https://www.speedscope.app
  greenprof export app.gprof -o app.collapsed --clock cpu
  greenprof export app.gprof -o - --format text | less
  greenprof export worker1.gprof worker2.gprof -o both.gprof
"""


class ExportCommand(click.Command):
    """Lists the formats that there are, which is worth importing them only for the help."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        from greenprof.exporters import exporters

        with formatter.section("Formats"):
            formatter.write_dl(
                [
                    (f"{each.name} ({' '.join(each.suffixes)})", each.description)
                    for each in exporters()
                ]
            )


@click.command(cls=ExportCommand, epilog=EPILOG)
@options.files
@options.outputs("Where to; - is standard output. May be repeated.")
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
    """Write a saved profile in another format; several are merged into one."""
    if not paths:
        raise click.UsageError(
            "no output given: name a file with -o, such as -o out.speedscope.json"
        )

    def job() -> None:
        outputs = plan_outputs(paths, format_name, force=force)
        profile = options.load(files)
        for output in outputs:
            write(profile, output, clock, force=force)
            if not quiet and output.path != STDOUT:
                say(f"greenprof: wrote {printable(output.shown)}")

    return job
