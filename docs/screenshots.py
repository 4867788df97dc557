"""Makes the pictures in docs/images: profiles the examples, opens the reports in Chromium, takes them.

python -m docs.screenshots              profiles the examples first
python -m docs.screenshots a.gprof      with a profile of examples/orders that is there already
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
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
    """The function to zoom to, or the one in the middle of a sandwich, or whose lines are shown."""
    hover: str = ""
    """The function to hover over."""
    part: str = ""
    """A selector of the part to take; the window as a whole without it."""
    most: int = 10_000
    """How much of a part that is higher is taken, css px."""
    height: int = 800
    dark: bool = False
    exact: bool = False
    """Of a recording by the exact engine."""
    food: bool = False
    """Of examples/food_delivery."""


TASKS = "group=task"
SHOTS = (
    Shot("report", TASKS, function="summary", height=800),
    Shot("dark", TASKS, function="summary", height=640, dark=True),
    Shot("boundaries", TASKS, function="statement", part="#graph", height=1100),
    Shot("tooltip", f"{TASKS}&mine=1", hover="summary", height=460),
    Shot("mine", f"{TASKS}&mine=1", part="#graph"),
    Shot("bottom-up", "view=bottom&clock=cpu&mine=1", part="#graph", most=330),
    Shot(
        "sandwich", f"{TASKS}&view=sandwich&clock=cpu&mine=1", function="line_price", part="#graph"
    ),
    Shot("search", f"{TASKS}&q=aiosqlite", function="summary", height=800),
    Shot("functions", "tab=functions&clock=cpu", part=".figures", most=400),
    Shot("awaits", "tab=awaits&clock=await", part=".figures", most=330),
    Shot("counted", "tab=counted", part=".figures", most=330),
    Shot("repeats", "tab=repeats", part=".figures"),
    Shot("blockers", "tab=blocks", part=".figures", most=250),
    Shot("calls", "tab=functions&mine=1", part=".figures", most=330, exact=True),
    Shot("lines", "tab=lines&clock=await", function="summary", part=".figures", most=330),
    Shot("food-delivery", TASKS, function="food_delivery", part="#graph", height=1500, food=True),
    Shot("food-mine", f"{TASKS}&mine=1", function="food_delivery", part="#graph", food=True),
)
WIDTH = 1200
WATCHED = ("--block-limit", "20ms")
ORDERS = ("examples/orders/main.py",)
FOOD = ("examples/food_delivery/run.py", "--delay", "0.02", "--orders", "30")

ZOOM = """(name) => {
  const { profile, chart, state } = window.greenprofReport;
  const fn = profile.functions.name.indexOf(name);
  if (state.view === "sandwich") { return `fn=${fn}`; }
  if (state.tab === "lines") { return `fn=${fn}`; }
  return `zoom=${chart.pathOf(chart.heaviest(fn)).join(".")}`;
}"""

POINT = """(name) => {
  const { graph } = window.greenprofReport;
  const box = graph.visibleBoxes().find((visible) => visible.box.info.label === name);
  const { left, top } = document.querySelector("#graph .flame-canvas").getBoundingClientRect();
  return { x: left + box.x + Math.min(box.width / 2, 200), y: top + box.y + 8 };
}"""


def profiled(folder: Path, *options: str, program: Sequence[str] = ORDERS) -> Profile:
    """Runs an example service with a few visitors, for as long as they need to make a picture."""
    path = folder / "service.gprof"
    command = ["greenprof", "run", *options, "-f", "-o", str(path), *program]
    subprocess.run(
        [sys.executable, "-m", *command],
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
    area = page.locator(shot.part or "body").bounding_box()
    assert area is not None
    if shot.part:
        area["height"] = min(area["height"], shot.most)
        picture = page.screenshot(full_page=True, clip=area)
    else:
        picture = page.screenshot()
    page.close()
    return picture


def report(profile: Profile, page: Path) -> Path:
    html = find_exporter("html").render(profile)
    assert isinstance(html, str)
    page.write_text(html, encoding="utf-8")
    return page


def main(arguments: list[str]) -> int:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        profile = Profile.load(arguments[0]) if arguments else profiled(folder, *WATCHED)
        page = report(profile, folder / "orders.html")
        exact = report(profiled(folder, "--engine", "exact"), folder / "exact.html")
        food = report(profiled(folder, "--rate", "200", program=FOOD), folder / "food.html")
        browser = chromium.launch(playwright)
        try:
            for shot in SHOTS:
                shown = exact if shot.exact else food if shot.food else page
                picture = taken(browser, shown.as_uri(), shot)
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
