"""Prints, as Markdown, how fast the HTML report is: `python -m benchmarks.report`.

Makes a profile with 50,000 distinct stacks, renders it, opens it in a headless Chromium several times,
and presses what a reader would press. Takes about a minute; needs the test extra and a Chromium.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.large import large_profile
from greenprof.exporters import find_exporter
from tests.browser import SKIP_REASON, chromium_path, launch

MB = 1_000_000
OPENED_IN_MS = 3_000
ANSWERED_IN_MS = 100
SMALLER_THAN_MB = 15
QUIET_MS = 400
"""Nothing drawn for so long: an answer is complete."""

SWITCHES = (
    "[data-clock=cpu]",
    "[data-clock=await]",
    "[data-clock=wall]",
    "[data-group=thread]",
    "[data-group=all]",
    "[data-group=task]",
    "[data-switch=bridges]",
    "[data-switch=mine]",
    "[data-switch=idle]",
    "[data-view=bottom]",
    "[data-view=sandwich]",
    "[data-view=top]",
    "[data-tab=awaits]",
    "[data-tab=lines]",
    "[data-tab=functions]",
)

# Tells when the page was drawn for the first time, and how long each answer takes: from the event to the
# end of the last frame in which something was drawn, or the page's elements changed.
WATCH = """
(() => {
  const watch = { ready: null, event: null, drawn: null, changed: null };
  window.benchmark = watch;
  const waiting = [];
  const channel = new MessageChannel();
  channel.port1.onmessage = () => waiting.shift()();
  // What is posted while a frame is made comes when it has been painted.
  const afterFrame = (done) => {
    waiting.push(done);
    channel.port2.postMessage(null);
  };
  let inFrame = false;
  const nextFrame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => nextFrame((time) => {
    inFrame = true;
    try {
      callback(time);
    } finally {
      inFrame = false;
    }
  });
  const noted = new Set();
  const note = (what) => {
    if (watch.event === null || noted.has(what)) {
      return;
    }
    noted.add(what);
    const painted = () => {
      watch[what] = performance.now() - watch.event;
      noted.delete(what);
    };
    if (inFrame) {
      afterFrame(painted);
    } else {
      nextFrame(() => afterFrame(painted));
    }
  };
  const look = () => {
    if (!window.greenprofReport?.ready) {
      nextFrame(look);
      return;
    }
    watch.ready = performance.now();
    new MutationObserver(() => note("changed")).observe(document.body, {
      subtree: true, childList: true, characterData: true, attributes: true,
    });
  };
  nextFrame(look);
  for (const name of ["fillRect", "clearRect"]) {
    const original = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...rest) {
      note("drawn");
      return original.apply(this, rest);
    };
  }
  for (const name of ["click", "keydown"]) {
    window.addEventListener(name, (event) => {
      watch.event = event.timeStamp;
      watch.drawn = watch.changed = null;
    }, true);
  }
})();
"""


def opened(browser: Browser, address: str) -> Page:
    """Opens the report without motion: what is measured is the answer, not its animation."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, reduced_motion="reduce", color_scheme="light"
    )
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("() => window.benchmark.ready !== null", timeout=60_000)
    return page


def answer(page: Page) -> tuple[float | None, float | None]:
    """Returns how long the graph and the whole page took to answer the last event, in milliseconds."""
    page.wait_for_timeout(QUIET_MS)
    drawn, changed = page.evaluate("() => [window.benchmark.drawn, window.benchmark.changed]")
    both = [value for value in (drawn, changed) if value is not None]
    return drawn, max(both, default=None)


def session(page: Page) -> Iterator[tuple[str, float | None, float | None]]:
    """Uses a page once as a reader would: what was done, and how long both answers took."""
    graph = page.locator("#graph canvas").first.bounding_box()
    assert graph is not None
    for row in (3, 6, 9):
        page.mouse.click(graph["x"] + 40, graph["y"] + 19 * row + 9)
        yield "click on a box", *answer(page)
    page.keyboard.press("Home")
    yield "key Home", *answer(page)
    for switch in SWITCHES:
        page.locator(f"button{switch}").click()
        yield switch, *answer(page)
        if switch.startswith("[data-switch"):
            page.locator(f"button{switch}").click()
            page.wait_for_timeout(QUIET_MS)
    page.locator("#search").focus()
    for letter in "order_1":
        page.keyboard.press(letter)
        yield "a letter of a search", *answer(page)


def rows(runs: int, stacks: int) -> Iterator[tuple[str, str, str]]:
    profile = large_profile(stacks)
    yield "stacks, nodes", f"{stacks:,}, {len(profile.nodes):,}", ""
    start = time.perf_counter()
    html = find_exporter("html").render(profile)
    assert isinstance(html, str)
    yield "written in", f"{time.perf_counter() - start:.2f} s", ""
    yield "size", f"{len(html.encode()) / MB:.1f} MB", f"{SMALLER_THAN_MB} MB"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder, "report.html")
        path.write_text(html, encoding="utf-8")
        browser = launch(playwright)
        ready: list[float] = []
        answers: dict[str, list[tuple[float | None, float | None]]] = {}
        for _ in range(runs):
            page = opened(browser, path.as_uri())
            ready.append(page.evaluate("() => window.benchmark.ready"))
            for name, drawn, whole in session(page):
                answers.setdefault(name, []).append((drawn, whole))
            page.context.close()
        browser.close()
    yield "open until drawn", spread(ready), f"{OPENED_IN_MS:,} ms"
    for name, times in answers.items():
        columns = [
            [time for time in column if time is not None] for column in zip(*times, strict=True)
        ]
        texts = dict.fromkeys(spread(column) for column in columns)
        yield name, " / ".join(texts), f"{ANSWERED_IN_MS} ms"


def spread(times: list[float]) -> str:
    """Tells the median, and the least: that is what a busy machine adds nothing to."""
    if not times:
        return "-"
    return f"{statistics.median(times):,.0f} ({min(times):,.0f}) ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stacks", type=int, default=50_000)
    options = parser.parse_args()
    if chromium_path() is None:
        print(f"python -m benchmarks.report {SKIP_REASON}", file=sys.stderr)
        return 1
    print(f"Medians (and the least) of {options.runs} runs; of the graph / of the whole page.\n")
    print("| what | measured | aim |\n|---|--:|--:|")
    for row in rows(options.runs, options.stacks):
        print("| {} | {} | {} |".format(*row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
