"""`greenprof show`: the summary of a saved profile, or its stacks as a tree."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from greenprof.cli import options
from greenprof.output import write_output

__all__ = ["command"]

EPILOG = """\b
Examples:
  greenprof show app.gprof                 the summary again
  greenprof show --tree app.gprof | less   all stacks, one tree for each task
  greenprof show worker1.gprof worker2.gprof
"""


@click.command(epilog=EPILOG)
@options.files
@click.option("--tree", is_flag=True, help="Show whole stacks as a tree.")
@options.clock
def command(files: tuple[Path, ...], clock: str, *, tree: bool) -> Callable[[], None]:
    """Show a saved profile; several are merged into one."""

    def job() -> None:
        profile = options.load(files)
        if sys.stdout is None:
            return
        from greenprof.cli.screen import draw
        from greenprof.exporters.text import summary_renderable, tree_renderable

        render = tree_renderable if tree else summary_renderable
        write_output("-", draw(render(profile, clock=clock), sys.stdout))

    return job
