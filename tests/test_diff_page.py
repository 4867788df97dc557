"""The page of two profiles in a real browser: the figures of both, the colours of what changed."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from greenprof.differences import (
    Change,
    compare,
    counted_changes,
    function_changes,
    group_changes,
    site_changes,
)
from greenprof.exporters.difference import changed_by, ratio
from greenprof.exporters.html.difference import difference_page
from greenprof.exporters.units import duration
from greenprof.profiles import FrameOrigin, Profile
from tests.differing import accounted, after, before, exact
from tests.profiles import MS, SECOND, orders_profile
from tests.report_boxes import boxes, click, fill, fill_point, labels, pixels, press
from tests.report_pages import Reports, assert_sound, every_switch, every_tab, hover
from tests.report_reading import ROWS, column, drawn, fragment
from tests.test_report_hostile import (
    EXTREMES,
    HOSTILE,
    KEYS,
    SWITCHES,
    huge_profile,
    named,
    text_of,
)

NAMES = "old.gprof", "new.gprof"
# What the change of each box is, by its label; of several boxes, of the first.
CHANGES = """() => Object.fromEntries(greenprofReport.graph.visibleBoxes().reverse()
    .map(({ label, box }) => [label, boxChange(box)])
    .map(([label, { before, after, chance }]) => [label, [before, after, chance]]))"""
CATEGORY = """(label) => changeCategory(boxChange(
    greenprofReport.graph.visibleBoxes().find((box) => box.label === label).box))"""


def made(old: Profile, new: Profile, **options: str) -> str:
    return difference_page(compare(old, new, **options), NAMES)


def red_and_blue(colour: str) -> int:
    """How much more red than blue a colour has."""
    return int(colour[1:3], 16) - int(colour[5:7], 16)


def test_boxes_know_what_they_took_before_and_after(report: Reports) -> None:
    page = report(made(before(), after(), clock="cpu"))
    changes = page.evaluate(CHANGES)
    assert changes["total"] == [800 * MS, 200 * MS, ""]
    assert changes["checksum"][:2] == [40 * MS, 40 * MS]
    assert text_of(page, "h1") == "old.gprof → new.gprof"
    page.click("[data-clock=wall]")
    changes = page.evaluate(CHANGES)
    assert changes["get_order"] == [1600 * MS, 4150 * MS, ""]
    assert changes["GET /report"] == [800 * MS, 200 * MS, ""]


@pytest.mark.parametrize("view", ["top", "bottom", "sandwich"])
@pytest.mark.parametrize("clock", ["wall", "cpu", "await"])
def test_every_view_has_the_whole_of_both(report: Reports, view: str, clock: str) -> None:
    """A box in the middle of a sandwich has its function's totals, as the tables have."""
    page = report(made(before(), after()), f"view={view}&clock={clock}&idle=1")
    comparison = compare(before(), after(), clock=clock)
    [change] = page.evaluate(
        "() => [boxChange(greenprofReport.chart.down)].map((one) => [one.before, one.after])"
    )
    if view == "sandwich":
        name = page.evaluate("() => greenprofReport.chart.down.info.label")
        [row] = [row for row in function_changes(comparison) if row.name == name]
        assert change == list(row.total)
        return
    rows = group_changes(comparison)
    idle = 400 * MS if clock == "wall" else 0
    assert change == [sum(row.time.before for row in rows) + idle,
                      sum(row.time.after for row in rows) + idle]  # fmt: skip
    children = page.evaluate(
        "() => greenprofReport.chart.down.children.map(boxChange)"
        ".reduce(([b, a], one) => [b + one.before, a + one.after], [0, 0])"
    )
    assert children[1] == change[1]


@pytest.mark.parametrize("dark", [False, True])
def test_more_is_red_less_is_blue_and_alike_is_neither(report: Reports, dark: bool) -> None:
    page = report(made(before(), after()), dark=dark)
    shown = {one["label"]: one for one in reversed(boxes(page))}
    more, less = (
        red_and_blue(fill(page, shown["get_order"])),
        red_and_blue(fill(page, shown["total"])),
    )
    alike = red_and_blue(fill(page, shown["checksum"]))
    assert more > 40
    assert less < -40
    assert abs(alike) < 12
    assert page.evaluate(CATEGORY, "get_order") == "more3"
    assert page.evaluate(CATEGORY, "total") == "less3"
    # The grounds of all texts leave them readable.
    contrasts = page.evaluate(
        """(dark) => CHANGE_KEY.flatMap(([id]) => [id, id + HATCHED_END])
        .map((id) => colourOf(id, 0, dark))
        .flatMap(({ fill, text, soft, line }) => [
          contrastOf(text, fill), contrastOf(soft, fill), contrastOf(text, line)])""",
        dark,
    )
    assert min(contrasts) >= 4.5


def test_colours_are_told_apart_by_the_colour_blind(report: Reports) -> None:
    """Red and blue differ in blue, which those see who lack red or green, and in no class alike."""
    page = report(made(before(), after()))
    for dark in (False, True):
        fills = page.evaluate(
            "(dark) => CHANGE_KEY.map(([id]) => channelsOfHex(colourOf(id, 0, dark).fill))", dark
        )
        less, more = fills[:3], fills[4:][::-1]
        for strong, (red, _, blue) in enumerate(less):
            assert blue - red > 15, strong
        for strong, (red, _, blue) in enumerate(more):
            assert red - blue > 15, strong


def test_the_widths_are_those_of_either_profile(report: Reports) -> None:
    page = report(made(before(), after()))
    assert "sleep" not in labels(page)
    assert page.evaluate("() => greenprofReport.chart.whole") == 4450 * MS
    page.click("[data-side=before]")
    assert "sleep" in labels(page)
    assert page.evaluate("() => greenprofReport.chart.whole") == 2500 * MS
    changes = page.evaluate(CHANGES)
    assert changes["sleep"][:2] == [50 * MS, 0]
    assert changes["total"][:2] == [800 * MS, 200 * MS]
    assert "side=before" in fragment(page)
    press(page, "w")
    assert "sleep" not in labels(page)


def test_a_zoomed_box_stays_zoomed_on_the_other_side(report: Reports) -> None:
    page = report(made(before(), after()))
    click(page, "GET /report")
    press(page, "w")
    assert drawn(page)[1] == "GET /report"
    assert column(page, "name")[:2] == ["total", "report"]


def test_the_strip_says_how_a_box_changed_and_how_sure_that_is(report: Reports) -> None:
    page = report(made(before(), after(), clock="cpu"))
    click(page, "total")
    said = text_of(page, "#details")
    for part in ("800 ms", "200 ms", "-600 ms", "-75 %", "seen 80 → 20 times"):
        assert part in said
    live = text_of(page, ".flame-live")
    assert "-75 % -600 ms from before" in live
    hover(page)
    assert "before" in text_of(page, "#tooltip")


def shown_rows_of(page: Page, *names: str) -> list[tuple[str, ...]]:
    return list(zip(*(column(page, name) for name in names), strict=True))


@pytest.mark.parametrize("clock", ["wall", "cpu", "await"])
def test_functions_have_the_figures_of_the_terminal(report: Reports, clock: str) -> None:
    page = report(made(before(), after(), clock=clock), "bridges=1")
    expected = {
        (
            row.name,
            *(duration(time) for time in row.total),
            changed_by(row.total),
            ratio(row.total),
            row.total_chance.value,
            changed_by(row.own),
        )
        for row in function_changes(compare(before(), after(), clock=clock))
        if any(row.total)
    }
    columns = ("totalbefore", "totalafter", "totalBy", "totalRatio", "totalChance", "selfBy")
    assert set(shown_rows_of(page, "name", *columns)) == expected


def test_the_users_functions_come_first_by_how_much_changed(report: Reports) -> None:
    page = report(made(before(), after()))
    rows = function_changes(compare(before(), after()))
    own = [row.name for row in rows if row.origin is FrameOrigin.APP]
    assert column(page, "name")[: len(own)] == own
    page.click("th[data-column=totalRatio] button")
    assert column(page, "totalRatio")[0] == "+200 %"
    page.click("th[data-column=totalRatio] button")
    assert column(page, "totalRatio")[0] == "gone"


def test_tasks_and_sampled_sites_have_the_figures_of_the_terminal(report: Reports) -> None:
    page = report(made(before(), after()), "tab=tasks")
    comparison = compare(before(), after())
    expected = {
        (duration(row.time.before), duration(row.time.after), changed_by(row.time))
        for row in group_changes(comparison)
        if any(row.time)
    }
    assert set(shown_rows_of(page, "timebefore", "timeafter", "timeBy")) == expected
    page.click("[data-tab=awaits]")
    sites = {
        (one.site.function, changed_by(one.time), ratio(one.time), one.chance.value)
        for one in site_changes(comparison)
    }
    assert set(shown_rows_of(page, "name", "waitBy", "waitRatio", "waitChance")) == sites


def test_counted_awaits_have_the_figures_of_the_terminal(report: Reports) -> None:
    page = report(made(*accounted()), "tab=counted")
    expected = {
        (
            f"{one.count.before:,}",
            f"{one.count.after:,}",
            duration(one.mean.before),
            duration(one.mean.after),
            changed_by(one.total),
        )
        for one in counted_changes(compare(*accounted()))
    }
    columns = ("awaitsbefore", "awaitsafter", "meanbefore", "meanafter", "totalBy")
    assert set(shown_rows_of(page, *columns)) == expected
    page.locator(ROWS).first.click()
    assert_sound(page)


def test_tables_follow_the_zoom_on_both_sides(report: Reports) -> None:
    page = report(made(before(), after()))
    click(page, "GET /report")
    assert shown_rows_of(page, "name", "totalbefore", "totalafter")[:2] == [
        ("total", "800 ms", "200 ms"),
        ("report", "800 ms", "200 ms"),
    ]
    assert "checksum" not in column(page, "name")


def test_there_are_tabs_for_what_two_profiles_have_in_common(report: Reports) -> None:
    page = report(made(before(), after()))
    assert list(every_tab(page)) == ["functions", "awaits", "tasks"]
    page = report(made(*accounted()))
    assert list(every_tab(page)) == ["functions", "counted", "awaits", "tasks"]
    page = report(made(exact(before()), exact(after())))
    assert "awaits" not in list(every_tab(page))
    page.click("[data-tab=functions]")
    assert ("total", "80", "20") in shown_rows_of(page, "name", "callsbefore", "callsafter")
    assert page.locator("td.c-totalChance").count() == 0


def test_a_page_of_one_profile_has_none_of_it(report: Reports) -> None:
    page = report(orders_profile())
    assert page.locator("#sides").is_hidden()
    press(page, "w")
    assert "side" not in fragment(page)
    assert "half or less" not in text_of(page, "#legend")


def test_the_legend_and_the_help_explain_the_colours(report: Reports) -> None:
    page = report(made(before(), after()))
    for word in ("half or less", "alike, or chance", "twice or more, new", "waiting"):
        assert word in text_of(page, "#legend")
    page.keyboard.press("?")
    assert "red for more, blue for less" in text_of(page, "#help")


def test_everything_can_be_pressed_at_any_width(report: Reports) -> None:
    for width in (1280, 400):
        page = report(made(*accounted()), width=width)
        for _ in every_switch(page):
            hover(page)
            assert_sound(page)
        for _ in every_tab(page):
            assert_sound(page)


each_name = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)


@each_name
def test_hostile_names_run_nothing(report: Reports, name: str) -> None:
    text = difference_page(compare(named("main"), named(name)), (name, f"new {name}"))
    page = report(text, width=700)
    hover(page)
    for _ in every_tab(page):
        assert_sound(page)
    page.click("[data-side=before]")
    page.locator(ROWS).first.click()
    assert_sound(page)


@pytest.mark.parametrize("profile", EXTREMES.values(), ids=EXTREMES)
def test_extreme_profiles_work_in_every_view(report: Reports, profile: Profile) -> None:
    for old, new in ((profile, before()), (before(), profile), (profile, profile)):
        page = report(made(old, new))
        hover(page)
        for key in [*SWITCHES.split(), "w", *SWITCHES.split()]:
            page.keyboard.press(key)
        assert_sound(page)
        if page.locator(".flame-canvas").is_visible():
            page.locator(".flame-canvas").focus()
        for key in KEYS.split():
            page.keyboard.press(key)
        assert_sound(page)


def test_two_huge_profiles_are_drawn(report: Reports) -> None:
    page = report(made(huge_profile(10_000), huge_profile(8_000)))
    for _ in every_tab(page):
        assert_sound(page)
    page.click("[data-side=before]")
    page.click("[data-view=bottom]")
    assert_sound(page)
    assert page.evaluate("() => greenprofReport.chart.down.weight") > SECOND


def test_boxes_that_wait_stay_hatched(report: Reports) -> None:
    page = report(made(before(), after()))
    [waiting] = [one for one in boxes(page) if one["label"] == "[await]" and one["width"] > 100][:1]
    x, y = fill_point(waiting)
    assert len(set(pixels(page, *((x - step, y) for step in range(8))))) > 1


def test_a_change_of_nothing_is_no_change(report: Reports) -> None:
    page = report(made(before(), before()))
    changes = page.evaluate(CHANGES).values()
    assert all(old == new and chance == "" for old, new, chance in changes)
    assert changes
    assert set(column(page, "totalBy")) == {changed_by(Change(1, 1))}
