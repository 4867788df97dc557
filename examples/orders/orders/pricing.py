"""What an order costs; kept up to date whenever a session writes one."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from orders.models import Customer, Order, OrderLine

CENT = Decimal("0.01")
# More of the same product costs less: (from this many, percent off).
VOLUME_STEPS = ((50, 12), (20, 7), (10, 3))


def line_price(line: OrderLine, customer: Customer) -> Decimal:
    """The price of a line after the volume's and the customer's discount."""
    volume_percent = next((off for least, off in VOLUME_STEPS if line.quantity >= least), 0)
    percent = 100 - max(volume_percent, customer.discount_percent)
    return (line.amount * percent / 100).quantize(CENT, ROUND_HALF_UP)


def order_total(order: Order) -> Decimal:
    return sum((line_price(line, order.customer) for line in order.lines), Decimal(0))


@event.listens_for(Session, "before_flush")
def price_orders(session: Session, _context: Any, _instances: Any) -> None:
    """Sets the totals of the orders that are about to be written."""
    for changed in [*session.new, *session.dirty]:
        if isinstance(changed, Order):
            changed.total = order_total(changed)
