"""Options and arguments that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from greenprof.errors import OptionError
from greenprof.printable import printable

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
    """Reads the profiles and merges them.

    Raises ProfileFileError for the first that is none, and OptionError for the first that does not add up
    with the others.
    """
    if not paths:
        raise click.UsageError("no profile given: name the .gprof file that greenprof run saved")
    from greenprof.profiles import Profile

    profiles = [Profile.load(path) for path in paths]
    if len(profiles) == 1:
        return profiles[0]
    _check_alike(paths, profiles)
    return Profile.merge(profiles)


def _check_alike(paths: Sequence[Path], profiles: Sequence[Profile]) -> None:
    """Raises what merging would, with the names of the files."""
    from greenprof.model import how_measured

    first = how_measured(profiles[0].info)
    for path, profile in zip(paths, profiles, strict=True):
        other = how_measured(profile.info)
        if other != first:
            raise OptionError(
                f"cannot merge '{printable(str(path))}' ({other}) with '{printable(str(paths[0]))}' ({first}): "
                "they do not add up; give profiles recorded alike"
            )
