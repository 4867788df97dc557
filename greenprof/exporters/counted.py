"""Parts of the summary for what was counted, not sampled: awaits, repeats, loop blockers."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from greenprof.analysis import AwaitRow, BlockRow, RepeatRow
from greenprof.exporters.cells import Cut, table
from greenprof.exporters.units import duration, place, plural
from greenprof.profiles import FrameOrigin, Profile

__all__ = ["Repeats", "await_part", "block_part", "unit_words"]

# Below it names would be cut to nothing for the sake of numbers.
_WIDE = 90
# `GET /orders/{}`, as `greenprof.labels` calls the tasks that serve requests.
_ROUTE = re.compile(r"[A-Z]{2,12} ")


def unit_words(name: str, kind: str) -> tuple[str, str]:
    """Return whose repeats they are, as ("GET /orders", "request") or ("task worker", "task")."""
    if _ROUTE.match(name):
        return name, "request"
    thing = {"greenlet": "greenlet", "thread": "thread"}.get(kind, "task")
    return f"{thing} {name}", thing


def await_part(rows: list[AwaitRow], limit: int, width: int) -> Table:
    """Return the table of await sites, exact; at most `limit` lines below its head."""
    failed = any(row.errors for row in rows)
    wide = width >= _WIDE
    numbers = ["count", "total", *["p50"] * wide, "p95", "max", *["errors"] * failed]
    result = table(["Await sites", "in", "awaits"], numbers)
    cut = len(rows) if len(rows) <= limit else max(limit - 1, 0)
    for row in rows[:cut]:
        style = "" if row.site.origin is FrameOrigin.APP else "dim"
        median = [row.percentile_ns(50)] * wide
        times = [row.total_ns, *median, row.percentile_ns(95), row.max_ns]
        result.add_row(
            Cut(place(row.site.path, row.site.line), style, keep_end=True),
            Cut(row.site.name, style),
            Cut(row.awaited, style, keep_end=True),
            f"{row.count:,}",
            *map(duration, times),
            *[f"{row.errors:,}" if row.errors else "-"] * failed,
        )
    if rest := rows[cut:]:
        # Percentiles of several sites together would say nothing of any of them.
        errors = sum(row.errors for row in rest)
        result.add_row(
            Cut(f"{len(rest)} more", "dim"),
            "",
            "",
            f"{sum(row.count for row in rest):,}",
            duration(sum(row.total_ns for row in rest)),
            *[""] * wide,
            "",
            duration(max(row.max_ns for row in rest)),
            *[f"{errors:,}" if errors else "-"] * failed,
        )
    return result


def block_part(rows: list[BlockRow], profile: Profile, limit: int) -> Table:
    """Return the table of loop blockers; at most `limit` lines below its head."""
    limit_ns = profile.info.block_limit_ns
    times = f"over {duration(limit_ns)}" if limit_ns else "times"
    result = table(["Loop blockers", "in", "task"], [times, "total", "worst", "waiting"])
    cut = len(rows) if len(rows) <= limit else max(limit - 1, 0)
    for row in rows[:cut]:
        style = "" if row.site.origin is FrameOrigin.APP else "dim"
        result.add_row(
            Cut(place(row.site.path, row.site.line), style, keep_end=True),
            Cut(row.site.name, style),
            Cut(profile.groups[row.group].name, style),
            f"{row.count:,}",
            duration(row.total_ns),
            duration(row.worst_ns),
            f"{row.waiting:,}",
        )
    if rest := rows[cut:]:
        result.add_row(
            Cut(f"{len(rest)} more", "dim"),
            "",
            "",
            f"{sum(row.count for row in rest):,}",
            duration(sum(row.total_ns for row in rest)),
            duration(max(row.worst_ns for row in rest)),
            f"{max(row.waiting for row in rest):,}",
        )
    return result


class Repeats:
    """Sentences, one for each repeated await: the line to change, how often, and how long.

    Each takes a line, or two where there is no room for it in one.
    """

    def __init__(self, rows: list[RepeatRow], profile: Profile) -> None:
        self._sentences = [_sentence(row, profile) for row in rows]
        self._rows = rows
        self.limit = 0
        """Lines that it may take below its head."""

    def __len__(self) -> int:
        return len(self._rows)

    def lines(self, width: int) -> int:
        """Return how many lines all sentences take below the head."""
        return sum(sentence.lines(width) for sentence in self._sentences)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left = self.limit
        all_fit = self.lines(options.max_width) <= left
        yield Text("Repeated awaits", style="bold")
        for number, sentence in enumerate(self._sentences):
            needed = sentence.lines(options.max_width)
            if not all_fit and left <= needed:
                rest = self._rows[number:]
                text = f"{len(rest)} more: {duration(sum(row.total_ns for row in rest))}"
                yield Text(text, style="dim")
                return
            left -= needed
            yield sentence


class _Sentence:
    """What waits, and how often: in one line where there is room, otherwise in two."""

    _INDENT = "    "

    def __init__(self, what: list[Cut | str], often: list[Cut | str]) -> None:
        self._what = what
        self._often = often

    def lines(self, width: int) -> int:
        return 1 if _width([*self._what, " ", *self._often]) <= width else 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.lines(options.max_width) == 1:
            parts = [[*self._what, " ", *self._often]]
        else:
            parts = [self._what, [self._INDENT, *self._often]]
        for line in parts:
            yield from _fitted(line, console, options)
            yield Text("")


def _sentence(row: RepeatRow, profile: Profile) -> _Sentence:
    group = profile.groups[row.group]
    whose, unit = unit_words(group.name, group.kind)
    most = f", at most {row.most:,}" if row.most > row.per_unit else ""
    time = f"{duration(row.total_ns)} of {duration(row.units_ns)}"
    return _Sentence(
        [
            Cut(place(row.site.path, row.site.line), "bold", keep_end=True),
            " ",
            Cut(row.site.name),
            " awaits ",
            Cut(row.awaited, keep_end=True),
            *([f" and {len(row.others)} more"] if row.others else []),
        ],
        [
            f"{plural(round(row.per_unit), 'time')} per ",
            Cut(whose),
            f": {time} (in {plural(row.units, unit)}{most})",
        ],
    )


def _width(parts: list[Cut | str]) -> int:
    return sum(cell_len(part if isinstance(part, str) else part.text) for part in parts)


def _fitted(parts: list[Cut | str], console: Console, options: ConsoleOptions) -> RenderResult:
    """Render parts in one line; names give way, those with the most letters first."""
    names = sorted((part for part in parts if isinstance(part, Cut)), key=lambda one: _width([one]))
    room = max(options.max_width - _width([part for part in parts if isinstance(part, str)]), 0)
    given = {}
    for number, name in enumerate(names):
        given[id(name)] = min(_width([name]), room // (len(names) - number))
        room -= given[id(name)]
    for part in parts:
        if isinstance(part, str):
            yield Text(part, no_wrap=True, overflow="crop", end="")
        elif given[id(part)]:
            yield from console.render(part, options.update(width=given[id(part)]))
