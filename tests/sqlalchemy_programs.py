"""What tests of SQLAlchemy's bridge share: the call that waits, and orders in real databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.util import concurrency

from tests.postgres import Postgres

# 2.1 renamed it.
await_: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only


class Base(DeclarativeBase):
    """All tables of these tests."""


class Order(Base):
    """Its lines, and theirs, are loaded when somebody looks."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list[Line]] = relationship()


class Line(Base):
    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    products: Mapped[list[Product]] = relationship()


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("order_lines.id"))


def url_fixture(*drivers: str) -> Any:
    """A fixture: the URL of a real database, for each of these drivers."""

    @pytest.fixture(params=drivers)
    def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "aiosqlite":
            return f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite"
        server: Postgres = request.getfixturevalue("postgres")
        return server.url(request.param)

    return url


@asynccontextmanager
async def database(url: str, orders: Iterable[Order]) -> AsyncIterator[AsyncEngine]:
    """An engine, for as long as its database holds these orders and nothing else."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all(orders)
        await session.commit()
    try:
        yield engine
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
