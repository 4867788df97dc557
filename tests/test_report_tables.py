"""The figures of the report's tables, computed in a real browser: those of analysis.py and of the boxes."""

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
from greenprof.exporters.units import place
from greenprof.profiles import Profile, Sample
from tests.profiles import orders_profile
from tests.report_naive import DUMP, EVERY_SWITCH, PAYLOADS, PROFILES, VIEWS, Naive
from tests.report_pages import Reports


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with the report's scripts; the tests give them profiles of their own."""
    reports = Reports(browser, tmp_path_factory.mktemp("reports"))
    yield reports(orders_profile())
    assert reports.close() == []


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
TIMES: Final = ("cpu", "await", "blocked")


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


def test_nothing_was_sampled(page: Page) -> None:
    assert page.evaluate(TABLES, [[payload(Profile()), None]]) == [
        {"functions": [], "sites": [], "groups": [], "lines": []}
    ]
