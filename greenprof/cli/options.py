"""Options and arguments that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from greenprof.profiles import Profile

__all__ = ["clock", "files", "force", "format_name", "load", "outputs", "quiet"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)

clock = click.option(
    "--clock",
    type=click.Choice(["wall", "cpu", "await"]),
    default="wall",
    show_default=True,
    help="Which time counts: each task's own wall time, waiting included; CPU time; or the time suspended in awaits.",
)
format_name = click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="Format of the outputs, where their suffix does not tell.",
)
force = click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
files = click.argument(
    "files", metavar="FILE...", nargs=-1, type=click.Path(readable=False, path_type=Path)
)


def outputs(help_text: str) -> Callable[[Decorated], Decorated]:
    """The option that names files to write, as `paths`."""
    return click.option("-o", "--output", "paths", metavar="PATH", multiple=True, help=help_text)


def load(paths: Sequence[Path]) -> Profile:
    """Reads the profiles and merges them. Raises ProfileFileError for the first that is none."""
    if not paths:
        raise click.UsageError("no profile given: name the .gprof file that greenprof run saved")
    from greenprof.profiles import Profile

    profiles = [Profile.load(path) for path in paths]
    return profiles[0] if len(profiles) == 1 else Profile.merge(profiles)
