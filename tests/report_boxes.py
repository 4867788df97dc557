"""The boxes of a report's flame graph: where they are, how to press them, and the colours drawn there."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from tests.profiles import MS, SECOND, app

Box = dict[str, Any]

ROW = 19
BOXES = "() => greenprofReport.graph.visibleBoxes().map(({ box, ...rest }) => rest)"
SETTLED = "() => greenprofReport.graph.settled"
SELECTED = "() => greenprofReport.graph.selected?.info.label ?? null"
ZOOMED = "() => greenprofReport.graph.zoomed.info.label"
# Copied to a canvas that is meant to be read: Chromium warns of reading others twice.
PIXELS = """(points) => {
    const { canvas } = greenprofReport.graph;
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const ratio = canvas.width / canvas.clientWidth;
    return points.map(([x, y]) => {
        const { data } = context.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1);
        return "#" + [...data].slice(0, 3).map((one) => one.toString(16).padStart(2, "0")).join("");
    });
}"""


def boxes(page: Page) -> list[Box]:
    found: list[Box] = page.evaluate(BOXES)
    return found


def box(page: Page, label: str, nth: int = 0) -> Box:
    return [one for one in boxes(page) if one["label"] == label][nth]


def labels(page: Page) -> set[str]:
    return {one["label"] for one in boxes(page)}


def pixels(page: Page, *points: tuple[float, float]) -> list[str]:
    colours: list[str] = page.evaluate(PIXELS, points)
    return colours


def fill_point(one: Box) -> tuple[float, float]:
    """A point in a box's lower right corner, where no text is."""
    return one["x"] + one["width"] - 3, one["y"] + ROW - 3


def fill(page: Page, one: Box) -> str:
    return pixels(page, fill_point(one))[0]


def canvas_width(page: Page) -> float:
    width: float = page.evaluate("() => greenprofReport.graph.canvas.clientWidth")
    return width


def point_of(page: Page, one: Box) -> tuple[float, float]:
    area = page.locator("#graph .flame-canvas").bounding_box()
    assert area is not None
    return area["x"] + one["x"] + one["width"] / 2, area["y"] + one["y"] + ROW / 2


def click(page: Page, label: str, nth: int = 0) -> None:
    page.mouse.click(*point_of(page, box(page, label, nth)))
    page.wait_for_function(SETTLED)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function(SETTLED)


def fills_the_width(page: Page, label: str, nth: int = 0) -> bool:
    one = box(page, label, nth)
    x: float = one["x"]
    width: float = one["width"]
    return abs(x) < 0.5 and abs(width - canvas_width(page)) < 0.5


def stack_profile(*stacks: tuple[list[str], State, int]) -> Profile:
    """A profile of stacks of functions by name, each with a state and its time in ms."""
    builder = ProfileBuilder()
    thread = builder.thread("MainThread")
    group = builder.group("GET /", "asyncio")
    builder.count_tasks(group)
    for names, state, ms in stacks:
        frames = [app(name, 5) for name in names]
        cpu = ms * MS if state is State.ON_CPU else 0
        builder.add(group, thread, builder.stack(frames), state, 1, ms * MS, cpu)
    return builder.build(
        ProfileInfo(
            command="stacks.py",
            python="3.11.9",
            started_at="2026-01-02T03:04:05+00:00",
            duration_ns=SECOND,
        )
    )
