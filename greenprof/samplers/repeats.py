"""Awaits that one task, or one request, makes again and again: a query in a loop.

Counted by site, and there by operation: by the texts that the library was given for it (a query,
a method and a URL). So a loop over different queries is no repeat, and one over different
parameters of the same query is.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenprof import bridges, variables
from greenprof.samplers.awaitsites import Row

__all__ = ["Repeats", "Unit", "operation_of"]

#: Sites that are told apart in one unit, and operations at one site.
MAX_SITES = 1_000
MAX_OPERATIONS = 200
#: Awaits of a task or greenlet outside of requests that are asked whether they are in one by now;
#: of later ones each so manieth.
ALWAYS_ASKED = 8
ASKED_EACH = 64
# How far from the await the texts are looked for, and how much of each counts.
_SEARCH_DEPTH = 30
_MAX_TEXT = 10_000
_CACHE_LIMIT = 20_000
#: A function that was given none so many times, and never one, is not looked at any more.
NO_TEXTS = 50


class Unit:
    """One task, or one request that it serves: what it awaits counts together.

    `asks` says that its owner may serve another request the next time.
    """

    __slots__ = (
        "_asked",
        "_awaits",
        "asks",
        "end_ns",
        "group",
        "most",
        "owner",
        "pauses",
        "request",
        "sites",
        "start_ns",
        "unrouted",
    )

    def __init__(self, group: int, start_ns: int) -> None:
        #: A weak reference to the task or greenlet; None for a thread's own sync code.
        self.owner: ref[Any] | None = None
        self.group = group
        #: What the server says of the web request, or True; None outside of any.
        self.request: Any = None
        #: What the server says of a web request whose route its framework may still find.
        self.unrouted: Any = None
        self.asks = False
        #: Pauses there had been when its last await was counted that was asked for.
        self.pauses = 0
        self._awaits = 0
        # Functions that waited, by the ids of their codes, when it was asked.
        self._asked: set[int] | None = None
        self.start_ns = start_ns
        self.end_ns = start_ns
        self.sites: dict[int, _AtSite] = {}
        #: The most awaits at one site.
        self.most = 0

    def to_be_asked(self, line: CodeType) -> bool:
        """Whether to look for a request now, outside of which the last await was.

        Until a few awaits were, then if another function waits than before, and now and then.
        """
        self._awaits += 1
        asked = self._asked
        if asked is None:
            asked = self._asked = set()
        rarely = self._awaits > ALWAYS_ASKED and self._awaits % ASKED_EACH
        if rarely and (id(line) in asked or len(asked) >= MAX_SITES):
            return False
        asked.add(id(line))
        return True

    def add(self, site: int, start_ns: int, end_ns: int, top: FrameType, line: FrameType) -> None:
        """Count an await that ended: between `top`, where the sync code waits, and its line."""
        self.end_ns = end_ns
        found = self.sites.get(site)
        if found is None:
            if len(self.sites) < MAX_SITES:
                self.sites[site] = _AtSite(end_ns - start_ns)
                self.most = self.most or 1
            return
        found.add(operation_of(top, line), end_ns - start_ns)
        if found.count > self.most:  # noqa: PLR1730  # a call costs more than this
            self.most = found.count


# What a site has that was awaited once; never added to.
_NONE: dict[int, list[int]] = {}


class _AtSite:
    """What one unit awaited at one site."""

    __slots__ = ("count", "operations", "total_ns")

    def __init__(self, duration_ns: int) -> None:
        self.count = 1
        self.total_ns = duration_ns
        # The first await's operation is not looked up: most sites are not awaited again.
        self.operations: dict[int, list[int]] = _NONE

    def add(self, operation: int, duration_ns: int) -> None:
        self.count += 1
        self.total_ns += duration_ns
        found = self.operations.get(operation)
        if found is None:
            if len(self.operations) >= MAX_OPERATIONS:
                return
            if not self.operations:
                self.operations = {}
            found = self.operations[operation] = [0, 0]
        found[0] += 1
        found[1] += duration_ns

    def tells_operations(self) -> bool:
        """Whether its awaits were given texts by which one operation is told from another."""
        return any(self.operations)

    def repeated(self, least: int) -> tuple[int, int]:
        """Awaits of operations that came up `least` times, and their time."""
        if self.count < least:
            return 0, 0
        if len(self.operations) == 1:  # then the first was the same, as far as can be told
            return self.count, self.total_ns
        often = [one for one in list(self.operations.values()) if one[0] >= least]
        return sum(count for count, _ in often), sum(total_ns for _, total_ns in often)


class Repeats:
    """The repeated awaits of the units that are over, added up by site."""

    def __init__(self, least: int) -> None:
        self.least = least
        #: site -> units, awaits, the most of one unit, time, time of the units.
        self.by_site: dict[int, list[int]] = {}
        # The site that a row's figures are kept at.
        self._first: dict[Row, int] = {}

    def copy(self) -> Repeats:
        """The same, to be added to."""
        twin = Repeats(self.least)
        twin._first = dict(self._first)
        twin.by_site = {site: list(numbers) for site, numbers in list(self.by_site.items())}
        return twin

    def add(self, unit: Unit, row_of: Callable[[int], Row]) -> None:
        """Add what a unit repeated, at the first site of each row. `row_of` tells a site's."""
        if unit.most < self.least:
            return
        sites = [(row_of(site), site, found) for site, found in list(unit.sites.items())]
        told = {row.line for row, _, found in sites if found.tells_operations()}
        # row -> its first site, awaits, time: calls in one line are no two tasks' awaits
        repeated: dict[Row, list[int]] = {}
        for row, site, found in sites:
            if row.line in told and not found.tells_operations():
                continue  # it goes with the others of its line: a cursor with its query
            awaits, total_ns = found.repeated(self.least)
            if awaits:
                of_row = repeated.setdefault(row, [self._first.setdefault(row, site), 0, 0])
                of_row[1] += awaits
                of_row[2] += total_ns
        for site, awaits, total_ns in repeated.values():
            numbers = self.by_site.setdefault(site, [0, 0, 0, 0, 0])
            numbers[0] += 1
            numbers[1] += awaits
            numbers[2] = max(numbers[2], awaits)
            numbers[3] += total_ns
            numbers[4] += unit.end_ns - unit.start_ns


def operation_of(top: FrameType, line: FrameType) -> int:
    """Tell one operation from another; 0 where nothing does.

    By the texts among the arguments of the innermost function, between the await and the line
    that waited, that was given any: the cursor's ``execute(operation, parameters)``.
    """
    one: FrameType | None = top
    for _ in range(_SEARCH_DEPTH):
        if one is None or one is line:
            break
        code = one.f_code
        given = _given.get(id(code)) or _Given(code)
        if given.names:
            values = variables.values_of(one, given.names)
            texts = [value[:_MAX_TEXT] for value in values if type(value) is str]
            given.look_was(bool(texts))
            if texts:
                return hash(tuple(texts)) or 1
        one = one.f_back
    return 0


class _Given:
    """The names of a function's arguments, as long as there may be texts among them.

    A bridge's own are told nothing of an operation.
    """

    __slots__ = ("_looks_left", "code", "names")

    def __init__(self, code: CodeType) -> None:
        self.code = code  # keeps it alive, and with it its id
        role = bridges.role_of(code)
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.names = arguments if role is None else ()
        self._looks_left = NO_TEXTS
        if len(_given) >= _CACHE_LIMIT:
            _given.clear()
        _given[id(code)] = self

    def look_was(self, good: bool) -> None:
        """Take note whether there was a text."""
        if good:
            self._looks_left = -1
        elif self._looks_left > 0:
            self._looks_left -= 1
            if not self._looks_left:
                self.names = ()


_given: dict[int, _Given] = {}
