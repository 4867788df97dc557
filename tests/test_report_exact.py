"""The report of the exact engine's profiles: calls, and words for the clock that was measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from greenprof.analysis import function_table
from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import place
from greenprof.profiles import Frame, Profile, ProfileBuilder, ProfileInfo, State
from tests.counted_profiles import counted_random, exact_profile
from tests.profiles import orders_profile
from tests.report_pages import Reports, assert_sound, every_switch, every_tab
from tests.report_reading import ROWS, column, drawn, state


@pytest.fixture(scope="module")
def scripts(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with the report's scripts; the tests give them profiles of their own."""
    reports = Reports(browser, tmp_path_factory.mktemp("reports"))
    yield reports(orders_profile())
    assert reports.close() == []


def heads(page: Page) -> list[str]:
    return page.locator("#tables thead th[data-column]").all_text_contents()


class TestCalls:
    def test_of_functions_they_are_those_of_the_analysis(self, scripts: Page) -> None:
        profiles = [exact_profile(), exact_profile("wall"), *map(counted_random, range(20))]
        found = scripts.evaluate(
            """(payloads) => payloads.map((payload) => {
              const profile = new ReportProfile(payload);
              return functionRows(profile, null).map((row) => [row.name, row.place, row.calls]);
            })""",
            [payload(profile) for profile in profiles],
        )
        for profile, rows in zip(profiles, found, strict=True):
            expected = [
                [row.name, place(row.path, row.first_line), row.calls]
                for row in function_table(profile)
            ]
            assert sorted(rows) == sorted(expected)

    def test_boxes_have_those_of_their_function_in_their_place(self, scripts: Page) -> None:
        """Whatever is folded: a hidden function's calls are nobody else's."""
        found = scripts.evaluate(
            """(payload) => {
              const profile = new ReportProfile(payload);
              const of = (options, view = "top", fn = -1) => {
                const chart = new Chart(new ViewTree(profile, options), "cpu", view, fn);
                const found = {};
                const todo = [...chart.down.children];
                if (view === "sandwich") {
                  return chart.down.calls();
                }
                for (const box of todo) {
                  const name = box.info.label;
                  found[name] = (found[name] ?? 0) + (view === "top" || box.depth === 1
                    ? box.calls() : 0);
                  todo.push(...box.children);
                }
                return found;
              };
              const fib = profile.functions.name.indexOf("fib");
              return [
                of({ group: "all" }), of({ group: "all", bridges: true }),
                of({ group: "task", mine: true }), of({ group: "all" }, "bottom"),
                of({ group: "all" }, "sandwich", fib),
              ];
            }""",
            payload(exact_profile()),
        )
        folded, bridges, mine, bottom, sandwich = found
        expected = {
            row.name: row.calls for row in function_table(exact_profile()) if row.total_cpu_ns
        }
        assert bridges == expected
        hidden = {"greenlet_spawn", "await_"}
        assert folded == {name: n for name, n in expected.items() if name not in hidden}
        assert {name: n for name, n in bottom.items() if n} == {
            name: n for name, n in folded.items() if n
        }
        assert mine == {
            "GET /orders/{}": 0, "MainThread (thread)": 0,
            "get_order": 12, "load_lines": 12, "fib": 21,
        }  # fmt: skip
        assert sandwich == 21

    def test_they_are_shown(self, report: Reports) -> None:
        page = report(exact_profile())
        assert heads(page) == ["function", "where", "calls", "self", "total"]
        assert column(page, "calls")[:3] == ["12", "12", "21"]
        page.click("#tables th.c-calls button")
        assert column(page, "calls")[:2] == ["2,400", "2,400"]
        page.locator(ROWS).filter(has_text="LazyLoader").click()
        assert (
            page.locator("#details .seen").inner_text().startswith("called 2,400 times, 12 tasks")
        )
        assert not page.locator("#details button", has_text="lines").is_visible()
        page.click("[data-tab=tasks]")
        assert heads(page) == ["task or thread", "tasks", "calls", "CPU"]
        assert column(page, "seen") == ["7,272", "21"]

    def test_within_a_box_they_are_those_of_the_box(self, report: Reports) -> None:
        page = report(exact_profile())
        key = page.evaluate("() => greenprofReport.profile.groupKey(1)")
        page = report(exact_profile(), f"zoom={key}")
        assert column(page, "name") == ["fib"]
        assert column(page, "calls") == ["21"]

    def test_callers_say_how_many_came_by_their_way(self, report: Reports) -> None:
        page = report(exact_profile(), "view=bottom")
        said = page.evaluate(
            """() => {
              const { chart } = greenprofReport;
              const fetch = chart.down.children.find(({ info }) => info.label === "Connection.fetch");
              return [fetch, fetch.children[0]].map((box) => saidOfCalls(box, 0));
            }"""
        )
        assert said == ["called 2,400 times", "2,400 calls by this way"]


class TestClocks:
    def test_of_cpu_time_alone_there_is_no_choice(self, report: Reports) -> None:
        page = report(exact_profile())
        assert page.locator("[data-clock]").count() == 0
        for _ in every_switch(page):
            assert_sound(page)
        assert drawn(page)[0] == "all: 196 ms CPU time"
        page.keyboard.press("c")
        assert state(page, "clock") == "cpu"
        assert "CPU clock" in page.locator("#clocks-note").inner_text()
        assert page.locator("#details th[scope=col]").all_text_contents() == ["CPU"]

    def test_nothing_that_the_wall_clock_measured_is_called_cpu_time(self, report: Reports) -> None:
        page = report(exact_profile("wall"))
        assert page.locator("[data-clock=cpu]").inner_text() == "run"
        assert "CPU" not in page.locator("#tables thead").inner_text()
        for clock, words in (("wall", "wall time of tasks"), ("cpu", "run time"),
                             ("await", "await time of tasks")):  # fmt: skip
            page.click(f"[data-clock={clock}]")
            assert drawn(page)[0].endswith(words)
        page.click("[data-tab=tasks]")
        assert "CPU" not in page.locator("#tables thead").inner_text()
        assert "CPU" not in page.locator("#details").inner_text()
        assert "wall clock" in page.locator("#clocks-note").inner_text()
        facts = page.locator("#header .facts").last.inner_text()
        assert "exact, wall clock" in facts
        assert "running" in facts

    def test_a_sampled_profile_has_its_words(self, report: Reports) -> None:
        page = report(orders_profile())
        assert page.locator("[data-clock=cpu]").inner_text() == "CPU"
        assert (
            page.locator("#clocks-note").inner_text().startswith("CPU times are of the CPU clock")
        )
        page.keyboard.press("?")
        words = page.locator("#help dt").all_text_contents()
        assert "CPU" in words
        assert not {"run", "calls", "awaits", "repeats", "blockers"} & set(words)

    def test_the_help_has_the_words_of_what_is_there(self, report: Reports) -> None:
        page = report(exact_profile("wall"))
        page.keyboard.press("?")
        words = page.locator("#help .words").first.locator("dt").all_text_contents()
        assert {"run", "calls", "awaits", "repeats", "blockers"} <= set(words)
        assert "CPU" not in words


def test_nothing_was_called(report: Reports) -> None:
    page = report(Profile(ProfileInfo(engine="exact", clock="cpu")))
    assert page.locator("#nothing").inner_text() == "No call was counted."
    for _ in every_tab(page):
        assert_sound(page)
    builder = ProfileBuilder()
    ids = builder.group("t", "thread"), builder.thread("m")
    builder.add(*ids, builder.stack([Frame("f", "/srv/a.py")]), State.ON_CPU, 3)
    page = report(builder.build(ProfileInfo(engine="exact", clock="cpu")))
    assert column(page, "calls") == ["3"]
