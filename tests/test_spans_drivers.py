"""Spans of queries over SQLAlchemy's async drivers, on real databases."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tests import span_trees, sqlalchemy_programs
from tests.span_trees import Spans, attributes_of, line_of
from tests.sqlalchemy_programs import Line, Order, database

direct = span_trees.direct
url = sqlalchemy_programs.url_fixture("aiosqlite", "asyncpg", "psycopg")


def test_queries_on_a_real_database(url: str, direct: Spans) -> None:
    """Every await is below the span that was current, at the line of the program's that waited."""

    def count_lines(session: Session) -> int:
        with direct.span("count"):
            order = session.get_one(Order, 1)
            with direct.span("lazy"):
                return len(order.lines)  # the lazy load

    async def endpoint(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            with direct.span("query"):
                await session.execute(text("SELECT 1"))  # the query
            assert await session.run_sync(count_lines) == 2

    async def main() -> None:
        async with database(url, [Order(id=1, lines=[Line(id=1), Line(id=2)])]) as engine:
            with direct.trace():
                await endpoint(engine)

    asyncio.run(main())
    here = "tests.test_spans_drivers.test_queries_on_a_real_database.<locals>"
    function = test_queries_on_a_real_database
    driver = url.partition("+")[2].partition(":")[0]
    for span, name, line in (
        ("query", "endpoint", "the query"),
        ("lazy", "count_lines", "the lazy load"),
    ):
        parent = direct.named(span)
        below = [
            one
            for one in direct.awaits()
            if one.parent is not None and one.parent.span_id == parent.context.span_id
        ]
        assert below, direct.lines()
        assert {attributes_of(one)["greenprof.bridge"] for one in below} == {"sqlalchemy"}
        assert {attributes_of(one)["code.function.name"] for one in below} == {f"{here}.{name}"}
        assert {attributes_of(one)["code.line.number"] for one in below} == {
            line_of(function, line)
        }
        libraries = ("await sqlalchemy.", f"await {driver}.")
        assert all(one.name.startswith(libraries) for one in below), direct.lines()
        assert all(one.end_time <= parent.end_time for one in below)  # type: ignore[operator]
    tops = {tree[0].split(" ")[0] for tree in direct.trees()}
    assert {"query", "count"} <= tops
