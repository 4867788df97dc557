"""Profiles with what is counted, made by hand: awaits, repeats, loop blockers, calls."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from greenprof.durations import bucket_of
from greenprof.profiles import (
    AwaitStats,
    Block,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    Repeat,
    State,
)
from tests.profiles import (
    AWAIT,
    EXECUTE,
    FETCH,
    LAZY_LOAD,
    MS,
    REPO,
    RUN_SYNC,
    SECOND,
    SPAWN,
    SYNC_EXECUTE,
    app,
    library,
    orders_profile,
)
from tests.report_naive import random_profile

FETCHED = "asyncpg.connection.Connection.fetch"
COMMITTED = "asyncpg.transaction.Transaction.commit"


def stats_of(
    group: int,
    stack: int,
    awaited: str,
    times_ns: Iterable[int],
    *,
    bridge: str = "sqlalchemy",
    errors: int = 0,
    cancelled: int = 0,
) -> AwaitStats:
    """What counts awaits that took so long."""
    times = list(times_ns)
    return AwaitStats(
        group,
        stack,
        awaited,
        bridge,
        len(times),
        sum(times),
        min(times),
        max(times),
        errors,
        cancelled,
        dict(Counter(map(bucket_of, times))),
    )


def add_counted(builder: ProfileBuilder) -> None:
    """Adds awaits at three lines of two routes and of a worker, a repeat of two, two loop blockers."""
    main = builder.thread("MainThread")
    orders = builder.group("GET /orders/{}", "asyncio")
    report = builder.group("GET /report", "asyncio")
    worker = builder.group("worker-{}", "asyncio")
    query = builder.stack([app("get_order", 40)])
    lazy = builder.stack([app("get_order", 41), RUN_SYNC, SPAWN, REPO])
    commit = builder.stack([app("work", 80, first_line=75)])
    pool = builder.stack([library("sqlalchemy.pool", "connect")])
    builder.add_await(stats_of(orders, query, FETCHED, [80 * MS] * 11 + [120 * MS]))
    loads = stats_of(orders, lazy, FETCHED, [MS] * 2_000 + [2 * MS] * 380 + [40 * MS] * 20)
    lazily = builder.add_await(loads)
    other = builder.add_await(stats_of(report, lazy, FETCHED, [3 * MS] * 60))
    builder.add_await(stats_of(worker, commit, COMMITTED, range(MS, 31 * MS, MS), errors=2))
    waits = [5 * MS, 7 * MS, 50_000_000_000]
    builder.add_await(stats_of(report, pool, "?", waits, bridge="generic", cancelled=1))
    builder.add_repeat(Repeat(lazily, 12, 2_400, 214, loads.total_ns, 4_800 * MS))
    builder.add_repeat(Repeat(other, 1, 60, 60, 180 * MS, 400 * MS))
    render = builder.stack([app("report", 50, first_line=48), RUN_SYNC, SPAWN, app("total", 60)])
    dumps = builder.stack([app("get_order", 43), library("json", "dumps")])
    builder.add_block(Block(report, main, render, 3, 1_200 * MS, 640 * MS, 14, "asyncio"))
    builder.add_block(Block(orders, main, dumps, 1, 130 * MS, 130 * MS, 0, "asyncio"))


BLOCK_LIMIT_NS = 100 * MS


def counted_profile() -> Profile:
    """The orders service, sampled, with its awaits counted and its loop watched."""
    profile = orders_profile()
    builder = ProfileBuilder()
    for group in profile.groups:
        builder.count_tasks(builder.group(group.name, group.kind), group.count)
    for name in profile.threads:
        builder.thread(name)
    for sample in profile.samples:
        stack = builder.stack(profile.stack(sample.stack))
        ids = sample.group, sample.thread, stack, sample.state
        builder.add(*ids, sample.count, sample.wall_ns, sample.cpu_ns)
    add_counted(builder)
    info = dataclasses.replace(profile.info, block_limit_ns=BLOCK_LIMIT_NS, repeat_min=10)
    return builder.build(info)


def exact_profile(clock: str = "cpu", *, awaits: bool = True) -> Profile:
    """The orders service as the exact engine records it.

    By the CPU clock there is CPU time only; by the wall clock also what coroutines waited for.
    """
    builder = ProfileBuilder()
    main = builder.thread("MainThread")
    orders = builder.group("GET /orders/{}", "asyncio")
    loop = builder.group("MainThread", "thread")
    builder.count_tasks(orders, 12)
    builder.count_tasks(loop)
    # Every level has its calls, and its own time.
    handler = app("get_order", 1)
    sync = [handler, RUN_SYNC, SPAWN, dataclasses.replace(REPO, line=20)]
    calls = [(handler, 12), (RUN_SYNC, 12), (SPAWN, 12), (sync[3], 12), (LAZY_LOAD, 2_400)]
    calls += [(AWAIT, 2_400), (FETCH, 2_400)]
    for depth, (_, count) in enumerate(calls, 1):
        stack = builder.stack([frame for frame, _ in calls[:depth]])
        own_ns = count * 20_000
        builder.add(orders, main, stack, State.ON_CPU, count, own_ns, own_ns)
        if clock == "wall" and depth == len(calls):
            builder.add(orders, main, stack, State.AWAITING, 0, 2_700 * MS, 0)
    query = builder.stack([handler, EXECUTE, SPAWN, SYNC_EXECUTE])
    builder.add(orders, main, query, State.ON_CPU, 24, 30 * MS, 30 * MS)
    fib = app("fib", 90, first_line=90)
    for depth, count in enumerate((3, 6, 12), 1):
        stack = builder.stack([fib] * depth)
        builder.add(loop, main, stack, State.ON_CPU, count, count * MS, count * MS)
    if awaits:
        add_counted(builder)
    info = ProfileInfo(
        command="orders.py --requests 15",
        python="3.11.9",
        started_at="2026-01-02T03:04:05+00:00",
        duration_ns=5 * SECOND,
        process_cpu_ns=300 * MS,
        pids=[4711],
        engine="exact",
        clock=clock,
        block_limit_ns=BLOCK_LIMIT_NS if awaits else 0,
        repeat_min=10 if awaits else 0,
    )
    return builder.build(info)


def counted_random(seed: int) -> Profile:
    """A random profile, whose stacks have been awaited at and blocked at."""
    profile = random_profile(seed)
    builder = ProfileBuilder()
    for sample in profile.samples:
        group = profile.groups[sample.group]
        ids = builder.group(group.name, group.kind), builder.thread(profile.threads[sample.thread])
        stack = builder.stack(profile.stack(sample.stack))
        numbers = sample.count, sample.wall_ns, sample.cpu_ns
        builder.add(*ids, stack, sample.state, *numbers)
        times = [1 + sample.wall_ns, 7 + sample.cpu_ns]
        site = builder.add_await(stats_of(ids[0], stack, f"op{sample.count}", times))
        builder.add_repeat(Repeat(site, 1 + sample.count, 3, 2, sample.wall_ns, 5))
        builder.add_block(Block(*ids, stack, sample.count, sample.wall_ns, 3, 1, "asyncio"))
    info = dataclasses.replace(profile.info, engine="exact", clock="wall")
    return builder.build(info)
