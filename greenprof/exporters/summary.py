"""The summary: a profile on one screen."""

from __future__ import annotations

from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from greenprof.analysis import (
    AwaitSite,
    FunctionRow,
    GroupRow,
    await_sites,
    check_clock,
    function_table,
    group_table,
)
from greenprof.exporters.cells import Cut, encodable, table
from greenprof.exporters.headline import headline, reader_warnings
from greenprof.exporters.units import duration, place
from greenprof.printable import printable
from greenprof.profiles import FrameOrigin, Profile

__all__ = ["Summary", "summary_renderable"]

_Row = TypeVar("_Row")

_MAX_HEIGHT = 48
_PLAIN_HEIGHT = 40
# On a small screen something scrolls away; a table of one row would say less.
_MIN_ROWS = 11
# The command line has a few lines of its own to say below: what was saved, and what comes next.
_RESERVED_LINES = 4
_MOST_WARNINGS = 4
# Of the rows that fit, so many parts go to tasks, functions and await sites.
_SHARES = (4, 7, 4)


def summary_renderable(
    profile: Profile, *, clock: str = "wall", height: int | None = None
) -> RenderableType:
    """Return the summary for `rich.print` or a `Console`; it takes the console's width.

    `clock` ("wall", "cpu" or "await") is what the tables are sorted by. `height` is how many lines it may
    take (about 24 to 48); without it, the terminal's height, or 40 where there is none.
    Raises OptionError for another clock.
    """
    return Summary(profile, clock=clock, height=height)


class Summary:
    """The summary as a rich renderable. See `summary_renderable`."""

    def __init__(self, profile: Profile, *, clock: str = "wall", height: int | None = None) -> None:
        check_clock(clock)
        self._profile = profile
        self._clock = clock
        self._height = height
        self._warnings = _warnings(profile)
        self._groups = [row for row in group_table(profile, clock=clock) if row.samples]
        self._functions = function_table(profile, clock=clock)
        self._sites = _users_first(await_sites(profile))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = self._height or (console.height if console.is_terminal else _PLAIN_HEIGHT)
        header = [
            Text(encodable(line, options), style=style, overflow="fold")
            for line, style in _header(self._profile)
        ]
        warnings = [
            Text(encodable(f"! {text}", options), style="yellow", overflow="fold")
            for text in self._warnings
        ]
        fixed = sum(
            len(text.wrap(console, options.max_width)) for text in [*header, *warnings]
        ) + len(_CLOCKS_NOTE.wrap(console, options.max_width))
        sizes = (len(self._groups), len(self._functions), len(self._sites))
        # A blank line and a header for each table, and a blank line before the notes.
        fixed += 2 * sum(map(bool, sizes)) + 1 + _RESERVED_LINES
        rows = _share_out(max(min(height, _MAX_HEIGHT) - fixed, _MIN_ROWS), sizes)
        yield from header
        for part in (
            self._group_part(rows[0]),
            self._function_part(rows[1]),
            self._site_part(rows[2]),
        ):
            if part.row_count:
                yield Text("")
                yield part
        yield Text("")
        if any(sizes):
            yield _CLOCKS_NOTE
        yield from warnings

    def _group_part(self, limit: int) -> Table:
        idle = any(row.idle_ns for row in self._groups)
        numbers = ["tasks", "wall", "CPU", "awaiting", "ready", "blocked"]
        result = table(["Tasks"], [*numbers, "idle"] if idle else numbers)

        def add(name: Cut, tasks: int, row: GroupRow) -> None:
            times = [row.wall_ns, row.cpu_ns, row.awaiting_ns, row.ready_ns, row.blocked_ns]
            shown = [*times, row.idle_ns] if idle else times
            result.add_row(name, f"{tasks:,}", *map(duration, shown))

        shown, rest = _cut(self._groups, limit)
        for row in shown:
            kind = "" if row.kind == "asyncio" else f" ({row.kind})"
            add(Cut(f"{row.name}{kind}"), row.tasks, row)
        if rest:
            more = GroupRow("", "", 0)
            for row in rest:
                more.tasks += row.tasks
                for name in (
                    "wall_ns",
                    "cpu_ns",
                    "awaiting_ns",
                    "ready_ns",
                    "blocked_ns",
                    "idle_ns",
                ):
                    setattr(more, name, getattr(more, name) + getattr(row, name))
            add(Cut(f"{len(rest)} more", "dim"), more.tasks, more)
        return result

    def _function_part(self, limit: int) -> Table:
        shown, rest = self._chosen_functions(limit)
        blocked = any(row.total_blocked_ns for row in self._functions)
        numbers = ["CPU self", "total", "await self", "total"]
        result = table(["Functions", "where"], [*numbers, "blocked"] if blocked else numbers)
        for row in shown:
            style = "" if row.origin is FrameOrigin.APP else "dim"
            times = [row.self_cpu_ns, row.total_cpu_ns, row.self_await_ns, row.total_await_ns]
            result.add_row(
                Cut(row.name, style),
                Cut(place(row.path, row.first_line), "dim", keep_end=True),
                *map(duration, [*times, row.total_blocked_ns] if blocked else times),
            )
        if rest:
            # Totals of several functions overlap; only the time in themselves adds up.
            result.add_row(
                Cut(f"{len(rest)} more", "dim"),
                "",
                duration(sum(row.self_cpu_ns for row in rest)),
                "",
                duration(sum(row.self_await_ns for row in rest)),
                "",
            )
        return result

    def _chosen_functions(self, limit: int) -> tuple[list[FunctionRow], list[FunctionRow]]:
        """The user's functions by total, then the library's by self: where their time goes."""
        counted = [row for row in self._functions if row.total_ns("wall")]
        own = [row for row in counted if row.origin is FrameOrigin.APP and not row.boundary]
        others = sorted(
            (row for row in counted if row.origin is not FrameOrigin.APP and not row.boundary),
            key=lambda row: -row.self_ns(self._clock),
        )
        if len(counted) > limit:
            limit -= 1
        reserved = min(len(others), limit // 4)
        shown = own[: max(limit - reserved, 0)]
        shown += others[: max(limit - len(shown), 0)]
        chosen = set(map(id, shown))
        return shown, [row for row in counted if id(row) not in chosen]

    def _site_part(self, limit: int) -> Table:
        result = table(["Await sites", "in", "awaits"], ["seen", "awaiting", "ready"])
        shown, rest = _cut(self._sites, limit)
        for site in shown:
            style = "" if site.origin is FrameOrigin.APP else "dim"
            result.add_row(
                Cut(place(site.path, site.line), style, keep_end=True),
                Cut(site.function, style),
                Cut(site.awaited, style, keep_end=True),
                f"{site.seen:,}",
                duration(site.awaiting_ns),
                duration(site.ready_ns),
            )
        if rest:
            result.add_row(
                Cut(f"{len(rest)} more", "dim"),
                "",
                "",
                f"{sum(site.seen for site in rest):,}",
                duration(sum(site.awaiting_ns for site in rest)),
                duration(sum(site.ready_ns for site in rest)),
            )
        return result


_CLOCKS_NOTE = Text(
    "CPU columns: CPU clock. Other times: wall clock of each task, which add up.", style="dim"
)


def _header(profile: Profile) -> list[tuple[str, str]]:
    facts = headline(profile)
    # What is cut for good: a command of a megabyte would leave no room for anything else.
    command = printable(profile.info.command[:200]) or "profile"
    title = ", ".join([command, *(fact.text for fact in facts.program)])
    times = ", ".join(fact.text for fact in facts.times)
    sampling = ", ".join(fact.text for fact in facts.sampling)
    return [(title, "bold"), (times, ""), (sampling, "dim")]


def _warnings(profile: Profile) -> list[str]:
    found = [printable(text) for text in reader_warnings(profile)]
    if len(found) > _MOST_WARNINGS:
        rest = len(found) - _MOST_WARNINGS + 1
        found[_MOST_WARNINGS - 1 :] = [f"{rest} more warnings; `greenprof export` has them all"]
    return found


def _users_first(sites: list[AwaitSite]) -> list[AwaitSite]:
    """Put the lines that a user can change before those of servers and pools that wait for work."""
    return sorted(sites, key=lambda site: site.origin is not FrameOrigin.APP)


def _cut(rows: list[_Row], limit: int) -> tuple[list[_Row], list[_Row]]:
    """Split rows into those to show and the rest, which takes a line too."""
    if len(rows) <= limit:
        return rows, []
    return rows[: max(limit - 1, 0)], rows[max(limit - 1, 0) :]


def _share_out(lines: int, wanted: tuple[int, ...]) -> list[int]:
    """Divide lines among tables: by their shares first, then what is left to who wants more."""
    given = [
        min(want, max(lines * share // sum(_SHARES), 2))
        for want, share in zip(wanted, _SHARES, strict=True)
    ]
    for index in (1, 2, 0):
        given[index] += max(min(wanted[index] - given[index], lines - sum(given)), 0)
    return given
