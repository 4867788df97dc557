"""The database of the programs that have one, and what one request does with it."""

from __future__ import annotations

from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

CUSTOMERS, ORDERS = 30, 20


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    orders: Mapped[list[Order]] = relationship()


class Order(Base):
    __tablename__ = "customer_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    cents: Mapped[int]


class Shop:
    """Customers with orders."""

    def __init__(self, url: str, connections: int = 3) -> None:
        self._engine = create_async_engine(url, pool_size=connections)
        self._session = async_sessionmaker(self._engine)

    async def fill(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with self._session.begin() as session:
            for number in range(CUSTOMERS):
                orders = [Order(cents=100 * number + each) for each in range(ORDERS)]
                session.add(Customer(id=number, orders=orders))

    async def total_of(self, number: int) -> int:
        async with self._session() as session:
            return await session.run_sync(_total, number % CUSTOMERS)

    async def close(self) -> None:
        await self._engine.dispose()


def _total(session: Session, number: int) -> int:
    customer = session.scalars(select(Customer).where(Customer.id == number)).one()
    return sum(_with_tax(order) for order in customer.orders)


def _with_tax(order: Order) -> int:
    return order.cents * 119 // 100
