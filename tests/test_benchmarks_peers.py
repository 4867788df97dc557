"""The parsers that read other profilers' output, on small files made by hand, and the judgement of stacks."""

from __future__ import annotations

import json
import marshal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.attribution import Score, better, cell, is_right, judged
from benchmarks.peers import PEERS, Stack
from benchmarks.peers.viztracer import nested
from tests.accuracy import Work

BURN = Work(
    "CPU", "report", "burn_report", ("endpoint_report", "service_report"), "cpu", 1, 2 * 10**9
)
RIGHT = ("main", "endpoint_report", "spawn", "service_report", "burn_report", "burn")


def summed(stacks: Iterable[Stack]) -> dict[tuple[str, ...], float]:
    sums: Counter[tuple[str, ...]] = Counter()
    for names, seconds in stacks:
        sums[names] += seconds  # type: ignore[assignment]
    return {names: round(seconds, 6) for names, seconds in sums.items() if seconds}


def read(peer: str, path: Path, content: object) -> dict[tuple[str, ...], float]:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return summed(PEERS[peer].stacks(path.with_suffix("") if path.suffix else path))


def test_austin(tmp_path: Path) -> None:
    text = (
        "# austin: 3.7.0\n# mode: wall\n\n"
        "P7;T0:9;/a b/main.py:<module>:3;/a b/main.py:run:12 10000\n"
        "P7;T0:9;/a b/main.py:<module>:3;/a b/main.py:run:14 2500\n"
        "P7;T0:10 500\n# duration: 13000\n"
    )
    assert read("austin", tmp_path / "out", text) == {("<module>", "run"): 0.0125, (): 0.0005}


def test_py_spy(tmp_path: Path) -> None:
    profile = {
        "type": "sampled",
        "unit": "seconds",
        "samples": [[0, 1], [0]],
        "weights": [0.01, 0.02],
    }
    content = {"shared": {"frames": [{"name": "main"}, {"name": "run"}]}, "profiles": [profile]}
    assert read("py-spy", tmp_path / "out", content) == {("main", "run"): 0.01, ("main",): 0.02}


def test_a_profile_of_something_else_than_time_is_refused(tmp_path: Path) -> None:
    profile = {"type": "sampled", "unit": "none", "samples": [[0]], "weights": [1]}
    with pytest.raises(ValueError, match="sampled none"):
        read(
            "py-spy",
            tmp_path / "out",
            {"shared": {"frames": [{"name": "a"}]}, "profiles": [profile]},
        )


def test_pyinstrument(tmp_path: Path) -> None:
    frames = ["main\0/p.py\0003\1l4", "run\0/p.py\0009\1l12"]
    content = {"frame_records": [[frames, 0.25], [frames[:1], 0.5]]}
    assert read("pyinstrument", tmp_path / "out", content) == {
        ("main", "run"): 0.25,
        ("main",): 0.5,
    }


def test_scalene(tmp_path: Path) -> None:
    frames = ["/a b/p.py main:3;", "/a b/p.py Visit.<locals>.run:9;"]
    content = {"elapsed_time_sec": 4.0, "stacks": [[frames, {"cpu_samples": 0.25}]]}
    assert read("scalene", tmp_path / "out.json", content) == {("main", "run"): 1.0}


def test_viztracer_nests_calls_by_their_times() -> None:
    calls = [
        ("main (p.py:1)", 0, 10),
        ("A.run (p.py:5)", 1, 4),
        ("leaf (p.py:9)", 2, 1),
        ("late", 20, 5),
    ]
    events = [{"name": name, "ts": ts, "dur": dur} for name, ts, dur in calls]
    assert summed((names, seconds * 1e6) for names, seconds in nested(events)) == {
        ("main",): 6,
        ("main", "run"): 3,
        ("main", "run", "leaf"): 1,
        ("late",): 5,
    }


def written(path: Path, functions: dict[str, tuple[float, float, dict[str, float]]]) -> Path:
    """A pstats file: own time, time in all, and the time of the calls by each caller."""
    stats = {
        ("p.py", 1, name): (
            1,
            1,
            own,
            total,
            {("p.py", 1, one): (1, 1, 0, s) for one, s in by.items()},
        )
        for name, (own, total, by) in functions.items()
    }
    path.write_bytes(marshal.dumps(stats))
    return path


def test_callers_share_a_function_by_the_time_of_their_calls(tmp_path: Path) -> None:
    functions = {
        "main": (1.0, 8.0, {}),
        "Visit.a": (0.0, 5.0, {"main": 5.0}),
        "b": (0.0, 2.0, {"main": 2.0}),
        "leaf": (7.0, 7.0, {"Visit.a": 5.0, "b": 2.0}),
    }
    stacks = summed(PEERS["cProfile"].stacks(written(tmp_path / "out", functions)))
    assert stacks == {("main",): 1, ("main", "a", "leaf"): 5, ("main", "b", "leaf"): 2}


def test_time_without_a_known_caller_has_its_root_there(tmp_path: Path) -> None:
    """As that of a greenlet's first function; a function that calls itself does not go round."""
    functions = {"main": (0.0, 1.0, {}), "first": (4.0, 4.0, {"main": 1.0, "first": 2.0})}
    stacks = summed(PEERS["cProfile"].stacks(written(tmp_path / "out", functions)))
    assert stacks == {("main", "first"): 1, ("first",): 3}


@pytest.mark.parametrize(
    ("routed", "right"),
    [
        (["endpoint_report", "service_report", "burn_report"], True),
        (["endpoint_report", "endpoint_report", "service_report", "burn_report"], True),
        (["service_report", "burn_report"], False),
        (["endpoint_report", "burn_report"], False),
        (["service_report", "endpoint_report", "burn_report"], False),
        (["endpoint_search", "endpoint_report", "service_report", "burn_report"], False),
        (["endpoint_report", "service_report", "burn_report", "endpoint_login"], False),
    ],
)
def test_right_is_the_whole_chain_of_one_route(routed: list[str], right: bool) -> None:
    assert is_right(BURN, routed) is right


def test_shares_of_the_truth() -> None:
    orphan = ("service_report", "burn_report")
    assert judged([BURN], [(RIGHT, 1.0), (orphan, 0.5), (("main",), 9.0)])["CPU"].score == (
        0.5,
        0.25,
    )
    # More than the truth is a clock that counts more: shares of what was seen.
    assert judged([BURN], [(RIGHT, 3.0), (orphan, 1.0)])["CPU"].score == (0.75, 0.25)


def test_cells() -> None:
    assert cell(Score(0.996, 0.004)) == "100"
    assert cell(Score(0.66, 0.33)) == "66 (33)"
    assert cell(None) == "fails"
    both = better({"CPU": Score(0.2, 0.8), "sleep": Score(0.0, 0.0)}, {"CPU": Score(0.7, 0.0)})
    assert both == {"CPU": Score(0.7, 0.0), "sleep": Score(0.0, 0.0)}
