"""What the tests of `greenprof run`'s spans share: a program that awaits from sync code, and ends of the wire."""

from __future__ import annotations

from tests.postgres import free_port

# `awaits(n)` makes n spans, named "await app.work".
AWAITS = """\
import asyncio, os, signal, sys, time
from sqlalchemy.util import await_only, greenlet_spawn
async def work(seconds=0.005):
    await asyncio.sleep(seconds)
def awaits(number, seconds=0.005):
    def handler():
        for _ in range(number):
            await_only(work(seconds))
    async def main():
        await greenlet_spawn(handler)
    asyncio.run(main())
"""


def free_endpoint() -> str:
    """Where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"
