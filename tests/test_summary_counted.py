"""The summary and the call tree of what was counted: awaits, repeats, loop blockers, calls."""

from __future__ import annotations

import dataclasses
import re

import pytest
from rich.cells import cell_len

from greenprof.exporters.counted import unit_words
from greenprof.exporters.headline import headline, reader_warnings
from greenprof.exporters.text import render, summary_text, tree_text
from greenprof.profiles import Block, Frame, Profile, ProfileBuilder, ProfileInfo, Repeat
from tests.counted_profiles import FETCHED, counted_profile, exact_profile, stats_of
from tests.profiles import MS, SECOND, orders_profile


def section(text: str, title: str) -> list[list[str]]:
    """The columns of a part of the summary, its head first."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    end = lines.index("", start)
    return [re.split(r" {2,}", line.strip()) for line in lines[start:end]]


class TestAwaits:
    def test_what_was_counted_takes_the_place_of_what_was_sampled(self) -> None:
        text = summary_text(counted_profile(), width=140)
        assert text.count("Await sites") == 1
        assert section(text, "Await sites") == [
            ["Await sites", "in", "awaits", "count", "total", "p50", "p95", "max", "errors"],
            ["orders/repo.py:31", "load_lines", FETCHED, "2,460", "3.74 s", "1.00 ms", "2.00 ms",
             "40.0 ms", "-"],
            ["orders/api.py:40", "get_order", FETCHED, "12", "1.00 s", "81.8 ms", "120 ms",
             "120 ms", "-"],
            ["orders/api.py:80", "work", "asyncpg.transaction.Transaction.commit", "30", "465 ms",
             "14.9 ms", "28.8 ms", "30.0 ms", "2"],
            ["sqlalchemy/pool.py:100", "connect", "?", "3", "50.0 s", "6.95 ms", "50.0 s",
             "50.0 s", "-"],
        ]  # fmt: skip

    def test_a_narrow_terminal_leaves_a_column_to_the_names(self) -> None:
        head, first, *_ = section(summary_text(counted_profile(), width=80), "Await sites")
        assert head[3:] == ["count", "total", "p95", "max", "errors"]
        assert first[1] == "load_lines"

    def test_the_rest_adds_up(self) -> None:
        builder = ProfileBuilder()
        group = builder.group("task", "asyncio")
        for number in range(40):
            stack = builder.stack([Frame(f"f{number}", "/srv/a/b.py", number + 1)])
            builder.add_await(stats_of(group, stack, "?", [(41 - number) * MS], errors=1))
        text = summary_text(builder.build(ProfileInfo()), height=30)
        shown, rest = section(text, "Await sites")[1:-1], section(text, "Await sites")[-1]
        left = 40 - len(shown)
        assert rest[:2] == [f"{left} more", str(left)]
        assert rest[3] == f"{left + 1}.0 ms"
        assert rest[-1] == str(left)
        assert "errors" in section(text, "Await sites")[0]

    def test_awaits_that_no_table_has_are_told(self) -> None:
        profile = counted_profile()
        profile.info.lost_awaits = 1_234
        assert any("1,234 awaits" in text for text in reader_warnings(profile))


class TestRepeats:
    def test_in_a_line_where_there_is_room(self) -> None:
        lines = summary_text(counted_profile(), width=160).splitlines()
        start = lines.index("Repeated awaits")
        assert lines[start + 1 : start + 4] == [
            f"orders/repo.py:31 load_lines awaits {FETCHED} 200 times per GET /orders/{{}}:"
            " 3.56 s of 4.80 s (in 12 requests, at most 214)",
            f"orders/repo.py:31 load_lines awaits {FETCHED} 60 times per GET /report:"
            " 180 ms of 400 ms (in 1 request)",
            "",
        ]

    def test_in_two_where_there_is_not(self) -> None:
        lines = summary_text(counted_profile(), width=80).splitlines()
        start = lines.index("Repeated awaits")
        assert lines[start + 1 : start + 3] == [
            f"orders/repo.py:31 load_lines awaits {FETCHED}",
            "    200 times per GET /orders/{}: 3.56 s of 4.80 s (in 12 requests, at most 214)",
        ]

    def test_several_operations_of_a_line_are_one(self) -> None:
        builder = ProfileBuilder()
        group = builder.group("GET /", "asyncio")
        stack = builder.stack([Frame("f", "/srv/a.py", 7)])
        for awaited, time_ns in (("cursor", MS), ("execute", 9 * MS), ("close", 2 * MS)):
            site = builder.add_await(stats_of(group, stack, awaited, [time_ns] * 20))
            builder.add_repeat(Repeat(site, 2, 20, 10, 20 * time_ns, SECOND))
        text = summary_text(builder.build(ProfileInfo()), width=140)
        assert (
            "srv/a.py:7 f awaits execute and 2 more 10 times per GET /:"
            " 240 ms of 1.00 s (in 2 requests)"
        ) in text.splitlines()

    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    def test_names_give_way_and_numbers_do_not(self, width: int) -> None:
        name = "x" * 300
        builder = ProfileBuilder()
        group = builder.group(f"GET /{name}", "asyncio")
        stack = builder.stack([Frame(name, f"/srv/{name}.py", 7)])
        site = builder.add_await(stats_of(group, stack, name, [MS] * 30))
        builder.add_repeat(Repeat(site, 2, 30, 15, 30 * MS, 40 * MS))
        lines = summary_text(builder.build(ProfileInfo()), width=width).splitlines()
        start = lines.index("Repeated awaits")
        assert max(map(cell_len, lines[start:])) <= width
        assert ".py:7 " in lines[start + 1]
        if width > 40:
            assert "15 times per " in lines[start + 2]
            assert lines[start + 2].endswith("30.0 ms of 40.0 ms (in 2 requests)")

    def test_many_are_cut_and_the_rest_is_told(self) -> None:
        builder = ProfileBuilder()
        group = builder.group("worker", "asyncio")
        for number in range(30):
            stack = builder.stack([Frame("f", "/srv/a.py", number + 1)])
            site = builder.add_await(stats_of(group, stack, "?", [MS] * 10))
            builder.add_repeat(Repeat(site, 1, 10, 10, SECOND * (30 - number), 100 * SECOND))
        lines = summary_text(builder.build(ProfileInfo()), width=100, height=40).splitlines()
        start = lines.index("Repeated awaits")
        shown = lines[start + 1 : lines.index("", start)]
        *sentences, rest = shown
        assert "10 times per task worker" in sentences[0]
        left = 30 - len(sentences)
        assert rest.startswith(f"{left} more: ")
        assert len(lines) <= 40

    @pytest.mark.parametrize(
        ("name", "kind", "words"),
        [
            ("GET /orders/{}", "asyncio", ("GET /orders/{}", "request")),
            ("POST /", "greenlet", ("POST /", "request")),
            ("Worker-{}", "asyncio", ("task Worker-{}", "task")),
            ("serve", "greenlet", ("greenlet serve", "greenlet")),
            ("MainThread", "thread", ("thread MainThread", "thread")),
            ("", "", ("task ", "task")),
        ],
    )
    def test_who_repeats(self, name: str, kind: str, words: tuple[str, str]) -> None:
        assert unit_words(name, kind) == words


class TestBlockers:
    def test_the_table(self) -> None:
        assert section(summary_text(counted_profile()), "Loop blockers") == [
            ["Loop blockers", "in", "task", "over 100 ms", "total", "worst", "waiting"],
            ["orders/api.py:60", "total", "GET /report", "3", "1.20 s", "640 ms", "14"],
            ["orders/api.py:43", "get_order", "GET /orders/{}", "1", "130 ms", "130 ms", "0"],
        ]

    def test_the_rest(self) -> None:
        builder = ProfileBuilder()
        ids = builder.group("t", "asyncio"), builder.thread("m")
        for number in range(50):
            stack = builder.stack([Frame("f", "/srv/a.py", number + 1)])
            time_ns = (50 - number) * MS
            builder.add_block(Block(*ids, stack, 2, time_ns, time_ns, number, "asyncio"))
        head, *rows, rest = section(summary_text(builder.build(ProfileInfo())), "Loop blockers")
        assert head[3] == "times"
        left = 50 - len(rows)
        assert rest[:2] == [f"{left} more", str(2 * left)]
        assert rest[-1] == "49"


class TestExactEngine:
    def test_it_is_named_with_its_clock(self) -> None:
        lines = summary_text(exact_profile()).splitlines()
        assert lines[1:3] == [
            "5.00 s long, CPU 300 ms (65 % attributed)",
            "exact engine, CPU clock, 7,293 calls, 2,505 awaits counted",
        ]
        assert "Hz" not in "".join(lines[:4])

    def test_what_the_wall_clock_measured_is_not_called_cpu_time(self) -> None:
        text = summary_text(exact_profile("wall"))
        lines = text.splitlines()
        assert lines[1] == "5.00 s long, CPU 300 ms, running 196 ms, awaiting 2.70 s"
        assert lines[2].startswith("exact engine, wall clock, 7,293 calls")
        # The process's own in the head line is the only one.
        assert text.count("CPU") == 1 + text.count("on the CPU, or in a call that waits")

    def test_calls_are_a_column(self) -> None:
        text = summary_text(exact_profile(), width=140)
        assert section(text, "Functions")[:3] == [
            ["Functions", "where", "calls", "CPU self", "total"],
            ["get_order", "orders/api.py:1", "12", "0.24 ms", "175 ms"],
            ["load_lines", "orders/repo.py:20", "12", "0.24 ms", "144 ms"],
        ]
        assert section(text, "Tasks")[:2] == [
            ["Tasks", "tasks", "calls", "CPU"],
            ["GET /orders/{}", "12", "7,272", "175 ms"],
        ]
        wall = summary_text(exact_profile("wall"), width=140)
        assert section(wall, "Functions")[0] == [
            "Functions", "where", "calls", "run self", "total", "await self", "total",
        ]  # fmt: skip
        assert section(wall, "Tasks")[0] == ["Tasks", "tasks", "calls", "wall", "run", "awaiting"]

    def test_the_rest_of_the_functions_has_its_calls(self) -> None:
        rows = section(summary_text(exact_profile(), width=140), "Functions")[1:]
        cells = [row[1 if "more" in row[0] else 2].replace(",", "") for row in rows]
        assert sum(int(cell) for cell in cells if cell != "-") == 7_293

    def test_without_awaits_there_are_none(self) -> None:
        text = summary_text(exact_profile(awaits=False))
        for title in ("Await sites", "Repeated awaits", "Loop blockers"):
            assert title not in text

    def test_nothing_called(self) -> None:
        profile = Profile(ProfileInfo(engine="exact", clock="cpu"))
        assert "no call was counted" in summary_text(profile)
        assert "nothing was measured" in tree_text(profile)
        assert "sampled" not in render(profile)

    def test_its_cost_where_it_is_known(self) -> None:
        profile = exact_profile()
        profile.info.sampler_cpu_ns = 30 * MS
        assert "cost 10 % of the CPU" in [fact.text for fact in headline(profile).sampling]

    def test_the_tree_has_calls_and_only_what_was_measured(self) -> None:
        lines = tree_text(exact_profile()).splitlines()
        assert lines[0].split("  ")[-1] == "call tree, by CPU clock"
        assert lines[0].split()[:2] == ["calls", "CPU"]
        (lazy,) = [line for line in lines if "LazyLoader" in line]
        assert lazy.split()[:3] == ["2,400", "144", "ms"]
        wall = tree_text(exact_profile("wall")).splitlines()
        assert wall[0].split()[:3] == ["calls", "run", "await"]
        assert wall[0].endswith("by wall clock")
        (fib,) = [line for line in tree_text(exact_profile()).splitlines() if "fib" in line]
        assert fib.split()[0] == "21"


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("height", [24, 40])
def test_it_all_fits_a_screen(width: int, height: int) -> None:
    for profile in (counted_profile(), exact_profile(), exact_profile("wall")):
        lines = summary_text(profile, width=width, height=height).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert len(lines) <= max(height, 36)
        for title in ("Await sites", "Repeated awaits", "Loop blockers"):
            assert sum(line.startswith(title) for line in lines) == 1


def test_hostile_names_do_nothing_to_a_terminal() -> None:
    bad = "\x1b[2J\x9b31m[bold red]x[/] \r\nfake line\u2028\u202e"
    builder = ProfileBuilder()
    group, thread = builder.group(f"GET {bad}", "asyncio"), builder.thread(bad)
    stack = builder.stack([Frame(bad, f"/srv/{bad}.py", 3)])
    site = builder.add_await(stats_of(group, stack, bad, [MS] * 20, bridge=bad))
    builder.add_repeat(Repeat(site, 1, 20, 20, 20 * MS, 20 * MS))
    builder.add_block(Block(group, thread, stack, 1, MS, MS, 1, bad))
    for engine in ("sampling", "exact"):
        info = dataclasses.replace(orders_profile().info, engine=engine, clock=bad)
        text = summary_text(builder.build(info), width=600)
        assert all(line.isprintable() for line in text.splitlines())
        assert not any(line.startswith("fake") for line in text.splitlines())
        assert text.count("[bold red]x[/]") >= 6
