"""What compares Django's own tests on two backends, with tests of our own instead: Django's come by network."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.food_server import FOLDER
from tests.postgres import Postgres
from tests.running import run_python

RUNTESTS = """
import os, sys
import django
from django.conf import settings
from django.test.utils import get_runner
os.environ["DJANGO_SETTINGS_MODULE"] = sys.argv[1].partition("=")[2]
django.setup()
sys.exit(bool(get_runner(settings)(parallel=1, interactive=False).run_tests(sys.argv[4:])))
"""
TINY = """
import unittest
from django.db import connection, transaction
from django.test import TransactionTestCase

class Tiny(TransactionTestCase):
    def test_passes_on_both(self):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("select 1")
            self.assertEqual(cursor.fetchone(), (1,))

    def test_knows_its_backend(self):
        self.assertEqual(connection.settings_dict["ENGINE"], "django.db.backends.postgresql", "other")

    def test_has_parts(self):
        for engine in ("async_postgres", "none"):
            with self.subTest(engine):
                self.assertNotEqual(connection.settings_dict["ENGINE"], engine)

    def test_fails_on_both(self):
        self.fail("on both")

    @unittest.expectedFailure
    def test_is_meant_to_fail(self):
        self.fail("as it should")

    @unittest.skip("on both")
    def test_is_skipped(self):
        pass
"""
COMPARED = """
import json, sys
from django_suite import compared
sys.exit(compared(*(json.load(open(path)) for path in sys.argv[1:])))
"""


def test_outcomes_are_kept_and_compared(tmp_path: Path, postgres: Postgres) -> None:
    (tmp_path / "runtests.py").write_text(RUNTESTS, encoding="utf-8")
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    written = []
    for engine in ("django.db.backends.postgresql", "async_postgres"):
        written.append(tmp_path / f"{engine}.json")
        run_python(
            *(FOLDER / "suite_worker.py", tmp_path / "runtests.py"),
            *("--settings=suite_worker", "--parallel=1", "--noinput", "tiny"),
            env={
                "PYTHONPATH": str(FOLDER),
                "SUITE_ENGINE": engine,
                "SUITE_OUTCOMES": str(written[-1]),
                "SUITE_SERVER": postgres.dsn,
            },
            cwd=tmp_path,
            expect=1,
        )
    theirs, ours = (json.loads(path.read_text(encoding="utf-8")) for path in written)
    assert theirs == {
        "tiny.Tiny.test_passes_on_both": "passed",
        "tiny.Tiny.test_knows_its_backend": "passed",
        "tiny.Tiny.test_has_parts": "passed",
        "tiny.Tiny.test_fails_on_both": "AssertionError: on both",
        "tiny.Tiny.test_is_meant_to_fail": "passed",
        "tiny.Tiny.test_is_skipped": "skipped",
    }
    differing = {name for name, outcome in theirs.items() if ours[name] != outcome}
    assert differing == {"tiny.Tiny.test_knows_its_backend", "tiny.Tiny.test_has_parts"}
    done = run_python("-c", COMPARED, *written, cwd=FOLDER, expect=1)
    assert re.search(r"^passed +4 +2 +50\.00%$", done.stdout, re.MULTILINE)
    assert "On both alike: 1 skipped, 1 failed on Django's." in done.stdout
    for name in differing:
        assert f"  {name}\n    AssertionError: " in done.stdout
