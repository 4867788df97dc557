"""What the programs of the tests of await accounting share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.await_truth import beside_spans


@pytest.fixture(params=[False, True], ids=["alone", "with spans"])
def traced(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Both without and with a tracer that makes spans of the same awaits."""
    with beside_spans(request.param):
        yield request.param


async def nap(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


async def forever() -> None:
    await asyncio.Event().wait()


async def cancelled_thrice(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a program in three tasks, one after another, which are cancelled once they wait."""
    for _ in range(3):
        task = asyncio.create_task(work())
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])


class ProgramError(Exception):
    """The program's own."""
