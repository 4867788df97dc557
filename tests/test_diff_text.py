"""What changed, as a person reads it in a terminal."""

from __future__ import annotations

import dataclasses
import io

import pytest
from hypothesis import given
from rich.cells import cell_len
from rich.console import Console

from greenprof.differences import Change, compare
from greenprof.exporters.difference import Difference, changed_by, difference_text, ratio
from greenprof.profiles import Profile
from tests.differing import accounted, after, before, exact
from tests.profiles import MS, SECOND, profiles
from tests.test_report_hostile import HOSTILE, named

NAMES = "old.gprof", "new.gprof"


def text_of(old: Profile, new: Profile, width: int = 130, **options: str) -> str:
    return difference_text(compare(old, new, **options), NAMES, width=width)


def line_of(text: str, start: str) -> str:
    [line] = [line for line in text.splitlines() if line.startswith(f"{start} ")]
    return " ".join(line.removeprefix(start).split())


@pytest.mark.parametrize(
    ("before_ns", "after_ns", "by", "share"),
    [
        (SECOND, SECOND, "-", "-"),
        (SECOND, 1500 * MS, "+500 ms", "+50 %"),
        (SECOND, 990 * MS, "-10.0 ms", "-1.0 %"),
        (SECOND, 250 * MS, "-750 ms", "-75 %"),
        (0, SECOND, "+1.00 s", "new"),
        (SECOND, 0, "-1.00 s", "gone"),
        (MS, 25 * MS, "+24.0 ms", "x25"),
        (MS, 30 * SECOND, "+30.0 s", "x30,000"),
        (MS, MS + 1, "+<0.01 ms", "+0.0 %"),
    ],
)
def test_changes_have_a_sign_and_a_proportion(
    before_ns: int, after_ns: int, by: str, share: str
) -> None:
    assert changed_by(Change(before_ns, after_ns)) == by
    assert ratio(Change(before_ns, after_ns)) == share


def test_the_tables_say_before_after_and_change() -> None:
    text = text_of(before(), after(), clock="cpu")
    assert text.startswith(
        "before: old.gprof, orders.py --requests 15, Python 3.11.9\nafter:  new.gprof,"
    )
    assert line_of(text, "awaiting") == "1.35 s 3.90 s +2.55 s +189 %"
    assert line_of(text, "GET /report") == "3 3 800 ms 200 ms -600 ms -75 %"
    assert line_of(text, "total") == "orders/api.py:8 800 ms 200 ms -600 ms -75 % -600 ms"
    assert line_of(text, "report").endswith("-75 % -")


def test_awaits_that_were_counted_are_shown_exactly() -> None:
    text = text_of(*accounted())
    [line] = [line for line in text.splitlines() if "Session.execute" in line and "100" in line]
    assert " ".join(line.split()[-14:]) == "12 12 103 ms 207 ms 1.24 s 2.48 s +1.24 s +100 %"


def test_a_change_that_may_be_chance_is_marked() -> None:
    old = before()
    # 30 observations: their number is known within 18 %.
    samples = [
        dataclasses.replace(one, wall_ns=one.wall_ns * 5 // 4) if one.count == 30 else one
        for one in old.samples
    ]
    text = text_of(old, dataclasses.replace(old, samples=samples))
    assert line_of(text, "load_lines") == "orders/repo.py:20 300 ms 375 ms +75.0 ms +25 % noise -"
    assert "noise: below 2 standard errors" in text


def test_nothing_that_was_counted_is_chance() -> None:
    text = text_of(exact(before()), exact(after()))
    assert "chance" not in text
    assert line_of(text, "total").startswith("orders/api.py:8 80 20 ")


def test_warnings_and_other_durations_are_said() -> None:
    longer = dataclasses.replace(
        after(), info=dataclasses.replace(after().info, duration_ns=9 * SECOND)
    )
    text = text_of(before(), longer)
    assert "! before: another profiler took the greenlet tracer" in text
    assert "after is 4.5 times as long" in text
    assert "--scale tasks" in text


def test_tables_are_cut_to_their_rows_and_say_so() -> None:
    comparison = compare(before(), after())
    short = difference_text(comparison, NAMES, rows=4)
    assert "9 more" in short
    # Where a change comes from is in libraries as often as not.
    assert "Connection.fetch " in short
    assert len(short.splitlines()) < len(difference_text(comparison, NAMES).splitlines())


@given(profiles(), profiles())
def test_whatever_the_profiles_hold_no_line_is_too_long(old: Profile, new: Profile) -> None:
    text = text_of(old, new, width=100)
    assert all(cell_len(line) <= 100 for line in text.splitlines())
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_escaped(name: str) -> None:
    text = difference_text(compare(named("main"), named(name)), (name, name), width=120)
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_encodings_get_what_they_have_letters_for(encoding: str) -> None:
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding=encoding)
    Console(file=file, width=80).print(
        Difference(compare(named("Bücher…"), named("日本")), ("Bücher…", "日本"))
    )
    file.flush()
    assert b"old" not in data.getvalue()
    assert b"\\u65e5" in data.getvalue()


def test_two_empty_profiles_differ_in_nothing() -> None:
    text = text_of(Profile(), Profile())
    assert "before: old.gprof, profile" in text
    assert "nothing was sampled" in text
