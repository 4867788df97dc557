"""The summary: a profile on one screen."""

from __future__ import annotations

from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from greenprof.analysis import (
    AwaitRow,
    AwaitSite,
    FunctionRow,
    GroupRow,
    await_rows,
    await_sites,
    block_rows,
    check_clock,
    function_table,
    group_table,
    is_exact,
    repeat_rows,
)
from greenprof.exporters.cells import Cut, encodable, table
from greenprof.exporters.counted import Repeats, await_part, block_part
from greenprof.exporters.headline import headline, reader_warnings, running_word
from greenprof.exporters.units import duration, place
from greenprof.printable import printable
from greenprof.profiles import FrameOrigin, Profile

__all__ = ["Summary", "summary_renderable"]

_Row = TypeVar("_Row")

_MAX_HEIGHT = 48
_PLAIN_HEIGHT = 40
# Repeats and loop blockers are worth a few lines more, where there are some.
_MORE_HEIGHT = 5
# On a small screen something scrolls away; a table of one row would say less.
_MIN_ROWS = 11
# The command line has a few lines of its own to say below: what was saved, and what comes next.
_RESERVED_LINES = 4
_MOST_WARNINGS = 4
# Of the rows that fit, so many parts go to tasks, functions, await sites, repeats, loop blockers.
_SHARES = (4, 7, 4, 3, 3)
_ALWAYS_THERE = 3


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
        self._exact = is_exact(profile)
        self._running = running_word(profile)
        self._groups = [
            row for row in group_table(profile, clock=clock) if row.samples or row.wall_ns
        ]
        self._functions = function_table(profile, clock=clock)
        self._awaits = sorted(await_rows(profile, by_group=False), key=_is_theirs)
        # What was counted says more than what was sampled of the same lines.
        self._sites = [] if self._awaits else sorted(await_sites(profile), key=_is_theirs)
        self._repeats = Repeats(repeat_rows(profile), profile)
        self._blocks = block_rows(profile)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        more = _MORE_HEIGHT * (bool(self._repeats) + bool(self._blocks))
        height = self._height or (console.height if console.is_terminal else _PLAIN_HEIGHT + more)
        header = [
            Text(encodable(line, options), style=style, overflow="fold")
            for line, style in _header(self._profile)
        ]
        warnings = [
            Text(encodable(f"! {text}", options), style="yellow", overflow="fold")
            for text in self._warnings
        ]
        fixed = sum(len(text.wrap(console, options.max_width)) for text in [*header, *warnings])
        note = Text(_CLOCK_NOTES[self._running], style="dim")
        fixed += len(note.wrap(console, options.max_width))
        sizes = (
            len(self._groups),
            len(self._functions),
            len(self._awaits) or len(self._sites),
            self._repeats.lines(options.max_width),
            len(self._blocks),
        )
        # A blank line and a header for each table, and a blank line before the notes.
        fixed += 2 * sum(map(bool, sizes)) + 1 + _RESERVED_LINES
        rows = _share_out(max(min(height, _MAX_HEIGHT + more) - fixed, _MIN_ROWS), sizes)
        self._repeats.limit = rows[3]
        parts: tuple[RenderableType, ...] = (
            self._group_part(rows[0]),
            self._function_part(rows[1]),
            await_part(self._awaits, rows[2], options.max_width)
            if self._awaits
            else self._site_part(rows[2]),
            self._repeats,
            block_part(self._blocks, self._profile, rows[4]),
        )
        yield from header
        for part, size in zip(parts, sizes, strict=True):
            if size:
                yield Text("")
                yield part
        yield Text("")
        if any(sizes):
            yield note
        yield from warnings

    def _group_part(self, limit: int) -> Table:
        columns = [
            (title, name)
            for title, name in (
                ("wall", "wall_ns"),
                (self._running, "cpu_ns"),
                ("awaiting", "awaiting_ns"),
                ("ready", "ready_ns"),
                ("blocked", "blocked_ns"),
                ("idle", "idle_ns"),
            )
            # The exact engine measures one clock, whatever else tasks did.
            if (name != "idle_ns" and not self._exact)
            or any(getattr(row, name) for row in self._groups)
        ]
        if self._exact and all(row.wall_ns == row.cpu_ns for row in self._groups):
            columns = [(title, name) for title, name in columns if name != "wall_ns"]
        calls = ["calls"] if self._exact else []
        result = table(["Tasks"], ["tasks", *calls, *(title for title, _ in columns)])

        def add(name: Cut, tasks: int, row: GroupRow) -> None:
            counts = [tasks, row.samples] if self._exact else [tasks]
            times = [getattr(row, name) for _, name in columns]
            result.add_row(name, *(f"{count:,}" for count in counts), *map(duration, times))

        shown, rest = _cut(self._groups, limit)
        for row in shown:
            kind = "" if row.kind == "asyncio" else f" ({row.kind})"
            add(Cut(f"{row.name}{kind}"), row.tasks, row)
        if rest:
            more = GroupRow("", "", 0)
            for row in rest:
                more.tasks += row.tasks
                more.samples += row.samples
                for _, name in columns:
                    setattr(more, name, getattr(more, name) + getattr(row, name))
            add(Cut(f"{len(rest)} more", "dim"), more.tasks, more)
        return result

    def _function_part(self, limit: int) -> Table:
        shown, rest = self._chosen_functions(limit)
        blocked = any(row.total_blocked_ns for row in self._functions)
        awaits = not self._exact or any(row.total_await_ns for row in self._functions)
        calls = ["calls"] if self._exact else []
        numbers = [*calls, f"{self._running} self", "total"]
        numbers += ["await self", "total"] * awaits + ["blocked"] * blocked
        result = table(["Functions", "where"], numbers)
        for row in shown:
            style = "" if row.origin is FrameOrigin.APP else "dim"
            times = [row.self_cpu_ns, row.total_cpu_ns]
            times += [row.self_await_ns, row.total_await_ns] * awaits
            times += [row.total_blocked_ns] * blocked
            result.add_row(
                Cut(row.name, style),
                Cut(place(row.path, row.first_line), "dim", keep_end=True),
                *([f"{row.calls:,}" if row.calls else "-"] * self._exact),
                *map(duration, times),
            )
        if rest:
            # Totals of several functions overlap; only the time in themselves adds up.
            result.add_row(
                Cut(f"{len(rest)} more", "dim"),
                "",
                *([f"{sum(row.calls for row in rest):,}"] * self._exact),
                duration(sum(row.self_cpu_ns for row in rest)),
                "",
                *([duration(sum(row.self_await_ns for row in rest)), ""] * awaits),
            )
        return result

    def _chosen_functions(self, limit: int) -> tuple[list[FunctionRow], list[FunctionRow]]:
        """The user's functions by total, then the library's by self: where their time goes."""
        counted = [row for row in self._functions if row.total_ns("wall") or row.calls]
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


_CLOCK_NOTES = {
    "CPU": "CPU columns: CPU clock. Other times: wall clock of each task, which add up.",
    "run": "All times: wall clock of each task, which add up. Run: on the CPU, or in a call that waits.",
}


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


def _is_theirs(site: AwaitSite | AwaitRow) -> bool:
    """Lines that a user can change come before those of servers and pools that wait for work."""
    origin = site.origin if isinstance(site, AwaitSite) else site.site.origin
    return origin is not FrameOrigin.APP


def _cut(rows: list[_Row], limit: int) -> tuple[list[_Row], list[_Row]]:
    """Split rows into those to show and the rest, which takes a line too."""
    if len(rows) <= limit:
        return rows, []
    return rows[: max(limit - 1, 0)], rows[max(limit - 1, 0) :]


def _share_out(lines: int, wanted: tuple[int, ...]) -> list[int]:
    """Divide lines among tables: by their shares first, then what is left to who wants more."""
    shares = [
        share if want or number < _ALWAYS_THERE else 0
        for number, (share, want) in enumerate(zip(_SHARES, wanted, strict=True))
    ]
    given = [
        min(want, max(lines * share // sum(shares), 2))
        for want, share in zip(wanted, shares, strict=True)
    ]
    for index in (3, 4, 1, 2, 0):
        given[index] += max(min(wanted[index] - given[index], lines - sum(given)), 0)
    return given
