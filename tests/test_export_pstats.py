"""cProfile's format, read back by pstats, snakeviz and gprof2dot, and held against cProfile itself."""

from __future__ import annotations

import cProfile
import importlib
import io
import itertools
import pstats as python_pstats
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from hypothesis import given

from greenprof import analysis
from greenprof.exporters import pstats
from greenprof.model import Sample
from greenprof.profiles import Frame, Profile, ProfileBuilder, ProfileInfo, State
from greenprof.sites import waited_ns
from tests.profiles import MS, SECOND, app, orders_profile, profiles

# They ship no types.
snakeviz: Any = importlib.import_module("snakeviz.stats")
gprof2dot: Any = importlib.import_module("gprof2dot")

Key = tuple[str, int, str]
Stats = dict[Key, tuple[int, int, float, float, dict[Key, tuple[int, int, float, float]]]]


def loaded(profile: Profile, folder: Path, clock: str = "wall") -> python_pstats.Stats:
    file = folder / "out.pstats"
    file.write_bytes(pstats.render(profile, clock=clock))
    return python_pstats.Stats(str(file), stream=io.StringIO())


def table(stats: python_pstats.Stats) -> Stats:
    found: Stats = vars(stats)["stats"]
    return found


def exact(calls: Counter[tuple[Key, ...]], times: Callable[[int], int]) -> Profile:
    """What the exact engine would give for calls counted by their stack; `times` by their number."""
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("MainThread")
    builder.count_tasks(group)
    for number, (stack, count) in enumerate(calls.items()):
        frames = [Frame(name, path, line, line) for path, line, name in stack]
        own_ns = times(number)
        builder.add(group, thread, builder.stack(frames), State.ON_CPU, count, own_ns, own_ns)
    return builder.build(ProfileInfo(engine="exact", clock="cpu", command="work.py"))


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def ackermann(m: int, n: int) -> int:
    if m == 0:
        return n + 1
    return ackermann(m - 1, 1 if n == 0 else ackermann(m, n - 1))


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def both(n: int) -> int:
    return fib(n) + even(n) + sum(each(n))


def each(n: int) -> list[int]:
    def less(x: int) -> int:
        return both(x - 1) if x > 1 else 0

    return [less(x) for x in range(n)]


def work() -> None:
    fib(9)
    ackermann(2, 3)
    even(6)
    odd(5)
    both(4)


def counted(function: Callable[[], None]) -> Counter[tuple[Key, ...]]:
    """How often each stack below a function, and the function, was called."""
    calls: Counter[tuple[Key, ...]] = Counter()
    stack: list[Key] = []

    def label(code: CodeType) -> Key:
        return code.co_filename, code.co_firstlineno, code.co_name

    def hook(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            stack.append(label(frame.f_code))
            calls[tuple(stack)] += 1
        elif event == "return" and stack:
            stack.pop()

    before = sys.getprofile()
    sys.setprofile(hook)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def test_recursion_is_counted_as_cprofile_counts_it(tmp_path: Path) -> None:
    own = table(loaded(exact(counted(work), lambda number: number), tmp_path))
    profiler = cProfile.Profile(builtins=False)
    profiler.runcall(work)
    truth = table(python_pstats.Stats(profiler))
    assert len(truth) >= 8
    for key, (primitive, calls, _, _, callers) in truth.items():
        if key[0] == "~" and sys.version_info >= (3, 14):
            continue  # C functions, which were not asked for: cProfile has them all the same there
        assert own[key][:2] == (primitive, calls), key
        if key[2] != "work":
            seen = {by: numbers[:2] for by, numbers in own[key][4].items()}
            assert seen == {by: numbers[:2] for by, numbers in callers.items()}, key


def test_cumulative_times_of_recursion_are_what_the_stacks_say(tmp_path: Path) -> None:
    """Each stack's time counts once for each function and each edge that is in it."""
    profile = exact(counted(work), lambda number: 1000 + number**3)
    functions: Counter[Key] = Counter()
    edges: Counter[tuple[Key, Key]] = Counter()
    for sample in profile.samples:
        stack = [(one.path, one.first_line, one.name) for one in profile.stack(sample.stack)]
        functions.update(dict.fromkeys(stack, sample.cpu_ns))
        edges.update(dict.fromkeys(itertools.pairwise(stack), sample.cpu_ns))
    own = table(loaded(profile, tmp_path))
    for key, total_ns in functions.items():
        assert own[key][3] == pytest.approx(total_ns / SECOND)
    for (caller, callee), total_ns in edges.items():
        assert own[callee][4][caller][3] == pytest.approx(total_ns / SECOND)
    real = [key for key in own if key[0] != "~"]
    assert sorted(real) == sorted(functions)
    assert sum(len([by for by in own[key][4] if by[0] != "~"]) for key in real) == len(edges)


def test_edges_go_across_boundaries(tmp_path: Path) -> None:
    stats = table(loaded(orders_profile(), tmp_path))
    names = {key[2]: key for key in stats}
    report, total = stats[names["report"]], stats[names["total"]]
    assert total[:4] == pytest.approx((80, 80, 0.8, 0.8))
    assert report[:4] == pytest.approx((80, 80, 0, 0.8))
    assert names["report"] == ("/srv/orders/api.py", 48, "report")
    assert set(total[4]) == {names["greenlet_spawn"]}
    assert total[4][names["greenlet_spawn"]] == pytest.approx((80, 80, 0.8, 0.8))
    assert set(stats[names["Connection.fetch"]][4]) == {names["await_"]}
    spawned_by = stats[names["greenlet_spawn"]][4]
    assert set(spawned_by) == {names["AsyncSession.execute"], names["AsyncSession.run_sync"]}
    assert spawned_by[names["AsyncSession.execute"]][3] == pytest.approx(1.25)


def test_the_program_calls_the_task_groups(tmp_path: Path) -> None:
    stats = table(loaded(orders_profile(), tmp_path))
    roots = [key for key, numbers in stats.items() if not numbers[4]]
    program = ("~", 0, "<orders.py --requests 15: wall clock, calls are samples>")
    assert roots == [program]
    assert stats[program][:4] == pytest.approx((1, 1, 0, 2.5))
    groups = {key[2]: numbers for key, numbers in stats.items() if program in numbers[4]}
    # The main thread's loop was idle alone.
    assert {name: (numbers[1], round(numbers[3], 6)) for name, numbers in groups.items()} == {
        "<GET /orders/{}>": (12, 1.6),
        "<GET /report>": (3, 0.8),
        "<ThreadPoolExecutor-0_0 (thread)>": (1, 0.1),
    }


@pytest.mark.parametrize(
    ("clock", "total", "names"),
    [
        ("wall", 2.5, {"fetch", "sleep", "total", "digest"}),
        ("cpu", 0.89, {"fetch", "total", "digest"}),
        ("await", 1.55, {"fetch", "sleep"}),
    ],
)
def test_only_what_the_clock_counts(
    clock: str, total: float, names: set[str], tmp_path: Path
) -> None:
    stats = loaded(orders_profile(), tmp_path, clock)
    assert vars(stats)["total_tt"] == pytest.approx(total)
    own = {key[2].rpartition(".")[2] for key, numbers in table(stats).items() if numbers[2]}
    assert own == names


def test_calls_without_time_are_there(tmp_path: Path) -> None:
    """Under a function that itself was never called: it began before the profiler did."""
    builder = ProfileBuilder()
    group, thread = builder.group("work", "thread"), builder.thread("t")
    stack = builder.stack([app("began_before", 1), app("quick", 5, first_line=5)])
    builder.add(group, thread, stack, State.ON_CPU, 7, 0, 0)
    profile = builder.build(ProfileInfo(engine="exact"))
    for clock in analysis.CLOCKS:
        calls = {
            key[2]: numbers[1] for key, numbers in table(loaded(profile, tmp_path, clock)).items()
        }
        assert calls["quick"] == 7
        assert calls["began_before"] == 0


def test_the_exact_engines_waits_are_no_calls(tmp_path: Path) -> None:
    builder = ProfileBuilder()
    group, thread = builder.group("work", "asyncio"), builder.thread("t")
    stack = builder.stack([app("handler", 1)])
    builder.add(group, thread, stack, State.ON_CPU, 3, MS, MS)
    builder.add(group, thread, stack, State.AWAITING, 900, 9 * MS, 0)
    stats = table(loaded(builder.build(ProfileInfo(engine="exact", clock="wall")), tmp_path))
    (numbers,) = [numbers for key, numbers in stats.items() if key[2] == "handler"]
    assert numbers[:4] == pytest.approx((3, 3, 0.010, 0.010))
    assert any("calls are calls" in key[2] for key in stats)


def test_pstats_prints_all_of_it(tmp_path: Path) -> None:
    stats = loaded(orders_profile(), tmp_path)
    stats.strip_dirs().sort_stats("cumulative").print_stats().print_callers().print_callees()
    text = vars(stats)["stream"].getvalue()
    assert "in 2.500 seconds" in text
    assert "api.py:48(report)" in text
    assert "{GET /orders/{}}" in text


def test_two_files_add_up_in_pstats(tmp_path: Path) -> None:
    stats = loaded(orders_profile(), tmp_path)
    stats.add(str(tmp_path / "out.pstats"))
    assert vars(stats)["total_tt"] == pytest.approx(5.0)


def test_snakeviz_shows_it(tmp_path: Path) -> None:
    stats = loaded(orders_profile(), tmp_path)
    rows = {row[6]: row for row in snakeviz.table_rows(stats)}
    assert rows["/srv/orders/api.py:48(report)"][0] == ["80", 80]
    tree = snakeviz.json_stats(stats)
    roots = [name for name, node in tree.items() if not node["callers"]]
    assert roots == ["~:0(<orders.py --requests 15: wall clock, calls are samples>)"]
    assert set(tree["~:0(<GET /report>)"]["children"]) == {"/srv/orders/api.py:48(report)"}


def test_gprof2dot_draws_it(tmp_path: Path) -> None:
    file = tmp_path / "out.prof"
    file.write_bytes(pstats.render(orders_profile()))
    graph = gprof2dot.PstatsParser(str(file)).parse()
    functions = {one.name.rpartition(":")[2]: one for one in graph.functions.values()}
    total, spawn = functions["total"], functions["greenlet_spawn"]
    assert total[gprof2dot.TIME] == pytest.approx(0.8)
    assert spawn.calls[total.id][gprof2dot.TOTAL_TIME] == pytest.approx(0.8)
    assert spawn.calls[total.id][gprof2dot.CALLS] == 80
    drawn = io.StringIO()
    graph.prune(0, 0, [], False)
    gprof2dot.DotWriter(drawn).graph(graph, gprof2dot.themes["color"])
    assert drawn.getvalue().count("->") == 20


def test_equal_profiles_are_equal_bytes() -> None:
    assert pstats.render(orders_profile()) == pstats.render(orders_profile())


def test_an_empty_profile_opens(tmp_path: Path) -> None:
    assert list(table(loaded(Profile(), tmp_path))) == [
        ("~", 0, "<greenprof: wall clock, calls are samples>")
    ]


def test_groups_and_functions_of_one_name_stay_apart(tmp_path: Path) -> None:
    builder = ProfileBuilder()
    thread = builder.thread("t")
    group = builder.group("Future", "asyncio")
    stack = builder.stack(
        [Frame("<Future>", ""), Frame("a\n", "x.py", 1), Frame("a\\n", "x.py", 1)]
    )
    builder.add(group, thread, stack, State.AWAITING, 1, 5 * MS, 0)
    profile = builder.build(ProfileInfo())
    # Lines of functions, not of what runs in them.
    stats = table(loaded(profile, tmp_path))
    assert [key[2] for key in stats][1:] == ["<Future>", "<Future> (2)", "a\\n", "a\\n (2)"]
    assert all(numbers[3] == pytest.approx(0.005) for numbers in stats.values())


@given(profile=profiles())
def test_any_profile_is_what_the_function_table_says(
    tmp_path_factory: pytest.TempPathFactory, profile: Profile
) -> None:
    folder = tmp_path_factory.mktemp("stats")
    for clock in analysis.CLOCKS:
        stats = table(loaded(profile, folder, clock))
        # Groups with a "~" for a path, and functions without one, are told apart by their callers.
        program = next(iter(stats))
        above = {program} | {key for key, numbers in stats.items() if program in numbers[4]}
        rows = [
            (row.self_ns(clock), row.total_ns(clock))
            for row in analysis.function_table(profile, clock=clock)
        ]
        seen = [
            (round(numbers[2] * SECOND), round(numbers[3] * SECOND))
            for key, numbers in stats.items()
            if key not in above
        ]
        expected = sorted(row for row in rows if any(row))
        assert len([row for row in seen if any(row)]) == len(expected)
        for one, other in zip(sorted(row for row in seen if any(row)), expected, strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        whole_ns = sum(_counted_ns(sample, clock) for sample in profile.samples)
        assert stats[program][3] == pytest.approx(whole_ns / SECOND)
        assert all(text.isprintable() for key in stats for text in (key[0], key[2]))


def _counted_ns(sample: Sample, clock: str) -> int:
    waits = sample.state in {State.AWAITING, State.READY}
    waited = waited_ns(sample) if waits or sample.state is State.BLOCKED else 0
    awaited = waited if waits else 0
    return analysis.counted_ns(clock, sample.cpu_ns, awaited, waited - awaited)
