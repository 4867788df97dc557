"""Timelines of real queries, and of greenback: each task's own, to the nanosecond."""

from __future__ import annotations

import asyncio

import greenback
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.postgres import Postgres
from tests.timelines import AWAIT, MS, RUN, Recorded, Truth, around, assert_nested, run

NAMES = ("one", "two", "three")


def assert_own(found: Recorded, truth: Truth, name: str, each: int) -> None:
    """What a task noted of itself is in its own row, outside of awaits, and nowhere else."""
    own = [noted for noted in truth.noted if noted[0] == name]
    assert len(own) == each
    for _, what, start_ns, end_ns in own:
        assert len(around(found.of(name, RUN), start_ns, end_ns)) == 1
        assert bool(around(found.of(name, AWAIT), start_ns, end_ns)) == (what == "awaited")
        for other in NAMES:
            assert other == name or not around(found.of(other, RUN), start_ns, end_ns)
    assert_nested(found.of(name))


def test_queries_on_postgres(postgres: Postgres) -> None:
    truth = Truth()
    engine = create_async_engine(postgres.url("asyncpg"))

    def report(session: Session) -> None:
        for _ in range(2):
            truth.burn("sync")
            session.execute(text("select pg_sleep(0.02)"))
        truth.burn("sync")

    async def endpoint() -> None:
        async with AsyncSession(engine) as session:
            await session.run_sync(report)

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(endpoint(), name=name) for name in NAMES))
        await engine.dispose()

    found = run(main)
    for name in NAMES:
        assert_own(found, truth, name, 3)
        awaits = [one for one in found.of(name, AWAIT) if found.line_of(one) == ("report", 3)]
        executed = [one for one in awaits if one.name.endswith("_prepare_and_execute")]
        queries = [one for one in executed if one.duration_ns >= 20 * MS]
        assert len(queries) >= 2  # a slow machine's first ones take as long, too
        for query in queries:
            # The driver's own steps ran for it, and it waited for most of the time.
            ran = [one for one in found.of(name, RUN) if one.flow == query.flow]
            assert ran
            assert sum(one.duration_ns for one in ran) < query.duration_ns
        assert (name, name, "MainThread") in found.tracks()


def test_greenback() -> None:
    truth = Truth()

    async def fetch() -> None:
        truth.burn("awaited")
        await asyncio.sleep(0.002)
        truth.burn("awaited")

    def service() -> None:
        for _ in range(2):
            truth.burn("sync")
            greenback.await_(fetch())
        truth.burn("sync")

    async def endpoint() -> None:
        await greenback.ensure_portal()
        service()

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(endpoint(), name=name) for name in NAMES))

    found = run(main)
    for name in NAMES:
        assert_own(found, truth, name, 3 + 4)
        awaits = found.of(name, AWAIT)
        assert [found.line_of(one) for one in awaits] == [("service", 3)] * 2
        assert all(one.name.endswith("fetch") and one.flow for one in awaits)
