"""Profiles made by hand, for tests of what is computed from them and written of them."""

from __future__ import annotations

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st

from greenprof.durations import bucket_of
from greenprof.profiles import (
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    Repeat,
    Slice,
    SliceKind,
    SpanRef,
    State,
    Track,
)

# An example that had to wait for a busy machine is no failure: what hangs meets pytest's time limit.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

MS = 1_000_000
SECOND = 1_000_000_000


def app(name: str, line: int, *, kind: FrameKind = FrameKind.PYTHON, first_line: int = 1) -> Frame:
    return Frame(name, "/srv/orders/api.py", line, first_line, kind, module="orders.api")


def library(
    module: str,
    name: str,
    line: int = 100,
    kind: FrameKind = FrameKind.PYTHON,
    *,
    crosses: bool = False,
) -> Frame:
    path = f"/venv/lib/python3.11/site-packages/{module.replace('.', '/')}.py"
    return Frame(name, path, line, 90, kind, FrameOrigin.LIBRARY, module, crosses)


def boundary(name: str) -> Frame:
    return library("sqlalchemy.util.concurrency", name, 190, FrameKind.BOUNDARY)


SPAWN = boundary("greenlet_spawn")
AWAIT = boundary("await_")
FETCH = library("asyncpg.connection", "Connection.fetch", 690, FrameKind.AWAITED)
SLEEP = Frame(
    "sleep", "/usr/lib/python3.11/asyncio/tasks.py", 639, 630, FrameKind.PYTHON,
    FrameOrigin.STDLIB, "asyncio.tasks",
)  # fmt: skip
EXECUTE = library("sqlalchemy.ext.asyncio.session", "AsyncSession.execute")
SYNC_EXECUTE = library("sqlalchemy.orm.session", "Session.execute", crosses=True)
RUN_SYNC = library("sqlalchemy.ext.asyncio.session", "AsyncSession.run_sync")
REPO = Frame("load_lines", "/srv/orders/repo.py", 31, 20, module="orders.repo", crosses=True)
LAZY_LOAD = library("sqlalchemy.orm.strategies", "LazyLoader._load_for_state")


def orders_profile() -> Profile:
    """A service with a route that computes in sync code, one that waits, and an executor thread."""
    builder = ProfileBuilder()
    main, pool = builder.thread("MainThread"), builder.thread("ThreadPoolExecutor-0_0")
    slow = builder.group("GET /orders/{}", "asyncio")
    busy = builder.group("GET /report", "asyncio")
    worker = builder.group("ThreadPoolExecutor-0_0", "thread")
    loop = builder.group("MainThread", "thread")
    builder.count_tasks(slow, 12)
    builder.count_tasks(busy, 3)
    builder.count_tasks(worker)
    builder.count_tasks(loop)
    query = builder.stack([app("get_order", 40), EXECUTE, SPAWN, SYNC_EXECUTE, AWAIT, FETCH])
    lazy = builder.stack([app("get_order", 41), RUN_SYNC, SPAWN, REPO, LAZY_LOAD, AWAIT, FETCH])
    nap = builder.stack([app("get_order", 42), SLEEP])
    burn = builder.stack([app("report", 50, first_line=48), RUN_SYNC, SPAWN, app("total", 60)])
    hash_ = builder.stack([app("checksum", 70, first_line=69), library("hashing", "digest")])
    builder.add(slow, main, query, State.AWAITING, 100, 1000 * MS, 0)
    builder.add(slow, main, query, State.READY, 20, 200 * MS, 0)
    builder.add(slow, main, query, State.ON_CPU, 5, 60 * MS, 50 * MS)
    builder.add(slow, main, lazy, State.AWAITING, 30, 300 * MS, 0)
    builder.add(slow, main, nap, State.AWAITING, 5, 50 * MS, 0)
    builder.add(busy, main, burn, State.ON_CPU, 80, 900 * MS, 800 * MS)
    builder.add(worker, pool, hash_, State.BLOCKED, 10, 100 * MS, 40 * MS)
    builder.add(loop, main, -1, State.IDLE, 40, 400 * MS, 0)
    info = ProfileInfo(
        command="orders.py --requests 15",
        python="3.11.9",
        greenprof="0.1.0",
        started_at="2026-01-02T03:04:05+00:00",
        duration_ns=2 * SECOND,
        process_cpu_ns=900 * MS,
        rate_hz=100.0,
        ticks=198,
        missed_ticks=2,
        sampler_cpu_ns=9 * MS,
        pids=[4711],
        warnings=["another profiler took the greenlet tracer at 1.2 s; it was put back"],
    )
    return builder.build(info)


SLOW_TRACE, QUICK_TRACE, BUSY_TRACE = "5106" * 8, "9c1c" * 8, "b5b5" * 8
SLOW_SPAN, SLOW_AWAIT = SpanRef(SLOW_TRACE, "51" * 8), SpanRef(SLOW_TRACE, "a0" * 8)
QUICK_SPAN, BUSY_SPAN = SpanRef(QUICK_TRACE, "9c" * 8), SpanRef(BUSY_TRACE, "b5" * 8)


def traced_profile() -> Profile:
    """The orders service with three of its requests traced.

    One that waited long for two queries, one that waited a little, one that computed.
    """
    profile = orders_profile()
    builder = _builder_like(profile)
    keys = {}
    for sample in profile.samples:
        stack = builder.stack(profile.stack(sample.stack))
        key = sample.group, sample.thread, stack, sample.state
        builder.add(*key, sample.count, sample.wall_ns, sample.cpu_ns)
        leaf = profile.stack(sample.stack)[-1].name if sample.stack >= 0 else ""
        keys[leaf, sample.state, builder.stack(profile.stack(sample.stack)[:-1])] = key
    awaited = [key for (_, state, _), key in keys.items() if state is State.AWAITING]
    query, lazy, _ = sorted(awaited, key=lambda key: key[2])
    [busy] = [key for (leaf, _, _), key in keys.items() if leaf == "total"]
    [computed] = [
        key
        for (leaf, state, _), key in keys.items()
        if leaf == FETCH.name and state is State.ON_CPU
    ]
    builder.add_part(builder.span(SLOW_AWAIT), query, 60, 600 * MS)
    builder.add_part(builder.span(SLOW_SPAN), computed, 2, 30 * MS, 25 * MS)
    builder.add_part(builder.span(SLOW_SPAN), lazy, 20, 200 * MS)
    builder.add_part(builder.span(QUICK_SPAN), query, 3, 30 * MS)
    builder.add_part(builder.span(BUSY_SPAN), busy, 40, 450 * MS, 400 * MS)
    return builder.build(dataclasses.replace(profile.info, profile_id="f" * 32))


def accounted_profile() -> Profile:
    """The orders service with its awaits counted, a lazy load in a loop, a blocker and a timeline."""
    profile = orders_profile()
    builder = _builder_like(profile)
    for sample in profile.samples:
        stack = builder.stack(profile.stack(sample.stack))
        key = sample.group, sample.thread, stack, sample.state
        builder.add(*key, sample.count, sample.wall_ns, sample.cpu_ns)
    slow, busy, main = 0, 1, builder.thread("MainThread")
    query = builder.stack([app("get_order", 40), EXECUTE, SPAWN, SYNC_EXECUTE])
    lazy = builder.stack([app("get_order", 41), RUN_SYNC, SPAWN, REPO])
    burn = builder.stack([app("report", 50, first_line=48), RUN_SYNC, SPAWN, app("total", 60)])
    fetch = "asyncpg.connection.Connection.fetch"
    builder.add_await(awaits_of(slow, query, fetch, [90 * MS] * 11 + [250 * MS], errors=1))
    site = builder.add_await(awaits_of(slow, lazy, fetch, [MS + n * 1000 for n in range(240)]))
    builder.add_repeat(Repeat(site, 12, 240, 20, 268 * MS, 2000 * MS))
    builder.add_block(Block(busy, main, burn, 3, 800 * MS, 400 * MS, 7, "asyncio"))
    order = builder.track(Track("GET /orders/7", slow, main))
    report = builder.track(Track("GET /report", busy, main))
    builder.add_slice(Slice(order, SliceKind.RUN, 10 * MS, 5 * MS, query, "get_order"))
    builder.add_slice(Slice(order, SliceKind.AWAIT, 15 * MS, 90 * MS, query, fetch, flow=1))
    builder.add_slice(Slice(report, SliceKind.RUN, 20 * MS, 400 * MS, burn, "report"))
    builder.add_slice(Slice(report, SliceKind.BLOCK, 20 * MS, 400 * MS, burn, "total"))
    builder.add_slice(Slice(order, SliceKind.RUN, 420 * MS, 2 * MS, -1, "fetch", flow=1))
    return builder.build(
        dataclasses.replace(profile.info, block_limit_ns=100 * MS, repeat_min=10, lost_slices=3)
    )


def awaits_of(
    group: int, stack: int, awaited: str, times_ns: list[int], *, errors: int = 0
) -> AwaitStats:
    """The statistics of awaits that took these times."""
    stats = AwaitStats(
        group, stack, awaited, "sqlalchemy", len(times_ns), sum(times_ns), min(times_ns),
        max(times_ns), errors,
    )  # fmt: skip
    for time_ns in times_ns:
        bucket = bucket_of(time_ns)
        stats.durations[bucket] = stats.durations.get(bucket, 0) + 1
    return stats


def _builder_like(profile: Profile) -> ProfileBuilder:
    """A builder with the groups and threads of a profile, under the same numbers."""
    builder = ProfileBuilder()
    for group in profile.groups:
        builder.count_tasks(builder.group(group.name, group.kind), group.count)
    for name in profile.threads:
        builder.thread(name)
    return builder


# Names as hostile as a file can hold: controls, brackets of markup, lone surrogates.
names = st.one_of(
    st.sampled_from(
        ["main", "GET /orders", "[bold]x[/bold]", "a;b", "\x1b[2J", "\udce9", "x\ny", ""]
    ),
    st.text(st.characters(exclude_categories=()), max_size=8),
)
_counters = st.integers(0, 2**40)
_frames = st.builds(
    Frame,
    names,
    names,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.sampled_from(FrameKind),
    st.sampled_from(FrameOrigin),
    names,
    st.booleans(),
)
_infos = st.builds(
    ProfileInfo,
    command=names,
    python=names,
    greenprof=names,
    started_at=names,
    duration_ns=_counters,
    process_cpu_ns=_counters,
    rate_hz=st.floats(0, 10_000),
    ticks=_counters,
    missed_ticks=_counters,
    sampler_cpu_ns=_counters,
    overflow_samples=_counters,
    greenlet_switches=_counters,
    pids=st.lists(st.integers(1, 2**22), max_size=3),
    warnings=st.lists(names, max_size=6),
    profile_id=names,
    block_limit_ns=_counters,
    repeat_min=_counters,
    lost_awaits=_counters,
    lost_slices=_counters,
)
_spans = st.sampled_from(
    [SpanRef(trace * 32, span * 16) for trace, span in ("11", "12", "21", "a9", "ff")]
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Any profile that a builder can make."""
    builder = ProfileBuilder()
    frames = draw(st.lists(_frames, min_size=1, max_size=5))
    stacks = st.lists(st.sampled_from(frames), max_size=6)
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["asyncio", "greenlet", "thread"]))
        group = builder.group(draw(names), kind)
        builder.count_tasks(group, draw(st.integers(0, 3)))
        thread, stack = builder.thread(draw(names)), builder.stack(draw(stacks))
        key = group, thread, stack, draw(st.sampled_from(State))
        numbers = [draw(_counters) for _ in range(3)]
        builder.add(*key, *numbers)
        for span in draw(st.lists(_spans, max_size=3)):
            part = [draw(st.integers(0, number // 3)) for number in numbers]
            builder.add_part(builder.span(span), key, *part)
    if draw(st.booleans()):
        _draw_events(draw, builder, stacks)
    return builder.build(draw(_infos))


def _draw_events(
    draw: st.DrawFn, builder: ProfileBuilder, stacks: st.SearchStrategy[list[Frame]]
) -> None:
    """Some awaits, repeats, blocks, tracks and slices, that know nothing of each other."""

    def place() -> tuple[int, int, int]:
        stack = builder.stack(draw(stacks))
        return builder.group(draw(names), "asyncio"), builder.thread(draw(names)), stack

    for _ in range(draw(st.integers(0, 3))):
        group, _, stack = place()
        times = draw(st.lists(_counters, min_size=1, max_size=4))
        site = builder.add_await(awaits_of(group, stack, draw(names), times))
        if draw(st.booleans()):
            builder.add_repeat(Repeat(site, *(draw(st.integers(1, 2**40)) for _ in range(5))))
    for _ in range(draw(st.integers(0, 2))):
        worst, waiting = draw(_counters), draw(_counters)
        builder.add_block(Block(*place(), 1, worst, worst, waiting, draw(names)))
    for _ in range(draw(st.integers(0, 2))):
        group, thread, stack = place()
        track = builder.track(Track(draw(names), group, thread))
        for kind in draw(st.lists(st.sampled_from(SliceKind), max_size=3)):
            start_ns, length_ns, flow = (draw(_counters) for _ in range(3))
            builder.add_slice(Slice(track, kind, start_ns, length_ns, stack, draw(names), flow))
