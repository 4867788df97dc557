"""Numbers and places as a person reads them."""

from __future__ import annotations

import pytest

from greenprof.exporters.units import duration, percent, place, plural


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "-"),
        (1, "<0.01 ms"),
        (4_999, "<0.01 ms"),
        (5_000, "0.01 ms"),
        (1_234_567, "1.23 ms"),
        (9_994_999, "9.99 ms"),
        (9_995_000, "10.0 ms"),
        (99_950_000, "100 ms"),
        (999_499_999, "999 ms"),
        (999_500_000, "1.00 s"),
        (9_995_000_000, "10.0 s"),
        (99_950_000_000, "100 s"),
        (599_500_000_000, "10 min 00 s"),
        (723_000_000_000, "12 min 03 s"),
        (7_500_000_000_000, "2 h 05 min"),
        (2**63 - 1, "2562047 h 47 min"),
    ],
)
def test_duration(ns: int, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "-"), (0, 5, "0 %"), (1, 200, "0.5 %"), (1, 3, "33 %"), (9.96, 100, "10 %")],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text


def test_plural() -> None:
    assert (plural(1, "task"), plural(0, "task")) == ("1 task", "0 tasks")
    assert plural(1234, "task") == "1,234 tasks"


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        ("/srv/orders/api.py", 12, "orders/api.py:12"),
        ("app.py", 3, "app.py:3"),
        ("<string>", 1, "<string>:1"),
        ("/x/site-packages/sqlalchemy/orm/session.py", 9, "sqlalchemy/../session.py:9"),
        ("/usr/lib/python3/dist-packages/six.py", 9, "six.py:9"),
        ("C:\\apps\\orders\\api.py", 5, "orders/api.py:5"),
        ("/site-packages", 5, "site-packages:5"),
        ("/", 5, "/:5"),
        ("", 5, ""),
        ("/srv/a\nb.py", 0, "srv/a\\nb.py"),
    ],
)
def test_place(path: str, line: int, text: str) -> None:
    assert place(path, line) == text
