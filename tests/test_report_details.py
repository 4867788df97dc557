"""The strip below the graph: figures that agree with the tables, words that fit, buttons that stay."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from greenprof.profiles import State
from tests.profiles import orders_profile
from tests.report_boxes import stack_profile
from tests.report_pages import Reports
from tests.report_reading import ROWS, click_box, column, one_sample, zoomed

FOCUSED = "() => document.activeElement.textContent"
CLOCKS = ("wall", "cpu", "await")


def choose(page: Page, **fields: Any) -> None:
    page.evaluate("(fields) => greenprofReport.state.set(fields)", fields)
    page.wait_for_function("() => greenprofReport.settled")


def strip(page: Page) -> dict[str, dict[str, str]]:
    """The strip's figures: by row ("self", "total") and column."""
    rows = [row.locator("td, th").all_text_contents() for row in page.locator("#details tr").all()]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[1:]}


def row_of(page: Page, name: str) -> dict[str, str]:
    cells = page.locator(ROWS, has=page.get_by_text(name, exact=True)).locator("td").all()
    return {(cell.get_attribute("class") or "").split()[1]: cell.inner_text() for cell in cells}


def test_a_function_s_row_has_the_figures_of_its_box(report: Reports) -> None:
    page = report(orders_profile(), "group=all&mine=1")
    for name in ("get_order", "load_lines", "report", "total"):
        choose(page, zoom="")
        click_box(page, name)
        assert zoomed(page) == name
        figures, row = strip(page), row_of(page, name)
        for clock, label in zip(CLOCKS, ("wall", "CPU", "await"), strict=True):
            assert row[f"c-{clock}Self"] == figures["self"][label], name
            assert row[f"c-{clock}Total"] == figures["total"][label], name


def test_idle_time_is_in_the_tables_where_the_switch_is_on(report: Reports) -> None:
    idle = (["serve", "wait_for_work"], State.IDLE, 400)
    page = report(stack_profile((["handler"], State.ON_CPU, 10), idle), "group=all")
    assert column(page, "name") == ["handler"]
    choose(page, tab="tasks")
    assert (column(page, "wall"), column(page, "idle")) == (["10.0 ms"], ["400 ms"])
    choose(page, idle=True)
    assert column(page, "wall") == ["410 ms"]
    choose(page, tab="functions")
    assert sorted(column(page, "name")) == ["handler", "serve", "wait_for_work"]
    click_box(page, "wait_for_work")
    choose(page, scope="all")
    figures, row = strip(page), row_of(page, "wait_for_work")
    assert figures["total"] == figures["self"]
    assert figures["total"] == {"wall": "400 ms", "CPU": "-", "await": "-", "idle": "400 ms"}
    assert (row["c-wallSelf"], row["c-wallTotal"], row["c-seenTotal"]) == ("400 ms", "400 ms", "1")
    choose(page, tab="lines")
    assert (column(page, "wallTotal"), column(page, "seenTotal")) == (["400 ms"], ["1"])


def test_tables_of_waiting_have_no_cpu_time(report: Reports) -> None:
    """`digest` used the CPU while it was blocked; that part is not in the box of the blocked time."""
    page = report(orders_profile(), "group=all")
    click_box(page, "[blocked]")
    assert strip(page)["total"]["blocked"] == "60.0 ms"
    assert set(column(page, "cpuTotal")) == {"-"}
    assert column(page, "wallTotal")[0] == "60.0 ms"
    choose(page, tab="tasks")
    assert (column(page, "cpu"), column(page, "wall"), column(page, "blocked")) == (
        ["-"], ["60.0 ms"], ["60.0 ms"],
    )  # fmt: skip


def test_what_a_caller_s_box_stands_for(report: Reports) -> None:
    page = report(orders_profile(), "view=bottom")
    assert "total" in strip(page)
    for depth in (1, 2):
        choose(page, zoom="")
        page.evaluate(
            """(depth) => {
              let box = greenprofReport.chart.down;
              for (; box.depth < depth; box = box.children[0]);
              greenprofReport.state.set({ zoom: greenprofReport.chart.pathOf(box).join(".") });
            }""",
            depth,
        )
        assert "here" in strip(page)
        assert "total" not in strip(page)
    expect(page.locator("#details th", has_text="here")).to_have_attribute(
        "title", "The time that came through this caller"
    )


def test_once_is_one_time(report: Reports) -> None:
    page = report(one_sample())
    expect(page.locator("#details .seen")).to_have_text("seen 1 time, 1 task: main")


def test_buttons_keep_the_focus_when_they_are_pressed(report: Reports) -> None:
    page = report(orders_profile(), "group=all")
    click_box(page, "load_lines")
    page.locator("#details button", has_text="lines").press("Enter")
    assert page.evaluate(FOCUSED) == "lines"
    expect(page.locator("[data-tab=lines]")).to_have_attribute("aria-selected", "true")
    scope = page.locator("#scope button")
    scope.press("Enter")
    assert page.evaluate(FOCUSED) == "only within it"
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUSED) == "show all"
    # The lines button is of another box by now.
    click_box(page, "get_order")
    page.locator("#details button", has_text="lines").press("Enter")
    expect(page.locator("#scope")).to_contain_text("of orders.api.get_order")
