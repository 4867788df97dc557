"""Callgrind's format, read back by gprof2dot, and by callgrind_annotate where there is one."""

from __future__ import annotations

import importlib
import io
import re
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from greenprof import analysis
from greenprof.exporters import callgrind
from greenprof.profiles import Frame, FrameOrigin, Profile, ProfileBuilder, ProfileInfo, State
from tests.profiles import MS, app, library, orders_profile, profiles

# It ships no types.
gprof2dot: Any = importlib.import_module("gprof2dot")


def drawn(profile: Profile, clock: str = "wall") -> Any:
    """The graph as gprof2dot reads it; all of the file has to be what it knows."""
    parser = gprof2dot.CallgrindParser(io.StringIO(callgrind.render(profile, clock=clock)))
    graph = parser.parse()
    assert parser.eof(), parser.lookahead()
    return graph


def edges(graph: Any) -> dict[tuple[str, str], Any]:
    """Calls and inclusive cost by caller and callee."""
    return {
        (caller.name, callee): (call[gprof2dot.CALLS], call[gprof2dot.SAMPLES2])
        for caller in graph.functions.values()
        for callee, call in caller.calls.items()
    }


def test_edges_go_across_boundaries() -> None:
    found = edges(drawn(orders_profile()))
    spawn, await_ = (f"sqlalchemy.util.concurrency.{name}" for name in ("greenlet_spawn", "await_"))
    assert found[spawn, "orders.api.total"] == (80, 800 * MS)
    assert found[await_, "asyncpg.connection.Connection.fetch"] == (155, 1550 * MS)
    assert found["<GET /report>", "orders.api.report"] == (80, 800 * MS)
    assert found["<orders.py --requests 15>", "<GET /orders/{}>"] == (12, 1600 * MS)


def test_costs_are_those_of_the_functions() -> None:
    graph = drawn(orders_profile())
    costs = {one.name: one[gprof2dot.SAMPLES] for one in graph.functions.values()}
    assert {name: cost for name, cost in costs.items() if cost} == {
        "asyncpg.connection.Connection.fetch": 1550 * MS,
        "orders.api.total": 800 * MS,
        "hashing.digest": 100 * MS,
        "asyncio.tasks.sleep": 50 * MS,
    }
    assert graph.functions["orders.api.report"][gprof2dot.TOTAL_TIME_RATIO] == pytest.approx(0.32)
    owners = {one.name.rpartition(".")[2]: one.module for one in graph.functions.values()}
    assert owners["total"] == "orders"
    assert owners["greenlet_spawn"] == "greenlet boundary"
    assert owners["sleep"] == "python"
    assert owners["<GET /report>"] == "tasks"


@pytest.mark.parametrize(
    ("clock", "events", "total"),
    [
        ("wall", "Wall CPU Await Blocked", "2500000000 890000000 1550000000 60000000"),
        ("cpu", "CPU", "890000000"),
        ("await", "Await", "1550000000"),
    ],
)
def test_events_are_the_clocks(clock: str, events: str, total: str) -> None:
    text = callgrind.render(orders_profile(), clock=clock)
    assert f"\nevents: {events}\n" in text
    assert f"\nsummary: {total}\n" in text
    assert drawn(orders_profile(), clock)[gprof2dot.SAMPLES] == int(total.split(maxsplit=1)[0])


def test_what_is_known_of_the_session_is_there() -> None:
    head = callgrind.render(orders_profile()).partition("\npositions:")[0]
    assert head.splitlines() == [
        "# callgrind format",
        "version: 1",
        "creator: greenprof 0.1.0",
        "pid: 4711",
        "cmd: orders.py --requests 15",
        "part: 1",
        "desc: Note: wall clock, calls are samples",
        "desc: Note: another profiler took the greenlet tracer at 1.2 s; it was put back",
    ]


def test_lines_are_those_that_ran_and_called() -> None:
    """Two lines of one function: its own time by line, its calls by line."""
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("t")
    called = app("called", 50, first_line=50)
    for line, own_ns, below_ns in ((3, 10, 200), (4, 20, 300)):
        above = app("above", line)
        builder.add(group, thread, builder.stack([above]), State.ON_CPU, 1, own_ns, own_ns)
        stack = builder.stack([above, called])
        builder.add(group, thread, stack, State.ON_CPU, 2, below_ns, below_ns)
    text = callgrind.render(builder.build(ProfileInfo()), clock="cpu")
    block = text[text.index("\nfn=(3)") + 1 :].splitlines()
    assert block[1:3] == ["3 10", "4 20"]
    assert [block[at + 1] for at, one in enumerate(block) if one.startswith("calls=2 50")] == [
        "3 200",
        "4 300",
    ]


def test_recursion_counts_once_in_what_it_came_to() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("t")
    once = [app("main", 1), app("again", 5, first_line=5)]
    for depth, own_ns in enumerate((1000, 100, 10)):
        stack = builder.stack([*once, *once[1:] * depth])
        builder.add(group, thread, stack, State.ON_CPU, 1, own_ns, own_ns)
    graph = drawn(builder.build(ProfileInfo(engine="exact")), "cpu")
    found = edges(graph)
    assert found["orders.api.main", "orders.api.again"] == (1, 1110)
    assert found["orders.api.again", "orders.api.again"] == (2, 110)
    assert graph.functions["orders.api.again"][gprof2dot.TOTAL_TIME_RATIO] == pytest.approx(1)


def test_functions_of_one_name_are_told_apart() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("t")
    for number, frame in enumerate(
        [
            app("<lambda>", 5, first_line=5),
            app("<lambda>", 9, first_line=9),
            Frame("<lambda>", "/other/api.py", 5, 5, module="orders.api"),
            Frame("", "", origin=FrameOrigin.LIBRARY),
            Frame("(1) fn=(2)", "/x.py", 1, 1),
            Frame("orders.api.total", ""),
            Frame("total", "/srv/orders/api.py", 60, 60, module="orders.api"),
        ]
    ):
        builder.add(group, thread, builder.stack([frame]), State.ON_CPU, 1, number + 1, number + 1)
    graph = drawn(builder.build(ProfileInfo()), "cpu")
    costs = {one.name: one[gprof2dot.SAMPLES] for one in graph.functions.values()}
    assert costs == {
        "<greenprof>": 0,
        "<work (thread)>": 0,
        "orders.api.<lambda>:5": 1,
        "orders.api.<lambda>:9": 2,
        "orders.api.<lambda>:5 (2)": 3,
        "?": 4,
        "(1) fn=(2)": 5,
        # What an await waited for, and the function itself.
        "<orders.api.total>": 6,
        "orders.api.total": 7,
    }


def test_hostile_names_cannot_add_a_line() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("GET /\ncalls=9 9", "asyncio"), builder.thread("t")
    frame = Frame("f\nfn=x\x1b[2J", "/tmp/\u2028totals: 1\n.py", 3, module=" \udce9")
    builder.add(group, thread, builder.stack([frame]), State.ON_CPU, 1, MS, MS)
    info = ProfileInfo(command="a\nevents: x", warnings=["b\nsummary: 9"])
    text = callgrind.render(builder.build(info))
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.count("\nevents:") == text.count("\nsummary:") == 1
    assert text.count("\ncalls=") == 2


def test_an_empty_profile_opens() -> None:
    assert drawn(Profile()).functions == {}


def test_gprof2dot_draws_it() -> None:
    graph, out = drawn(orders_profile()), io.StringIO()
    graph.prune(0, 0, [], False)
    gprof2dot.DotWriter(out).graph(graph, gprof2dot.themes["color"])
    assert out.getvalue().count("->") == 20


@pytest.mark.skipif(
    shutil.which("callgrind_annotate") is None, reason="needs Valgrind's callgrind_annotate"
)
def test_callgrind_annotate_sums_it_up(tmp_path: Path) -> None:
    file = tmp_path / "out.callgrind"
    file.write_text(callgrind.render(orders_profile()))
    done = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--auto=no", "--threshold=100", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    costs = {}
    for line in done.stdout.splitlines():
        row = re.match(r"\s*([\d,]+) \(.*:(\S+) \[", line)
        if row is not None:
            costs[row[2]] = int(row[1].replace(",", ""))
    for one in analysis.function_table(orders_profile()):
        assert costs[f"{one.module}.{one.name}"] == one.total_ns("wall")


@given(profiles())
def test_any_profile_is_what_the_stacks_say(profile: Profile) -> None:
    """By numbers alone: names are what the format makes of them."""
    own: Counter[Any] = Counter()
    total: Counter[tuple[Any, Any]] = Counter()
    for sample in profile.samples:
        group: Any = ("group", sample.group)
        functions = [analysis.function_key(one) for one in profile.stack(sample.stack)]
        stack = [group, *functions]
        own[stack[-1]] += sample.cpu_ns
        total.update(dict.fromkeys(pairwise(["program", *stack]), sample.cpu_ns))
    graph = drawn(profile, "cpu")
    costs = [one[gprof2dot.SAMPLES] for one in graph.functions.values()]
    inclusive = [cost for _, cost in edges(graph).values()]
    for found, truth in ((costs, own.values()), (inclusive, total.values())):
        assert sorted(filter(None, found)) == sorted(filter(None, truth))


def test_library_code_is_named_by_its_package() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("t")
    stack = builder.stack(
        [
            Frame("<module>", "/srv/app.py", 1, 1, module="__main__"),
            library("sqlalchemy.orm.session", "Session.execute"),
            Frame("<Future>", "", origin=FrameOrigin.APP),
        ]
    )
    builder.add(group, thread, stack, State.ON_CPU, 1, 1, 1)
    text = callgrind.render(builder.build(ProfileInfo()))
    assert re.findall(r"^c?ob=\(\d+\) (.+)$", text, re.MULTILINE) == [
        "tasks",
        "program",
        "sqlalchemy",
        "libraries",
    ]
