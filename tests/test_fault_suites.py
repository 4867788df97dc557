"""Other people's test suites pass under greenprof as they pass without.

A bounded part of them; `python -m benchmarks.suites` runs all of it, in all modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import other_suites
from tests.other_suites import Suite

GEVENT = (
    *("test___monitor", "test__contextvars", "test__event", "test__hub", "test__queue"),
    "test__threading_2",
)
SQLALCHEMY = ("test_cte", "test_insert", "test_results", "test_rowcount", "test_select")


def assert_the_same(suite: Suite, modes: Sequence[str], folder: Path, *, at_least: int) -> None:
    found = other_suites.compared(suite, modes, folder)
    assert list(found["plain"][0].values()).count("passed") >= at_least
    differing = {mode: different for mode, (_, different) in found.items() if different}
    assert not differing


@pytest.mark.timeout(300)
def test_greenlets_suite(tmp_path: Path) -> None:
    assert_the_same(other_suites.greenlets(whole=False), ["everything"], tmp_path, at_least=120)


@pytest.mark.timeout(300)
def test_greenbacks_suite(tmp_path: Path) -> None:
    modes = ["no awaits", "everything"]
    assert_the_same(other_suites.greenbacks(), modes, tmp_path, at_least=30)


@pytest.mark.timeout(300)
def test_a_part_of_sqlalchemys_suite(tmp_path: Path) -> None:
    suite = other_suites.sqlalchemys("sqlite+aiosqlite:///suite.db", *SQLALCHEMY)
    assert_the_same(suite, ["everything"], tmp_path, at_least=80)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", GEVENT)
def test_modules_of_gevents_suite(tmp_path: Path, module: str) -> None:
    assert_the_same(other_suites.gevents(module), ["everything"], tmp_path, at_least=15)


def test_a_difference_is_seen() -> None:
    plain = {"a": "passed", "b": "skipped", "c": "failed", "d": "passed"}
    profiled = {"a": "failed", "b": "skipped", "c": "failed"}
    assert other_suites.differences(plain, profiled) == {"a": "failed", "d": "did not run"}


def test_what_may_differ_has_a_reason_and_a_mode() -> None:
    plain = {"greenback._tests.test_impl.test_awaitable[trio]": "passed"}
    assert other_suites.differences(plain, {}, "100 Hz") == {}
    traced = next(iter(other_suites.DIFFERS_IN["exact"]))
    assert other_suites.differences({traced: "passed"}, {}, "exact") == {}
    assert other_suites.differences({traced: "passed"}, {}, "100 Hz") == {traced: "did not run"}
