"""The report's flame graph in a real Chromium: what is drawn, where, and in which colours."""

from __future__ import annotations

import pytest

from greenprof.profiles import ProfileBuilder, ProfileInfo, State
from tests.profiles import MS, SECOND, app, library, orders_profile
from tests.report_boxes import (
    ROW,
    SELECTED,
    box,
    boxes,
    click,
    fill,
    fill_point,
    fills_the_width,
    labels,
    pixels,
    press,
    stack_profile,
)
from tests.report_pages import Reports


def test_orders_boxes_have_their_categories(report: Reports) -> None:
    page = report(orders_profile(), "group=task")
    drawn = {(one["label"], one["category"], one["crosses"]) for one in boxes(page)}
    assert drawn >= {
        ("GET /orders/{}", "task", False),
        ("get_order", "yours", False),
        ("AsyncSession.execute", "library", False),
        ("Session.execute", "library", True),
        ("load_lines", "yours", True),
        ("total", "yours", True),
        ("Connection.fetch", "awaited-library", True),
        ("[await]", "await", False),
        ("[ready]", "ready", False),
        ("[blocked]", "blocked", False),
    }
    assert "bridge" not in {category for _, category, _ in drawn}
    assert "[idle]" not in labels(page)
    page.click("[data-switch=idle]")
    assert box(page, "[idle]")["category"] == "idle"


def test_the_switch_unfolds_bridge_internals(report: Reports) -> None:
    page = report(orders_profile())
    assert "greenlet_spawn" not in labels(page)
    page.click("[data-switch=bridges]")
    assert box(page, "greenlet_spawn")["category"] == "bridge"
    assert box(page, "await_")["category"] == "bridge"
    page.click("[data-switch=bridges]")
    assert "await_" not in labels(page)


def test_each_box_is_drawn_in_its_colour_where_it_is_said_to_be(report: Reports) -> None:
    for dark in (False, True):
        page = report(orders_profile(), "group=task", dark=dark)
        wanted = page.evaluate(
            """(dark) => greenprofReport.graph.visibleBoxes().map(({ box }) =>
                colourOf(box.info.category, box.key, dark).fill)""",
            dark,
        )
        drawn = boxes(page)
        seen = pixels(page, *map(fill_point, drawn))
        for one, want, see in zip(drawn, wanted, seen, strict=True):
            if one["category"] != "await" and one["width"] > 8:  # not hatched, and with a corner
                assert see == want, (one["label"], dark)


@pytest.mark.parametrize("dark", [False, True])
def test_boundaries_are_drawn_as_a_dashed_line_on_the_upper_edge(
    report: Reports, dark: bool
) -> None:
    page = report(orders_profile(), dark=dark)
    colour = page.evaluate("(dark) => boundaryColour(dark)", dark)
    for one in boxes(page):
        if one["width"] < 60:
            continue
        line = set(pixels(page, *((one["x"] + 20 + step, one["y"]) for step in range(22))))
        assert (colour in line) == one["crosses"], one["label"]
        assert len(line) > 1 or not one["crosses"], f"no dashes: {one['label']}"


def test_boundaries_of_the_bottom_up_chart_are_on_the_callers_side(report: Reports) -> None:
    page = report(orders_profile(), "view=bottom")
    colour = page.evaluate("() => boundaryColour(false)")
    fetch = box(page, "Connection.fetch")
    y = fetch["y"] + ROW - 1
    assert fetch["crosses"]
    assert colour in pixels(page, *((fetch["x"] + 20 + step, y) for step in range(22)))


def test_a_search_lets_the_rest_fade(report: Reports) -> None:
    page = report(orders_profile())
    found, other = fill(page, box(page, "load_lines")), fill(page, box(page, "get_order"))
    page.fill("#search", "load_lines")
    page.wait_for_function("() => greenprofReport.graph.matches !== null")
    one = box(page, "load_lines")
    assert fill(page, one) == found
    mark = pixels(page, (one["x"] + 30, one["y"] + ROW - 2))
    assert mark == page.evaluate("() => [flameTheme(false).found]")
    assert fill(page, box(page, "get_order")) != other


def test_text_has_contrast_on_all_it_may_lie_on(report: Reports) -> None:
    page = report(orders_profile())
    poor = page.evaluate(
        """() => {
            const channel = (value) =>
                value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
            const luminance = (hex) => {
                const [r, g, b] = channelsOfHex(hex).map((value) => channel(value / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const contrast = (one, two) => {
                const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
                return (high + 0.05) / (low + 0.05);
            };
            const poor = [];
            const check = (least, one, two, ...what) => {
                if (contrast(one, two) < least) poor.push([...what, contrast(one, two)]);
            };
            for (const dark of [false, true]) {
                const theme = flameTheme(dark);
                check(3, theme.boundary, theme.halo, "boundary", dark);
                check(3, theme.outline, theme.background, "outline", dark);
                for (const id of [...CATEGORIES.map((one) => one.id), "root"]) {
                    for (let key = 0; key < 50; key += 1) {
                        for (const tone of ["", "faded", "dimmed"]) {
                            const { fill, text, soft, line, pattern } =
                                colourOf(id, key, dark, tone);
                            for (const ground of pattern ? [fill, line] : [fill]) {
                                check(4.5, text, ground, id, key, dark, tone, "text");
                                check(4.5, soft, ground, id, key, dark, tone, "soft");
                            }
                        }
                    }
                }
            }
            return poor;
        }"""
    )
    assert poor == []


def test_neighbours_in_number_have_different_shades(report: Reports) -> None:
    page = report(orders_profile())
    fills = page.evaluate(
        "() => [0, 1, 2, 3, 4].map((fn) => colourOf('yours', fn * 6, false).fill)"
    )
    assert len(set(fills)) == 5
    assert len(page.evaluate("() => [...new Set([0, 1, 2, 3, 4, 5].map("
                             "(key) => colourOf('yours', key, false).fill))]")) == 1  # fmt: skip


def test_a_stack_of_a_thousand_levels(report: Reports) -> None:
    names = [f"level_{depth}" for depth in range(1000)]
    page = report(stack_profile((names, State.ON_CPU, 80), (names[:300], State.AWAITING, 40)))
    graph = "greenprofReport.graph"
    assert page.evaluate(f"() => {graph}.canvas.clientHeight < innerHeight")
    page.evaluate(f"""() => {{
        let box = {graph}.chart.down;
        while (box.children.length > 0) box = box.children[0];
        {graph}.select(box);
    }}""")
    assert page.evaluate(SELECTED) == "level_999"
    deepest = box(page, "level_999")
    assert 0 <= deepest["y"] <= page.evaluate(f"() => {graph}.canvas.clientHeight") - ROW + 1
    click(page, "level_998")
    page.focus("#graph .flame-canvas")
    press(page, "Home")
    press(page, *["ArrowUp"] * 8)
    assert page.evaluate(SELECTED) == "level_990"
    assert "level_990" in labels(page)


def test_labels_are_cut_to_their_room(report: Reports) -> None:
    page = report(orders_profile())
    tried = page.evaluate(
        """() => {
            const context = document.createElement("canvas").getContext("2d");
            context.font = FLAME_FONT;
            const fitter = new FlameLabels(context);
            const names = ["W".repeat(10_000), "LazyLoader._load_for_state", "שלום".repeat(99),
                "Z" + "\\u0301".repeat(500), "👩‍👩‍👧".repeat(50), "x", "[await]", ""];
            return names.flatMap((name) => [0, 5, 30, 63, 130, 700].map((room) => {
                const text = fitter.fit(name, room);
                return [text, context.measureText(text).width <= Math.max(room, 0), room];
            }));
        }"""
    )
    assert all(fits for _, fits, _ in tried)
    texts = [text for text, _, _ in tried]
    assert any(text.endswith("…_load_for_state") for text in texts), "the method's name is kept"
    assert "LazyLoader._load_for_state" in texts
    assert all(text[-2] < "\ud800" or text[-2] > "\udbff" for text in texts if len(text) > 1)


def test_printing_is_light_and_without_a_scroller(report: Reports) -> None:
    page = report(orders_profile(), dark=True)
    graph = "greenprofReport.graph"
    dark = fill(page, box(page, "get_order"))
    page.evaluate(f"() => {graph}.print(true)")
    light = page.evaluate("() => flameTheme(false).background")
    assert pixels(page, (950, ROW * 7 + 10))[0] == light
    page.evaluate(f"() => {graph}.print(false)")
    assert fill(page, box(page, "get_order")) == dark
    assert fills_the_width(page, boxes(page)[0]["label"])


def test_another_screen_gets_a_picture_of_its_own_pixels(report: Reports) -> None:
    page = report(orders_profile())
    # Chromium's emulation tells of no change of the ratio: what a window on its way would hear.
    widths = page.evaluate("""async () => {
        const asked = [];
        const matches = window.matchMedia;
        window.matchMedia = (query) => {
            if (!query.includes("resolution")) return matches.call(window, query);
            asked.push({ query, target: new EventTarget() });
            return asked.at(-1).target;
        };
        const host = document.createElement("div");
        document.body.append(host);
        const graph = new FlameGraph(host);
        graph.show(greenprofReport.chart);
        return [1, 2, 1.5].map((ratio) => {
            window.devicePixelRatio = ratio;
            asked.at(-1).target.dispatchEvent(new Event("change"));
            return [asked.at(-1).query, graph.canvas.width / graph.width];
        });
    }""")
    assert [query for query, _ in widths] == [
        f"(resolution: {ratio}dppx)" for ratio in ("1", "2", "1.5")
    ]
    assert [ratio for _, ratio in widths] == pytest.approx([1, 2, 1.5], abs=0.01)


def test_a_chart_of_nothing_says_so(report: Reports) -> None:
    page = report(stack_profile((["nap"], State.AWAITING, 10)), "clock=cpu")
    assert boxes(page) == []
    press(page, "ArrowDown", "Enter", "Escape")
    page.click("[data-clock=wall]")
    assert "nap" in labels(page)
    page = report(stack_profile((["now"], State.ON_CPU, 0)), "idle=1")
    assert "no time" in (page.text_content("#nothing") or "")
    assert not page.is_visible("#details")


def test_boxes_too_narrow_to_see_are_left_out(report: Reports) -> None:
    many = [([f"part_{index}"], State.ON_CPU, 1) for index in range(4000)]
    page = report(stack_profile((["whole"], State.ON_CPU, 1000), *many), "group=all")
    assert labels(page) >= {"whole"}
    assert not any(label.startswith("part_") for label in labels(page))
    whole = box(page, "whole")
    (rest,) = pixels(page, (whole["x"] + whole["width"] + 50, whole["y"] + 3))
    assert rest == page.evaluate("() => flameTheme(false).rest")
    page.focus("#graph .flame-canvas")
    page.evaluate("""() => {
        const { graph } = greenprofReport;
        graph.select(graph.chart.down.children[7]);
    }""")
    assert page.evaluate(SELECTED) in labels(page), "what is chosen is made wide enough to be seen"


def test_library_frames_are_told_from_yours(report: Reports) -> None:
    builder = ProfileBuilder()
    group = builder.group("MainThread", "thread")
    builder.count_tasks(group)
    stack = builder.stack([app("mine", 3), library("json.decoder", "decode")])
    builder.add(group, builder.thread("MainThread"), stack, State.ON_CPU, 1, 9 * MS, 9 * MS)
    page = report(builder.build(ProfileInfo(command="one.py", duration_ns=SECOND)))
    assert box(page, "mine")["category"] == "yours"
    assert box(page, "decode")["category"] == "library"
    assert fill(page, box(page, "mine")) != fill(page, box(page, "decode"))
