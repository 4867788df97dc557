"""The report: one HTML file that needs nothing else, to be opened in a browser."""

from __future__ import annotations

from greenprof.analysis import check_clock
from greenprof.exporters.registry import Exporter
from greenprof.profiles import Profile

__all__ = ["EXPORTER", "render"]


def render(profile: Profile, /, *, clock: str = "wall") -> str:
    """Return the page. `clock` is the one that it starts with; a switch in it has the others."""
    check_clock(clock)
    # Most exports and every run without a report do without these.
    from greenprof.exporters.html.page import page
    from greenprof.exporters.html.payload import payload

    return page(payload(profile, clock=clock))


EXPORTER = Exporter(
    name="html",
    suffixes=(".html", ".htm"),
    binary=False,
    render=render,
    description="a report to look at in a browser: flame graph, tables",
)
