"""The report's page in use: links, Back, keyboard only, themes, paper, narrow windows, little to show."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from greenprof.profiles import ProfileBuilder, ProfileInfo
from tests.profiles import orders_profile
from tests.report_pages import Reports, assert_sound
from tests.report_reading import (
    FUNCTIONS_OF_USER,
    click_box,
    column,
    drawn,
    fragment,
    one_sample,
    shown_rows,
    state,
    zoomed,
)

FOCUSED = """() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const text = element.tagName === "BUTTON" ? element.textContent.trim() : element.id;
  return {
    name: text || element.tagName,
    outlined: outlineStyle !== "none" && outlineWidth !== "0px",
  };
}"""


class TestAddress:
    FRAGMENT = "clock=cpu&group=all&bridges=1&q=total&tab=tasks&sort=cpu-&filter=GET&theme=dark"

    def test_a_link_restores_everything(self, report: Reports) -> None:
        first = report(orders_profile(), self.FRAGMENT)
        click_box(first, "report")
        assert fragment(first).startswith("clock=cpu&group=all&bridges=1&zoom=")
        second = report(orders_profile(), fragment(first))
        assert fragment(second) == fragment(first)
        assert drawn(second) == drawn(first)
        assert second.locator("#tables").inner_text() == first.locator("#tables").inner_text()
        assert second.locator("#search").input_value() == "total"
        assert second.locator("#filter").input_value() == "GET"
        expect(second.locator("[data-clock=cpu]")).to_have_attribute("aria-pressed", "true")
        expect(second.locator("html")).to_have_attribute("data-theme", "dark")
        expect(second.locator("#scope")).to_contain_text("within report")

    def test_back_and_forward_go_from_zoom_to_zoom(self, report: Reports) -> None:
        page = report(orders_profile())
        assert fragment(page) == ""
        click_box(page, "get_order")
        page.locator("[data-clock=await]").click()
        page.locator("[data-view=bottom]").click()
        page.go_back()
        assert state(page, "view") == "top"
        assert zoomed(page) == "get_order"
        page.go_back()
        assert zoomed(page).startswith("all:")
        page.go_forward()
        assert zoomed(page) == "get_order"

    def test_back_changes_the_place_and_not_the_look(self, report: Reports) -> None:
        page = report(orders_profile(), "view=sandwich&tab=functions")
        for name in ("load_lines", "get_order"):
            page.locator("#tables tr[data-row]", has_text=name).first.click()
            assert zoomed(page) == name
        page.keyboard.press("d")
        page.keyboard.press("2")
        page.go_back()
        assert zoomed(page) == "load_lines"
        assert (state(page, "theme"), state(page, "tab")) == ("dark", "awaits")
        page.evaluate("() => { location.hash = 'clock=cpu&theme=light'; }")
        page.wait_for_function("() => greenprofReport.state.clock === 'cpu'")
        assert (state(page, "theme"), state(page, "view")) == ("light", "top"), "a pasted link"

    @pytest.mark.parametrize(
        "bad",
        [
            "view=up&clock=x&group=&zoom=1.x&fn=-3&tab=9&sort=;&theme=red&mine=yes",
            "zoom=9999999.12&fn=99999999&mark=1&tab=lines",
            "view=sandwich&fn=99999999&zoom=1.5",
            "%ff&&=&#&q=%E0%A4%A",
            "__proto__=1&constructor=2&mine=constructor&idle=__proto__",
        ],
    )
    def test_what_makes_no_sense_is_the_default(self, report: Reports, bad: str) -> None:
        page = report(orders_profile(), bad)
        assert_sound(page)
        page.locator("[data-view=top]").click()
        page.locator("[data-tab=functions]").click()
        assert drawn(page)[0] == "all: 2.50 s wall time of tasks"
        assert shown_rows(page) > len(FUNCTIONS_OF_USER)


class TestKeyboardAndHelp:
    def test_help_opens_and_closes(self, report: Reports) -> None:
        page = report(orders_profile())
        page.keyboard.press("?")
        help_ = page.locator("#help")
        expect(help_).to_be_visible()
        expect(help_).to_contain_text("zoom out a level")
        page.keyboard.press("t")
        page.keyboard.press("Escape")
        expect(help_).to_be_hidden()
        page.locator("[data-help]").click()
        page.get_by_role("button", name="Close").click()
        expect(help_).to_be_hidden()

    def test_every_key_does_what_the_help_says(self, report: Reports) -> None:
        page = report(orders_profile())
        for key, field, value in (
            ("b", "view", "bottom"), ("s", "view", "sandwich"), ("t", "view", "top"),
            ("c", "clock", "cpu"), ("c", "clock", "await"), ("c", "clock", "wall"),
            ("g", "group", "thread"), ("g", "group", "all"), ("g", "group", "task"),
            ("f", "bridges", True), ("m", "mine", True), ("i", "idle", True),
            ("2", "tab", "awaits"), ("3", "tab", "tasks"), ("4", "tab", "lines"),
            ("d", "theme", "dark"), ("d", "theme", "light"), ("d", "theme", "auto"),
        ):  # fmt: skip
            page.keyboard.press(key)
            assert state(page, field) == value, key

    def test_letters_typed_in_a_field_are_text(self, report: Reports) -> None:
        page = report(orders_profile())
        page.keyboard.press("/")
        page.keyboard.type("bcm?")
        assert (state(page, "q"), state(page, "view")) == ("bcm?", "top")
        expect(page.locator("#help")).to_be_hidden()

    def test_everything_can_be_reached_without_a_mouse(self, report: Reports) -> None:
        page = report(orders_profile())
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.append(page.evaluate(FOCUSED))
            if reached[-1]["name"] == "TR":
                break
        names = [one["name"] for one in reached]
        for wanted in (
            "Top-down", "await", "by thread", "my code only", "search", "CANVAS", "Functions",
            "filter", "TR",
        ):  # fmt: skip
            assert wanted in names, (wanted, names)
        assert all(one["outlined"] for one in reached), reached
        page.keyboard.press("Enter")
        assert zoomed(page) == "get_order"
        page.keyboard.press("ArrowDown")
        expect(page.locator("#details .name")).not_to_have_text("orders.api.get_order")


class TestThemes:
    def test_the_system_chooses_until_the_reader_does(self, report: Reports) -> None:
        page = report(orders_profile(), dark=True)
        assert (_brightness(page), page.evaluate("() => greenprofReport.graph.dark")) == (0, True)
        page.keyboard.press("d")
        assert _brightness(page) == 0
        page.locator("[data-theme-switch]").click()
        assert (_brightness(page), page.evaluate("() => greenprofReport.graph.dark")) == (1, False)
        expect(page.locator("[data-theme-switch]")).to_have_attribute("aria-label", "Theme: light")

    def test_paper_is_light_and_has_all_tables(self, report: Reports) -> None:
        page = report(orders_profile(), "theme=dark", width=718)
        page.emulate_media(media="print")
        expect(page.locator("#legend")).to_contain_text("your code")
        expect(page.locator("#legend li").first).to_be_visible()
        expect(page.locator("#legend summary")).to_be_hidden()
        expect(page.locator("#paper .t-functions td.c-place").first).to_be_visible()
        expect(page.locator("#toolbar")).to_be_hidden()
        assert _brightness(page) == 1
        titles = page.locator("#paper h2").all_text_contents()
        assert titles == ["Functions", "Await sites", "Tasks"]
        page.emulate_media(media="screen")
        expect(page.locator("#toolbar")).to_be_visible()
        expect(page.locator("#paper")).to_be_hidden()
        assert _brightness(page) == 0


class TestSizes:
    @pytest.mark.parametrize("width", [320, 640, 1000])
    def test_the_page_never_scrolls_sideways(self, report: Reports, width: int) -> None:
        page = report(orders_profile(), width=width)
        for tab in ("awaits", "tasks", "lines", "functions"):
            page.locator(f"[data-tab={tab}]").click()
            assert_sound(page)
        click_box(page, "get_order")
        page.locator("#search").fill("a")
        assert_sound(page)
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert_sound(page)

    def test_an_empty_profile_says_what_to_do(self, report: Reports) -> None:
        page = report(ProfileBuilder().build(ProfileInfo()))
        expect(page.locator("#nothing")).to_contain_text("sample faster (--rate)")
        for button in page.locator("#toolbar button, [data-tab]").all():
            button.click()
        assert_sound(page)

    def test_a_profile_of_one_sample(self, report: Reports) -> None:
        page = report(one_sample())
        assert drawn(page) == ["all: 10.0 ms wall time of tasks", "main (thread)", "only"]
        assert column(page, "cpuSelf") == ["10.0 ms"]
        for button in page.locator("#toolbar button, [data-tab]").all():
            button.click()
        assert_sound(page)

    def test_a_clock_without_time_says_so(self, report: Reports) -> None:
        page = report(one_sample(), "clock=await")
        expect(page.locator("#nothing")).to_have_text("Nothing was awaited.")
        page.locator("[data-clock=cpu]").click()
        expect(page.locator("#nothing")).to_be_hidden()
        assert drawn(page) == ["all: 10.0 ms CPU time", "main (thread)", "only"]


def _brightness(page: Page) -> int:
    """1 for a bright page, 0 for a dark one."""
    colour: str = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
    red = re.search(r"\d+", colour)
    assert red is not None, colour
    return round(int(red[0]) / 255)
