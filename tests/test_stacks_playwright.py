"""Playwright's sync API: real calls through its driver to a server on loopback, and a real browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from greenlet import getcurrent
from playwright.sync_api import APIRequestContext, sync_playwright

import greenprof
from greenprof.profiles import State
from tests import browser as chromium
from tests.shapes import both_ways, following, outline, shape

SLOW_S = 0.3


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(SLOW_S)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>orders</title><p id=p>hello</p>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """A server on loopback that takes its time for /slow."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Revealing:
    """Says where it is turned into text: inside Playwright's awaited code."""

    def __init__(self) -> None:
        self.stacks: list[greenprof.Stack] = []

    def __str__(self) -> str:
        self.stacks.append(greenprof.capture_stack())
        return "1"


def looking(seconds: float, main: Any, found: dict[str, Any]) -> threading.Thread:
    """A thread that looks at the main thread and its greenlet after a while."""
    ident = threading.get_ident()

    def look() -> None:
        time.sleep(seconds)
        found["greenlet"] = greenprof.capture_stack(main)
        found["thread"] = greenprof.capture_stack(ident)
        found["all"] = greenprof.capture_all()

    thread = threading.Thread(target=look)
    thread.start()
    return thread


@both_ways
def test_a_request_through_the_driver(address: str, follow: bool) -> None:
    """The sync code is the root of what the dispatcher greenlet runs for it."""
    found: dict[str, Any] = {}
    at: dict[str, list[str]] = {}
    revealing = Revealing()

    def fetch(context: APIRequestContext) -> str:
        return context.get(f"{address}/slow", params={"page": revealing}).text()  # type: ignore[dict-item]

    def service(context: APIRequestContext) -> str:
        at["sync"] = shape()
        return fetch(context)

    with following(follow), sync_playwright() as playwright:
        context = playwright.request.new_context()
        thread = looking(SLOW_S / 2, getcurrent(), found)
        assert "orders" in service(context)
        thread.join()
        context.dispose()

    in_fetch = [*at["sync"], "fetch", "APIRequestContext.get"]
    waiting = shape(found["greenlet"])
    assert waiting[: len(in_fetch)] == in_fetch
    # Names of its internals change; what they are does not: the wait, then what is awaited.
    rest = waiting[len(in_fetch) :]
    assert rest[0] == "~SyncBase._sync"
    assert "|*APIRequestContext.get" in rest
    assert all(name.startswith("*") for name in rest[rest.index("|*APIRequestContext.get") + 1 :])
    assert found["greenlet"].state is State.AWAITING
    assert (found["greenlet"].kind, found["greenlet"].task) == ("thread", "MainThread")

    running = shape(revealing.stacks[0])
    assert running[: len(in_fetch)] == in_fetch
    assert running[-1] == "*Revealing.__str__"
    assert "|*APIRequestContext.get" in running

    # The thread itself runs the dispatcher's loop meanwhile, and has nothing to do.
    assert shape(found["thread"])[0] == "~greenlet_main"
    assert found["thread"].state is State.IDLE
    everything = [(stack.task, stack.state, outline(stack)) for stack in found["all"]]
    assert ("MainThread", State.AWAITING, outline(found["greenlet"])) in everything
    assert sum("fetch" in names for _, _, names in everything) == 1


@pytest.mark.skipif(chromium.chromium_path() is None, reason=chromium.SKIP_REASON)
@both_ways
def test_a_real_browser(address: str, follow: bool) -> None:
    """A page that takes its time, a callback from the browser, and a call inside of that."""
    found: dict[str, Any] = {}
    at: dict[str, greenprof.Stack] = {}

    def on_response(response: Any) -> None:
        at["event"] = greenprof.capture_stack()

    def from_page(text: str) -> str:
        at["binding"] = greenprof.capture_stack()
        return text.upper()

    def visit(page: Any) -> None:
        page.goto(f"{address}/slow")

    with following(follow), sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        page = browser.new_page()
        page.on("response", on_response)
        page.expose_function("shout", from_page)
        thread = looking(SLOW_S / 2, getcurrent(), found)
        visit(page)
        thread.join()
        assert page.evaluate("shout('hello')") == "HELLO"
        assert page.text_content("#p") == "hello"
        browser.close()

    waiting = outline(found["greenlet"])
    assert "visit" in waiting
    assert found["greenlet"].state is State.AWAITING
    assert outline(at["event"])[-1] == "on_response"
    assert outline(at["binding"])[-1] == "from_page"
