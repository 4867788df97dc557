"""Routes on SQLAlchemy asyncio and a real PostgreSQL: CPU and waiting on both sides of the bridge."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from truth import Kind, Truth, Visit, arguments, for_routes, visits, write

SERVED = ("endpoint", "service")
KINDS = {
    "life": Kind("the task's life", "endpoint", (), "wall"),
    "sync_burn": Kind("CPU in the sync part", "sync_burn", SERVED, "cpu"),
    "awaited_burn": Kind("CPU in the awaited coroutine", "awaited_burn", SERVED, "cpu"),
    "awaited_sleep": Kind("asyncio.sleep through await_", "awaited_sleep", SERVED, "wall"),
    "sync_query": Kind("pg_sleep inside run_sync", "sync_query", SERVED, "wall"),
    "async_query": Kind("pg_sleep by AsyncSession.execute", "async_query", ("endpoint",), "wall"),
}
SLEEP_IN_DATABASE = text("select pg_sleep(:seconds)")


@for_routes
def sync_burn(visit: Visit) -> None:
    visit.burn("sync_burn", 8)


@for_routes
async def awaited_burn(visit: Visit) -> None:
    visit.burn("awaited_burn", 4)
    await asyncio.sleep(0)
    visit.burn("awaited_burn", 2)


@for_routes
async def awaited_sleep(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    await asyncio.sleep(visit.wait_s(20))
    visit.waited("awaited_sleep", started_ns)


@for_routes
def sync_query(visit: Visit, session: Session) -> None:
    started_ns = time.monotonic_ns()
    session.execute(SLEEP_IN_DATABASE, {"seconds": visit.wait_s(20)})
    visit.waited("sync_query", started_ns)


@for_routes
async def async_query(visit: Visit, session: AsyncSession) -> None:
    started_ns = time.monotonic_ns()
    await session.execute(SLEEP_IN_DATABASE, {"seconds": visit.wait_s(20)})
    visit.waited("async_query", started_ns)


@for_routes
def service(session: Session, visit: Visit) -> None:
    sync_burn[visit.route](visit)
    await_only(awaited_sleep[visit.route](visit))
    sync_query[visit.route](visit, session)
    await_only(awaited_burn[visit.route](visit))


@for_routes
async def endpoint(visit: Visit, engine: AsyncEngine) -> None:
    started_ns = time.monotonic_ns()
    while visit.goes_on():
        async with AsyncSession(engine) as session:
            await session.run_sync(service[visit.route], visit)
            await async_query[visit.route](visit, session)
    visit.waited("life", started_ns)


async def main(url: str, seconds: float, each: int) -> Truth:
    engine = create_async_engine(url, pool_size=3 * each)
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
    truth = Truth(KINDS)
    await asyncio.gather(
        *(
            asyncio.create_task(endpoint[visit.route](visit, engine), name=visit.route)
            for visit in visits(truth, seconds, each)
        )
    )
    await engine.dispose()
    return truth


if __name__ == "__main__":
    options = arguments(url="", each=2)
    write(asyncio.run(main(options.url, options.seconds, options.each)), options.truth)
