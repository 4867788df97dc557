"""Spans of queries over SQLAlchemy's async drivers, on real databases."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests import span_trees
from tests.postgres import Postgres
from tests.span_trees import Spans, attributes_of, line_of

direct = span_trees.direct


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "traced_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "traced_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("traced_orders.id"))


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A real database of each kind of driver."""
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(request.param)


async def fill(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add(Order(id=1, items=[Item(id=1), Item(id=2)]))
        await session.commit()


def test_queries_on_a_real_database(url: str, direct: Spans) -> None:
    """Every await is below the span that was current, at the line of the program's that waited."""

    def count_items(session: Session) -> int:
        with direct.span("count"):
            order = session.get_one(Order, 1)
            with direct.span("lazy"):
                return len(order.items)  # the lazy load

    async def endpoint(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            with direct.span("query"):
                await session.execute(text("SELECT 1"))  # the query
            assert await session.run_sync(count_items) == 2

    async def main() -> None:
        engine = create_async_engine(url)
        await fill(engine)
        with direct.trace():
            await endpoint(engine)
        await engine.dispose()

    asyncio.run(main())
    here = "tests.test_spans_drivers.test_queries_on_a_real_database.<locals>"
    function = test_queries_on_a_real_database
    driver = url.partition("+")[2].partition(":")[0]
    for span, name, line in (
        ("query", "endpoint", "the query"),
        ("lazy", "count_items", "the lazy load"),
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
