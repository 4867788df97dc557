"""Awaits by request: N+1 below a real FastAPI application, and WSGI servers that keep connections."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tests import sqlalchemy_programs
from tests.await_truth import Counted, beside_spans, counting
from tests.postgres import free_port
from tests.running import REPOSITORY, run_python
from tests.sqlalchemy_programs import Line, Order, Product, database

url = sqlalchemy_programs.url_fixture("aiosqlite", "asyncpg")

ORDERS, LINES = 6, 3
AT_ONCE = 20


def order_lines(session: Session, number: int) -> int:
    order = session.get_one(Order, number)
    return sum(len(line.products) for line in order.lines)  # a query for each line


def all_lines(session: Session) -> int:
    total = 0
    for order in session.scalars(select(Order)).all():
        total += len(order.lines)  # a query for each order
    return total


def application(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{number}")
    async def one_order(number: int) -> int:
        async with AsyncSession(engine) as session:
            return await session.run_sync(order_lines, number)

    @app.get("/orders")
    async def orders() -> int:
        async with AsyncSession(engine) as session:
            return await session.run_sync(all_lines)

    return app


def all_orders() -> list[Order]:
    return [
        Order(
            id=number,
            lines=[
                Line(id=n, products=[Product(id=n)])
                for n in range(number * 100, number * 100 + LINES)
            ],
        )
        for number in range(1, ORDERS + 1)
    ]


async def get(client: httpx.AsyncClient, path: str, expected: int) -> None:
    response = await client.get(path, timeout=30)
    assert response.json() == expected


async def many(client: httpx.AsyncClient) -> None:
    """Twenty of each at once, all in tasks of their own."""
    ones = [get(client, f"/orders/{at % ORDERS + 1}", LINES) for at in range(AT_ONCE)]
    alls = [get(client, "/orders", ORDERS * LINES) for _ in range(AT_ONCE)]
    await asyncio.gather(*(part for pair in zip(ones, alls, strict=True) for part in pair))


def check(counted: Counted) -> None:
    """Each route's loop is found at its line, once in each request."""
    found = {(counted.group(one), one.site.name): one for one in counted.repeats()}
    assert set(found) == {
        ("GET /orders/{number}", "order_lines.<locals>.<genexpr>"),
        ("GET /orders", "all_lines"),
    }
    one = found["GET /orders/{number}", "order_lines.<locals>.<genexpr>"]
    assert (one.units, one.awaits, one.most) == (AT_ONCE, AT_ONCE * LINES, LINES)
    assert one.site.line == order_lines.__code__.co_firstlineno + 2
    every = found["GET /orders", "all_lines"]
    assert (every.units, every.awaits, every.most) == (AT_ONCE, AT_ONCE * ORDERS, ORDERS)
    assert every.site.line == all_lines.__code__.co_firstlineno + 3


@pytest.mark.parametrize("traced", [False, True], ids=["alone", "with spans"])
def test_fastapi_without_a_server(url: str, traced: bool) -> None:
    async def main() -> Counted:
        async with database(url, all_orders()) as engine:
            transport = httpx.ASGITransport(application(engine))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                with beside_spans(traced), counting(repeat_min=3) as counted:
                    await many(client)
        return counted

    check(asyncio.run(main()))


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def test_fastapi_below_uvicorn(url: str) -> None:
    """A task for each request, connections kept."""

    async def main() -> Counted:
        async with database(url, all_orders()) as engine:
            port = free_port()
            config = uvicorn.Config(application(engine), port=port, log_level="error")
            server = Server(config)
            serving = asyncio.create_task(server._serve())
            await server.ready.wait()
            try:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                    with counting(repeat_min=3) as counted:
                        await many(client)
            finally:
                server.should_exit = True
                await serving
        return counted

    check(asyncio.run(main()))


def test_one_task_that_makes_many_requests(tmp_path: Path) -> None:
    """A test client's task serves one request after another: what each awaits counts by itself."""

    async def main() -> Counted:
        async with database(
            f"sqlite+aiosqlite:///{tmp_path}/orders.sqlite", all_orders()
        ) as engine:
            transport = httpx.ASGITransport(application(engine))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                with counting(repeat_min=LINES) as counted:
                    async with AsyncSession(engine) as session:
                        await session.run_sync(all_lines)
                    for number in range(20):
                        await get(client, f"/orders/{number % ORDERS + 1}", LINES)
                    await get(client, "/orders", ORDERS * LINES)
        return counted

    counted = asyncio.run(main())
    found = {(counted.group(one), one.site.name): one for one in counted.repeats()}
    one = found["GET /orders/{number}", "order_lines.<locals>.<genexpr>"]
    assert (one.units, one.awaits, one.most) == (20, 20 * LINES, LINES)
    every = found["GET /orders", "all_lines"]
    assert (every.units, every.awaits, every.most) == (1, ORDERS, ORDERS)
    # And what the task itself did before and in between; the first query of each request is not added to
    # those of others.
    assert max(one.most for one in found.values()) == ORDERS


PYWSGI = """
import json, sys
sys.path.insert(0, {repository!r})
from gevent import monkey
monkey.patch_all()
import http.client
import gevent
from gevent.pywsgi import WSGIServer
from tests.await_truth import counting

def load(number):
    for _ in range(number):
        gevent.sleep(0)

def application(environ, start_response):
    load(int(environ["PATH_INFO"].rpartition("/")[2]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]

def client(port, numbers):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in numbers:
        connection.request("GET", "/items/%d" % number)
        assert connection.getresponse().read() == b"ok"
    connection.close()

server = WSGIServer(("127.0.0.1", 0), application, log=None)
server.start()
with counting() as counted:
    clients = [gevent.spawn(client, server.server_port, numbers) for numbers in ([9] * 15, [12, 3, 30, 10])]
    gevent.joinall(clients, raise_error=True)
    repeats = [
        [counted.group(one), one.site.name, one.units, one.awaits, one.most]
        for one in counted.repeats() if one.site.name == "load"
    ]
    counts = [row.count for row in counted.rows() if row.site.name == "load"]
server.stop()
print(json.dumps([repeats, sum(counts)]))
"""


def test_pywsgi_keeps_connections() -> None:
    """One greenlet serves all requests of a connection: each is a unit of its own."""
    finished = run_python("-c", PYWSGI.format(repository=str(REPOSITORY)))
    assert finished.stderr == "", str(finished)
    repeats, count = json.loads(finished.stdout)
    assert repeats == [["GET /items/{}", "load", 3, 52, 30]]
    assert count == 15 * 9 + 12 + 3 + 30 + 10


PYWSGI_IN_PARTS = """
import json, sys, time
sys.path.insert(0, {repository!r})
from gevent import monkey
monkey.patch_all()
import http.client
import gevent
from gevent.pywsgi import WSGIServer
from greenprof.samplers.awaits import AwaitAccount
from tests.await_truth import Counted

def load(number):
    for _ in range(number):
        gevent.sleep(0)

def application(environ, start_response):
    if paused:
        budget.paused_until_ns = 1  # it is over
    load(6)
    if paused:
        budget.paused_until_ns = time.monotonic_ns() + 10**12
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]

def client(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(8):
        connection.request("GET", "/items/%d" % number)
        assert connection.getresponse().read() == b"ok"
    connection.close()

server = WSGIServer(("127.0.0.1", 0), application, log=None)
server.start()
found = []
for paused in (False, True):
    counted = Counted(AwaitAccount(sparing=True))
    budget = counted.account._bursts.budget
    budget._take = lambda cost_ns: None  # pauses are made here alone
    counted.account.start()
    gevent.spawn(client, server.server_port).get()
    counted.account.stop()
    counts = [row.count for row in counted.rows() if row.site.name == "load"]
    found.append([sum(counts), [one.site.name for one in counted.repeats() if one.site.name == "load"]])
server.stop()
print(json.dumps(found))
"""


def test_requests_of_a_connection_that_pauses_come_between() -> None:
    """What was between them was not counted; they are two all the same, and neither repeats."""
    finished = run_python("-c", PYWSGI_IN_PARTS.format(repository=str(REPOSITORY)))
    assert finished.stderr == "", str(finished)
    (whole, none), (in_parts, no_repeats) = json.loads(finished.stdout)
    assert (whole, none) == (8 * 6, [])
    assert 8 * 5 <= in_parts <= 8 * 6
    assert no_repeats == []
