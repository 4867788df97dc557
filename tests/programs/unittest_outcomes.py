"""Runs unittest modules and writes each test's outcome as JSON: unittest_outcomes.py OUTPUT MODULE...

Each module has a process of its own to itself where it is named alone, as gevent's have to: they
patch the standard library when they are imported.
"""

from __future__ import annotations

import json
import sys
import unittest
from collections.abc import Iterator
from typing import Any


class Outcomes(unittest.TextTestResult):
    """Remembers by name how each test ended; the worst of its subtests counts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outcomes: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's name)
        super().addSuccess(test)
        self.outcomes.setdefault(test.id(), "passed")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self.outcomes[test.id()] = "passed"

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self.outcomes.setdefault(test.id(), "skipped")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.outcomes[test.id()] = "failed"

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self.outcomes[test.id()] = "failed"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self.outcomes[test.id()] = "failed"

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcomes[test.id()] = "failed"


def flat(suite: unittest.TestSuite) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def main(output: str, modules: list[str]) -> int:
    tests = unittest.TestSuite()
    for name in modules:
        module, _, skipped = name.partition("!")
        for test in flat(unittest.defaultTestLoader.loadTestsFromName(module)):
            if not skipped or not test.id().endswith(tuple(skipped.split(","))):
                tests.addTest(test)
    runner = unittest.TextTestRunner(resultclass=Outcomes, verbosity=2)
    result = runner.run(tests)
    assert isinstance(result, Outcomes)
    with open(output, "w", encoding="utf-8") as file:
        json.dump(result.outcomes, file)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
