"""What tests read off a report's page, and small profiles to read."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from tests.profiles import MS, app

ROWS = "#tables tr[data-row]"
FUNCTIONS_OF_USER = ["get_order", "report", "total", "load_lines", "checksum"]
"""Those of `orders_profile`, in the order in which the page shows them."""


def drawn(page: Page) -> list[str]:
    """Labels of the boxes in the graph, from top to bottom."""
    labels: list[str] = page.evaluate(
        "() => greenprofReport.graph.visibleBoxes().map((box) => box.label)"
    )
    return labels


def column(page: Page, name: str) -> list[str]:
    """The texts of a column of the table."""
    return page.locator(f"{ROWS} td.c-{name}").all_text_contents()


def shown_rows(page: Page) -> int:
    return page.locator(ROWS).count()


def fragment(page: Page) -> str:
    # `page.url` hears of the page's own changes a little later.
    text: str = page.evaluate("() => location.hash.slice(1)")
    return text


def zoomed(page: Page) -> str:
    """The label of the box that fills the graph's width."""
    label: str = page.evaluate("() => greenprofReport.graph.zoomed.info.label")
    return label


def state(page: Page, field: str) -> Any:
    return page.evaluate("(field) => greenprofReport.state[field]", field)


def one_sample() -> Profile:
    builder = ProfileBuilder()
    group = builder.group("main", "thread")
    builder.count_tasks(group)
    stack = builder.stack([app("only", 3)])
    builder.add(group, builder.thread("MainThread"), stack, State.ON_CPU, 1, 10 * MS, 10 * MS)
    return builder.build(ProfileInfo(command="once.py"))


def many_functions(count: int) -> Profile:
    builder = ProfileBuilder()
    group, thread = builder.group("main", "thread"), builder.thread("MainThread")
    for number in range(count):
        stack = builder.stack([app(f"function_{number}", number + 1, first_line=number + 1)])
        time_ns = (1 + number * 7919 % count) * MS
        builder.add(group, thread, stack, State.ON_CPU, 1, time_ns, time_ns)
    return builder.build(ProfileInfo())


def click_box(page: Page, label: str) -> None:
    box = page.evaluate(
        "(label) => greenprofReport.graph.visibleBoxes().find((box) => box.label === label)", label
    )
    area = page.locator("#graph canvas").first.bounding_box()
    assert area is not None
    page.mouse.click(area["x"] + box["x"] + box["width"] / 2, area["y"] + box["y"] + 8)
