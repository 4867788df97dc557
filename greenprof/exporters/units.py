"""Numbers and places as a person reads them."""

from __future__ import annotations

import re

from greenprof.printable import printable

__all__ = ["duration", "percent", "place", "plural"]

# (below so many ns, ns in the unit, digits after the point, unit); the limits are where rounding
# would make the next number of digits.
_STEPS = (
    (9_995_000, 1_000_000, 2, "ms"),
    (99_950_000, 1_000_000, 1, "ms"),
    (999_500_000, 1_000_000, 0, "ms"),
    (9_995_000_000, 1_000_000_000, 2, "s"),
    (99_950_000_000, 1_000_000_000, 1, "s"),
    (599_500_000_000, 1_000_000_000, 0, "s"),
)
_SEPARATOR = re.compile(r"[/\\]")


def duration(ns: int) -> str:
    """Return a time of `ns` nanoseconds in three digits: "1.23 ms", "45.6 s", "12 min 03 s"."""
    if ns == 0:
        return "-"
    if ns < 5_000:
        return "<0.01 ms"
    for limit, unit_ns, digits, unit in _STEPS:
        if ns < limit:
            return f"{ns / unit_ns:.{digits}f} {unit}"
    minutes, seconds = divmod(round(ns / 1_000_000_000), 60)
    if minutes < 100:
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(round(ns / 60_000_000_000), 60)
    return f"{hours} h {minutes:02} min"


def percent(part: float, whole: float) -> str:
    """Return "12 %" of a whole; "-" of nothing."""
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.1f} %"


def plural(count: int, thing: str) -> str:
    """Return "1 task" or "1,234 tasks"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def place(path: str, line: int) -> str:
    """Return a short `file:line` that still tells files apart: `orders/api.py:12`.

    Of an installed library, the package and the file: `sqlalchemy/../session.py:90`.
    """
    if not path:
        return ""
    parts = [part for part in _SEPARATOR.split(path) if part] or [path]
    short = "/".join(parts[-2:])
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            # The package says most: there is a session.py in many.
            inside = parts[parts.index(folder) + 1 :]
            short = "/".join(inside) if len(inside) < 3 else f"{inside[0]}/../{inside[-1]}"
    return printable(f"{short}:{line}" if line else short)
