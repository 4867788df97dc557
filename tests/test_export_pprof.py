"""pprof's format, read back by Google's protobuf library, and by Go's pprof where its answer is kept."""

from __future__ import annotations

import dataclasses
import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given

from greenprof import analysis
from greenprof.exporters import find_exporter, pprof
from greenprof.profiles import (
    Frame,
    FrameKind,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    State,
)
from tests.pprof_reading import MESSAGE, Line, Read, Sample, read
from tests.profiles import (
    BUSY_TRACE,
    MS,
    QUICK_TRACE,
    SECOND,
    SLOW_TRACE,
    app,
    library,
    orders_profile,
    profiles,
    traced_profile,
)

GO = Path(__file__).parent / "data" / "traced-by-go.pb.gz"


def exported(profile: Profile, clock: str = "wall") -> Read:
    return read(pprof.render(profile, clock=clock))


def found(whole: Read, *functions: str) -> list[Sample]:
    """The samples of a stack that is given by the names of its functions."""
    return [
        one for one in whole.samples if [line.system_name for line in one.stack] == [*functions]
    ]


def test_both_clocks_are_sample_types() -> None:
    whole = exported(orders_profile())
    assert whole.types == [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
        ("wall", "nanoseconds"),
        ("await", "nanoseconds"),
    ]
    # The idle loop's 40 observations of 400 ms are left out.
    assert whole.sums() == {
        "samples": 250,
        "cpu": 890 * MS,
        "wall": 2500 * MS,
        "await": 1550 * MS,
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out.pb.gz", "pprof"),
        ("out.pprof", "pprof"),
        ("out.pstats", "pstats"),
        ("out.prof", "pstats"),
        ("out.callgrind", "callgrind"),
    ],
)
def test_found_by_suffix(path: str, name: str) -> None:
    assert find_exporter(path).name == name


@pytest.mark.parametrize("clock", analysis.CLOCKS)
def test_the_clock_is_what_is_shown_first(clock: str) -> None:
    assert exported(orders_profile(), clock).default_type == clock


def test_what_is_known_of_the_session_is_there() -> None:
    whole = exported(orders_profile())
    assert whole.time_ns == 1_767_323_045 * SECOND
    assert whole.duration_ns == 2 * SECOND
    assert whole.period == ("wall", "nanoseconds", 10 * MS)
    assert whole.comments == [
        "greenprof 0.1.0",
        "command: orders.py --requests 15",
        "Python 3.11.9",
        "warning: another profiler took the greenlet tracer at 1.2 s; it was put back",
    ]
    assert whole.mappings[0] == "orders.py --requests 15"


def test_a_stack_is_one_across_boundaries() -> None:
    whole = exported(orders_profile())
    names = "report", "AsyncSession.run_sync", "greenlet_spawn", "total"
    (sample,) = found(whole, *names)
    assert sample.values == (80, 800 * MS, 800 * MS, 0)
    assert sample.stack[0] == Line(
        "orders.api.report", "report", "/srv/orders/api.py", 50, 48, "orders"
    )
    assert [line.mapping for line in sample.stack] == [
        "orders",
        "sqlalchemy",
        "[greenlet boundary]",
        "orders",
    ]
    assert sample.labels == {
        ("task", "GET /report"),
        ("task_kind", "asyncio"),
        ("state", "on-cpu"),
        ("thread", "MainThread"),
        ("boundaries", 1),
    }


def test_states_of_one_stack_are_told_apart_by_their_label() -> None:
    whole = exported(orders_profile())
    query = "get_order", "AsyncSession.execute", "greenlet_spawn", "Session.execute", "await_"
    values = {one.label("state"): one.values for one in found(whole, *query, "Connection.fetch")}
    assert values == {
        "on-cpu": (5, 50 * MS, 50 * MS, 0),
        "awaiting": (100, 0, 1000 * MS, 1000 * MS),
        "ready": (20, 0, 200 * MS, 200 * MS),
    }
    (blocked,) = found(whole, "checksum", "digest")
    assert blocked.label("state") == "blocked"
    assert blocked.values == (10, 40 * MS, 100 * MS, 0)


def test_a_sample_is_split_by_trace() -> None:
    whole = exported(traced_profile())
    assert whole.sums() == exported(orders_profile()).sums()
    by_trace: Counter[tuple[str | int | None, str | int | None]] = Counter()
    for sample in whole.samples:
        by_trace[sample.label("trace_id"), sample.label("state")] += sample.values[0]
    assert by_trace == {
        (SLOW_TRACE, "awaiting"): 80,
        (SLOW_TRACE, "on-cpu"): 2,
        (QUICK_TRACE, "awaiting"): 3,
        (BUSY_TRACE, "on-cpu"): 40,
        (None, "awaiting"): 135 - 83,
        (None, "ready"): 20,
        (None, "on-cpu"): 85 - 42,
        (None, "blocked"): 10,
    }


def test_boundaries_are_counted_in_both_directions() -> None:
    builder = ProfileBuilder()
    spawn = library("bridge", "spawn", kind=FrameKind.BOUNDARY)
    await_ = library("bridge", "await_", kind=FrameKind.BOUNDARY)
    inner = library("bridge", "trampoline", kind=FrameKind.BOUNDARY)
    sync = dataclasses.replace(app("sync", 7), crosses=True)
    raw = dataclasses.replace(app("raw", 8), crosses=True)
    awaited = app("fetch", 9, kind=FrameKind.AWAITED)
    stacks = {
        0: [app("main", 1)],
        1: [app("main", 1), spawn, inner, sync],
        2: [app("main", 1), spawn, sync, await_, awaited],
        3: [app("main", 1), spawn, sync, await_, awaited, raw],
    }
    group, thread = builder.group("task", "asyncio"), builder.thread("t")
    for number, stack in stacks.items():
        builder.add(group, thread, builder.stack(stack), State.ON_CPU, number + 10, MS, MS)
    whole = exported(builder.build(ProfileInfo()))
    numbers = {one.values[0] - 10: one.label("boundaries") or 0 for one in whole.samples}
    assert numbers == {0: 0, 1: 1, 2: 2, 3: 3}


def test_an_exact_profile_counts_calls_and_has_no_period() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("t")
    stack = builder.stack([app("main", 1), app("called", 5, first_line=5)])
    builder.add(group, thread, stack, State.ON_CPU, 1234, 0, 0)
    info = ProfileInfo(engine="exact", clock="cpu", rate_hz=0)
    whole = exported(builder.build(info))
    assert whole.types[0] == ("calls", "count")
    assert [one.values for one in whole.samples] == [(1234, 0, 0, 0)]
    assert whole.period == ("", "", 0)
    assert "exact engine, cpu clock" in whole.comments


def test_what_has_no_stack_is_shown_as_that() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("t")
    builder.add(group, thread, -1, State.BLOCKED, 1, MS, 0)
    whole = exported(builder.build(ProfileInfo()))
    assert [line.function for line in whole.samples[0].stack] == ["[no stack]"]


def test_a_frame_without_a_line_has_its_functions() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("t")
    builder.add(group, thread, builder.stack([app("f", 0, first_line=12)]), State.ON_CPU, 1, 1, 1)
    assert exported(builder.build(ProfileInfo())).samples[0].stack[0].line == 12


@pytest.mark.parametrize(
    ("started_at", "time_ns"),
    [
        ("", 0),
        ("yesterday", 0),
        ("1969-12-31T23:59:59+00:00", 0),
        ("1970-01-01T00:00:01", SECOND),
        ("1970-01-01T02:00:00.000001+02:00", 1000),
    ],
)
def test_odd_times_of_the_start(started_at: str, time_ns: int) -> None:
    assert exported(Profile(ProfileInfo(started_at=started_at))).time_ns == time_ns


@pytest.mark.parametrize("rate_hz", [0.0, 5e-324, 1e300, float("inf"), float("nan")])
def test_odd_rates_are_no_period(rate_hz: float) -> None:
    assert exported(Profile(ProfileInfo(rate_hz=rate_hz))).period == ("", "", 0)


def test_numbers_that_the_format_cannot_hold_are_cut() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("t")
    builder.add(group, thread, builder.stack([app("f", 1)]), State.ON_CPU, 2**70, 2**64, 2**63 - 1)
    assert exported(builder.build(ProfileInfo())).samples[0].values[:2] == (2**63 - 1, 2**63 - 1)


def test_hostile_names_stay_text() -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("GET /\x1b[2J", "asyncio"), builder.thread("\udce9")
    frame = Frame("f\nfn=x", "/tmp/\u2028.py", 3, module="")
    builder.add(group, thread, builder.stack([frame]), State.ON_CPU, 1, MS, MS)
    (sample,) = exported(builder.build(ProfileInfo(command="a\x00b"))).samples
    assert sample.stack[0].function == "f\\nfn=x"
    assert sample.stack[0].file == "/tmp/\\u2028.py"
    assert sample.label("task") == "GET /\\x1b[2J"
    assert sample.label("thread") == "\\udce9"


def test_equal_profiles_are_equal_bytes() -> None:
    once = pprof.render(traced_profile())
    assert pprof.render(traced_profile()) == once
    # gzip's header would tell the time.
    assert once[4:8] == bytes(4)


def test_our_bytes_are_those_of_googles_library() -> None:
    """Field by field in the same order and encoding, so nothing is there that a reader has to put up with."""
    data = gzip.decompress(pprof.render(traced_profile()))
    assert MESSAGE.FromString(data).SerializeToString(deterministic=True) == data


def test_go_pprof_read_the_same() -> None:
    """`traced-by-go.pb.gz` is what Go's pprof wrote after reading our file (tests/data/README.md)."""
    ours, gos = exported(traced_profile()), read(GO.read_bytes())
    assert Counter(gos.samples) == Counter(ours.samples)
    for name in ("types", "comments", "default_type", "period", "time_ns", "duration_ns"):
        assert getattr(gos, name) == getattr(ours, name)


@given(profiles())
def test_any_profile_is_valid_and_adds_up(profile: Profile) -> None:
    whole = exported(profile)
    totals = {
        clock: sum(
            weighed.weight_ns
            for weighed in analysis.weighted_stacks(profile, clock=clock)
            if weighed.label != "[idle]"
        )
        for clock in analysis.CLOCKS
    }
    sums = whole.sums()
    assert {clock: sums[clock] for clock in totals} == totals
    for sample in whole.samples:
        assert sample.stack
        texts = [text for line in sample.stack for text in (line.function, line.file)]
        assert all(text.isprintable() for text in texts)


@given(profiles())
def test_any_split_by_trace_is_what_the_spans_say(profile: Profile) -> None:
    seen: Counter[str | int | None] = Counter()
    for sample in exported(profile).samples:
        seen[sample.label("trace_id")] += sample.values[1]
    for row in analysis.trace_table(profile):
        assert seen[row.trace_id] == sum(part.cpu_ns for part in row.parts.values())
