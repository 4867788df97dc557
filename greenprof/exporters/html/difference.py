"""The report of two profiles: the same page, with what changed in red and blue."""

from __future__ import annotations

import dataclasses
from typing import Any

from greenprof.analysis import AwaitRow, AwaitSite, sample_sites
from greenprof.differences import (
    Comparison,
    counted_changes,
    join,
    paired_sites,
    total_changes,
)
from greenprof.exporters.difference import changed_by, ratio
from greenprof.exporters.headline import reader_warnings
from greenprof.exporters.html.page import page
from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import duration
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["difference_page", "difference_payload"]

# Of a path or a version in the header.
_LONGEST = 200


def difference_page(comparison: Comparison, names: tuple[str, str]) -> str:
    """Return the page; `names` are what the profiles are called, such as their files."""
    return page(difference_payload(comparison, names))


def difference_payload(comparison: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """Return a report's payload of both profiles, in which "before" says what is of which."""
    joined = join(comparison)
    changes = counted_changes(comparison)
    sides = comparison.before, comparison.after
    warnings = [
        f"{word}: {text}"
        for word, profile in zip(("before", "after"), sides, strict=True)
        for text in reader_warnings(profile)
    ]
    profile = dataclasses.replace(
        joined.profile,
        info=dataclasses.replace(
            comparison.after.info,
            command=" → ".join(_name(name) for name in names),
            warnings=[*comparison.notes, *warnings],
            lost_awaits=0,
        ),
    )
    rows = [one.row if one.count.after else _emptied(one.row) for one in changes]
    result = payload(profile, clock=comparison.clock, sites=_sites(comparison), awaits=rows)
    result["header"] = [
        *([name, f"{duration(one.before)} → {duration(one.after)}", f"{changed_by(one)}, {ratio(one)}"]
          for name, one in total_changes(comparison).items() if any(one)),
        *_programs(sides),
    ]  # fmt: skip
    result["before"] = {"split": joined.split, "tasks": joined.tasks}
    result["awaits"] |= {
        "countBefore": [one.count.before for one in changes],
        "totalBefore": [one.total.before for one in changes],
        "meanBefore": [one.mean.before for one in changes],
        "p95Before": [one.p95.before for one in changes],
    }
    return result


def _name(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def _emptied(row: AwaitRow) -> AwaitRow:
    """Return a row of awaits that are gone."""
    return AwaitRow(row.site, row.awaited, row.bridge, row.group, -1)


def _programs(sides: tuple[Profile, Profile]) -> list[list[str]]:
    found = []
    for word, profile in zip(("before", "after"), sides, strict=True):
        facts = [profile.info.command, profile.info.python and f"Python {profile.info.python}"]
        text = ", ".join(printable(fact[:_LONGEST]) for fact in facts if fact)
        found.append([word, text or "profile", printable(profile.info.started_at[:_LONGEST])])
    return found


def _sites(comparison: Comparison) -> tuple[list[AwaitSite], list[int]]:
    """The await sites of both, equal ones once, and the site of each sample after and before."""
    old, of_old = sample_sites(comparison.before)
    new, of_new = sample_sites(comparison.after)
    known: list[AwaitSite] = []
    numbers: dict[int, int] = {}
    for pair in paired_sites(old, new):
        for site in pair:
            numbers[id(site)] = len(known)
        known += [site for site in reversed(pair) if site is not None][:1]
    numbers_new = [numbers[id(new[site])] if site >= 0 else -1 for site in of_new]
    numbers_old = [numbers[id(old[site])] if site >= 0 else -1 for site in of_old]
    return known, [*numbers_new, *numbers_old]
