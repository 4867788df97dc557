"""What a task is called: its request's route, its own name, its function; and requests kept whole."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import fastapi
import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.util import greenlet_spawn

import greenprof
from greenprof import labels, stacks
from greenprof.labels import fold_numbers
from tests.shapes import both_ways, ended, following, outline, until_waiting
from tests.sqlalchemy_programs import await_


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("/orders/17", "/orders/{}"),
        ("/orders/17/items/4", "/orders/{}/items/{}"),
        ("/3f2504e0-4f89-11d3-9a0c-0305e82c3301/edit", "/{}/edit"),
        ("/objects/507f1f77bcf86cd799439011", "/objects/{}"),
        ("/api/v2/orders/5", "/api/v2/orders/{}"),
        ("/v1", "/v1"),
        ("/v1x/vat20", "/v{}x/vat{}"),
        ("worker-3", "worker-{}"),
        ("ThreadPoolExecutor-0_12", "ThreadPoolExecutor-{}_{}"),
        ("deadbeefdeadbeefface", "deadbeefdeadbeefface"),
        ("", ""),
        ("٣٤", "{}"),
    ],
)
def test_numbers_and_ids_are_folded(name: str, folded: str) -> None:
    assert fold_numbers(name) == folded


@given(st.text())
def test_any_name_folds_to_something_short_that_stays(name: str) -> None:
    folded = fold_numbers(name)
    assert len(folded) <= 200
    assert fold_numbers(folded) == folded


def test_a_very_long_name_is_cut_soon() -> None:
    assert len(fold_numbers("x1" * 10_000_000)) == 200


def name_of(task: asyncio.Task[Any]) -> str:
    return greenprof.capture_stack(task).task


def test_names_of_tasks() -> None:
    """A name of its own, else the function's; a name that cannot be had is no error."""

    async def handler() -> None:
        await asyncio.sleep(10)

    class Hostile(asyncio.Task[Any]):
        def get_name(self) -> str:
            raise RuntimeError("not for you")

    async def main() -> None:
        named = asyncio.create_task(handler(), name="worker 7")
        unnamed = asyncio.create_task(handler())
        odd = asyncio.create_task(handler(), name="two\nlines \udcff")
        hostile = Hostile(handler())
        await until_waiting(unnamed)
        function = "test_names_of_tasks.<locals>.handler"
        assert name_of(named) == "worker {}"
        assert name_of(unnamed) == function
        assert name_of(odd) == "two\nlines \udcff"
        assert name_of(hostile) == function
        for stack in greenprof.capture_all():
            assert str(stack)
        for task in (named, unnamed, odd, hostile):
            await ended(task)

    asyncio.run(main())


def test_names_of_threads() -> None:
    assert labels.thread_name(threading.get_ident()) == "MainThread"
    assert labels.thread_name(1) == "thread outside of threading"
    names = []
    thread = threading.Thread(
        target=lambda: names.append(greenprof.capture_stack().task), name="pool-3"
    )
    thread.start()
    thread.join()
    assert names == ["pool-{}"]


class Served:
    """What was captured while requests were served."""

    def __init__(self) -> None:
        self.stacks: list[greenprof.Stack] = []

    def here(self) -> None:
        self.stacks.append(greenprof.capture_stack())


def application(served: Served, *, middleware: bool) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    async def query() -> None:
        served.here()
        await asyncio.sleep(0.2)

    def repository() -> None:
        await_(query())

    @app.get("/orders/{order_id}")
    async def order(order_id: int) -> int:
        await greenlet_spawn(repository)
        return order_id

    @app.get("/reports/{number}")
    def report(number: int) -> int:
        served.here()
        return number

    if middleware:

        @app.middleware("http")
        async def around(request: fastapi.Request, call_next: Any) -> Any:
            served.here()
            return await call_next(request)

    return app


async def serve_and_ask(app: fastapi.FastAPI, *paths: str) -> list[greenprof.Stack]:
    """Ask for each path in turn; everything that was captured in the middle of the first."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        async with httpx.AsyncClient() as client:
            first = asyncio.create_task(client.get(f"http://127.0.0.1:{port}{paths[0]}"))
            everything: list[greenprof.Stack] = []
            while not any("*query" in "".join(outline(stack)) for stack in everything):
                await asyncio.sleep(0.001)
                everything = greenprof.capture_all()
            assert (await first).status_code == 200
            for path in paths[1:]:
                await client.get(f"http://127.0.0.1:{port}{path}")
        server.should_exit = True
        await serving
    return everything


IN_QUERY = ["order", "~greenlet_spawn", "|repository"]


@both_ways
def test_a_request_under_uvicorn(follow: bool) -> None:
    """Named by its route's template; a sync route's thread by the pool's name."""
    served = Served()

    async def main() -> None:
        app = application(served, middleware=False)
        everything = await serve_and_ask(app, "/orders/17", "/reports/4", "/none/8")
        requests = [stack for stack in everything if stack.task == "GET /orders/{order_id}"]
        assert [outline(stack)[:3] for stack in requests] == [IN_QUERY]
        assert {stack.kind for stack in requests} == {"asyncio"}

    with following(follow):
        asyncio.run(main())
    in_query, in_report = served.stacks
    assert in_query.task == "GET /orders/{order_id}"
    assert outline(in_query)[:3] == IN_QUERY
    assert outline(in_query)[-2:] == ["|*query", "*Served.here"]
    assert (in_report.kind, in_report.task) == ("thread", "AnyIO worker thread")


@both_ways
def test_a_request_whose_middleware_runs_it_in_a_child_task(follow: bool) -> None:
    """Starlette's BaseHTTPMiddleware; the request's stack is one, from the server to the query."""
    served = Served()

    async def main() -> None:
        app = application(served, middleware=True)
        everything = await serve_and_ask(app, "/orders/17")
        of_request = [stack for stack in everything if stack.task == "GET /orders/{order_id}"]
        inner = [stack for stack in of_request if "order" in outline(stack)]
        assert len(inner) == 1
        # The one that waits for the response; and anyio's helper tasks may be there as well.
        assert any(outline(stack) == ["around"] for stack in of_request)

    with following(follow):
        asyncio.run(main())
    before, in_query = served.stacks
    # No route is known yet in the middleware: the path has to do.
    assert before.task == "GET /orders/{}"
    assert in_query.task == "GET /orders/{order_id}"
    names = [frame.name for frame in in_query.frames]
    assert names[0] == "RequestResponseCycle.run_asgi"
    assert "BaseHTTPMiddleware.__call__" in names
    assert names.count("FastAPI.__call__") == 1
    assert outline(in_query) == [*IN_QUERY, f"~{await_.__name__}", "|*query", "*Served.here"]


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_routes_of_wsgi_and_of_odd_scopes() -> None:
    """Any function with the arguments of the protocol, whatever it is given for them."""
    routes: list[str | None] = []

    def here() -> None:
        frames = stacks.walk(sys._getframe(1))
        own = [frame for frame in frames if frame.f_code.co_filename == __file__]
        routes.append(labels.route_of(own))

    def application(environ: Any, start_response: Any) -> list[bytes]:
        here()
        start_response("200 OK", [])
        return [b""]

    with wsgi_server(application) as port:
        httpx.get(f"http://127.0.0.1:{port}/orders/5")
    assert routes == ["GET /orders/{}"]

    class Broken:
        @property
        def path(self) -> str:
            raise RuntimeError("not for you")

    def asgi(scope: Any, receive: Any) -> None:
        here()

    routes.clear()
    for scope in (
        None,
        {},
        {"type": "lifespan"},
        {"type": "websocket", "path": "/ws/9"},
        {"type": "http", "method": "GET", "route": Broken()},
        {"type": "http", "method": "PUT", "path": "/x" * 1000},
        {"type": "http", "method": "GET", "path": b"/bytes"},
    ):
        asgi(scope, None)
    assert routes[:3] == [None, None, None]
    assert routes[3] == "WEBSOCKET /ws/{}"
    assert routes[4] is None
    assert routes[5] is not None
    assert len(routes[5]) <= 200
    assert routes[6] == "GET b'/bytes'"
