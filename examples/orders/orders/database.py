"""The engine, and a shop's worth of data."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from orders.models import Base, Customer, Order, OrderLine, Product

CATEGORIES = ("books", "garden", "kitchen", "toys")
CUSTOMERS, PRODUCTS, ORDERS = 40, 60, 300
FIRST_DAY = dt.date(2026, 1, 1)


def connect(url: str) -> AsyncEngine:
    return create_async_engine(url)


async def create_shop(engine: AsyncEngine) -> None:
    """Creates the tables anew and fills them; the same data every time."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all(shop_data(random.Random(1)))
        await session.commit()


def shop_data(choice: random.Random) -> list[Base]:
    customers = [
        Customer(name=f"Customer {number}", discount_percent=choice.choice((0, 0, 5, 10)))
        for number in range(CUSTOMERS)
    ]
    products = [
        Product(
            name=f"Product {number}",
            category=choice.choice(CATEGORIES),
            price=Decimal(choice.randrange(199, 19_999)) / 100,
            in_stock=choice.randrange(500),
        )
        for number in range(PRODUCTS)
    ]
    orders = [
        Order(
            customer=choice.choice(customers),
            placed_on=FIRST_DAY + dt.timedelta(days=choice.randrange(180)),
            lines=[
                OrderLine(
                    product=product, quantity=choice.randrange(1, 60), unit_price=product.price
                )
                for product in choice.sample(products, choice.randrange(2, 7))
            ],
        )
        for _ in range(ORDERS)
    ]
    return [*customers, *products, *orders]
