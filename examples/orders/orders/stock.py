"""Questions that keep the database busy, and this process waiting."""

from __future__ import annotations

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import OrderLine, Product

DAYS = 60_000
SLOW_S = 0.08


async def demand(session: AsyncSession, category: str) -> dict[str, float]:
    """What the category's products will sell, smoothed over many simulated days by the database."""
    days = await session.scalar(simulated_days(session)) or 0
    query = (
        select(Product.name, func.avg(OrderLine.quantity))
        .join(OrderLine, OrderLine.product_id == Product.id)
        .where(Product.category == category)
        .group_by(Product.name)
        .order_by(Product.name)
    )
    rows = (await session.execute(query)).all()
    return {name: round(float(sold) * days / DAYS, 2) for name, sold in rows}


def simulated_days(session: AsyncSession) -> Select[int]:
    """Takes the database some time: it counts the days one by one, or just waits where it can."""
    if session.get_bind().dialect.name == "postgresql":
        waited = select(func.pg_sleep(SLOW_S).label("waited")).subquery()
        return select(literal(DAYS)).select_from(waited)
    day = select(literal(1).label("number")).cte("day", recursive=True)
    day = day.union_all(select(day.c.number + 1).where(day.c.number < DAYS))
    return select(func.count()).select_from(day)
