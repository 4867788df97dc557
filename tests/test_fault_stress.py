"""200 tasks in 4 threads that switch as fast as they can, sampled at 1000 Hz.

No crash, no stack that mixes two tasks, no growth of memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.running import PROGRAMS, REPOSITORY, run_python

KINDS = ("raw", "sqlalchemy", "gevent", "restarts")
SECONDS = 60.0
# Each new stack is a few hundred bytes. What a frame or greenlet that is kept for each sample, or
# for each switch, would take in this time is many times as much.
MAX_GROWTH_BYTES = 16_000_000


def stressed(
    kind: str, seconds: float, *options: str, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    finished = run_python(
        *options,
        PROGRAMS / "numbered_tasks.py",
        kind,
        str(seconds),
        limit_s=3 * seconds + 60,
        env={"PYTHONPATH": str(REPOSITORY), **(env or {})},
    )
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def check(kind: str, found: Mapping[str, Any]) -> None:
    assert found["torn"] == [], kind
    assert found["turns"] > 1000, (kind, found)
    # The tasks were seen at all, or no torn stack could be.
    assert found["numbered"] > 0, (kind, found)
    # Nobody asked for awaits, so counting them pauses, and some are open when it does.
    unexpected = [text for text in found["warnings"] if " awaits were " not in f" {text}"]
    assert not unexpected, kind


@pytest.mark.timeout(400)
def test_a_minute_of_switches() -> None:
    """All kinds side by side: what one process does is interrupted all the more for the others."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        results = dict(
            zip(KINDS, pool.map(lambda kind: stressed(kind, SECONDS), KINDS), strict=True)
        )
    for kind, found in results.items():
        check(kind, found)
        _, early, late, end = found["memory"]
        assert max(late, end) - early < MAX_GROWTH_BYTES, (kind, found["memory"])


@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", ["malloc", "dev"])
def test_switches_under_checks_of_memory(how: str) -> None:
    """What is written past its end, or used after it was freed, ends the process."""
    env = {"PYTHONMALLOC": "debug"} if how == "malloc" else {"PYTHONASYNCIODEBUG": ""}
    options = () if how == "malloc" else ("-X", "dev", "-W", "ignore")
    with ThreadPoolExecutor(len(KINDS)) as pool:
        results = pool.map(lambda kind: stressed(kind, 6, *options, env=env), KINDS)
        for kind, found in zip(KINDS, results, strict=True):
            check(kind, found)
