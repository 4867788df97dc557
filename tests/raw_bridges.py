"""Bridges of a few lines, by raw greenlets, that greenprof has no description of; and greenletio's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self

import pytest
from greenlet import getcurrent, greenlet
from greenletio.core import bridge as greenletio_bridge

# As greenhack's as_async does it: the loop's greenlet is the parent, and awaits for its child, which has a
# context of its own.


async def as_async(function: Callable[..., Any], *arguments: Any) -> Any:
    child = greenlet(function)
    handed = child.switch(*arguments)
    while not child.dead:
        try:
            value = await handed
        except BaseException as error:
            handed = child.throw(error)
        else:
            handed = child.switch(value)
    return handed


def wait(awaitable: Any) -> Any:
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(awaitable)


# As greenhack's start_loop does it: the loop runs in a child greenlet below sync code.


class LoopBelow:
    """Sync code on top; a loop that starts at once, and serves whenever something is waited for."""

    def __enter__(self) -> Self:
        self.main = getcurrent()
        self.loop = asyncio.new_event_loop()
        self.below = greenlet(self.run)
        self.below.switch()
        return self

    def __exit__(self, *_: object) -> None:
        self.below.switch(None)
        self.loop.close()

    def run(self) -> None:
        self.loop.run_until_complete(self.serve())

    async def serve(self) -> None:
        value = None
        while (handed := self.main.switch(value)) is not None:
            value = await handed

    def wait(self, awaitable: Coroutine[Any, Any, Any]) -> Any:
        return self.below.switch(awaitable)


@pytest.fixture
def greenletio_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that greenletio runs below sync code of this thread, and its end."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        greenletio_bridge.stop()
        asyncio.set_event_loop(None)
        loop.close()
