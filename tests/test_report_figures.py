"""The report's charts, computed in a real browser: equal to a naive computation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import duration, percent, plural
from greenprof.profiles import Profile, ProfileBuilder, State
from tests.profiles import AWAIT, MS, SLEEP, SPAWN, SYNC_EXECUTE, app, orders_profile
from tests.report_naive import (
    CLOCKS,
    DUMP,
    EVERY_SWITCH,
    PAYLOADS,
    PROFILES,
    VIEWS,
    Naive,
    Path,
    Switches,
)
from tests.report_pages import Reports


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with the report's scripts; the tests give them profiles of their own."""
    reports = Reports(browser, tmp_path_factory.mktemp("reports"))
    yield reports(orders_profile())
    assert reports.close() == []


def path_of(text: str) -> Path:
    return tuple(map(int, text.split("."))) if text else ()


def test_numbers_read_as_in_the_terminal(page: Page) -> None:
    made = random.Random(3)
    times = [0, 1, 4_999, 5_000, 125_000, 375_000, 9_994_999, 9_995_000, 99_950_000, 250_000_000]
    times += [999_500_000, 599_500_000_000, 630_500_000_000, 5_999_499_999_999, 5_999_500_000_000]
    times += [int(10 ** made.uniform(3, 14)) for _ in range(3000)]
    times += [125_000 * made.randrange(10**6) for _ in range(1000)]
    parts = [(part, whole) for part in (0, 1, 5, 99, 100, 995, 1000) for whole in (0, 7, 800, 1000)]
    counts = [0, 1, 2, 999, 1_000, 123_456, 12_345_678_901]
    shown = page.evaluate(
        "([times, parts, counts]) => [times.map(formatDuration), "
        "parts.map((both) => formatPercent(...both)), counts.map((count) => plural(count, 'task'))]",
        [times, parts, counts],
    )
    assert shown == [
        [duration(time) for time in times],
        [percent(*both) for both in parts],
        [plural(count, "task") for count in counts],
    ]


@pytest.mark.parametrize("clock", CLOCKS)
def test_charts_equal_a_naive_computation(page: Page, clock: str) -> None:
    made = random.Random(clock)
    chosen = [
        (made.randrange(-1, len(values["functions"]["name"])), made.sample(EVERY_SWITCH, 4))
        for values in PAYLOADS
    ]
    charts = page.evaluate(
        f"""([payloads, chosen, clock, views]) => {{
          {DUMP}
          return chosen.map(([fn, several], index) => {{
            const profile = new ReportProfile(payloads[index]);
            return several.map((switches) => {{
              const tree = new ViewTree(profile, switches);
              return views.map((view) => boxes(new Chart(tree, clock, view, fn)));
            }});
          }});
        }}""",
        [PAYLOADS, [[fn, list(map(vars, several))] for fn, several in chosen], clock, VIEWS],
    )
    for profile, (fn, several), per_profile in zip(PROFILES, chosen, charts, strict=True):
        for switches, shown in zip(several, per_profile, strict=True):
            naive = Naive(profile, switches)
            for view, boxes in zip(VIEWS, shown, strict=True):
                found = {path_of(path): weight for path, weight in boxes.items()}
                assert found == naive.chart(clock, view, fn), (switches, view, fn)
            # The switches move time, they lose none; only idle time may be left out.
            every = Naive(profile, Switches(idle=switches.idle)).chart(clock, "top", -1)
            assert shown[0].get("") == every.get(())


def test_figures_of_boxes(page: Page) -> None:
    several = [EVERY_SWITCH[seed % len(EVERY_SWITCH)] for seed in range(len(PROFILES))]
    shown = page.evaluate(
        f"""([payloads, several]) => {{
          {DUMP}
          return payloads.map((payload, index) => {{
            const profile = new ReportProfile(payload);
            const chart = new Chart(new ViewTree(profile, several[index]), "wall", "top");
            return Object.keys(boxes(chart)).map((text) => {{
              const box = chart.boxAt(text === "" ? [] : text.split(".").map(Number));
              return [text, box.figures(), [...chart.samplesUnder(box)]];
            }});
          }});
        }}""",
        [PAYLOADS, list(map(vars, several))],
    )
    for profile, switches, boxes in zip(PROFILES, several, shown, strict=True):
        naive = Naive(profile, switches)
        for text, figures, mask in boxes:
            groups = figures.pop("groups")
            prefix = path_of(text)
            assert figures == naive.figures(prefix)
            samples = set[int]().union(*(naive.samples[path] for path in naive.under(prefix)))
            assert {index for index, inside in enumerate(mask) if inside} == samples
            names = {profile.groups[profile.samples[index].group].name for index in samples}
            assert set(groups) <= names
            assert len(groups) >= min(5, len(names))


def test_search_counts_each_time_once(page: Page) -> None:
    several = [EVERY_SWITCH[seed % len(EVERY_SWITCH)] for seed in range(len(PROFILES))]
    # "A" and "pool" are names of a task and of a thread, too.
    texts = ("", "F1", "orders.API", "a.py:10", "nothing has it", ".", "A", "pool")
    shown = page.evaluate(
        """([payloads, several, texts]) => payloads.map((payload, index) => {
          const tree = new ViewTree(new ReportProfile(payload), several[index]);
          return texts.map((text) => {
            const found = new Chart(tree, "wall", "top").search(text);
            return [[...found.functions], [...found.groups], found.count, found.weightNs];
          });
        })""",
        [PAYLOADS, list(map(vars, several)), texts],
    )
    for number, profile in enumerate(PROFILES):
        naive = Naive(profile, several[number])
        drawn = {fn for path in naive.own for fn in naive.functions(path)}
        keys = {key for path in naive.own for key in path}
        for text, (mask, groups, count, weight_ns) in zip(texts, shown[number], strict=True):
            wanted = [fn for fn in range(len(mask)) if text and naive.says(fn, text)]
            assert [fn for fn, found in enumerate(mask) if found] == wanted
            assert count == len(drawn & set(wanted))
            held = {key for key, name in naive.group_names().items() if text.lower() in name}
            held = held & keys if text else set()
            assert set(groups) == held
            assert weight_ns == naive.share("wall", wanted, held)


def test_folded_bridges_leave_their_boundaries(page: Page) -> None:
    query = ["get_order", "AsyncSession.execute", "| Session.execute", "| Connection.fetch"]
    lazy = ["get_order", "AsyncSession.run_sync", "| load_lines", "LazyLoader._load_for_state"]
    folded = drawn(page, orders_profile(), Switches())
    assert [*query, "[await]"] in folded
    assert [*lazy, "| Connection.fetch", "[await]"] in folded
    unfolded = drawn(page, orders_profile(), Switches(bridges=True))
    spawned = ["get_order", "AsyncSession.execute", "greenlet_spawn", "| Session.execute"]
    assert [*spawned, "await_", "Connection.fetch", "[await]"] in unfolded
    mine = drawn(page, orders_profile(), Switches(group="task", mine=True))
    assert ["GET /orders/{}", "get_order", "| load_lines", "[await]"] in mine
    assert ["GET /orders/{}", "get_order", "[ready]"] in mine


def test_waiting_in_a_bridge_is_the_sync_functions(page: Page) -> None:
    builder = ProfileBuilder()
    stack = builder.stack([app("handler", 5), SPAWN, SYNC_EXECUTE, AWAIT])
    group, thread = builder.group("task", "asyncio"), builder.thread("main")
    builder.add(group, thread, stack, State.AWAITING, 1, MS, 0)
    found = drawn(page, builder.build(orders_profile().info), Switches())
    assert found[-1] == ["handler", "| Session.execute", "[await]"]


def test_a_stack_of_a_thousand_levels(page: Page) -> None:
    builder = ProfileBuilder()
    functions = [app(f"f{number}", 3, first_line=number) for number in range(3)]
    stack = builder.stack([functions[number % 3] for number in range(1_000)])
    group, thread = builder.group("task", "asyncio"), builder.thread("main")
    builder.add(group, thread, stack, State.ON_CPU, 1, MS, MS)
    profile = builder.build(orders_profile().info)
    shown = page.evaluate(
        f"""(payload) => {{
          {DUMP.replace("chart.boxAt(path) !== box", "false")}
          const profile = new ReportProfile(payload);
          const tree = new ViewTree(profile, {{ group: "all", bridges: true }});
          const counts = ["top", "bottom", "sandwich"].map((view) =>
            Object.keys(boxes(new Chart(tree, "wall", view, 1))).length);
          return [counts, functionRows(profile, null).map((row) => row.cpuTotal)];
        }}""",
        payload(profile),
    )
    # Of the sandwich: what is above and below the outermost occurrence, and the function twice.
    assert shown == [[1_001, 1_001, 1 + 1 + 1 + 998], [MS, MS, MS]]


def test_nothing_was_sampled(page: Page) -> None:
    for view in VIEWS:
        assert page.evaluate(
            """([payload, view]) => {
              const tree = new ViewTree(new ReportProfile(payload), { group: "task" });
              const chart = new Chart(tree, "wall", view, 0);
              const figures = chart.down.figures();
              return [chart.whole, chart.down.children, figures.wall.total, figures.tasks,
                chart.heaviest(0), chart.search("a").weightNs, chart.boxAt([5])];
            }""",
            [payload(Profile()), view],
        ) == [0, [], 0, 0, None, 0, None]


def test_the_heaviest_box_of_a_function(page: Page) -> None:
    shown = page.evaluate(
        """(payload) => {
          const profile = new ReportProfile(payload);
          const tree = new ViewTree(profile, { group: "task" });
          const fn = profile.functions.name.indexOf("Connection.fetch");
          return ["top", "bottom", "sandwich"].map((view) => {
            const box = new Chart(tree, "wall", view, fn).heaviest(fn);
            return [box.info.label, box.parent.info.label, box.weight];
          });
        }""",
        payload(orders_profile()),
    )
    assert shown == [["Connection.fetch", "Session.execute", 1250 * MS]] * 3


def test_the_box_where_an_await_site_waited(page: Page) -> None:
    def boxes(profile: Profile, clock: str = "await") -> dict[str, Any]:
        found: dict[str, Any] = page.evaluate(
            """([payload, clock]) => {
              const profile = new ReportProfile(payload);
              const tree = new ViewTree(profile, { group: "task" });
              const chart = new Chart(tree, clock, "bottom");
              return Object.fromEntries(profile.sites.place.map((place, site) => {
                const box = chart.heaviestOfSite(site);
                return [place, box && [box.info.label, box.parent.info.label, box.depth, box.weight]];
              }));
            }""",
            [payload(profile), clock],
        )
        return found

    # A function has one box for all of its lines.
    assert boxes(orders_profile()) == {
        "orders/api.py:40": ["get_order", "GET /orders/{}", 2, 1550 * MS],
        "orders/api.py:42": ["get_order", "GET /orders/{}", 2, 1550 * MS],
        "orders/repo.py:31": ["load_lines", "AsyncSession.run_sync", 4, 300 * MS],
    }
    builder = ProfileBuilder()
    thread = builder.thread("main")
    for name, callers, line, time_ns in (
        ("one", [app("a", 1)], 7, 5 * MS), ("two", [app("b", 2), app("a", 1)], 7, 4 * MS),
        # What waits elsewhere is no reason to go there; of recursion, the level that waited counts.
        ("two", [], 8, 90 * MS), ("two", [app("wait", 3)], 9, 3 * MS),
    ):  # fmt: skip
        stack = builder.stack([*callers, app("wait", line), SLEEP])
        builder.add(builder.group(name, "asyncio"), thread, stack, State.AWAITING, 1, time_ns, 0)
    recursive = builder.build(orders_profile().info)
    assert boxes(recursive) == {
        "orders/api.py:7": ["wait", "a", 3, 5 * MS],
        "orders/api.py:8": ["wait", "two", 2, 93 * MS],
        "orders/api.py:9": ["wait", "wait", 3, 3 * MS],
    }
    assert set(boxes(recursive, "cpu").values()) == {None}


def test_what_boxes_stand_for(page: Page) -> None:
    found = page.evaluate(
        """(payload) => {
          const profile = new ReportProfile(payload);
          const tree = new ViewTree(profile, { group: "task", bridges: true, idle: true });
          const about = ({ info }) => [info.label, info.place, info.type, info.category, info.bridge];
          const found = {};
          const todo = [new Chart(tree, "wall", "top").down];
          for (const box of todo) {
            found[box.info.label] = about(box).slice(1);
            todo.push(...box.children);
          }
          return found;
        }""",
        payload(orders_profile()),
    )
    assert found["GET /orders/{}"] == ["12 tasks", "task", "task", ""]
    assert found["MainThread (thread)"] == ["1 task", "task", "task", ""]
    assert found["get_order"] == ["orders/api.py:1", "function", "yours", ""]
    assert found["AsyncSession.execute"][2] == "library"
    assert found["sleep"][2] == "library"
    assert found["Connection.fetch"][2] == "awaited-library"
    assert found["await_"][2:] == ["bridge", "greenlet boundary: await_"]
    states = {"[await]": "await", "[ready]": "ready", "[blocked]": "blocked", "[idle]": "idle"}
    assert {label: found[label] for label in states} == {
        label: ["", "state", category, ""] for label, category in states.items()
    }


def drawn(page: Page, profile: Profile, switches: Switches) -> list[list[str]]:
    """The boxes of the top-down chart by the labels above them, a | at those that cross a boundary."""
    found: list[list[str]] = page.evaluate(
        """([payload, switches]) => {
          const chart = new Chart(new ViewTree(new ReportProfile(payload), switches), "wall", "top");
          const paths = [];
          const todo = chart.down.children.map((box) => [box, []]);
          for (const [box, above] of todo) {
            const path = [...above, (box.info.crosses ? "| " : "") + box.info.label];
            paths.push(path);
            todo.push(...box.children.map((child) => [child, path]));
          }
          return paths;
        }""",
        [payload(profile), vars(switches)],
    )
    return found
