"""greenprof's own format: everything that was recorded, to be opened again later."""

from __future__ import annotations

from greenprof.clocks import check_clock
from greenprof.exporters.registry import Exporter
from greenprof.profiles import Profile

__all__ = ["EXPORTER", "render"]


def render(profile: Profile, /, *, clock: str = "wall") -> bytes:
    """Return the contents of a `.gprof` file. It has both clocks, whichever is asked for."""
    check_clock(clock)
    return profile.to_bytes()


EXPORTER = Exporter(
    name="gprof",
    suffixes=(".gprof",),
    binary=True,
    render=render,
    description="everything, for `greenprof show` and `greenprof export`",
)
