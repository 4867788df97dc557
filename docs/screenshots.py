"""Makes the pictures in docs/images: profiles examples/orders, opens the report in Chromium, takes them.

python -m docs.screenshots              profiles the example first
python -m docs.screenshots a.gprof      of a profile that is there already
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from greenprof.exporters import find_exporter
from greenprof.profiles import Profile
from tests import browser as chromium

REPOSITORY = Path(__file__).parent.parent
IMAGES = REPOSITORY / "docs" / "images"
# A README's pictures are loaded by everybody who looks at it.
MOST_BYTES = 300_000


@dataclass(frozen=True)
class Shot:
    """One picture: what the report shows (its URL fragment), and which part of the page is taken."""

    name: str
    fragment: str = ""
    function: str = ""
    """The function to zoom to, or in a sandwich the one in the middle."""
    hover: str = ""
    """The function to hover over."""
    part: str = ""
    """A selector of the part to take; the window as a whole without it."""
    height: int = 800
    dark: bool = False


SHOTS = (
    Shot("report", "group=task", height=900),
    Shot("dark", "group=task", height=900, dark=True),
    Shot("boundaries", "group=task", function="statement", part="#graph", height=1100),
    Shot("tooltip", "group=task&mine=1", hover="summary", part=".picture"),
    Shot("mine", "group=task&mine=1", part="#graph", height=700),
    Shot(
        "sandwich",
        "view=sandwich&clock=cpu&mine=1&group=task",
        function="line_price",
        part="#graph",
    ),
    Shot("search", "group=task&q=aiosqlite", height=700),
    Shot("awaits", "tab=awaits", part=".figures"),
)
WIDTH = 1200

ZOOM = """(name) => {
  const { profile, chart, state } = window.greenprofReport;
  const fn = profile.functions.name.indexOf(name);
  if (state.view === "sandwich") { return `fn=${fn}`; }
  return `zoom=${chart.pathOf(chart.heaviest(fn)).join(".")}`;
}"""

POINT = """(name) => {
  const { graph } = window.greenprofReport;
  const box = graph.visibleBoxes().find((visible) => visible.box.info.label === name);
  const { left, top } = document.querySelector("#graph .flame-canvas").getBoundingClientRect();
  return { x: left + box.x + Math.min(box.width / 2, 200), y: top + box.y + 8 };
}"""


def profiled(folder: Path) -> Profile:
    """Runs the example service with a few visitors, for as long as they need to make a picture."""
    path = folder / "orders.gprof"
    command = ["greenprof", "run", "--rate", "200", "-o", str(path), "examples/orders/main.py"]
    subprocess.run(
        [sys.executable, "-m", *command, "--seconds", "8"],
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Profile.load(path)


def opened(browser: Browser, address: str, shot: Shot, fragment: str) -> Page:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": shot.height},
        color_scheme="dark" if shot.dark else "light",
        reduced_motion="reduce",
    )
    page.goto(f"{address}#{fragment}")
    page.wait_for_function("() => window.greenprofReport?.ready === true")
    return page


def taken(browser: Browser, address: str, shot: Shot) -> bytes:
    page = opened(browser, address, shot, shot.fragment)
    if shot.function:
        where = page.evaluate(ZOOM, shot.function)
        page.close()
        page = opened(browser, address, shot, f"{shot.fragment}&{where}")
    if shot.hover:
        point = page.evaluate(POINT, shot.hover)
        page.mouse.move(point["x"] - 5, point["y"])
        page.mouse.move(point["x"], point["y"])
        page.wait_for_selector("#tooltip:not([hidden])")
    picture = page.locator(shot.part).screenshot() if shot.part else page.screenshot()
    page.close()
    return picture


def main(arguments: list[str]) -> int:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        profile = Profile.load(arguments[0]) if arguments else profiled(folder)
        html = find_exporter("html").render(profile)
        assert isinstance(html, str)
        page = folder / "orders.html"
        page.write_text(html, encoding="utf-8")
        browser = chromium.launch(playwright)
        try:
            for shot in SHOTS:
                picture = taken(browser, page.as_uri(), shot)
                if len(picture) > MOST_BYTES:
                    print(f"{shot.name}.png has {len(picture):,} bytes: show less", file=sys.stderr)
                    return 1
                (IMAGES / f"{shot.name}.png").write_bytes(picture)
                print(f"{shot.name}.png  {len(picture):,} bytes")
        finally:
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
