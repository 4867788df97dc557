"""The HTTP side."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from orders import reports, stock
from orders.models import Customer, Order, OrderLine, Product


class NewOrder(BaseModel):
    customer_id: int
    product_ids: list[int] = Field(min_length=1, max_length=20)


class PlacedOrder(BaseModel):
    id: int
    total: str


async def database_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(request.app.state.engine) as session:
        yield session


Database = Annotated[AsyncSession, Depends(database_session)]


routes = APIRouter()


@routes.post("/orders", status_code=201)
async def place_order(new: NewOrder, session: Database) -> PlacedOrder:
    customer = await session.get(Customer, new.customer_id)
    wanted = select(Product).where(Product.id.in_(new.product_ids))
    products = (await session.scalars(wanted)).all()
    if customer is None or not products:
        raise HTTPException(404, "there is no such customer, or none of these products")
    lines = [OrderLine(product=each, quantity=1, unit_price=each.price) for each in products]
    order = Order(customer=customer, placed_on=dt.date(2026, 7, 1), lines=lines)
    session.add(order)
    await session.flush()  # gives it its number, and its total: see pricing.py
    placed = PlacedOrder(id=order.id, total=str(order.total))
    await session.commit()
    return placed


@routes.get("/reports/sales")
async def sales(session: Database) -> Response:
    return Response(await session.run_sync(reports.sales_report), media_type="text/csv")


@routes.get("/customers/{customer_id}/statement")
async def customer_statement(customer_id: int, session: Database) -> dict[str, object]:
    found = await session.run_sync(reports.statement, customer_id)
    if found is None:
        raise HTTPException(404, f"there is no customer {customer_id}")
    return found


@routes.get("/stock/{category}/demand")
async def demand(category: str, session: Database) -> dict[str, float]:
    return await stock.demand(session, category)


def create_app(engine: AsyncEngine) -> FastAPI:
    app = FastAPI(title="orders")
    app.state.engine = engine
    app.include_router(routes)
    return app
