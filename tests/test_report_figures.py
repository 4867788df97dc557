"""The report's figures, computed in a real browser: equal to analysis.py's, and to a naive computation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page

from greenprof.analysis import await_sites, function_table, group_table, totals
from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import duration, percent, place, plural
from greenprof.profiles import Profile, ProfileBuilder, Sample, State
from tests.profiles import AWAIT, MS, SPAWN, SYNC_EXECUTE, app, orders_profile
from tests.report_naive import CLOCKS, EVERY_SWITCH, Naive, Path, Switches, random_profile
from tests.report_pages import Reports


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with the report's scripts; the tests give them profiles of their own."""
    reports = Reports(browser, tmp_path_factory.mktemp("reports"))
    yield reports(orders_profile())
    assert reports.close() == []


DUMP = """
  const boxes = (chart) => {
    const found = {};
    const todo = chart.up === null ? [chart.down] : [chart.down, chart.up];
    while (todo.length > 0) {
      const box = todo.pop();
      const path = chart.pathOf(box);
      if (box.weight > 0) {
        found[path.join(".")] = box.weight;
      }
      let left = box.start;
      let before = Infinity;
      for (const child of box.children) {
        if (child.start !== left || child.weight > before || child.parent !== box) {
          throw new Error(`children of ${path} do not lie side by side, the heaviest first`);
        }
        left += child.weight;
        before = child.weight;
        todo.push(child);
      }
      if (left > box.start + box.weight) {
        throw new Error(`children of ${path} are wider than it is`);
      }
      if (chart.boxAt(path) !== box) {
        throw new Error(`${path} does not lead back to its box`);
      }
    }
    return found;
  };
"""
# All profiles at once: a call into the page takes longer than what it computes.
TABLES = """(pairs) => pairs.map(([payload, scope]) => {
  const profile = new ReportProfile(payload);
  const mask = scope === null ? null : Uint8Array.from(scope);
  return {
    functions: functionRows(profile, mask).map((row) =>
      ({ ...row, module: profile.functions.module[row.fn] })),
    sites: siteRows(profile, mask),
    groups: groupRows(profile, mask),
    lines: profile.functions.name.map((_, fn) => lineRows(profile, fn, mask)),
  };
})"""
VIEWS: Final = ("top", "bottom", "sandwich")
TIMES: Final = ("cpu", "await", "blocked")


def path_of(text: str) -> Path:
    return tuple(map(int, text.split("."))) if text else ()


def expected_functions(profile: Profile) -> Counter[tuple[Any, ...]]:
    return Counter(
        (
            row.name, row.module, place(row.path, row.first_line), row.origin.value, row.boundary,
            row.self_cpu_ns, row.total_cpu_ns, row.self_await_ns, row.total_await_ns,
            row.self_blocked_ns, row.total_blocked_ns,
        )
        for row in function_table(profile)
    )  # fmt: skip


def shown_functions(tables: dict[str, Any]) -> Counter[tuple[Any, ...]]:
    columns = [f"{time}{part}" for time in TIMES for part in ("Self", "Total")]
    return Counter(
        (
            *(row[name] for name in ("name", "module", "place", "origin", "bridge")),
            *(row[column] for column in columns),
        )
        for row in tables["functions"]
    )


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


PROFILES: Final = [orders_profile(), *map(random_profile, range(40))]
PAYLOADS: Final = [payload(profile) for profile in PROFILES]


def test_tables_equal_the_analysis(page: Page) -> None:
    shown = page.evaluate(TABLES, [[values, None] for values in PAYLOADS])
    for profile, tables in zip(PROFILES, shown, strict=True):
        assert shown_functions(tables) == expected_functions(profile)
        assert Counter(
            (row["name"], row["place"], row["awaited"], row["origin"], row["seen"],
             row["awaiting"], row["ready"])
            for row in tables["sites"]
        ) == Counter(
            (site.function, place(site.path, site.line), site.awaited, site.origin.value,
             site.seen, site.awaiting_ns, site.ready_ns)
            for site in await_sites(profile)
        )  # fmt: skip
        names = ("cpu", "awaiting", "ready", "blocked", "idle")
        assert Counter(
            (row["name"], row["kind"], row["tasks"], row["seen"], *(row[name] for name in names))
            for row in tables["groups"]
        ) == Counter(
            (row.name, row.kind, row.tasks, row.samples,
             *(getattr(row, f"{name}_ns") for name in names))
            for row in group_table(profile)
        )  # fmt: skip
        whole = totals(profile)
        for name in (*names, "tasks"):
            attribute = name if name == "tasks" else f"{name}_ns"
            assert sum(row[name] for row in tables["groups"]) == getattr(whole, attribute)


def test_lines_add_up_to_their_function(page: Page) -> None:
    names = [f"{time}{part}" for time in (*TIMES, "seen") for part in ("Self", "Total")]
    for tables in page.evaluate(TABLES, [[values, None] for values in PAYLOADS]):
        for row in tables["functions"]:
            lines = tables["lines"][row["fn"]]
            assert [sum(line[name] for line in lines) for name in names] == [
                row[name] for name in names
            ]
            numbers = [line["line"] for line in lines]
            assert numbers == sorted(set(numbers))


def test_tables_within_a_scope_are_those_of_its_samples(page: Page) -> None:
    made = random.Random(5)
    # Of each sample its CPU time (1), its waiting and observations (2), both or nothing.
    scopes = [[made.randrange(4) for _ in profile.samples] for profile in PROFILES]
    shown = page.evaluate(TABLES, list(map(list, zip(PAYLOADS, scopes, strict=True))))
    for profile, scope, tables in zip(PROFILES, scopes, shown, strict=True):
        chosen = [
            part_of(sample, part) for sample, part in zip(profile.samples, scope, strict=True)
        ]
        functions = shown_functions(tables)
        expected = expected_functions(replace(profile, samples=chosen))
        assert functions <= expected
        # What was not seen in the scope is left out.
        assert all(not any(row[5:]) for row in expected - functions)
        whole = totals(replace(profile, samples=chosen))
        waited = whole.awaiting_ns + whole.ready_ns
        assert sum(row["awaiting"] + row["ready"] for row in tables["sites"]) == waited
        for name in ("cpu", "awaiting", "ready", "blocked", "idle"):
            shown_ns = sum(row[name] for row in tables["groups"])
            assert shown_ns == getattr(whole, f"{name}_ns")
        assert sum(row["seen"] for row in tables["groups"]) == whole.samples


def part_of(sample: Sample, part: int) -> Sample:
    cpu_ns = sample.cpu_ns if part & 1 else 0
    rest_ns = max(sample.wall_ns - sample.cpu_ns, 0) if part & 2 else 0
    count = sample.count if part & 2 else 0
    return replace(sample, wall_ns=cpu_ns + rest_ns, cpu_ns=cpu_ns, count=count)


def test_functions_have_the_times_of_their_boxes(page: Page) -> None:
    """With any switches: what those hide counts in the table where the graph counts it."""
    shown = page.evaluate(
        """([payloads, several]) => payloads.map((payload) => {
          const profile = new ReportProfile(payload);
          return several.map((switches) => ({
            functions: functionRows(profile, null, switches),
            lines: profile.functions.name.map((_, fn) => lineRows(profile, fn, null, switches)),
          }));
        })""",
        [PAYLOADS, list(map(vars, EVERY_SWITCH[:8]))],
    )
    names = [f"{time}{part}" for time in (*TIMES, "idle", "seen") for part in ("Self", "Total")]
    for profile, per_profile in zip(PROFILES, shown, strict=True):
        for switches, tables in zip(EVERY_SWITCH, per_profile, strict=False):
            rows = {
                row["fn"]: Counter({name: row[name] for name in names})
                for row in tables["functions"]
            }
            found = {fn: +figures for fn, figures in rows.items() if +figures}
            assert found == Naive(profile, switches).function_figures(), switches
            for fn, figures in rows.items():
                for name in names:
                    assert sum(row[name] for row in tables["lines"][fn]) == figures[name]


def test_tables_within_a_box_add_up_to_it(page: Page) -> None:
    chosen = [EVERY_SWITCH[seed % len(EVERY_SWITCH)] for seed in range(len(PROFILES))]
    wrong = page.evaluate(
        f"""([payloads, chosen, views]) => {{
          {DUMP}
          const wrong = [];
          payloads.forEach((payload, index) => {{
            const profile = new ReportProfile(payload);
            const tree = new ViewTree(profile, chosen[index]);
            for (const view of views) {{
              const chart = new Chart(tree, "wall", view, 1);
              for (const text of Object.keys(boxes(chart))) {{
                const box = chart.boxAt(text === "" ? [] : text.split(".").map(Number));
                const scope = chart.samplesUnder(box);
                const rows = groupRows(profile, scope);
                const sum = (...names) => rows.reduce(
                  (all, row) => names.reduce((some, name) => some + row[name], all), 0);
                const {{ cpu, await: waits, blocked, idle, seen }} = box.figures();
                const sites = siteRows(profile, scope)
                  .reduce((all, row) => all + row.awaiting + row.ready, 0);
                const found = [
                  sum("cpu"), sum("awaiting", "ready"), sum("blocked"), sum("idle"), sum("seen"),
                  sites,
                ];
                const expected = [
                  cpu.total, waits.total, blocked.total, idle.total, seen, waits.total,
                ];
                if (String(found) !== String(expected)) {{
                  wrong.push([index, view, text, found, expected]);
                }}
              }}
            }}
          }});
          return wrong;
        }}""",
        [PAYLOADS, list(map(vars, chosen)), VIEWS],
    )
    assert wrong == []


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
    texts = ("", "F1", "orders.API", "a.py:10", "nothing has it", ".")
    shown = page.evaluate(
        """([payloads, several, texts]) => payloads.map((payload, index) => {
          const tree = new ViewTree(new ReportProfile(payload), several[index]);
          return texts.map((text) => {
            const found = new Chart(tree, "wall", "top").search(text);
            return [[...found.functions], found.count, found.weightNs];
          });
        })""",
        [PAYLOADS, list(map(vars, several)), texts],
    )
    for number, profile in enumerate(PROFILES):
        naive = Naive(profile, several[number])
        drawn = {fn for path in naive.own for fn in naive.functions(path)}
        for text, (mask, count, weight_ns) in zip(texts, shown[number], strict=True):
            wanted = [fn for fn in range(len(mask)) if text and naive.says(fn, text)]
            assert [fn for fn, found in enumerate(mask) if found] == wanted
            assert count == len(drawn & set(wanted))
            assert weight_ns == naive.share("wall", wanted)


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
    assert page.evaluate(TABLES, [[payload(Profile()), None]]) == [
        {"functions": [], "sites": [], "groups": [], "lines": []}
    ]
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
