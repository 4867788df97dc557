"""HTML reports opened in a real Chromium, where anything that a page should not do is a problem."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
)

from greenprof.exporters import find_exporter
from greenprof.profiles import Profile

DRAWN = "() => window.greenprofReport?.ready === true"
DRAWN_LIMIT_S = 20.0


class Reports:
    """Opens reports and gathers in `problems` what they do wrong, for the test's end to look at.

    A problem is a console error or warning, an exception, a dialog, a window opened, or a request for
    anything but the report's own file. A test that provokes one looks at `problems` itself, and clears it.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._folder = folder
        self._contexts: list[BrowserContext] = []

    def __call__(
        self,
        profile: Profile | str,
        fragment: str = "",
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
    ) -> Page:
        """Opens a profile's report, or a page given as text, and waits until it is drawn."""
        html = profile if isinstance(profile, str) else rendered(profile)
        path = self._folder / f"report-{len(self._contexts)}.html"
        path.write_text(html, encoding="utf-8")
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        self._contexts.append(context)
        page = context.new_page()
        self._watch(page, path.as_uri())
        page.goto(path.as_uri() + (f"#{fragment}" if fragment else ""))
        deadline = time.monotonic() + DRAWN_LIMIT_S
        while not page.evaluate(DRAWN):
            # What raised will not be drawn: better said than waited for.
            broken = any(problem.startswith("page error") for problem in self.problems)
            if broken or time.monotonic() > deadline:
                raise AssertionError("\n".join(["the page was not drawn", *self.problems]))
            page.wait_for_timeout(10)
        return page

    def _watch(self, page: Page, address: str) -> None:
        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.problems.append(f"console {message.type}: {message.text}")

        def on_request(request: Request) -> None:
            if request.url.partition("#")[0] != address:
                self.problems.append(f"request: {request.method} {request.url[:200]}")

        def on_dialog(dialog: Dialog) -> None:
            self.problems.append(f"dialog: {dialog.type} {dialog.message!r}")
            dialog.dismiss()

        page.on("console", on_console)
        page.on("request", on_request)
        page.on("dialog", on_dialog)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("popup", lambda popup: self.problems.append(f"window opened: {popup.url}"))
        page.on("crash", lambda _: self.problems.append("the page crashed"))

    def expected(self) -> None:
        """Says that what was wrong so far was meant to be."""
        self._settle()
        self.problems.clear()

    def _settle(self) -> None:
        """Waits until whatever the last step caused has been reported."""
        for context in self._contexts:
            for page in context.pages:
                if "the page crashed" not in self.problems:
                    page.evaluate("() => new Promise(done => setTimeout(done, 0))")

    def close(self) -> list[str]:
        """Closes every page; returns the problems that are left."""
        self._settle()
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        return self.problems


def rendered(profile: Profile) -> str:
    html = find_exporter("html").render(profile)
    assert isinstance(html, str)
    return html


def every_tab(page: Page) -> Iterator[str]:
    """Opens one tab of the tables after the other, by name."""
    for tab in page.locator("[data-tab]").all():
        tab.click()
        yield tab.get_attribute("data-tab") or ""


def every_switch(page: Page) -> Iterator[None]:
    """Presses every button of the toolbar, the default ones at last."""
    names = ("data-view", "data-clock", "data-group", "data-switch", "data-theme-switch")
    for name in names:
        buttons = page.locator(f"[{name}]").all()
        for button in [*buttons[1:], *buttons[:1]]:
            button.click()
            yield


def reload(page: Page) -> None:
    """Reloads a page at the address that it has given itself, once the browser has heard of it."""
    address = page.evaluate("location.href")
    page.wait_for_url(lambda url: url == address, wait_until="commit")
    page.reload()
    page.wait_for_function(DRAWN)


def hover(page: Page, rows: int = 4) -> None:
    """Moves the pointer over the boxes at the left of the graph's first rows, where there is a graph."""
    area = page.locator("#graph").bounding_box()
    if area is not None:
        for row in range(rows):
            page.mouse.move(area["x"] + 12, area["y"] + 10 + 19 * row)


# Text of the profile that says such a thing is no fault: tests do not name anything so.
NO_NUMBER = ("NaN", "undefined", "Infinity", "[object")
OVERFLOW = """() => {
  const wide = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) {
    wide.push(`the page: ${page.scrollWidth} px in ${page.clientWidth} px`);
  }
  for (const id of ["tooltip", "help", "header", "warnings", "toolbar", "details", "tables", "graph"]) {
    const element = document.getElementById(id);
    const { left, right, width } = element.getBoundingClientRect();
    if (width > 0 && (left < -1 || right > window.innerWidth + 1)) {
      wide.push(`#${id}: from ${left} to ${right} px in ${window.innerWidth} px`);
    }
  }
  return wide;
}"""


def assert_sound(page: Page) -> None:
    """Nothing was injected, nothing is wider than the window, no number is none."""
    hacked, too_wide, text = page.evaluate(
        f"() => [window.hacked, ({OVERFLOW})(), document.body.innerText + document.title]"
    )
    assert hacked is None
    assert not too_wide, too_wide
    no_numbers = [text[text.index(word) - 40 :][:90] for word in NO_NUMBER if word in text]
    assert not no_numbers, no_numbers
