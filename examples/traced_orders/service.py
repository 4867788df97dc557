"""A small service that sends traces to a collector: requests, and what sync code below them awaits.

    python service.py                               # visits itself, says what was sent, and ends
    python service.py --serve --port 8000           # until Ctrl-C
    opentelemetry-instrument uvicorn service:app    # the same traces, without `traced` below

Where the spans go is said by the OTEL_* variables that every OpenTelemetry program knows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
)

import greenprof

CUSTOMERS, ORDERS_EACH, LINES_EACH = 8, 5, 3


# The shop.


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(order_by="Order.id")


class Order(Base):
    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
    lines: Mapped[list[Line]] = relationship(order_by="Line.id")


class Line(Base):
    __tablename__ = "order_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("customer_order.id"), index=True)
    product: Mapped[str]
    cents: Mapped[int]


def statement(session: Session, customer_id: int, *, eager: bool) -> dict[str, object] | None:
    """What a customer ordered. Sync ORM code: it runs in `run_sync`, and awaits below that.

    Without `eager` each order's lines are loaded when they are first touched, in a query for each
    order; the trace shows them all at the same line.
    """
    eagerly = [selectinload(Customer.orders).selectinload(Order.lines)] if eager else []
    customer = session.get(Customer, customer_id, options=eagerly)
    if customer is None:
        return None
    return {"customer": customer.name, "orders": [order_total(order) for order in customer.orders]}


def order_total(order: Order) -> int:
    return sum(line.cents for line in order.lines)


async def fill_shop(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        for number in range(1, CUSTOMERS + 1):
            orders = [
                Order(lines=[Line(product="tea", cents=100 + each) for each in range(LINES_EACH)])
                for _ in range(ORDERS_EACH)
            ]
            session.add(Customer(name=f"Customer {number}", orders=orders))
        await session.commit()


# The pages.


async def database_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(request.app.state.engine) as session:
        yield session


Database = Annotated[AsyncSession, Depends(database_session)]
routes = APIRouter()


@routes.get("/customers")
async def customers(session: Database) -> list[str]:
    return list(await session.scalars(select(Customer.name).order_by(Customer.id)))


@routes.get("/customers/{customer_id}/statement")
async def customer_statement(
    customer_id: int, session: Database, *, eager: bool = False
) -> dict[str, object]:
    found = await session.run_sync(statement, customer_id, eager=eager)
    if found is None:
        raise HTTPException(404, f"there is no customer {customer_id}")
    return found


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the database, with a shop in it that is new each time."""
    with tempfile.TemporaryDirectory(prefix="traced-orders-") as folder:
        url = os.environ.get("DATABASE_URL") or f"sqlite+aiosqlite:///{Path(folder) / 'shop.db'}"
        app.state.engine = create_async_engine(url)
        # A span of its own: else each await of the start would be a trace of its own.
        with trace.get_tracer("traced-orders").start_as_current_span("fill the shop"):
            await fill_shop(app.state.engine)
        yield
        await app.state.engine.dispose()


app = FastAPI(title="traced-orders", lifespan=lifespan)
app.include_router(routes)


# The traces.


def otlp_exporter() -> SpanExporter:
    """Sends spans by the protocol that the environment names; the endpoint it finds there itself."""
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc

        return by_grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http

    return by_http.OTLPSpanExporter()


def traced(app: FastAPI) -> tuple[TracerProvider, greenprof.Tracing]:
    """Sets OpenTelemetry up: spans of requests by FastAPI's instrumentor, of awaits by greenprof."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    os.environ.setdefault("OTEL_SERVICE_NAME", "traced-orders")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(otlp_exporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    # A stack for what takes long tells who called; for the rest, the line is enough.
    return provider, greenprof.start_tracing(stack="slow", slow_duration=0.02)


# The program.


async def visit(address: str) -> None:
    """A page for each customer, all at once: as it was written, and as it should have been."""
    async with httpx.AsyncClient(base_url=address, timeout=30, trust_env=False) as client:
        pages = [
            f"/customers/{number + 1}/statement?eager={number % 2}" for number in range(CUSTOMERS)
        ]
        answers = await asyncio.gather(*map(client.get, ["/customers", *pages]))
    for answer in answers:
        answer.raise_for_status()
    print(f"{len(answers)} requests", flush=True)


async def serve(port: int, *, forever: bool) -> None:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="server")
    try:
        while not server.started:
            if serving.done():
                raise SystemExit("the server did not start")
            await asyncio.sleep(0.01)
        host, bound = server.servers[0].sockets[0].getsockname()
        print(f"serving http://{host}:{bound}", flush=True)
        await (serving if forever else visit(f"http://{host}:{bound}"))
    finally:
        server.should_exit = True
        await serving


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--serve", action="store_true", help="serve only, until Ctrl-C")
    arguments = parser.parse_args()
    provider, tracing = traced(app)
    try:
        asyncio.run(serve(arguments.port, forever=arguments.serve))
    finally:
        greenprof.stop_tracing()
        provider.shutdown()  # sends what is left
        counts = tracing.counts
        print(f"{counts.recorded} of {counts.awaits} awaits recorded, dropped: {counts.dropped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
