"""Timelines in the Trace Event Format: rows, slices that nest, arrows, blockers; icicles."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greenprof import analysis
from greenprof.exporters import find_exporter
from greenprof.profiles import (
    Frame,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    Slice,
    SliceKind,
    State,
    Track,
)
from tests import trace_format
from tests.profiles import (
    AWAIT,
    EXECUTE,
    FETCH,
    MS,
    SPAWN,
    SYNC_EXECUTE,
    accounted_profile,
    app,
    names,
    orders_profile,
    profiles,
)
from tests.trace_format import Trace

RUN, AWAITS, BLOCK = SliceKind.RUN, SliceKind.AWAIT, SliceKind.BLOCK


def exported(profile: Profile, clock: str = "wall") -> Trace:
    text = find_exporter("x.trace.json").render(profile, clock=clock)
    assert isinstance(text, str)
    text.encode("utf-8")
    return trace_format.read(text)


def timeline(*slices: tuple[SliceKind, int, int, int, str], stack: tuple[Frame, ...] = ()) -> Trace:
    """A task's slices: kind, start, duration, flow, name."""
    builder = ProfileBuilder()
    track = builder.track(
        Track("Task-7", builder.group("GET /", "asyncio"), builder.thread("Main"))
    )
    node = builder.stack(stack)
    for kind, start_ns, duration_ns, flow, name in slices:
        builder.add_slice(Slice(track, kind, start_ns, duration_ns, node, name, flow))
    return exported(builder.build(ProfileInfo()))


def spans_of(trace: Trace, row: str = "GET / (Task-7)") -> list[tuple[str, int, int, int]]:
    return [(one.name, one.start_ns, one.end_ns, one.depth) for one in trace.named(row)]


def test_rows_slices_and_blockers_of_a_timeline() -> None:
    trace = exported(accounted_profile())
    assert trace.processes == ["MainThread"]
    assert list(trace.rows.values()) == [
        "loop blockers",
        "GET /orders/{} (GET /orders/7)",
        "GET /report",
    ]
    [blocker] = trace.named("loop blockers")
    assert (blocker.name, blocker.category) == ("total blocks for 400 ms", "block")
    assert blocker.args["task"] == "GET /report"
    assert blocker.args["line"] == "total /srv/orders/api.py:60"
    assert trace.marks == [("GET /report", "blocks the loop", 20 * MS)]
    [blocking] = trace.named("GET /report")
    assert (blocking.name, blocking.colour) == ("report", "terrible")
    assert spans_of(trace, "GET /orders/{} (GET /orders/7)") == [
        ("get_order", 10 * MS, 15 * MS, 0),
        ("await asyncpg.connection.Connection.fetch", 15 * MS, 105 * MS, 0),
        ("fetch", 420 * MS, 422 * MS, 0),
    ]
    assert [(one.name, other.name) for one, other in trace.arrows] == [
        ("await asyncpg.connection.Connection.fetch", "fetch")
    ]
    assert trace.document["otherData"]["shows"] == "timeline"
    assert trace.document["otherData"]["lost_slices"] == "3"


def test_the_line_of_an_await_is_the_applications_and_its_callers_are_named() -> None:
    stack = (app("get_order", 40), EXECUTE, SPAWN, SYNC_EXECUTE)
    [one] = timeline((AWAITS, 0, MS, 0, "fetch"), stack=stack).slices
    assert one.args["line"] == "get_order /srv/orders/api.py:40"
    assert one.args["stack"] == "get_order (api.py:40) > | Session.execute (session.py:100)"


def test_a_deep_stack_is_told_by_its_innermost_functions() -> None:
    stack = tuple(app(f"f{number}", number) for number in range(1, 300))
    [one] = timeline((AWAITS, 0, MS, 0, "fetch"), stack=stack).slices
    assert one.args["stack"].startswith("... > f292 ")
    assert one.args["stack"].endswith("> f299 (api.py:299)")


def test_what_ran_for_an_await_is_within_it_and_an_arrow_leads_there() -> None:
    trace = timeline(
        (RUN, 0, 10, 0, "GET /"),
        (AWAITS, 10, 90, 1, "fetch"),
        (RUN, 10, 5, 1, "fetch"),
        (RUN, 80, 20, 1, "fetch"),
        (RUN, 100, 7, 0, "GET /"),
    )
    assert spans_of(trace) == [
        ("GET /", 0, 10, 0),
        ("await fetch", 10, 100, 0),
        # A little later, so that the arrow's beginning is on the await alone.
        ("fetch", 12, 15, 1),
        ("fetch", 80, 100, 1),
        ("GET /", 100, 107, 0),
    ]
    [(start, end)] = trace.arrows
    assert (start.name, start.start_ns) == ("await fetch", 10)
    assert (end.name, end.start_ns) == ("fetch", 12)


def test_an_arrow_leads_to_each_task_that_ran_for_an_await() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("Main")
    one, two, three = (builder.track(Track(f"{n}", group, thread)) for n in range(3))
    builder.add_slice(Slice(one, AWAITS, 0, 100, -1, "gather", 5))
    for track in (two, three):
        builder.add_slice(Slice(track, RUN, 20, 10, -1, "child", 5))
        builder.add_slice(Slice(track, RUN, 50, 10, -1, "child", 5))
    trace = exported(builder.build(ProfileInfo()))
    assert [(start.name, end.row, end.start_ns) for start, end in trace.arrows] == [
        ("await gather", "task (1)", 20),
        ("await gather", "task (2)", 20),
    ]


def test_slices_that_overlap_get_rows_of_their_own() -> None:
    trace = timeline((AWAITS, 0, 100, 0, "a"), (AWAITS, 50, 100, 0, "b"), (RUN, 60, 10, 0, "c"))
    assert list(trace.rows.values()) == ["GET / (Task-7)"] * 2
    assert sorted(spans_of(trace)) == [
        ("await a", 0, 100, 0),
        ("await b", 50, 150, 0),
        ("c", 60, 70, 1),
    ]


def test_rows_are_bounded_where_a_file_makes_everything_overlap() -> None:
    trace = timeline(*((AWAITS, n, 1000, 0, "a") for n in range(300)))
    assert len(trace.rows) == 16
    assert len(trace.slices) == 300


def test_a_blocker_that_an_await_begins_in_the_middle_of_is_whole() -> None:
    trace = timeline(
        (RUN, 0, 400 * MS, 0, "GET /"),
        (AWAITS, 400 * MS, MS, 0, "f"),
        (BLOCK, 0, 401 * MS, 0, "burn"),
    )
    [blocker] = trace.named("loop blockers")
    assert blocker.end_ns == 401 * MS
    assert blocker.name == "burn blocks for 401 ms"


def test_nanoseconds_are_exact_up_to_days_and_nest_beyond() -> None:
    day = 86_400 * 10**9
    trace = timeline(
        (AWAITS, 3 * day + 123_457, 1_003, 0, "a"), (RUN, 3 * day + 123_458, 1, 0, "b")
    )
    assert [one.start_ns - 3 * day for one in trace.slices] == [123_457, 123_458]
    far = 2**62 + 1
    trace = timeline((AWAITS, far, 10**6 + 1, 0, "a"), (RUN, far + 5_000, 1, 0, "b"))
    assert [one.depth for one in trace.slices] == [0, 1]


def test_threads_and_tasks_come_in_the_order_of_their_beginnings() -> None:
    builder = ProfileBuilder()
    group = builder.group("task", "asyncio")
    for thread, name, start_ns in (("B", "late", 90), ("A", "second", 20), ("B", "first", 10)):
        track = builder.track(Track(name, group, builder.thread(thread)))
        builder.add_slice(Slice(track, RUN, start_ns, 5, -1, "x"))
    trace = exported(builder.build(ProfileInfo()))
    assert trace.processes == ["B", "A"]
    assert list(trace.rows.values()) == ["task (first)", "task (late)", "task (second)"]


def test_a_profile_without_a_timeline_is_an_icicle_that_says_so() -> None:
    profile = orders_profile()
    for clock in analysis.CLOCKS:
        trace = exported(profile, clock)
        assert all("not a timeline" in name for name in trace.processes)
        shows = trace.document["otherData"]["shows"]
        assert f"{clock} clock; not a timeline: " in shows
        drawn: dict[str, int] = {}
        for one in trace.slices:
            if one.depth == 0:
                drawn[one.row] = drawn.get(one.row, 0) + one.end_ns - one.start_ns
        weights: dict[str, int] = {}
        for group, _, _, _, weight_ns in analysis.weighted_stacks(profile, clock=clock):
            name = profile.groups[group].name
            weights[name] = weights.get(name, 0) + weight_ns
        assert drawn == weights


def test_an_icicle_lies_left_heavy_and_adds_up_to_functions() -> None:
    trace = exported(orders_profile(), "wall")
    rows = [row for row in trace.rows.values() if row == "GET /orders/{}"]
    assert rows == ["GET /orders/{}"]
    get_order = trace.named("GET /orders/{}")[0]
    assert (get_order.name, get_order.end_ns - get_order.start_ns) == ("get_order", 1600 * MS)
    below = [one.name for one in trace.named("GET /orders/{}") if one.depth == 1]
    assert below == ["AsyncSession.execute", "AsyncSession.run_sync", "sleep"]


def test_an_icicle_is_not_deeper_than_readers_draw() -> None:
    builder = ProfileBuilder()
    stack = builder.stack(app(f"f{number}", number) for number in range(2000))
    builder.add(builder.group("g", "thread"), builder.thread("t"), stack, State.AWAITING, 1, MS, 0)
    trace = exported(builder.build(ProfileInfo()))
    assert max(one.depth for one in trace.slices) < 512
    assert trace.slices[-1].name == "[await]"


def test_an_empty_profile_is_an_empty_file() -> None:
    trace = exported(Profile())
    assert not trace.slices
    assert not trace.rows


@given(profiles())
def test_any_profile_makes_a_file_that_keeps_to_the_format(profile: Profile) -> None:
    trace = exported(profile)
    kinds = {one.category for one in trace.slices}
    assert kinds <= ({"run", "await", "block"} if profile.slices else {"icicle"})
    drawn = sum(one.category in ("run", "await") for one in trace.slices)
    assert drawn == sum(one.kind is not BLOCK for one in profile.slices)
    blockers = sum(one.category == "block" for one in trace.slices)
    assert blockers == len(trace.marks) == sum(one.kind is BLOCK for one in profile.slices)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SliceKind),
            st.integers(0, 60),
            st.integers(0, 60),
            st.integers(0, 4),
            names,
        ),
        max_size=30,
    )
)
def test_any_slices_nest(slices: list[Any]) -> None:
    stack = (Frame("\x1b]0;x\x07", "a\nb.py", 1, origin=FrameOrigin.APP), AWAIT, FETCH)
    trace = timeline(*slices, stack=stack)
    shown = [one for one in trace.slices if one.category != "block"]
    assert len(shown) == sum(kind is not BLOCK for kind, *_ in slices)
