"""The report's page in a browser: header, switches, search, details, tables."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.profiles import orders_profile
from tests.report_pages import Reports
from tests.report_reading import (
    FUNCTIONS_OF_USER,
    ROWS,
    click_box,
    column,
    drawn,
    fragment,
    many_functions,
    one_sample,
    shown_rows,
    state,
    zoomed,
)


class TestHeader:
    def test_it_answers_how_long_how_much_and_how_well_it_was_seen(self, report: Reports) -> None:
        page = report(orders_profile())
        header = page.locator("#header").inner_text()
        for fact in (
            "orders.py --requests 15", "2.00 s", "900 ms", "1.35 s", "290", "100 Hz", "2 of 200",
            "1.0 %", "3.11.9", "2026-01-02 03:04:05 UTC",
        ):  # fmt: skip
            assert fact in header
        assert page.title().startswith("orders.py")
        expect(page.locator("#warnings")).to_contain_text("took the greenlet tracer at 1.2 s")

    def test_many_warnings_can_be_folded(self, report: Reports) -> None:
        profile = orders_profile()
        profile.info.warnings.extend(f"warning {number}" for number in range(5))
        page = report(profile)
        last = page.get_by_text("warning 4", exact=True)
        expect(last).to_be_visible()
        page.locator("#warnings summary").click()
        expect(last).to_be_hidden()

    def test_without_warnings_there_is_no_room_for_them(self, report: Reports) -> None:
        expect(report(one_sample()).locator("#warnings")).to_be_hidden()


class TestSwitches:
    def test_my_code_only(self, report: Reports) -> None:
        page = report(orders_profile())
        assert "Session.execute" in drawn(page)
        assert "Session.execute" in column(page, "name")
        button = page.locator("[data-switch=mine]")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        assert {"get_order", "load_lines", "[await]"} < set(drawn(page))
        assert not {"Session.execute", "Connection.fetch"} & set(drawn(page))
        assert column(page, "name") == FUNCTIONS_OF_USER

    def test_bridges_are_folded_until_wanted(self, report: Reports) -> None:
        page = report(orders_profile())
        assert "greenlet_spawn" not in drawn(page) + column(page, "name")
        expect(page.locator("#legend")).not_to_contain_text("bridge internals")
        page.locator("[data-switch=bridges]").click()
        assert "greenlet_spawn" in drawn(page)
        assert "greenlet_spawn" in column(page, "name")
        expect(page.locator("#legend")).to_contain_text("bridge internals")

    def test_idle_time_is_hidden_until_wanted(self, report: Reports) -> None:
        page = report(orders_profile())
        assert "[idle]" not in drawn(page)
        assert drawn(page)[0] == "all: 2.50 s wall time of tasks"
        page.locator("[data-switch=idle]").click()
        assert "[idle]" in drawn(page)
        assert drawn(page)[0] == "all: 2.90 s wall time of tasks"

    def test_the_clock_changes_what_is_drawn_and_every_share(self, report: Reports) -> None:
        page = report(orders_profile(), "group=all")
        assert "[await]" in drawn(page)
        page.locator("[data-clock=cpu]").click()
        assert drawn(page)[:2] == ["all: 890 ms CPU time", "report"]
        assert "[await]" not in drawn(page)
        assert column(page, "name")[0] == "report"
        page.locator("[data-clock=await]").click()
        assert drawn(page)[:2] == ["all: 1.55 s await time of tasks", "get_order"]
        assert "report" not in drawn(page)
        assert column(page, "name")[0] == "get_order"

    def test_groups(self, report: Reports) -> None:
        page = report(orders_profile())
        page.locator("[data-group=task]").click()
        assert {"GET /orders/{}", "GET /report"} < set(drawn(page)[1:4])
        page.locator("[data-group=thread]").click()
        assert drawn(page)[1] == "MainThread"

    def test_the_zoom_follows_its_frame_through_the_switches(self, report: Reports) -> None:
        page = report(orders_profile())
        click_box(page, "load_lines")
        for button in ("group=task", "switch=bridges", "switch=mine", "switch=bridges"):
            page.locator(f"[data-{button}]").click()
            expect(page.locator("#scope")).to_contain_text("within load_lines")

    def test_bottom_up_and_sandwich(self, report: Reports) -> None:
        page = report(orders_profile(), "group=all")
        page.locator("[data-view=bottom]").click()
        assert "[await]" in drawn(page)[1:3]
        page.locator("[data-view=sandwich]").click()
        assert "get_order" in drawn(page)
        page.locator(ROWS, has_text="load_lines").click()
        assert drawn(page)[:3] == ["get_order", "AsyncSession.run_sync", "load_lines"]
        assert state(page, "view") == "sandwich"


class TestSearch:
    def test_it_says_how_many_and_which_share_of_the_clock(self, report: Reports) -> None:
        page = report(orders_profile())
        result = page.locator("#search-result")
        page.locator("#search").fill("FETCH")
        expect(result).to_have_text("1 function, 62 % of the wall time")
        page.locator("[data-clock=cpu]").click()
        expect(result).to_have_text("1 function, 5.6 % of the CPU time")
        page.locator("#search").fill("no such thing")
        expect(result).to_have_text("nothing holds this text")
        page.keyboard.press("Escape")
        expect(result).to_have_text("")
        assert page.locator("#search").input_value() == ""

    def test_n_goes_from_match_to_match(self, report: Reports) -> None:
        page = report(orders_profile())
        page.keyboard.press("/")
        page.keyboard.type("orders/api.py")
        page.locator("h1").click()
        found = []
        for key in ("n", "n", "N"):
            page.keyboard.press(key)
            found.append(page.locator("#details .name").inner_text())
        assert found == ["orders.api.get_order", "orders.api.report", "orders.api.get_order"]
        # In the field itself letters are text, and Enter goes on.
        page.keyboard.press("/")
        page.keyboard.press("Enter")
        expect(page.locator("#details .name")).to_have_text("orders.api.report")
        page.keyboard.press("Shift+Enter")
        expect(page.locator("#details .name")).to_have_text("orders.api.get_order")

    def test_tasks_are_found_by_their_names(self, report: Reports) -> None:
        page = report(orders_profile(), "q=/report")
        expect(page.locator("#search-result")).to_have_text("1 task, 32 % of the wall time")

    def test_escape_in_the_filter_ends_the_filter_only(self, report: Reports) -> None:
        page = report(orders_profile(), "q=orders&filter=report")
        page.locator("#filter").press("Escape")
        assert (state(page, "q"), state(page, "filter")) == ("orders", "")


class TestDetails:
    def test_a_chosen_frame_shows_its_figures_in_every_clock(self, report: Reports) -> None:
        page = report(orders_profile())
        click_box(page, "load_lines")
        strip = page.locator("#details")
        expect(strip.locator(".name")).to_have_text("orders.repo.load_lines")
        expect(strip).to_contain_text("orders/repo.py:20")
        expect(strip).to_contain_text("greenlet boundary")
        expect(strip).to_contain_text("seen 30 times, 12 tasks: GET /orders/{}")
        rows = [row.all_inner_texts() for row in map(_cells, strip.locator("tbody tr").all())]
        assert rows[1] == ["total", "300 ms", "-", "300 ms"]
        assert rows[2] == ["share", "12 %", "", ""]

    def test_hovering_shows_the_figures_beside_the_pointer(self, report: Reports) -> None:
        page = report(orders_profile(), "group=all")
        tooltip = page.locator("#tooltip")
        expect(tooltip).to_be_hidden()
        area = page.locator("#graph").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + 60, area["y"] + 28)
        expect(tooltip).to_be_visible()
        expect(tooltip).to_contain_text("orders.api.get_order")
        expect(tooltip).to_contain_text("1.60 s")
        page.mouse.move(5, 5)
        expect(tooltip).to_be_hidden()

    def test_actions(self, report: Reports) -> None:
        page = report(orders_profile(), "group=all")
        click_box(page, "load_lines")
        actions = page.locator("#details .actions")
        actions.get_by_text("lines", exact=True).click()
        expect(page.locator("[data-tab=lines]")).to_have_attribute("aria-selected", "true")
        assert column(page, "line") == ["orders/repo.py:31"]
        actions.get_by_text("sandwich").click()
        assert drawn(page)[:3] == ["get_order", "AsyncSession.run_sync", "load_lines"]
        actions.get_by_text("copy name").click()
        expect(actions).to_contain_text(re.compile("copied|not allowed"))


class TestTables:
    def test_tabs_by_mouse_and_by_arrows(self, report: Reports) -> None:
        page = report(orders_profile())
        page.locator("[data-tab=awaits]").click()
        assert column(page, "place") == [
            "orders/api.py:40",
            "orders/repo.py:31",
            "orders/api.py:42",
        ]
        page.keyboard.press("ArrowRight")
        expect(page.locator("[data-tab=tasks]")).to_be_focused()
        assert column(page, "name")[0] == "GET /orders/{}"
        assert column(page, "tasks")[0] == "12"

    def test_columns_sort_both_ways(self, report: Reports) -> None:
        page = report(orders_profile())
        head = page.locator("th[data-column=cpuTotal]")
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", "descending")
        assert column(page, "cpuTotal")[:3] == ["800 ms", "800 ms", "800 ms"]
        head.get_by_role("button").press("Enter")
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert column(page, "cpuTotal")[-1] == "800 ms"
        assert column(page, "cpuTotal")[0] == "-"
        page.locator("th[data-column=name] button").click()
        names = column(page, "name")
        assert names == sorted(names, key=str.lower)
        assert "sort=name" in fragment(page)

    def test_the_filter_keeps_rows_that_hold_a_text(self, report: Reports) -> None:
        page = report(orders_profile())
        page.locator("#filter").fill("SQLALCHEMY/")
        assert {"Session.execute", "AsyncSession.run_sync"} < set(column(page, "name"))
        assert "get_order" not in column(page, "name")
        page.locator("#filter").fill("no such thing")
        expect(page.locator("#tables")).to_contain_text("no row holds this text")

    def test_your_code_comes_first_and_other_code_is_dimmed(self, report: Reports) -> None:
        page = report(orders_profile())
        assert column(page, "name")[:5] == FUNCTIONS_OF_USER
        assert page.locator(f"{ROWS}:not(.dim)").count() == len(FUNCTIONS_OF_USER)
        expect(page.locator("#tables .rows")).to_contain_text("your code first")

    def test_a_function_goes_to_the_graph(self, report: Reports) -> None:
        page = report(orders_profile())
        page.locator(ROWS, has_text="LazyLoader").click()
        assert zoomed(page) == "LazyLoader._load_for_state"
        assert page.evaluate(
            "() => greenprofReport.graph.selected === greenprofReport.graph.zoomed"
        )
        expect(page.locator("#mark")).to_contain_text("LazyLoader._load_for_state")
        expect(page.locator("#graph canvas").first).to_be_focused()
        page.locator("#mark button").click()
        expect(page.locator("#mark")).to_be_hidden()

    def test_an_await_site_and_tasks_go_to_the_graph_by_key_too(self, report: Reports) -> None:
        page = report(orders_profile(), "tab=awaits")
        page.locator(ROWS).first.press("ArrowDown")
        page.keyboard.press("Enter")
        assert zoomed(page) == "load_lines"
        expect(page.locator("#scope")).to_contain_text("not only load_lines")
        page.locator("[data-tab=tasks]").click()
        page.locator(ROWS, has_text="GET /report").click()
        assert state(page, "group") == "task"
        assert zoomed(page) == "GET /report"

    def test_a_row_without_time_says_so_and_marks_nothing(self, report: Reports) -> None:
        page = report(orders_profile(), "clock=cpu")
        page.locator(ROWS, has_text="load_lines").click()
        expect(page.locator("#mark")).to_contain_text("no CPU time in orders.repo.load_lines")
        assert zoomed(page).startswith("all:")
        page.locator("#mark button").press("Enter")
        expect(page.locator("#mark")).to_be_hidden()
        assert page.evaluate("() => document.activeElement.className") == "flame-canvas"

    def test_they_follow_the_zoom_and_say_so(self, report: Reports) -> None:
        page = report(orders_profile())
        all_rows = shown_rows(page)
        click_box(page, "load_lines")
        expect(page.locator("#scope")).to_contain_text("within load_lines")
        assert shown_rows(page) < all_rows
        assert column(page, "wallTotal")[0] == "300 ms"
        page.locator("#scope button").click()
        assert shown_rows(page) == all_rows
        expect(page.locator("#scope")).to_contain_text("not only load_lines")

    def test_of_many_rows_only_some_are_in_the_page(self, report: Reports) -> None:
        page = report(many_functions(10_000))
        assert shown_rows(page) == 60
        expect(page.locator("#tables .rows")).to_contain_text("10,000 rows")
        page.locator("#tables .more").click()
        assert shown_rows(page) == 300
        page.locator("th[data-column=cpuSelf] button").click()
        assert column(page, "cpuSelf")[:2] == ["10.0 s", "10.0 s"]
        assert shown_rows(page) == 60


def _cells(row: Locator) -> Locator:
    return row.locator("th, td")
