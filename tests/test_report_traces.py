"""The report's filter by trace: everything in the page is then of that trace's samples only."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given
from playwright.sync_api import Page, expect

from greenprof.analysis import trace_table
from greenprof.exporters.html.payload import payload
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, SpanRef, State
from tests.profiles import (
    BUSY_TRACE,
    MS,
    QUICK_TRACE,
    SLOW_TRACE,
    app,
    orders_profile,
    profiles,
    traced_profile,
)
from tests.report_naive import DUMP, VIEWS
from tests.report_pages import Reports, assert_sound, every_switch, every_tab
from tests.report_reading import ROWS, click_box, column, drawn, fragment, state, zoomed

UNKNOWN = "0f" * 16
FIELD = "#trace-id"
RESULT = "#trace-result"


def only(profile: Profile, trace_id: str) -> Profile:
    """A profile of a trace's parts of the samples, and of nothing else."""
    samples = [
        sample
        for row in trace_table(profile)
        if row.trace_id == trace_id
        for sample in row.parts.values()
    ]
    return dataclasses.replace(profile, samples=samples, spans=[], span_samples=[])


def settled(page: Page) -> None:
    page.wait_for_function("() => greenprofReport.settled")


def boxes(page: Page) -> dict[str, dict[str, float]]:
    """The weights of all boxes by path, in each view and on each clock."""
    found: dict[str, dict[str, float]] = page.evaluate(
        f"""() => {{
          {DUMP}
          const {{ profile }} = greenprofReport;
          const found = {{}};
          for (const group of ["all", "task", "thread"]) {{
            const tree = new ViewTree(profile, {{ group, idle: true, bridges: true, mine: false }});
            for (const clock of ["wall", "cpu", "await"]) {{
              for (const view of {list(VIEWS)}) {{
                found[`${{group}} ${{clock}} ${{view}}`] = boxes(new Chart(tree, clock, view, 0));
              }}
            }}
          }}
          return found;
        }}"""
    )
    return found


def tables(page: Page) -> dict[str, Any]:
    """The figures of each table's rows that have any."""
    found: dict[str, Any] = page.evaluate(
        """() => {
          const { profile } = greenprofReport;
          const some = (row) => Object.entries(row).some(([name, value]) =>
            typeof value === "number" && value > 0
            && !["fn", "site", "group", "tasks", "line"].includes(name));
          const plain = (rows) => rows.filter(some).map((row) => ({ ...row, tasks: 0 }));
          return {
            functions: plain(functionRows(profile, null)),
            awaits: plain(siteRows(profile, null)),
            tasks: plain(groupRows(profile, null)),
            lines: plain(lineRows(profile, 0, null)),
          };
        }"""
    )
    return found


class TestPayload:
    def test_of_traced_requests(self) -> None:
        found = payload(traced_profile())
        assert found["traces"] == {
            "id": [SLOW_TRACE, BUSY_TRACE, QUICK_TRACE],
            "group": [0, 1, 0],
            "spans": [2, 1, 1],
            "time": [825 * MS, 400 * MS, 30 * MS],
            "parts": [3, 1, 1],
        }
        assert found["parts"]["wall"] == [30 * MS, 600 * MS, 200 * MS, 450 * MS, 30 * MS]
        assert found["parts"]["cpu"] == [25 * MS, 0, 0, 400 * MS, 0]
        states = [found["samples"]["state"][sample] for sample in found["parts"]["sample"]]
        assert [found["states"][number] for number in states] == [
            "on-cpu", "awaiting", "awaiting", "on-cpu", "awaiting",
        ]  # fmt: skip

    def test_the_page_opens_with_the_heaviest_on_its_clock(self) -> None:
        assert payload(traced_profile(), clock="cpu")["traces"]["id"][0] == BUSY_TRACE

    @given(profiles())
    def test_columns_point_where_they_should(self, profile: Profile) -> None:
        found = payload(profile)
        assert sum(found["traces"]["parts"]) == len(found["parts"]["sample"])
        for name in ("count", "wall", "cpu"):
            assert len(found["parts"][name]) == len(found["parts"]["sample"])
        assert all(0 <= sample < len(profile.samples) for sample in found["parts"]["sample"])


@pytest.mark.parametrize("trace_id", [SLOW_TRACE, QUICK_TRACE, BUSY_TRACE])
def test_it_is_as_if_nothing_else_had_been_recorded(report: Reports, trace_id: str) -> None:
    page = report(traced_profile(), f"trace={trace_id}")
    alone = report(only(traced_profile(), trace_id))
    assert boxes(page) == boxes(alone)
    assert tables(page) == tables(alone)
    assert drawn(page)[0] == drawn(alone)[0]


class TestField:
    def test_it_is_not_there_without_spans(self, report: Reports) -> None:
        page = report(orders_profile(), f"trace={SLOW_TRACE}")
        expect(page.locator("#trace")).to_be_hidden()
        assert state(page, "trace") == ""
        assert drawn(page)[0] == "all: 2.50 s wall time of tasks"
        page.keyboard.press("r")
        assert page.evaluate("() => document.activeElement === document.body")

    def test_a_pasted_id(self, report: Reports) -> None:
        page = report(traced_profile())
        # As it is written elsewhere.
        page.fill(FIELD, f" 0x{SLOW_TRACE[:8]}-{SLOW_TRACE[8:].upper()} ")
        expect(page.locator(FIELD)).to_have_value(SLOW_TRACE)
        assert fragment(page) == f"trace={SLOW_TRACE}"
        assert drawn(page)[:3] == ["all: 825 ms wall time of tasks", "GET /orders/{}", "get_order"]
        header = page.locator("#header .facts").last
        expect(header).to_contain_text(
            f"trace {SLOW_TRACE}spans 2CPU 25.0 msawaiting 800 mssamples 82"
        )
        expect(page.locator("#header .facts.program")).to_contain_text("3.11.9")
        assert column(page, "name")[:2] == ["get_order", "load_lines"]
        assert column(page, "seenTotal")[:2] == ["82", "20"]
        # How many tasks it took is not known.
        assert "task" not in page.locator("#details .seen").inner_text()
        page.locator("[data-tab=tasks]").click()
        assert column(page, "name") == ["GET /orders/{}"]
        assert column(page, "tasks") == ["-"]

    def test_the_beginning_of_an_id(self, report: Reports) -> None:
        page = report(traced_profile())
        page.keyboard.press("r")
        page.keyboard.type(SLOW_TRACE[:5])
        assert state(page, "trace") == ""
        page.keyboard.press("Enter")
        assert state(page, "trace") == SLOW_TRACE
        page.fill(FIELD, "77")
        page.keyboard.press("Enter")
        expect(page.locator(RESULT)).to_have_text("no such trace")
        assert state(page, "trace") == SLOW_TRACE

    def test_a_beginning_that_several_have(self, report: Reports) -> None:
        builder = ProfileBuilder()
        key = builder.group("g", "asyncio"), builder.thread("t"), -1, State.AWAITING
        builder.add(*key, 100, 100 * MS, 0)
        for number in range(3):
            ref = SpanRef(f"ab{number:030x}", "1" * 16)
            builder.add_part(builder.span(ref), key, 1, MS)
        page = report(builder.build(ProfileInfo()))
        page.fill(FIELD, "ab")
        page.keyboard.press("Enter")
        expect(page.locator(RESULT)).to_have_text("3 traces begin so")
        assert state(page, "trace") == ""

    def test_the_heaviest_traces_are_offered(self, report: Reports) -> None:
        page = report(traced_profile())
        offers = page.locator("#trace-ids option").evaluate_all(
            "(options) => options.map(({ value, label }) => [value, label.replace(/[\\u2068\\u2069]/g, '')])"
        )
        assert offers == [
            [SLOW_TRACE, "825 ms, GET /orders/{}, 2 spans"],
            [BUSY_TRACE, "400 ms, GET /report, 1 span"],
            [QUICK_TRACE, "30.0 ms, GET /orders/{}, 1 span"],
        ]

    def test_escape_shows_everything_again(self, report: Reports) -> None:
        page = report(traced_profile(), f"trace={QUICK_TRACE}")
        assert drawn(page)[0] == "all: 30.0 ms wall time of tasks"
        page.locator(FIELD).press("Escape")
        assert (fragment(page), page.locator(FIELD).input_value()) == ("", "")
        assert drawn(page)[0] == "all: 2.50 s wall time of tasks"
        expect(page.locator("#header")).to_contain_text("290 at 100 Hz")
        expect(page.locator("#details .seen")).to_contain_text("16 tasks")

    def test_a_trace_of_which_nothing_was_seen(self, report: Reports) -> None:
        page = report(traced_profile(), f"trace={UNKNOWN}")
        expect(page.locator("#nothing")).to_contain_text("No sample was taken in this trace")
        expect(page.locator(RESULT)).to_have_text("no samples in this trace")
        for _ in every_tab(page):
            expect(page.locator(ROWS)).to_have_count(0)
        assert_sound(page)
        page.fill(FIELD, BUSY_TRACE)
        expect(page.locator("#nothing")).to_be_hidden()
        expect(page.locator(RESULT)).to_have_text("")


class TestPlaces:
    def test_back_and_forward(self, report: Reports) -> None:
        page = report(traced_profile())
        page.fill(FIELD, SLOW_TRACE)
        page.fill(FIELD, BUSY_TRACE)
        page.locator("[data-clock=cpu]").click()
        page.go_back()
        settled(page)
        # The clock is how the page looks, and stays.
        assert (state(page, "trace"), state(page, "clock")) == (SLOW_TRACE, "cpu")
        assert page.locator(FIELD).input_value() == SLOW_TRACE
        assert drawn(page)[0] == "all: 25.0 ms CPU time"
        page.go_back()
        settled(page)
        assert (state(page, "trace"), page.locator(FIELD).input_value()) == ("", "")
        page.go_forward()
        page.go_forward()
        settled(page)
        assert state(page, "trace") == BUSY_TRACE

    def test_a_box_that_the_trace_has_too_stays_zoomed(self, report: Reports) -> None:
        page = report(traced_profile())
        click_box(page, "load_lines")
        assert zoomed(page) == "load_lines"
        page.fill(FIELD, SLOW_TRACE)
        settled(page)
        assert zoomed(page) == "load_lines"
        expect(page.locator("#scope")).to_contain_text("within load_lines")
        assert "AsyncSession.execute" not in column(page, "name")
        page.fill(FIELD, BUSY_TRACE)
        settled(page)
        assert zoomed(page) != "load_lines"

    def test_a_link_that_was_cut_shows_everything(self, report: Reports) -> None:
        page = report(traced_profile(), f"trace={SLOW_TRACE[:-1]}&group=all")
        assert (state(page, "trace"), state(page, "group")) == ("", "all")


def test_every_switch_of_a_trace(report: Reports) -> None:
    for width in (360, 1280):
        page = report(traced_profile(), f"trace={SLOW_TRACE}", width=width)
        for _ in every_switch(page):
            settled(page)
        for _ in every_tab(page):
            settled(page)
        assert_sound(page)
        assert state(page, "trace") == SLOW_TRACE


def test_the_toolbar_is_one_row_on_a_usual_screen(report: Reports) -> None:
    heights = [
        report(profile, width=1280).locator("#toolbar").bounding_box()["height"]  # type: ignore[index]
        for profile in (orders_profile(), traced_profile())
    ]
    assert heights[0] == heights[1]


def test_names_of_groups_cannot_break_out_of_the_offers(report: Reports) -> None:
    builder = ProfileBuilder()
    name = "</option><img src=x onerror='window.hacked=1'>\u202eevil"
    stack = builder.stack([app(name, 1)])
    key = builder.group(name, "asyncio"), builder.thread("t"), stack, State.ON_CPU
    builder.add(*key, 1, MS, MS)
    builder.add_part(builder.span(SpanRef("a" * 32, "b" * 16)), key, 1, MS, MS)
    page = report(builder.build(ProfileInfo()))
    page.fill(FIELD, "a" * 32)
    label = page.locator("#trace-ids option").first.get_attribute("label")
    assert label is not None
    assert re.match("1.00 ms, \u2068</option><img", label)
    assert "\u202e" not in label
    assert_sound(page)
