"""How stretches lie within one another: whatever there is, nothing overlaps and no time is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greenprof.samplers.slicing import Stretch, TrackSlices, link_children
from tests import profiles  # noqa: F401  # its settings of hypothesis

Plain = tuple[int, int, str]


def nested(
    runs: list[tuple[int, int]], awaits: list[tuple[int, int]], *, whole: bool = False
) -> TrackSlices:
    slices = TrackSlices("task")
    slices.runs = [Stretch(*run, 7, whole=whole) for run in runs]
    slices.awaits = [Stretch(*each, 8 + n, f"a{n}") for n, each in enumerate(awaits)]
    slices.nest()
    return slices


def plain(slices: TrackSlices) -> list[Plain]:
    return [(one.start_ns, one.end_ns, one.name) for one in slices.runs]


def test_an_await_from_one_step_to_another() -> None:
    slices = nested([(0, 10), (95, 120)], [(4, 100)])
    assert plain(slices) == [(0, 4, "task"), (4, 10, "a0"), (95, 100, "a0"), (100, 120, "task")]
    assert [one.stack for one in slices.runs] == [8, 8, 8, 7]


def test_awaits_within_awaits() -> None:
    slices = nested([(0, 100)], [(10, 90), (20, 30), (40, 90)])
    assert plain(slices) == [
        (0, 10, "task"), (10, 20, "a0"), (20, 30, "a1"), (30, 40, "a0"), (40, 90, "a2"),
        (90, 100, "task"),
    ]  # fmt: skip


def test_one_await_after_another_without_a_gap() -> None:
    slices = nested([(0, 10)], [(2, 5), (5, 8)])
    assert plain(slices) == [(0, 2, "task"), (2, 5, "a0"), (5, 8, "a1"), (8, 10, "task")]


def test_a_greenlet_does_not_run_while_it_waits_in_its_hub() -> None:
    slices = nested([(0, 11), (49, 60), (70, 80), (90, 95)], [(10, 50), (61, 69)], whole=True)
    assert plain(slices) == [(0, 10, "task"), (50, 60, "task"), (70, 80, "task"), (90, 95, "task")]
    # Its line is the one where it waits next, unless it runs again before.
    assert [one.stack for one in slices.runs] == [8, 9, 7, 7]


def test_numbers_join_awaits_with_what_ran_for_them() -> None:
    parent = nested([(0, 10), (95, 120)], [(4, 100), (101, 102)])
    child, other, late = nested([(20, 30), (40, 50)], []), nested([(2, 3)], []), nested([], [])
    tracks = {0: parent, 1: child, 2: other, 3: late}
    link_children(tracks, [(1, 0), (2, 0), (3, 0), (0, -1)])
    assert [one.flow for one in parent.awaits] == [1, 2]
    assert [one.flow for one in parent.runs] == [0, 1, 1, 0, 2, 0]
    assert [one.flow for one in child.runs] == [1, 0]
    assert [one.flow for one in other.runs] == [0]


@st.composite
def tracks(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Steps that follow each other, and awaits that nest, as those of one task do."""
    edges = sorted(draw(st.lists(st.integers(0, 200), max_size=16, unique=True)))
    runs = list(zip(edges[::2], edges[1::2], strict=False))
    awaits: list[tuple[int, int]] = []
    for start, length in draw(
        st.lists(st.tuples(st.integers(0, 200), st.integers(0, 99)), max_size=8)
    ):
        new = (start, start + length)
        if all(_nest(new, known) for known in awaits):
            awaits.append(new)
    return runs, awaits


def _nest(one: tuple[int, int], other: tuple[int, int]) -> bool:
    (a, b), (c, d) = one, other
    return b <= c or d <= a or (a <= c and d <= b) or (c <= a and b <= d)


@given(tracks())
def test_no_time_is_lost_and_nothing_overlaps(both: tuple[list[Any], list[Any]]) -> None:
    runs, awaits = both
    slices = nested(list(runs), awaits)
    link_children({0: slices}, [(0, -1)])
    assert sum(b - a for a, b, _ in plain(slices)) == sum(b - a for a, b in runs)
    for one in slices.runs:
        assert one.start_ns < one.end_ns
        around = [
            each for each in slices.awaits
            if each.start_ns <= one.start_ns and one.end_ns <= each.end_ns
        ]  # fmt: skip
        for each in slices.awaits:
            apart = each.end_ns <= one.start_ns or one.end_ns <= each.start_ns
            assert apart or each in around
        if around:
            innermost = min(each.end_ns - each.start_ns for each in around)
            flows = {e.flow for e in around if e.end_ns - e.start_ns == innermost}
            assert one.flow in flows
        else:
            assert one.flow == 0


@given(tracks())
def test_greenlets_have_no_slivers(both: tuple[list[Any], list[Any]]) -> None:
    runs, awaits = both
    slices = nested(list(runs), awaits, whole=True)
    for one in slices.runs:
        assert all(
            each.end_ns <= one.start_ns or one.end_ns <= each.start_ns for each in slices.awaits
        )
