"""Numbers out of a profile."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given

from greenprof.analysis import (
    CLOCKS,
    AwaitSite,
    FunctionRow,
    GroupRow,
    await_sites,
    function_table,
    group_table,
    sample_sites,
    totals,
    trace_table,
    weighted_stacks,
)
from greenprof.errors import OptionError
from greenprof.profiles import (
    Frame,
    FrameKind,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    State,
)
from tests.profiles import (
    AWAIT,
    BUSY_TRACE,
    EXECUTE,
    FETCH,
    LAZY_LOAD,
    MS,
    QUICK_TRACE,
    REPO,
    RUN_SYNC,
    SECOND,
    SLEEP,
    SLOW_TRACE,
    SPAWN,
    SYNC_EXECUTE,
    app,
    boundary,
    library,
    orders_profile,
    profiles,
    traced_profile,
)


def waiting(*stack: Frame, state: State = State.AWAITING) -> Profile:
    """A profile of one wait of a second, seen ten times."""
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("MainThread")
    builder.add(group, thread, builder.stack(stack), state, 10, SECOND, 0)
    return builder.build(ProfileInfo())


def site_of(*stack: Frame) -> tuple[str, int, str]:
    (site,) = await_sites(waiting(*stack))
    return site.function, site.line, site.awaited


def function(name: str, rows: list[FunctionRow]) -> FunctionRow:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_totals_of_a_service() -> None:
    sums = totals(orders_profile())
    assert (sums.duration_ns, sums.process_cpu_ns) == (2 * SECOND, 900 * MS)
    assert (sums.cpu_ns, sums.unattributed_cpu_ns) == (890 * MS, 10 * MS)
    assert (sums.awaiting_ns, sums.ready_ns) == (1350 * MS, 200 * MS)
    assert (sums.blocked_ns, sums.idle_ns) == (60 * MS, 400 * MS)
    assert sums.wall_ns == 3010 * MS
    assert (sums.samples, sums.tasks) == (290, 17)


def test_the_table_of_task_groups() -> None:
    rows = group_table(orders_profile())
    assert rows[0] == GroupRow(
        "GET /orders/{}",
        "asyncio",
        12,
        wall_ns=1610 * MS,
        cpu_ns=50 * MS,
        awaiting_ns=1350 * MS,
        ready_ns=200 * MS,
        samples=160,
    )
    # A thread that only waits for work is the last, however long that took.
    assert [row.name for row in rows[1:]] == ["GET /report", "ThreadPoolExecutor-0_0", "MainThread"]
    by_cpu = group_table(orders_profile(), clock="cpu")
    assert [row.name for row in by_cpu[:2]] == ["GET /report", "GET /orders/{}"]
    by_await = group_table(orders_profile(), clock="await")
    assert [row.weight_ns("await") for row in by_await] == [1550 * MS, 0, 0, 0]
    assert by_await[0].name == "GET /orders/{}"


def test_functions_have_self_and_total_cpu_and_await_apart() -> None:
    rows = function_table(orders_profile())
    handler = function("get_order", rows)
    assert (handler.self_cpu_ns, handler.total_cpu_ns) == (0, 50 * MS)
    assert (handler.self_await_ns, handler.total_await_ns) == (0, 1550 * MS)
    fetch = function("Connection.fetch", rows)
    assert (fetch.self_await_ns, fetch.total_await_ns) == (1500 * MS, 1500 * MS)
    assert fetch.origin is FrameOrigin.LIBRARY
    assert function("greenlet_spawn", rows).boundary
    # In both routes, so it has more than each handler.
    assert [row.name for row in rows[:2]] == ["greenlet_spawn", "get_order"]
    by_cpu = function_table(orders_profile(), clock="cpu")
    assert [row.total_cpu_ns for row in by_cpu[:3]] == [850 * MS, 800 * MS, 800 * MS]
    # Of equal totals, the one that does it itself is first.
    assert by_cpu[1].name == "total"
    by_await = function_table(orders_profile(), clock="await")
    assert [(row.name, row.total_ns("await"), row.self_ns("await")) for row in by_await[:2]] == [
        ("get_order", 1550 * MS, 0),
        ("Connection.fetch", 1500 * MS, 1500 * MS),
    ]


def test_cpu_time_used_while_blocked_counts_once() -> None:
    row = function("digest", function_table(orders_profile()))
    assert (row.self_cpu_ns, row.self_blocked_ns) == (40 * MS, 60 * MS)
    assert row.self_ns("wall") == 100 * MS
    assert row.self_ns("cpu") == 40 * MS
    assert row.self_ns("await") == 0


def test_recursion_counts_once_in_the_total() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "thread"), builder.thread("MainThread")
    fib, even, odd = app("fib", 5), app("even", 6, first_line=2), app("odd", 7, first_line=3)
    other_line = app("fib", 4)
    builder.add(group, thread, builder.stack([fib]), State.ON_CPU, 1, 1, 1)
    builder.add(group, thread, builder.stack([fib, other_line, fib]), State.ON_CPU, 1, 10, 10)
    builder.add(group, thread, builder.stack([even, odd, even, odd]), State.ON_CPU, 1, 100, 100)
    rows = function_table(builder.build(ProfileInfo()))
    assert (function("fib", rows).self_cpu_ns, function("fib", rows).total_cpu_ns) == (11, 11)
    assert (function("even", rows).self_cpu_ns, function("even", rows).total_cpu_ns) == (0, 100)
    assert (function("odd", rows).self_cpu_ns, function("odd", rows).total_cpu_ns) == (100, 100)


@given(profiles())
def test_functions_in_themselves_add_up_to_all_that_has_a_stack(profile: Profile) -> None:
    rows = function_table(profile)
    with_stack = [sample for sample in profile.samples if sample.stack >= 0]
    assert sum(row.self_cpu_ns for row in rows) == sum(sample.cpu_ns for sample in with_stack)
    for row in rows:
        assert row.self_cpu_ns <= row.total_cpu_ns <= sum(sample.cpu_ns for sample in with_stack)
        assert row.self_await_ns <= row.total_await_ns


@given(profiles())
def test_groups_and_sites_add_up_to_the_totals(profile: Profile) -> None:
    sums, groups, sites = totals(profile), group_table(profile), await_sites(profile)
    for name in ("wall_ns", "cpu_ns", "awaiting_ns", "ready_ns", "blocked_ns", "idle_ns"):
        assert sum(getattr(row, name) for row in groups) == getattr(sums, name)
    assert sum(site.awaiting_ns for site in sites) == sums.awaiting_ns
    assert sum(site.ready_ns for site in sites) == sums.ready_ns


@given(profiles())
def test_weights_count_everything_once(profile: Profile) -> None:
    stacks = list(weighted_stacks(profile))
    cpu = sum(sample.cpu_ns for sample in profile.samples)
    waits = sum(
        max(sample.wall_ns - sample.cpu_ns, 0)
        for sample in profile.samples
        if sample.state is not State.ON_CPU
    )
    assert sum(stack.weight_ns for stack in stacks) == cpu + waits
    assert all(stack.weight_ns > 0 for stack in stacks)
    by_cpu = list(weighted_stacks(profile, clock="cpu"))
    assert sum(stack.weight_ns for stack in by_cpu) == cpu
    assert {stack.label for stack in by_cpu} <= {""}


@given(profiles())
def test_the_clocks_add_up(profile: Profile) -> None:
    """Wall time is CPU time, time suspended, and time blocked or idle: nothing twice, nothing lost."""
    wall, cpu, await_ = (list(weighted_stacks(profile, clock=clock)) for clock in CLOCKS)
    neither = [stack for stack in wall if stack.label in {"[blocked]", "[idle]"}]
    assert Counter(wall) == Counter([*cpu, *await_, *neither])
    assert {stack.label for stack in await_} <= {"[await]", "[ready]"}
    for row in function_table(profile):
        blocked = (row.self_blocked_ns, row.total_blocked_ns)
        assert row.self_ns("wall") == row.self_ns("cpu") + row.self_ns("await") + blocked[0]
        assert row.total_ns("wall") == row.total_ns("cpu") + row.total_ns("await") + blocked[1]


@given(profiles())
def test_totals_and_groups_have_the_times_of_the_graph(profile: Profile) -> None:
    drawn, of_group = Counter[str](), Counter[tuple[int, str]]()
    for group, _, _, label, weight_ns in weighted_stacks(profile):
        drawn[label] += weight_ns
        of_group[group, label] += weight_ns
    names = {
        "": "cpu_ns", "[await]": "awaiting_ns", "[ready]": "ready_ns",
        "[blocked]": "blocked_ns", "[idle]": "idle_ns",
    }  # fmt: skip
    sums = totals(profile)
    assert [getattr(sums, name) for name in names.values()] == [drawn[label] for label in names]
    assert Counter(
        (row.name, row.kind, *(getattr(row, name) for name in names.values()))
        for row in group_table(profile)
    ) == Counter(
        (group.name, group.kind, *(of_group[index, label] for label in names))
        for index, group in enumerate(profile.groups)
    )


@given(profiles())
def test_each_sample_s_site_adds_up_to_the_site(profile: Profile) -> None:
    sites, of_sample = sample_sites(profile)
    assert len(of_sample) == len(profile.samples)
    seen = [[0, 0, 0] for _ in sites]
    for sample, site in zip(profile.samples, of_sample, strict=True):
        waits = sample.state in {State.AWAITING, State.READY}
        assert (site >= 0) is waits
        if waits:
            seen[site][0] += sample.count
            rest_ns = max(sample.wall_ns - sample.cpu_ns, 0)
            seen[site][1 if sample.state is State.AWAITING else 2] += rest_ns
    assert seen == [[site.seen, site.awaiting_ns, site.ready_ns] for site in sites]
    assert sites == await_sites(profile)


def test_an_unknown_clock_is_an_error() -> None:
    with pytest.raises(OptionError, match="choose wall, cpu or await"):
        group_table(orders_profile(), clock="gpu")
    with pytest.raises(OptionError, match="gpu"):
        list(weighted_stacks(orders_profile(), clock="gpu"))


class TestAwaitSites:
    """Where a task waits: the line that its owner can change."""

    def test_of_a_service(self) -> None:
        fetch = "asyncpg.connection.Connection.fetch"
        api = ("/srv/orders/api.py", "orders.api", FrameOrigin.APP)
        assert await_sites(orders_profile()) == [
            AwaitSite("get_order", api[0], 40, *api[1:], fetch, 120, 1000 * MS, 200 * MS, 1),
            AwaitSite(
                "load_lines", "/srv/orders/repo.py", 31, "orders.repo", FrameOrigin.APP,
                fetch, 30, 300 * MS, 0, 20,
            ),
            AwaitSite("get_order", api[0], 42, *api[1:], "asyncio.tasks.sleep", 5, 50 * MS, 0, 1),
        ]  # fmt: skip

    def test_sync_code_within_a_bridge(self) -> None:
        stack = (app("endpoint", 1), RUN_SYNC, SPAWN, REPO, LAZY_LOAD, AWAIT, FETCH, SLEEP)
        assert site_of(*stack) == ("load_lines", 31, "asyncpg.connection.Connection.fetch")

    def test_async_code_that_calls_a_library_with_a_bridge(self) -> None:
        stack = (app("endpoint", 7), EXECUTE, SPAWN, SYNC_EXECUTE, AWAIT, FETCH)
        assert site_of(*stack) == ("endpoint", 7, "asyncpg.connection.Connection.fetch")

    def test_a_bridge_within_what_a_bridge_awaits(self) -> None:
        inner = app("inner", 9, kind=FrameKind.AWAITED)
        stack = (
            app("endpoint", 7), RUN_SYNC, SPAWN, REPO, AWAIT,
            inner, EXECUTE, SPAWN, SYNC_EXECUTE, AWAIT, FETCH,
        )  # fmt: skip
        assert site_of(*stack) == ("inner", 9, "asyncpg.connection.Connection.fetch")

    def test_awaited_code_of_the_application_is_what_is_awaited(self) -> None:
        client = app("Client.call", 9, kind=FrameKind.AWAITED)
        stack = (app("endpoint", 7), RUN_SYNC, SPAWN, REPO, AWAIT, client, SLEEP)
        assert site_of(*stack) == ("load_lines", 31, "orders.api.Client.call")

    def test_a_started_greenlet_that_hands_over_nothing(self) -> None:
        """`greenlet_spawn` has plain frames below it: what waits is the code in them."""
        stack = (app("endpoint", 7), RUN_SYNC, SPAWN, REPO, library("queue", "Queue.get"))
        assert site_of(*stack) == ("load_lines", 31, "queue.Queue.get")

    def test_a_stack_that_ends_in_the_bridge(self) -> None:
        stack = (app("endpoint", 7), RUN_SYNC, SPAWN, REPO, boundary("await_"))
        assert site_of(*stack) == ("load_lines", 31, "sqlalchemy.util.concurrency.await_")

    def test_several_frames_of_one_bridge_are_one(self) -> None:
        run = (boundary("await_"), boundary("_switch"))
        assert site_of(app("endpoint", 7), EXECUTE, SPAWN, SYNC_EXECUTE, *run, FETCH) == (
            "endpoint", 7, "asyncpg.connection.Connection.fetch",
        )  # fmt: skip

    def test_no_line_of_the_application_above_a_bridge(self) -> None:
        stack = (library("pool", "recycle", 5), EXECUTE, SPAWN, SYNC_EXECUTE, AWAIT, FETCH)
        function, _, awaited = site_of(*stack)
        assert (function, awaited) == ("Session.execute", "asyncpg.connection.Connection.fetch")

    def test_a_bridge_at_the_root(self) -> None:
        assert site_of(AWAIT, FETCH) == ("await_", 190, "asyncpg.connection.Connection.fetch")

    def test_without_a_bridge(self) -> None:
        assert site_of(app("main", 3), SLEEP) == ("main", 3, "asyncio.tasks.sleep")

    def test_a_library_that_calls_back(self) -> None:
        gather = library("anyio", "gather")
        assert site_of(app("main", 3), gather, app("part", 4), SLEEP) == (
            "part", 4, "asyncio.tasks.sleep",
        )  # fmt: skip

    def test_a_line_that_awaits_a_future_itself(self) -> None:
        assert site_of(app("main", 3)) == ("main", 3, "?")

    def test_what_ends_a_chain_of_awaits_is_no_code_of_the_application(self) -> None:
        future = Frame("<Future>", "", kind=FrameKind.AWAITED)
        assert site_of(app("main", 3), future) == ("main", 3, "<Future>")
        rows = function_table(waiting(app("main", 3), future))
        assert function("<Future>", rows).origin is FrameOrigin.LIBRARY

    def test_libraries_only(self) -> None:
        server, receive = library("uvicorn", "serve", 5), library("uvicorn", "receive", 6)
        assert site_of(server, receive, SLEEP) == ("receive", 6, "asyncio.tasks.sleep")
        assert site_of(server) == ("serve", 5, "?")

    def test_no_stack(self) -> None:
        assert site_of() == ("[no stack]", 0, "?")

    def test_only_waits_count(self) -> None:
        assert await_sites(waiting(app("main", 3), SLEEP, state=State.BLOCKED)) == []
        (site,) = await_sites(waiting(app("main", 3), SLEEP, state=State.READY))
        assert (site.seen, site.awaiting_ns, site.ready_ns) == (10, 0, SECOND)
        assert site.wait_ns == SECOND


def test_traces_the_one_with_the_most_time_first() -> None:
    profile = traced_profile()
    by_clock = {
        clock: [(row.trace_id, row.time_ns) for row in trace_table(profile, clock=clock)]
        for clock in CLOCKS
    }
    assert by_clock["wall"] == [
        (SLOW_TRACE, 825 * MS),
        (BUSY_TRACE, 400 * MS),
        (QUICK_TRACE, 30 * MS),
    ]
    assert by_clock["cpu"][:2] == [(BUSY_TRACE, 400 * MS), (SLOW_TRACE, 25 * MS)]
    assert by_clock["await"][:2] == [(SLOW_TRACE, 800 * MS), (QUICK_TRACE, 30 * MS)]
    slow = trace_table(profile)[0]
    assert profile.groups[slow.group].name == "GET /orders/{}"
    assert slow.spans == 2
    assert [(one.state, one.count, one.cpu_ns) for one in slow.parts.values()] == [
        (State.ON_CPU, 2, 25 * MS),
        (State.AWAITING, 60, 0),
        (State.AWAITING, 20, 0),
    ]
    assert all(profile.samples[index].stack == one.stack for index, one in slow.parts.items())
    assert trace_table(orders_profile()) == []


@given(profiles())
def test_traces_have_each_part_of_a_sample_once(profile: Profile) -> None:
    for name in ("count", "wall_ns", "cpu_ns"):
        parts = sum(getattr(part, name) for part in profile.span_samples)
        rows = trace_table(profile)
        assert sum(getattr(one, name) for row in rows for one in row.parts.values()) == parts
