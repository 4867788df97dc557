"""The report's flame graph in a real Chromium: what mouse, wheel, touch and keys do to it."""

from __future__ import annotations

import pytest

from greenprof.profiles import State
from tests.profiles import orders_profile
from tests.report_boxes import (
    BOXES,
    ROW,
    SELECTED,
    SETTLED,
    ZOOMED,
    box,
    boxes,
    canvas_width,
    click,
    fill,
    fills_the_width,
    labels,
    point_of,
    press,
    stack_profile,
)
from tests.report_pages import Reports


def test_a_click_zooms_and_ancestors_lead_back(report: Reports) -> None:
    page = report(orders_profile(), "group=task")
    click(page, "load_lines")
    assert fills_the_width(page, "load_lines")
    for ancestor in ("GET /orders/{}", "get_order", "AsyncSession.run_sync"):
        assert fills_the_width(page, ancestor)
    assert not labels(page) & {"GET /report", "total", "checksum"}
    # What was zoomed past steps back: another colour than that of the function.
    full = page.evaluate("() => colourOf('task', 0, false).fill")
    assert fill(page, box(page, "GET /orders/{}")) != full
    click(page, "get_order")
    assert fills_the_width(page, "get_order")
    assert not fills_the_width(page, "load_lines")
    press(page, "Escape")
    assert fills_the_width(page, "GET /orders/{}")
    press(page, "Backspace")
    assert "GET /report" in labels(page)
    assert page.evaluate(ZOOMED) == boxes(page)[0]["label"]


def test_what_a_click_does_is_done_before_the_animation(report: Reports) -> None:
    page = report(orders_profile())
    x, y = point_of(page, box(page, "load_lines"))
    page.mouse.click(x, y)
    assert fills_the_width(page, "load_lines")
    page.wait_for_function(SETTLED)
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(
        "() => { greenprofReport.graph.zoomWhole(); return greenprofReport.graph.settled; }"
    )


def test_everything_works_by_keyboard(report: Reports) -> None:
    page = report(orders_profile(), "group=task")
    page.focus("#graph .flame-canvas")
    press(page, "ArrowDown")
    press(page, "ArrowDown")
    assert page.evaluate(SELECTED) == "GET /orders/{}"
    press(page, "ArrowRight")
    assert page.evaluate(SELECTED) == "GET /report"
    press(page, "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown")
    assert page.evaluate(SELECTED) == "load_lines"
    press(page, "Enter")
    assert fills_the_width(page, "load_lines")
    press(page, "ArrowUp")
    assert page.evaluate(SELECTED) == "AsyncSession.run_sync"
    press(page, "Home")
    assert "GET /report" in labels(page)
    before = box(page, "AsyncSession.run_sync")["width"]
    press(page, "+")
    assert box(page, "AsyncSession.run_sync")["width"] > before * 1.3
    start = box(page, "AsyncSession.run_sync")["x"]
    press(page, "Shift+ArrowRight")
    assert box(page, "AsyncSession.run_sync")["x"] < start - 50
    press(page, "-", "-", "-", "-")
    assert "GET /report" in labels(page)


def test_the_selected_box_is_said(report: Reports) -> None:
    page = report(orders_profile())
    canvas = page.locator("#graph .flame-canvas")
    assert canvas.get_attribute("role") == "application"
    assert canvas.get_attribute("aria-label")
    click(page, "load_lines")
    said = page.text_content("#graph [aria-live]") or ""
    for part in ("load_lines, orders/repo.py:20", "300 ms", "12 % of the wall time", "level 4"):
        assert part in said
    assert "greenlet boundary" in said
    page.click("[data-switch=mine]")
    page.click("[data-clock=await]")
    said = page.text_content("#graph [aria-live]") or ""
    assert "19 % of the awaiting time" in said, "what was said of another clock is no longer true"


def test_hovering_tells_the_box(report: Reports) -> None:
    page = report(orders_profile())
    page.mouse.move(*point_of(page, box(page, "load_lines")))
    assert page.evaluate("() => greenprofReport.graph.hovered.info.label") == "load_lines"
    page.wait_for_selector("#tooltip:visible")
    assert "load_lines" in (page.text_content("#tooltip") or "")
    page.mouse.move(5, 5)
    assert page.evaluate("() => greenprofReport.graph.hovered") is None


def test_each_point_belongs_to_the_box_drawn_there(report: Reports) -> None:
    page = report(orders_profile(), "group=task")
    wrong = page.evaluate(
        """() => {
            const { graph } = greenprofReport;
            const wrong = [];
            for (const { label, box, x, y, width } of graph.visibleBoxes()) {
                const row = y + 9;
                if (graph.boxAt(x + 0.01, row) !== box) wrong.push([label, "left"]);
                if (graph.boxAt(x + width - 0.01, row) !== box) wrong.push([label, "right"]);
                if (graph.boxAt(x - 0.01, row) === box) wrong.push([label, "before"]);
                if (graph.boxAt(x + width + 0.01, row) === box) wrong.push([label, "after"]);
                if (graph.boxAt(x + width / 2, y - 1) === box) wrong.push([label, "above"]);
            }
            return wrong;
        }"""
    )
    assert wrong == []


def test_what_was_zoomed_to_has_room_for_what_it_called(report: Reports) -> None:
    names = [f"level_{depth}" for depth in range(90)]
    page = report(stack_profile((names, State.ON_CPU, 80)))
    height = page.evaluate("() => greenprofReport.graph.canvas.clientHeight")
    lowest = [one for one in boxes(page) if one["y"] < height - 2 * ROW][-1]
    assert lowest["y"] > height * 0.8
    click(page, lowest["label"])
    assert box(page, lowest["label"])["y"] < height * 0.4
    link = page.url
    assert "zoom=" in link
    again = report(stack_profile((names, State.ON_CPU, 80)), link.partition("#")[2])
    assert box(again, lowest["label"])["y"] < height * 0.4
    press(page, *["Escape"] * 6)
    assert page.evaluate(ZOOMED) in labels(page), "what was zoomed out to is in view"


def test_the_wheel_scrolls_the_page_unless_a_key_says_otherwise(report: Reports) -> None:
    page = report(orders_profile(), height=400)
    x, y = point_of(page, box(page, "load_lines"))
    page.mouse.move(x, y)
    width = box(page, "load_lines")["width"]
    page.mouse.wheel(0, 60)
    page.wait_for_function("() => scrollY > 0")
    assert box(page, "load_lines")["width"] == width
    page.evaluate("() => scrollTo(0, 0)")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_function(f"() => ({BOXES})().some((one) => one.x < 0.5 && one.y > 40)")
    zoomed = box(page, "load_lines")
    assert zoomed["width"] > width * 1.3
    # What was under the pointer stays there.
    area = page.locator("#graph .flame-canvas").bounding_box()
    assert area is not None
    assert zoomed["x"] + zoomed["width"] / 2 == pytest.approx(x - area["x"], abs=1)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 100)
    page.keyboard.up("Shift")
    page.wait_for_function(
        f"() => ({BOXES})().find((one) => one.label === 'load_lines').x < {zoomed['x'] - 50}"
    )
    press(page, "Home")


def test_dragging_pans(report: Reports) -> None:
    page = report(orders_profile())
    click(page, "get_order")
    x, y = point_of(page, box(page, "load_lines"))
    before = box(page, "load_lines")["x"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=4)
    page.mouse.up()
    assert box(page, "load_lines")["x"] == pytest.approx(before - 100, abs=1)
    assert page.evaluate(ZOOMED) == "get_order", "a drag is no click"
    press(page, "Escape")
    assert box(page, "load_lines")["x"] == pytest.approx(before, abs=1)


def test_the_first_tap_selects_and_the_second_zooms(report: Reports) -> None:
    page = report(orders_profile())
    x, y = point_of(page, box(page, "load_lines"))
    tap = """([x, y]) => {
        const about = { pointerType: "touch", pointerId: 7, isPrimary: true, bubbles: true };
        for (const type of ["pointerdown", "pointerup"]) {
            greenprofReport.graph.canvas.dispatchEvent(
                new PointerEvent(type, { ...about, clientX: x, clientY: y }));
        }
    }"""
    page.evaluate(tap, [x, y])
    assert page.evaluate(SELECTED) == "load_lines"
    assert not fills_the_width(page, "load_lines")
    page.evaluate(tap, [x, y])
    assert fills_the_width(page, "load_lines")


def test_a_sandwich_has_callers_above_and_callees_below(report: Reports) -> None:
    page = report(orders_profile())
    page.evaluate("""() => {
        const { profile, state } = greenprofReport;
        state.set({ view: "sandwich", fn: profile.functions.name.indexOf("Connection.fetch") });
    }""")
    rows = {one["label"]: round(one["y"]) for one in boxes(page)}
    middle = rows["Connection.fetch"]
    assert rows["Session.execute"] == middle - ROW
    assert rows["[await]"] == middle + ROW
    click(page, "Session.execute")
    assert fills_the_width(page, "Session.execute")
    assert fills_the_width(page, "Connection.fetch"), "the callees stay whole"
    assert not fills_the_width(page, "[await]")
    page.focus("#graph .flame-canvas")
    press(page, "ArrowDown")
    assert page.evaluate(SELECTED) == "Connection.fetch"
    press(page, "ArrowDown")
    assert page.evaluate(SELECTED) == "[await]"
    press(page, "ArrowUp", "ArrowUp")
    assert page.evaluate(SELECTED) == "Session.execute"


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window(report: Reports, dark: bool) -> None:
    page = report(orders_profile(), "group=task", width=400, height=700, dark=dark)
    assert 300 < canvas_width(page) <= 400
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    click(page, "load_lines")
    assert fills_the_width(page, "load_lines")
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_function("() => greenprofReport.graph.canvas.clientWidth > 800")
    assert fills_the_width(page, "load_lines")
