"""Spans beside those of OpenTelemetry's own instrumentors: a request, sync code, an await, the driver; on real databases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import greenback
import httpx
import pytest
from fastapi import FastAPI, Request
from greenlet import getcurrent, greenlet
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.trace import SpanKind
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests import span_trees, sqlalchemy_programs
from tests.postgres import Postgres
from tests.span_trees import Spans, attributes_of, current_name, ids_of, short

direct = span_trees.direct
url = sqlalchemy_programs.url_fixture("aiosqlite", "asyncpg")

REQUESTS = 50
Load = Callable[[int], Awaitable[int]]
# The messages of ASGI have spans of their own, which are nobody's subject here.
ASGI_SPANS = ("http send", "http receive")


@contextlib.contextmanager
def instrumented(spans: Spans) -> Iterator[None]:
    """The drivers' instrumentors, for as long as the block lasts."""
    kinds: list[Any] = [AsyncPGInstrumentor, HTTPXClientInstrumentor]
    instrumentors = [kind() for kind in kinds]
    for one in instrumentors:
        one.instrument(tracer_provider=spans.provider)
    try:
        yield
    finally:
        for one in instrumentors:
            one.uninstrument()


@contextlib.contextmanager
def instrumented_engine(spans: Spans, engine: AsyncEngine) -> Iterator[None]:
    # It refuses SQLAlchemy 2.1 by its number, and works with it.
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(
        engine=engine.sync_engine, tracer_provider=spans.provider, skip_dep_check=True
    )
    try:
        yield
    finally:
        instrumentor.uninstrument()


def service(spans: Spans, load: Load) -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{number}")
    async def order(number: int, request: Request) -> dict[str, int]:
        found = await load(number)
        return {"number": number, "found": found}

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=spans.provider, exclude_spans=["send", "receive"]
    )
    return app


async def ask(app: FastAPI, number: int) -> None:
    # Not instrumented: its span would be the request's parent.
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get(f"/orders/{number}", headers={"x-number": str(number)})
        assert answer.json() == {"number": number, "found": number}


async def ask_many(app: FastAPI) -> None:
    """All at once; what a request leaves behind in its task is nobody else's."""
    await asyncio.gather(*(ask(app, number) for number in range(REQUESTS)))
    assert current_name() == ""


def requests_of(spans: Spans) -> list[tuple[str, ...]]:
    """The trees of the requests, without what connecting and rolling back adds to some of them."""
    return [tree for tree in spans.trees() if tree[0].startswith("GET /orders")]


def numbers_below(spans: Spans) -> list[set[int]]:
    """For each trace, the numbers of orders that its spans mention: one, or they are mixed up."""
    found: dict[int, set[int]] = {}
    for one in spans.finished:
        said = attributes_of(one).get("app.number")
        if said is not None:
            found.setdefault(one.context.trace_id, set()).add(said)
    return list(found.values())


def check_parents(spans: Spans, parent_scope: str, child_scope: str) -> int:
    """The number of spans of one instrumentor below awaits below the other's; each within its parent."""
    by_ids = {ids_of(one): one for one in spans.finished}
    count = 0
    for one in spans.finished:
        if one.parent is None:
            continue
        above = by_ids[one.parent.trace_id, one.parent.span_id]
        assert above.start_time is not None
        assert one.start_time is not None
        assert above.start_time <= one.start_time
        if span_trees.scope_of(one).endswith(child_scope):
            if span_trees.scope_of(above) == "greenprof":
                assert above.end_time is not None
                assert one.end_time is not None
                assert one.end_time <= above.end_time
                count += 1
            else:
                assert span_trees.scope_of(above).endswith(parent_scope), above.name
    return count


@contextlib.asynccontextmanager
async def warm_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Connections for all requests, opened beforehand: a connect awaits a good deal of its own."""
    engine = create_async_engine(url, pool_size=REQUESTS)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(REQUESTS):
            connection = await stack.enter_async_context(engine.connect())
            await connection.execute(text("SELECT 1"))
    try:
        yield engine
    finally:
        await engine.dispose()


def test_a_request_a_sync_function_an_await_a_query(url: str, direct: Spans) -> None:
    """Fifty at once: each query is below the await that waited for it, below its own request."""

    def find(session: Session, number: int) -> int:
        with direct.tracer.start_as_current_span("find", attributes={"app.number": number}):
            found = session.execute(text("SELECT :number"), {"number": str(number)}).scalar_one()
            return int(found)

    async def main() -> None:
        async with warm_engine(url) as engine:

            async def load(number: int) -> int:
                async with AsyncSession(engine) as session:
                    return await session.run_sync(find, number)

            app = service(direct, load)
            with instrumented(direct), instrumented_engine(direct, engine), direct.trace():
                await ask_many(app)

    asyncio.run(main())
    trees = requests_of(direct)
    assert len(trees) == REQUESTS
    assert sorted(map(len, numbers_below(direct))) == [1] * REQUESTS
    for tree in trees:
        assert tree[0] == "GET /orders/{number}"
        find_at = tree.index("  find")
        below = []
        for line in tree[find_at + 1 :]:
            if not line.startswith("    "):
                break
            below.append(line.strip())
        assert [line for line in below if line.startswith("SELECT")], tree
        assert [line for line in below if line.startswith("await ")], tree
    said = [attributes_of(one) for one in direct.awaits()]
    at_find = [one for one in said if one["code.function.name"].endswith("<locals>.find")]
    assert len(at_find) >= REQUESTS
    assert {one["greenprof.bridge"] for one in at_find} == {"sqlalchemy"}
    if "asyncpg" in url:
        # The driver's instrumentor sees each query begin and end inside of what was awaited.
        assert check_parents(direct, "fastapi", "instrumentation.asyncpg") >= REQUESTS
        queries = [
            one
            for one in direct.finished
            if span_trees.scope_of(one).endswith("asyncpg") and one.kind is SpanKind.CLIENT
        ]
        assert len(queries) >= REQUESTS


def test_a_drivers_await_is_below_what_was_current(postgres: Postgres, direct: Spans) -> None:
    """One request, line by line: SQLAlchemy's span, the awaits, and asyncpg's inside of them."""

    def find(session: Session) -> int:
        with direct.span("find"):
            return int(session.execute(text("SELECT 17")).scalar_one())

    async def main() -> None:
        engine = create_async_engine(postgres.url("asyncpg"))
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 17"))

        async def load(number: int) -> int:
            async with AsyncSession(engine) as session:
                return await session.run_sync(find)

        app = service(direct, load)
        with instrumented(direct), instrumented_engine(direct, engine), direct.trace():
            await ask(app, 17)
        await engine.dispose()

    asyncio.run(main())
    (tree,) = requests_of(direct)
    driver = "await sqlalchemy.dialects.postgresql.asyncpg"
    lines = [line.replace(driver, "await ...") for line in tree]
    # As SQLAlchemy 2.0 calls it.
    lines = [line.replace("_rollback_and_discard", "_call_and_discard") for line in lines]
    assert lines == [
        "GET /orders/{number}",
        "  find",
        "    connect",  # SQLAlchemy's instrumentor, as the next one
        "    SELECT",
        "    await ....AsyncAdapt_asyncpg_cursor._prepare_and_execute",
        "      BEGIN;",  # asyncpg's instrumentor, as the next one
        "      SELECT",
        "  await ....AsyncAdapt_asyncpg_connection._call_and_discard",
        "    ROLLBACK;",
    ]


# The same over the other bridges, each with a real HTTP call or query inside of the await.


async def over_greenback(function: Callable[[], int]) -> int:
    return int(await greenback.with_portal_run_sync(function))


async def over_raw_greenlet(function: Callable[[], int]) -> int:
    child = greenlet(function)
    handed = child.switch()
    while not child.dead:
        handed = child.switch(await handed)
    return int(handed)


def wait_raw(awaitable: Any) -> Any:
    parent = getcurrent().parent
    assert parent is not None
    return parent.switch(awaitable)


BRIDGES = [
    pytest.param(over_greenback, greenback.await_, "greenback", id="greenback"),
    pytest.param(over_raw_greenlet, wait_raw, "generic", id="raw greenlets"),
]


@pytest.mark.parametrize(("run", "wait", "bridge"), BRIDGES)
def test_http_calls_over_other_bridges(
    direct: Spans, run: Callable[..., Any], wait: Callable[[Any], Any], bridge: str
) -> None:
    """Sync code calls another service by httpx, fifty requests at once."""
    other = FastAPI()

    @other.get("/stock/{number}")
    async def stock(number: int) -> int:
        await asyncio.sleep(number % 5 / 1000)
        return number

    async def call(number: int) -> int:
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url="http://stock") as client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=direct.provider)
            answer = await client.get(f"/stock/{number}")
            return int(answer.json())

    async def load(number: int) -> int:
        def find() -> int:
            with direct.tracer.start_as_current_span("find", attributes={"app.number": number}):
                found = int(wait(call(number)))
                assert current_name() == "find"
                return found

        return int(await run(find))

    app = service(direct, load)
    with direct.trace():
        asyncio.run(ask_many(app))
    call_name = f"await {call.__qualname__.rpartition('<locals>.')[2]}"
    assert (
        requests_of(direct)
        == [("GET /orders/{number}", "  find", f"    {call_name}", "      GET")] * REQUESTS
    )
    assert sorted(map(len, numbers_below(direct))) == [1] * REQUESTS
    assert {attributes_of(one)["greenprof.bridge"] for one in direct.awaits()} == {bridge}
    assert check_parents(direct, "none", "instrumentation.httpx") == REQUESTS


@pytest.mark.parametrize(("run", "wait", "bridge"), BRIDGES)
def test_queries_over_other_bridges(
    postgres: Postgres,
    direct: Spans,
    run: Callable[..., Any],
    wait: Callable[[Any], Any],
    bridge: str,
) -> None:
    """Sync code queries PostgreSQL by asyncpg itself, fifty requests at once."""
    import asyncpg

    async def main() -> None:
        async with asyncpg.create_pool(postgres.dsn, min_size=20, max_size=20) as pool:

            async def load(number: int) -> int:
                def find() -> int:
                    with direct.tracer.start_as_current_span(
                        "find", attributes={"app.number": number}
                    ):
                        return int(wait(pool.fetchval("SELECT $1::int", number)))

                return int(await run(find))

            app = service(direct, load)
            with instrumented(direct), direct.trace():
                await ask_many(app)

    asyncio.run(main())
    trees = requests_of(direct)
    assert len(trees) == REQUESTS
    assert sorted(map(len, numbers_below(direct))) == [1] * REQUESTS
    for tree in trees:
        assert tree[:3] == (
            "GET /orders/{number}",
            "  find",
            "    await asyncpg.pool.Pool.fetchval",
        )
        assert tree[3:], tree
        assert all(line.startswith("      ") for line in tree[3:]), tree
    assert {attributes_of(one)["greenprof.bridge"] for one in direct.awaits()} == {bridge}
    assert check_parents(direct, "none", "instrumentation.asyncpg") >= REQUESTS
    assert {short(one.name) for one in direct.awaits()} == {"await asyncpg.pool.Pool.fetchval"}
