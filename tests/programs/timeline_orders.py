"""Three tasks with SQLAlchemy on a file, under a profiler with a timeline: OUT.trace.json DATABASE."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from greenprof import Profiler
from greenprof.exporters import find_exporter


def burn(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def order(session: Session) -> None:
    for _ in range(3):
        burn(0.002)
        session.execute(text("select 1"))


async def serve(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await session.run_sync(order)


async def main(database: str) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    await asyncio.gather(*(serve(engine) for _ in range(3)))
    await engine.dispose()


if __name__ == "__main__":
    with Profiler(timeline=math.inf) as profiler:
        asyncio.run(main(sys.argv[2]))
    rendered = find_exporter("chrome").render(profiler.profile)
    assert isinstance(rendered, str)
    Path(sys.argv[1]).write_text(rendered, encoding="utf-8")
