"""What changed between two profiles, as tables for the terminal."""

from __future__ import annotations

from io import StringIO
from typing import Final, TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from greenprof.differences import (
    Chance,
    Change,
    Comparison,
    FunctionChange,
    counted_changes,
    function_changes,
    group_changes,
    site_changes,
    total_changes,
)
from greenprof.exporters.cells import Cut, encodable, table
from greenprof.exporters.headline import reader_warnings
from greenprof.exporters.units import duration, place
from greenprof.printable import printable
from greenprof.profiles import FrameOrigin, Profile

__all__ = ["Difference", "changed_by", "difference_text", "ratio"]

_Row = TypeVar("_Row")

_CLOCKS: Final = {
    "wall": "wall clock of the tasks",
    "cpu": "CPU clock",
    "await": "time suspended in awaits",
}
_LEAST_ROWS: Final = 4
_MOST_ROWS: Final = 20
# Headers of the tables, totals, notes, and what the shell says below.
_OTHER_LINES: Final = 30
_MANY_TIMES: Final = 10


def changed_by(change: Change) -> str:
    """Return a change of nanoseconds with its sign: "+1.23 s", "-45.6 ms"; "-" for none."""
    text = duration(abs(change.by))
    if not change.by:
        return "-"
    return ("+" if change.by > 0 else "-") + text


def ratio(change: Change) -> str:
    """Return a change in proportion: "+12 %", "-3.4 %", "x25", "new", "gone"; "-" for none."""
    if change.before == change.after:
        return "-"
    if not change.before or not change.after:
        return "gone" if change.before else "new"
    if change.after >= _MANY_TIMES * change.before:
        return f"x{change.after / change.before:,.0f}"
    share = 100 * change.by / change.before
    return f"{share:+.0f} %" if abs(share) >= 9.95 else f"{share:+.1f} %"


class Difference:
    """The tables as a rich renderable. `rows`: of each table at most; what fits, if it is 0."""

    def __init__(self, comparison: Comparison, names: tuple[str, str], *, rows: int = 0) -> None:
        self._comparison = comparison
        self._names = names
        self._rows = rows
        self._groups = [row for row in group_changes(comparison) if any(row.time)]
        self._functions = _users_first(function_changes(comparison))
        self._own = sum(not _is_theirs(row) for row in self._functions)
        self._awaits = counted_changes(comparison)
        self._sites = [] if self._awaits else site_changes(comparison)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        limit = self._rows or _fitting(console)
        sides = self._comparison.before, self._comparison.after
        for word, name, profile in zip(("before", "after"), self._names, sides, strict=True):
            yield Text(encodable(_side(word, name, profile), options), style="bold")
        yield Text("")
        parts = [
            self._totals(),
            self._group_part(limit),
            self._function_part(limit),
            self._await_part(limit) if self._awaits else self._site_part(limit),
        ]
        for part in parts:
            if part.row_count:
                yield part
                yield Text("")
        for note in self._notes():
            yield Text(encodable(note, options), style="dim", overflow="fold")
        for word, profile in zip(("before", "after"), sides, strict=True):
            for warning in reader_warnings(profile):
                text = f"! {word}: {printable(warning[:300])}"
                yield Text(encodable(text, options), style="yellow", overflow="fold")

    def _totals(self) -> Table:
        result = table(["Totals"], ["before", "after", "change", ""])
        for name, change in total_changes(self._comparison).items():
            if any(change):
                result.add_row(Cut(name), *_cells(change))
        return result

    def _group_part(self, limit: int) -> Table:
        result = table(["Tasks"], ["tasks", "after", *self._columns()])
        shown, rest = _cut(self._groups, limit)
        for row in shown:
            kind = "" if row.kind == "asyncio" else f" ({row.kind})"
            counts = (f"{row.tasks.before:,}", f"{row.tasks.after:,}")
            result.add_row(Cut(f"{row.name}{kind}"), *counts, *self._judged(row.time, row.chance))
        self._add_rest(result, [row.time for row in rest], 2)
        return result

    def _function_part(self, limit: int) -> Table:
        exact = self._comparison.exact
        calls = ["calls", "after"] if exact else []
        result = table(["Functions", "where"], [*calls, *self._columns(), "self"])
        own, theirs = self._functions[: self._own], self._functions[self._own :]
        # Where a change comes from is in libraries as often as not.
        kept = min(len(theirs), limit // 4)
        shown = own[: max(limit - kept - 1, 0)]
        shown += theirs[: limit - len(shown) - 1]
        rest = len(self._functions) - len(shown)
        for row in shown:
            style = "dim" if _is_theirs(row) else ""
            counts = [f"{row.calls.before:,}", f"{row.calls.after:,}"] if exact else []
            result.add_row(
                Cut(row.name, style),
                Cut(place(row.path, row.first_line), "dim", keep_end=True),
                *counts,
                *self._judged(row.total, row.total_chance),
                _colour(changed_by(row.own), row.own, row.own_chance),
            )
        if rest:
            # Totals of several functions overlap.
            result.add_row(Cut(f"{rest:,} more", "dim"))
        return result

    def _await_part(self, limit: int) -> Table:
        numbers = ["awaits", "after", "mean", "after", "total", "after", "change", ""]
        result = table(["Await sites", "in", "awaits"], numbers)
        shown, rest = _cut(self._awaits, limit)
        for one in shown:
            site = one.row.site
            style = "" if site.origin is FrameOrigin.APP else "dim"
            result.add_row(
                Cut(place(site.path, site.line), style, keep_end=True),
                Cut(site.name, "dim"),
                Cut(one.row.awaited, style, keep_end=True),
                *(f"{count:,}" for count in one.count),
                *map(duration, one.mean),
                *_cells(one.total),
            )
        self._add_rest(result, [one.total for one in rest], 6)
        return result

    def _site_part(self, limit: int) -> Table:
        result = table(["Await sites", "in", "awaits"], self._columns())
        shown, rest = _cut(self._sites, limit)
        for one in shown:
            site = one.site
            style = "" if site.origin is FrameOrigin.APP else "dim"
            result.add_row(
                Cut(place(site.path, site.line), style, keep_end=True),
                Cut(site.function, "dim"),
                Cut(site.awaited, style, keep_end=True),
                *self._judged(one.time, one.chance),
            )
        self._add_rest(result, [one.time for one in rest], 2)
        return result

    def _columns(self) -> list[str]:
        return ["before", "after", "change", "", *([] if self._comparison.exact else ["chance"])]

    def _judged(self, change: Change, chance: Chance) -> list[str | Text]:
        cells = _cells(change, chance)
        return cells if self._comparison.exact else [*cells, chance.value if change.by else ""]

    def _add_rest(self, result: Table, changes: list[Change], texts: int) -> None:
        if changes:
            before = sum(one.before for one in changes)
            after = sum(one.after for one in changes)
            cells = _cells(Change(before, after))
            result.add_row(Cut(f"{len(changes):,} more", "dim"), *[""] * texts, *cells)

    def _notes(self) -> list[str]:
        clock = self._comparison.clock
        said = [f"Tasks and functions by {_CLOCKS[clock]}; functions: total, and change of self."]
        if not self._comparison.exact:
            said.append(
                "chance: sampling alone makes such a change (noise: below 2 standard errors of the "
                "observations, maybe: below 3)."
            )
        return [*said, *(f"Note: {printable(note)}." for note in self._comparison.notes)]


def difference_text(
    comparison: Comparison, names: tuple[str, str], *, width: int = 130, rows: int = 30
) -> str:
    """Return the tables in lines of at most `width` letters."""
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
    console.print(Difference(comparison, names, rows=rows))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _side(word: str, name: str, profile: Profile) -> str:
    command = printable(profile.info.command[:120]) or "profile"
    python = printable(profile.info.python[:40])
    said = [f"{word + ':':8}{printable(name[-120:])}", command]
    return ", ".join([*said, f"Python {python}"] if python else said)


def _cells(change: Change, chance: Chance = Chance.CLEAR) -> list[str | Text]:
    return [
        duration(change.before),
        duration(change.after),
        _colour(changed_by(change), change, chance),
        _colour(ratio(change), change, chance),
    ]


def _colour(text: str, change: Change, chance: Chance) -> Text:
    if chance is Chance.NOISE or not change.by:
        return Text(text, style="dim")
    style = "red" if change.by > 0 else "blue"
    return Text(text, style=style if chance is Chance.MAYBE else f"bold {style}")


def _is_theirs(row: FunctionChange) -> bool:
    return row.origin is not FrameOrigin.APP or row.boundary


def _users_first(rows: list[FunctionChange]) -> list[FunctionChange]:
    """The user's functions by what their total changed by, then libraries' by themselves."""
    seen = [row for row in rows if any(row.total) or any(row.own) or any(row.calls)]
    own = [row for row in seen if not _is_theirs(row)]
    theirs = sorted(
        (row for row in seen if _is_theirs(row) and not row.boundary),
        key=lambda row: -abs(row.own.by),
    )
    return own + theirs


def _cut(rows: list[_Row], limit: int) -> tuple[list[_Row], list[_Row]]:
    if len(rows) <= limit:
        return rows, []
    return rows[: limit - 1], rows[limit - 1 :]


def _fitting(console: Console) -> int:
    height = console.height if console.is_terminal else 0
    rows = (height - _OTHER_LINES) // 3 if height else 12
    return min(max(rows, _LEAST_ROWS), _MOST_ROWS)
