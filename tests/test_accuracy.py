"""Profiles of programs that know their own truth: everything under its route, and as much as there was.

Short runs, all routes of a kind of work added up: what is left between profile and truth is then mostly the
statistics of sampling, for which each limit leaves room. docs/accuracy.md has longer runs, by route.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from greenprof.profiles import Frame, Profile, ProfileBuilder, ProfileInfo, State
from tests.accuracy import Row, Work, by_kind, compare, format_rows, run_profiled
from tests.postgres import Postgres

SECONDS = 5.0
RIGHT_SHARE = 0.98
# The promise, in profiles of several seconds: seen and true differ by this much at most.
LIMITS = {100.0: 0.10, 1000.0: 0.05}
# Standard errors on top of it: a suite that runs hundreds of comparisons may not fail by chance.
SAMPLING_ERRORS = 3

# Threads other than the main one are looked at when they let go of the GIL: some of what they burned just
# before is put down to the call that did so, and while they hold the GIL a thread that comes back from a
# blocking call does not get on (docs/accuracy.md).
BESIDE_BUSY_THREADS = {
    "CPU in executor threads": 0.40,
    "time.sleep in the loop's thread": 0.40,
    "CPU in the loop's thread": 0.25,
}

rates = pytest.mark.parametrize("rate_hz", LIMITS, ids=lambda rate_hz: f"{rate_hz:g}Hz")


def assert_accurate(
    profile: Profile, works: list[Work], rate_hz: float, limits: Mapping[str, float] | None = None
) -> None:
    """`limits` are those of kinds that have one of their own."""
    rows = compare(profile, works)
    kinds = by_kind(rows)
    table = format_rows([*kinds, *rows])
    for row in kinds:
        limit = (limits or {}).get(row.kind, LIMITS[rate_hz])
        allowed = limit + SAMPLING_ERRORS * row.sampling_error(rate_hz)
        assert abs(row.ratio - 1) <= allowed, f"{row.kind}: more than {allowed:.1%} off\n{table}"
        assert row.right_share >= RIGHT_SHARE, f"{row.kind}: under the wrong route\n{table}"


def assert_all_cpu_accounted(profile: Profile, rate_hz: float) -> None:
    """CPU time sums to the process's, whatever it was spent on; part of that is the sampler's own."""
    attributed_ns = sum(sample.cpu_ns for sample in profile.samples)
    info = profile.info
    row = Row("all CPU", "all", "cpu", info.process_cpu_ns, attributed_ns, attributed_ns)
    allowed = LIMITS[rate_hz] + SAMPLING_ERRORS * row.sampling_error(rate_hz)
    sampler_share = info.sampler_cpu_ns / info.process_cpu_ns
    assert 1 - allowed - sampler_share <= row.ratio <= 1 + allowed, format_rows([row])


@rates
@pytest.mark.accuracy
def test_sqlalchemy_on_postgresql(tmp_path: Path, postgres: Postgres, rate_hz: float) -> None:
    url = postgres.url("asyncpg")
    profile, works = run_profiled(
        "sqlalchemy_routes", tmp_path, "--url", url, rate_hz=rate_hz, seconds=SECONDS
    )
    assert_accurate(profile, works, rate_hz)
    assert_all_cpu_accounted(profile, rate_hz)


@pytest.mark.accuracy
def test_sqlalchemy_by_psycopg(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.url("psycopg")
    profile, works = run_profiled(
        "sqlalchemy_routes", tmp_path, "--url", url, rate_hz=1000, seconds=SECONDS
    )
    assert_accurate(profile, works, 1000)


@rates
@pytest.mark.accuracy
def test_greenback(tmp_path: Path, rate_hz: float) -> None:
    profile, works = run_profiled("greenback_routes", tmp_path, rate_hz=rate_hz, seconds=SECONDS)
    assert_accurate(profile, works, rate_hz)


@rates
@pytest.mark.accuracy
def test_gevent(tmp_path: Path, rate_hz: float) -> None:
    profile, works = run_profiled("gevent_routes", tmp_path, rate_hz=rate_hz, seconds=SECONDS)
    assert_accurate(profile, works, rate_hz)


@pytest.mark.accuracy
def test_gevent_that_patched_the_standard_library(tmp_path: Path) -> None:
    profile, works = run_profiled(
        "gevent_routes", tmp_path, "--patched", rate_hz=1000, seconds=SECONDS
    )
    assert_accurate(profile, works, 1000)


@rates
@pytest.mark.accuracy
def test_tiny_socket_writes_do_not_draw_the_cpu_time(tmp_path: Path, rate_hz: float) -> None:
    profile, works = run_profiled("socket_writes", tmp_path, rate_hz=rate_hz, seconds=SECONDS)
    [burn] = compare(profile, [work for work in works if work.clock == "cpu"])
    assert abs(burn.ratio - 1) <= 0.10, format_rows([burn])
    assert burn.right_share >= RIGHT_SHARE, format_rows([burn])


@rates
@pytest.mark.accuracy
def test_calls_that_block_the_loop(tmp_path: Path, rate_hz: float) -> None:
    profile, works = run_profiled(
        "executor_threads", tmp_path, "--alone", rate_hz=rate_hz, seconds=SECONDS
    )
    assert_accurate(profile, works, rate_hz)


@pytest.mark.accuracy
def test_executor_threads_that_hold_the_interpreter_lock(tmp_path: Path) -> None:
    profile, works = run_profiled("executor_threads", tmp_path, rate_hz=100, seconds=SECONDS)
    assert_accurate(profile, works, 100, BESIDE_BUSY_THREADS)


@rates
@pytest.mark.accuracy
def test_what_a_hog_keeps_waiting_is_ready_not_awaiting(tmp_path: Path, rate_hz: float) -> None:
    profile, works = run_profiled("loop_hog", tmp_path, rate_hz=rate_hz, seconds=SECONDS)
    assert_accurate(profile, works, rate_hz)


def built(*stacks: tuple[tuple[str, ...], State, int, int]) -> Profile:
    builder = ProfileBuilder()
    group, thread = builder.group("task", "asyncio"), builder.thread("MainThread")
    for names, state, wall_ns, cpu_ns in stacks:
        node = builder.stack([Frame(name, "app.py") for name in names])
        builder.add(group, thread, node, state, 1, wall_ns, cpu_ns)
    return builder.build(ProfileInfo())


def test_the_comparison_tells_right_orphaned_and_misplaced_work_apart() -> None:
    def work(route: str) -> Work:
        chain = (f"endpoint_{route}", f"service_{route}")
        return Work("CPU", route, f"burn_{route}", chain, "cpu", 1, 100)

    profile = built(
        (("run", "endpoint_a", "service_a", "spawn", "burn_a", "step"), State.ON_CPU, 0, 60),
        (("burn_a",), State.ON_CPU, 0, 20),
        (("endpoint_a", "burn_a"), State.ON_CPU, 0, 5),
        (("endpoint_b", "service_b", "burn_a"), State.ON_CPU, 0, 10),
        (("endpoint_b", "service_b", "burn_b"), State.AWAITING, 70, 0),
    )
    a, b = compare(profile, [work("a"), work("b")])
    assert (a.seen_ns, a.right_ns) == (95, 60)
    assert (b.seen_ns, b.right_ns) == (0, 0)
    [both] = by_kind([a, b])
    assert (both.truth_ns, both.seen_ns, both.right_ns) == (200, 95, 60)


def test_the_comparison_counts_the_clock_that_the_truth_names() -> None:
    profile = built(
        (("endpoint_a", "nap_a"), State.AWAITING, 30, 0),
        (("endpoint_a", "nap_a"), State.READY, 50, 0),
        (("endpoint_a", "nap_a"), State.ON_CPU, 2, 2),
    )
    seen = {
        clock: compare(profile, [Work("nap", "a", "nap_a", ("endpoint_a",), clock, 1, 82)])[
            0
        ].seen_ns
        for clock in ("wall", "awaiting", "ready", "blocked", "cpu")
    }
    assert seen == {"wall": 82, "awaiting": 30, "ready": 50, "blocked": 0, "cpu": 2}
