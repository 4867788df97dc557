"""Sync ORM code, as most of it was before there was an asyncio session; it runs in `run_sync`."""

from __future__ import annotations

import csv
import io
import statistics
from collections import defaultdict
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from orders.models import Customer, Order, OrderLine
from orders.pricing import line_price, order_total


def sales_report(session: Session) -> str:
    """Sales by month and category as CSV: three queries, and a lot of Python."""
    query = select(Order).options(
        selectinload(Order.customer), selectinload(Order.lines).selectinload(OrderLine.product)
    )
    sales: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    for order in session.scalars(query):
        month = f"{order.placed_on:%Y-%m}"
        for line in order.lines:
            sales[month, line.product.category].append(line_price(line, order.customer))
    return as_csv(sales)


def as_csv(sales: dict[tuple[str, str], list[Decimal]]) -> str:
    output = io.StringIO()
    table = csv.writer(output)
    table.writerow(["month", "category", "lines", "sum", "median", "deviation"])
    for (month, category), prices in sorted(sales.items()):
        spread = statistics.pstdev(prices)
        row = [len(prices), sum(prices), statistics.median(prices), f"{spread:.2f}"]
        table.writerow([month, category, *row])
    return output.getvalue()


def statement(session: Session, customer_id: int) -> dict[str, object] | None:
    """A customer's orders, line by line.

    Each order's lines, and each line's product, are loaded when they are first touched: a query for
    every one of them, each a trip through the bridge.
    """
    customer = session.get(Customer, customer_id)
    if customer is None:
        return None
    return {"customer": customer.name, "orders": [summary(order) for order in customer.orders]}


def summary(order: Order) -> dict[str, object]:
    products = [f"{line.quantity} x {line.product.name}" for line in order.lines]
    return {"order": order.id, "total": str(order_total(order)), "products": products}
