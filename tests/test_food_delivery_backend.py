"""The async database backend and the ASGI handler of the food-delivery example, check by check."""

from __future__ import annotations

import json
import re

import pytest

from tests.food_server import new_database
from tests.postgres import Postgres
from tests.running import PROGRAMS, run_python

PROGRAM = PROGRAMS / "django_checks.py"
CHECKS = re.findall(r"def check_(\w+)\(", PROGRAM.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outcomes(postgres: Postgres) -> dict[str, str]:
    done = run_python(PROGRAM, new_database(postgres))
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_of_the_backend(outcomes: dict[str, str], check: str) -> None:
    assert outcomes[f"check_{check}"] == ""
