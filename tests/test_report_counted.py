"""The report's tables of what was counted: awaits, repeats, loop blockers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from greenprof.analysis import await_rows, block_rows, repeat_rows
from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import duration, place
from greenprof.profiles import (
    Block,
    Frame,
    ProfileBuilder,
    ProfileInfo,
    Repeat,
    SpanRef,
    State,
)
from tests.counted_profiles import counted_profile, counted_random, exact_profile, stats_of
from tests.profiles import MS, SECOND, orders_profile, traced_profile
from tests.report_pages import Reports, assert_sound, every_switch, every_tab, hover, reload
from tests.report_reading import (
    ROWS,
    column,
    drawn,
    fragment,
    many_functions,
    shown_rows,
    state,
    zoomed,
)
from tests.test_report_hostile import HOSTILE, shown


@pytest.fixture(scope="module")
def scripts(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with the report's scripts; the tests give them profiles of their own."""
    reports = Reports(browser, tmp_path_factory.mktemp("reports"))
    yield reports(orders_profile())
    assert reports.close() == []


def tabs(page: Page) -> list[str]:
    return page.locator("#tabs [data-tab]").all_text_contents()


def heads(page: Page) -> list[str]:
    return page.locator("#tables thead th[data-column]").all_text_contents()


def test_tabs_are_there_for_what_was_recorded(report: Reports) -> None:
    assert tabs(report(orders_profile())) == ["Functions", "Await sites", "Tasks", "Lines"]
    everything = report(counted_profile())
    assert tabs(everything) == [
        "Functions", "Awaits", "Repeats", "Blockers", "Waits, sampled", "Tasks", "Lines",
    ]  # fmt: skip
    # The exact engine knows functions, not lines.
    assert tabs(report(exact_profile())) == ["Functions", "Awaits", "Repeats", "Blockers", "Tasks"]
    assert tabs(report(exact_profile("wall", awaits=False))) == ["Functions", "Tasks"]
    only_blocked = counted_profile()
    only_blocked.awaits, only_blocked.repeats = [], []
    assert tabs(report(only_blocked))[1:3] == ["Blockers", "Await sites"]


def test_awaits_are_those_of_the_analysis(report: Reports) -> None:
    profile = counted_profile()
    page = report(profile, "tab=counted&sort=total-")
    rows = await_rows(profile)
    assert column(page, "place") == [place(row.site.path, row.site.line) for row in rows]
    assert column(page, "name") == [row.site.name for row in rows]
    assert column(page, "awaited") == [row.awaited for row in rows]
    assert column(page, "task") == [profile.groups[row.group].name for row in rows]
    assert column(page, "count") == [f"{row.count:,}" for row in rows]
    assert column(page, "errors") == [f"{row.errors or '-'}" for row in rows]
    assert column(page, "cancelled") == [f"{row.cancelled or '-'}" for row in rows]
    for name in ("total", "mean", "min", "max"):
        expected = [duration(getattr(row, f"{name}_ns")) for row in rows]
        assert column(page, name) == expected
    for percent in (50, 95, 99):
        expected = [duration(row.percentile_ns(percent)) for row in rows]
        assert column(page, f"p{percent}") == expected


def test_repeats_and_blockers_are_those_of_the_analysis(report: Reports) -> None:
    profile = counted_profile()
    page = report(profile, "tab=repeats")
    repeats = repeat_rows(profile)
    assert column(page, "place") == [place(row.site.path, row.site.line) for row in repeats]
    assert column(page, "units") == ["12", "1"]
    assert column(page, "each") == ["200", "60"]
    assert column(page, "most") == ["214", "60"]
    assert column(page, "total") == [duration(row.total_ns) for row in repeats]
    assert column(page, "whole") == [duration(row.units_ns) for row in repeats]
    page.click("[data-tab=blocks]")
    blocks = block_rows(profile)
    assert column(page, "place") == [place(row.site.path, row.site.line) for row in blocks]
    assert column(page, "inside") == ["", "json.dumps"]
    assert column(page, "count") == ["3", "1"]
    assert column(page, "total") == [duration(row.total_ns) for row in blocks]
    assert column(page, "worst") == [duration(row.worst_ns) for row in blocks]
    assert column(page, "waiting") == ["14", "-"]
    assert "over 100 ms" in page.locator("#tables thead").inner_text()
    # One thread, one kind of loop: no columns for what is the same everywhere.
    assert "thread" not in heads(page)


def test_loops_in_several_threads_are_told_apart(report: Reports) -> None:
    builder = ProfileBuilder()
    group = builder.group("serve", "greenlet")
    for thread, loop in (("MainThread", "asyncio"), ("worker", "gevent")):
        stack = builder.stack([Frame(thread, "/srv/a.py", 3)])
        builder.add_block(Block(group, builder.thread(thread), stack, 1, MS, MS, 1, loop))
    page = report(builder.build(ProfileInfo()), "tab=blocks")
    assert column(page, "thread") == ["MainThread", "worker"]
    assert column(page, "loop") == ["asyncio", "gevent"]
    assert "over" not in page.locator("#tables thead").inner_text()
    assert_sound(page)


def test_they_are_sorted_as_in_the_summary_and_by_any_column(report: Reports) -> None:
    page = report(counted_profile(), "tab=counted")
    # A library's pool waited longest; what a reader can change comes first.
    assert column(page, "name") == ["load_lines", "get_order", "work", "load_lines", "connect"]
    page.click("#tables th.c-p95 button")
    assert column(page, "name")[:2] == ["connect", "get_order"]
    assert fragment(page) == "tab=counted&sort=p95-"
    page.click("#tables th.c-p95 button")
    assert column(page, "name")[-1] == "connect"
    reload(page)
    assert column(page, "name")[-1] == "connect"
    page.click("#tables th.c-task button")
    assert column(page, "task") == sorted(column(page, "task"), key=str.lower)
    page.fill("#filter", "commit")
    assert column(page, "name") == ["work"]
    # The bridge is in no column, but can be found.
    page.fill("#filter", "over generic")
    assert column(page, "name") == ["connect"]


def test_digits_open_the_tabs_from_the_left(report: Reports) -> None:
    page = report(counted_profile())
    for digit, tab in enumerate(
        ["functions", "counted", "repeats", "blocks", "awaits", "tasks", "lines"], start=1
    ):
        page.keyboard.press(str(digit))
        assert state(page, "tab") == tab
    page.keyboard.press("9")
    assert state(page, "tab") == "lines"


@pytest.mark.parametrize("tab", ["counted", "repeats", "blocks"])
def test_a_link_to_a_tab_that_is_not_there(report: Reports, tab: str) -> None:
    page = report(orders_profile(), f"tab={tab}&sort=p95-&filter=nothing")
    assert state(page, "tab") == "functions"
    assert shown_rows(page) > 0
    page = report(exact_profile(), "tab=lines&clock=await")
    assert (state(page, "tab"), state(page, "clock")) == ("functions", "cpu")


def test_a_row_leads_to_its_function_in_its_task(report: Reports) -> None:
    page = report(exact_profile("wall"), "tab=counted")
    page.locator(ROWS).filter(has_text="load_lines").first.click()
    assert zoomed(page) == "load_lines"
    assert "GET /orders/{}" in drawn(page)
    # Of a function that another task has, too, the box of the row's own task.
    profile = counted_profile()
    page = report(profile, "tab=blocks")
    page.locator(ROWS).filter(has_text="total").click()
    assert zoomed(page) == "total"
    page.go_back()
    page.locator(ROWS).filter(has_text="get_order").click()
    assert zoomed(page) == "get_order"


def test_the_widest_box_below_a_task(scripts: Page) -> None:
    builder = ProfileBuilder()
    thread = builder.thread("main")
    frames = Frame("caller", "/srv/a.py"), Frame("load", "/srv/a.py", 1, 1)
    for name, time_ns in (("wide", 9 * MS), ("narrow", MS)):
        ids = builder.group(name, "asyncio"), thread, builder.stack(frames)
        builder.add(*ids, State.ON_CPU, 1, time_ns, time_ns)
    found = scripts.evaluate(
        """(payload) => {
          const profile = new ReportProfile(payload);
          const chart = new Chart(new ViewTree(profile, { group: "task" }), "wall", "top");
          const roots = [-1, profile.groupKey(0), profile.groupKey(1), profile.threadKey(0)];
          return roots.map((root) => chart.heaviest(1, root).parent.parent.info.label);
        }""",
        payload(builder.build(ProfileInfo())),
    )
    assert found == ["wide", "wide", "narrow", "wide"]


def test_a_zoom_leaves_out_the_rows_of_others_and_keeps_whole_figures(report: Reports) -> None:
    profile = counted_profile()
    page = report(profile, "tab=counted")
    everything = dict(zip(column(page, "task"), column(page, "total"), strict=True))
    key = page.evaluate("() => greenprofReport.profile.groupKey(1)")
    page = report(profile, f"tab=counted&zoom={key}")
    assert zoomed(page) == "GET /report"
    assert set(column(page, "task")) == {"GET /report"}
    assert everything["GET /report"] in column(page, "total")
    page.click("[data-tab=repeats]")
    assert column(page, "task") == ["GET /report"]
    page.click("[data-tab=blocks]")
    assert column(page, "name") == ["total"]
    page.click("#scope button")
    assert column(page, "name") == ["total", "get_order"]
    # Deeper: only what is awaited below the box.
    path = page.evaluate(
        """() => {
          const { profile, chart } = greenprofReport;
          return pathText(chart.heaviest(profile.functions.name.indexOf("load_lines")));
        }"""
    )
    page = report(profile, f"tab=counted&zoom={path}")
    assert (column(page, "name"), column(page, "task")) == (["load_lines"], ["GET /orders/{}"])


def test_where_rows_cannot_be_left_out_it_is_said(report: Reports) -> None:
    page = report(counted_profile(), "tab=counted&view=bottom")
    key = page.evaluate("() => greenprofReport.chart.down.children[0].key")
    page = report(counted_profile(), f"tab=counted&view=bottom&zoom={key}")
    assert zoomed(page) == "[await]"
    assert shown_rows(page) == 5
    assert page.locator("#scope").inner_text().strip() == "of the whole recording"
    page.click("[data-tab=functions]")
    assert "within" in page.locator("#scope").inner_text()


def test_a_trace_leaves_them_whole(report: Reports) -> None:
    profile = traced_profile()
    extra = counted_profile()
    builder = ProfileBuilder()
    for sample in profile.samples:
        group = profile.groups[sample.group]
        ids = builder.group(group.name, group.kind), builder.thread(profile.threads[sample.thread])
        stack = builder.stack(profile.stack(sample.stack))
        builder.add(*ids, stack, sample.state, sample.count, sample.wall_ns, sample.cpu_ns)
        builder.add_part(builder.span(SpanRef("ab" * 16, "cd" * 8)), (*ids, stack, sample.state))
    for stats in extra.awaits:
        ids = builder.group(extra.groups[stats.group].name, "asyncio"), 0
        stack = builder.stack(extra.stack(stats.stack))
        builder.add_await(dataclasses.replace(stats, group=ids[0], stack=stack))
    page = report(builder.build(profile.info), f"tab=counted&trace={'ab' * 16}")
    assert shown_rows(page) == 5
    assert page.locator("#scope").inner_text().strip() == "of the whole recording"


def test_my_code_only_leaves_lines_of_libraries_out(report: Reports) -> None:
    page = report(counted_profile(), "tab=counted&mine=1")
    assert "connect" not in column(page, "name")
    assert shown_rows(page) == 4


def test_rows_lie_in_the_boxes_of_their_stacks(scripts: Page) -> None:
    """Whatever the switches: the keys of a stack are those on the way to its box."""
    wrong = scripts.evaluate(
        """(payloads) => {
          const wrong = [];
          let checked = 0;
          for (const payload of payloads) {
            const profile = new ReportProfile(payload);
            for (const group of ["all", "task", "thread"]) {
              for (const [bridges, mine] of [[false, false], [true, false], [false, true]]) {
                const options = { group, bridges, mine, idle: true };
                const chart = new Chart(new ViewTree(profile, options), "wall", "top");
                for (const tab of ["counted", "blocks"]) {
                  for (const row of countedRows(profile, tab)) {
                    const keys = chart.tree.keysOf(row.group, row.thread, row.node);
                    const known = keys[0] === ANY_KEY ? [] : keys;
                    for (let length = known.length; length > 0; length--) {
                      const box = chart.boxAt(known.slice(0, length));
                      checked += box ? 1 : 0;
                      if (box && !isWithin(box, row)) {
                        wrong.push([tab, keys, length]);
                      }
                    }
                    for (const box of chart.down.children) {
                      const inside = keys[0] === box.key || keys[0] === ANY_KEY;
                      if (isWithin(box, row) !== inside) {
                        wrong.push([tab, keys, box.key]);
                      }
                    }
                  }
                }
              }
            }
          }
          return [wrong, checked];
        }""",
        [payload(counted_random(seed)) for seed in range(20)],
    )
    assert wrong[0] == []
    assert wrong[1] > 500


def test_awaits_without_samples(report: Reports) -> None:
    builder = ProfileBuilder()
    group = builder.group("t", "asyncio")
    builder.add_await(stats_of(group, builder.stack([Frame("f", "/srv/a.py", 3)]), "?", [MS]))
    builder.add_await(stats_of(group, -1, "?", [MS]))
    page = report(builder.build(ProfileInfo()), "tab=counted")
    assert column(page, "place") == ["srv/a.py:3", ""]
    page.locator(ROWS).first.click()
    assert page.locator("#mark").inner_text().startswith("no wall time in f")
    page.locator(ROWS).last.click()
    assert_sound(page)


def test_many_sites_are_shown_in_parts(report: Reports) -> None:
    builder = ProfileBuilder()
    group = builder.group("t", "asyncio")
    for number in range(5_000):
        stack = builder.stack([Frame(f"f{number}", "/srv/a.py", number + 1)])
        builder.add_await(stats_of(group, stack, "?", [number * MS]))
    page = report(builder.build(many_functions(3).info), "tab=counted")
    assert shown_rows(page) == 60
    assert "5,000 rows" in page.locator("#tables .rows").inner_text()


@pytest.mark.parametrize("width", [1280, 400])
def test_hostile_names_everywhere(report: Reports, width: int) -> None:
    builder = ProfileBuilder()
    for name in HOSTILE.values():
        group, thread = builder.group(name, "asyncio"), builder.thread(name)
        builder.count_tasks(group)
        inner = builder.stack([Frame(name, name, 3, module=name), Frame(name, f"/lib/{name}", 7)])
        for sampled in (State.ON_CPU, State.AWAITING):
            builder.add(group, thread, inner, sampled, 5, SECOND, SECOND // 2)
        site = builder.add_await(stats_of(group, inner, name, [MS] * 9, bridge=name, errors=1))
        builder.add_repeat(Repeat(site, 1, 9, 9, 9 * MS, 10 * MS))
        builder.add_block(Block(group, thread, inner, 1, SECOND, SECOND, 2, name))
    for engine in ("sampling", "exact"):
        info = ProfileInfo(command="x", duration_ns=SECOND, engine=engine, clock=HOSTILE["script"])
        page = report(builder.build(info), width=width)
        for tab in every_tab(page):
            assert_sound(page)
            rows = page.locator(ROWS).all_text_contents()
            if tab != "lines":
                assert any(shown(HOSTILE["script"]) in row for row in rows), tab
                page.locator(ROWS).first.click()
                assert_sound(page)
        for _ in every_switch(page):
            hover(page)
        assert_sound(page)


def test_numbers_of_any_size(report: Reports) -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("t", "asyncio"), builder.thread("m")
    stack = builder.stack([Frame("f", "/srv/a.py", 3)])
    huge = stats_of(group, stack, "?", [2**62, 1])
    site = builder.add_await(dataclasses.replace(huge, count=2**53))
    builder.add_await(dataclasses.replace(huge, awaited="none", count=0, total_ns=0, min_ns=0,
                                          max_ns=0, durations={}))  # fmt: skip
    builder.add_repeat(Repeat(site, 0, 0, 0, 0, 0))
    builder.add_block(Block(group, thread, stack, 0, 0, 0, 0, "asyncio"))
    page = report(builder.build(ProfileInfo()))
    for _ in every_tab(page):
        assert_sound(page)


def test_on_paper_each_table_has_its_place(report: Reports) -> None:
    page = report(counted_profile())
    page.emulate_media(media="print")
    page.locator("#paper h2").last.wait_for(state="attached")
    titles = page.locator("#paper h2").all_text_contents()
    assert titles == ["Functions", "Awaits", "Repeats", "Blockers", "Waits, sampled", "Tasks"]
    assert page.locator("#paper .t-counted tr[data-row]").count() == 5


def test_a_payload_of_nothing_counted_is_empty() -> None:
    values: dict[str, Any] = payload(orders_profile())
    for table in ("awaits", "repeats", "blocks"):
        assert all(not rows for rows in values[table].values())
    assert (values["exact"], values["running"], values["clock"]) == (False, "CPU", "wall")
    assert payload(exact_profile())["clock"] == "cpu"
    assert payload(exact_profile("wall"))["clock"] == "wall"
