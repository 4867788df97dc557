"""What the programs of the tests of await accounting share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.await_truth import beside_spans


@pytest.fixture(params=[False, True], ids=["alone", "with spans"])
def traced(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Both without and with a tracer that makes spans of the same awaits."""
    with beside_spans(request.param):
        yield request.param


async def nap(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


class ProgramError(Exception):
    """The program's own."""
