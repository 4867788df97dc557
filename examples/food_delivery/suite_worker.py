"""Runs modules of Django's own test suite on one backend; django_suite.py starts it, and says what is what.

It is the settings of those tests, too.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import unittest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.test.runner import DiscoverRunner

ENGINE = os.environ["SUITE_ENGINE"]
OUTCOMES = os.environ["SUITE_OUTCOMES"]

_server = urlsplit(os.environ["SUITE_SERVER"])
_database = {
    "ENGINE": ENGINE,
    "HOST": _server.hostname,
    "PORT": str(_server.port),
    "USER": _server.username,
    "PASSWORD": _server.password or "",
}
DATABASES = {
    alias: {**_database, "NAME": f"suite_{ENGINE.replace('.', '_')}_{alias}"}
    for alias in ("default", "other")
}
SECRET_KEY = "not a secret: the suite's own"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "suite_worker.Recorder"


class Outcomes(unittest.TextTestResult):
    """Keeps what became of each test: "passed", "skipped", or the last line of why it failed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.by_test: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.by_test.setdefault(test.id(), "passed")

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.by_test.setdefault(test.id(), "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.by_test.setdefault(test.id(), "skipped")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self.by_test[test.id()] = "passed, unexpectedly"

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._failed(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, err)

    def _failed(self, test: unittest.TestCase, err: Any) -> None:
        first = str(err[1]).strip().partition("\n")[0]
        self.by_test[test.id()] = f"{err[0].__name__}: {first}"


class Recorder(DiscoverRunner):
    def get_resultclass(self) -> type[Outcomes]:
        return Outcomes

    def suite_result(self, suite: Any, result: Any, **options: Any) -> int:
        Path(OUTCOMES).write_text(json.dumps(result.by_test), encoding="utf-8")
        failed: int = super().suite_result(suite, result, **options)
        return failed


def main() -> None:
    """Runs runtests.py, which sys.argv names with its arguments."""
    if ENGINE == "async_postgres":
        from greenprof import greenhack

        greenhack.start_loop()
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
