"""The summary and the call tree as plain text."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from greenprof.exporters.registry import Exporter
from greenprof.exporters.summary import summary_renderable
from greenprof.exporters.tree import tree_renderable
from greenprof.profiles import Profile

__all__ = [
    "EXPORTER",
    "render",
    "summary_renderable",
    "summary_text",
    "tree_renderable",
    "tree_text",
]


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return the summary, and below it the call tree."""
    summary = summary_text(profile, clock=clock)
    return f"{summary}\n{tree_text(profile, clock=clock)}"


def summary_text(
    profile: Profile, *, clock: str = "wall", width: int = 110, height: int = 48
) -> str:
    """Return the summary in lines of at most `width` letters."""
    return _plain(summary_renderable(profile, clock=clock, height=height), width)


def tree_text(
    profile: Profile, *, clock: str = "wall", width: int = 160, min_share: float = 0.01
) -> str:
    """Return the call tree in lines of at most `width` letters."""
    return _plain(tree_renderable(profile, clock=clock, min_share=min_share), width)


def _plain(renderable: RenderableType, width: int) -> str:
    file = StringIO()
    # Not the environment's wishes (FORCE_COLOR, COLUMNS): a file is the same wherever it is made.
    console = Console(
        file=file,
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        _environ={},
    )
    console.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


EXPORTER = Exporter(
    name="text",
    suffixes=(".txt",),
    binary=False,
    render=render,
    description="the summary and the call tree",
)
