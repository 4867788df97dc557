"""Recursion 10,000 levels deep, and a million stacks: recorded, saved and shown, within bounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from greenprof.profiles import OVERFLOW_NAME, Frame, Profile, ProfileBuilder, ProfileInfo, State
from tests.report_pages import Reports, assert_sound, every_tab
from tests.running import run_python
from tests.test_hostile_depth import recursion

# Some measure time, on machines that are busy with others.
pytestmark = pytest.mark.flaky(reruns=3)

LEVELS = 10_000
PROGRAM = f"""\
import asyncio, io, sys, time
import greenprof
from sqlalchemy.util import await_only, greenlet_spawn
sys.setrecursionlimit(60_000)
def burn():
    until = time.perf_counter() + 0.1
    while time.perf_counter() < until:
        pass
def down(n):
    if n:
        return down(n - 1)
    burn()
    text = ""
    if "--print" in sys.argv:
        page = io.StringIO()
        greenprof.dump(page)
        text = greenprof.format_stack() + page.getvalue()
    return len(text)
def generate(n):
    if n:
        yield from generate(n - 1)
    else:
        burn()
        yield 1
async def chain(n):
    if n:
        return await chain(n - 1)
    await asyncio.sleep(0.05)
    burn()
def wait(n):
    if n:
        return wait(n - 1)
    await_only(chain({LEVELS}))
async def main():
    await chain({LEVELS})
    await greenlet_spawn(wait, {LEVELS})
print(down({LEVELS}), sum(generate({LEVELS})))
asyncio.run(main())
"""
MODES = {
    "sampling": ["--timeline", "all", "--awaits", "--block-limit", "50ms", "--rate", "200"],
    "spans": ["--spans", "spans.jsonl", "--span-stack", "always"],
    "exact": ["--engine", "exact", "--autosave", "off"],
}


@pytest.mark.parametrize("mode", MODES)
def test_a_program_that_calls_itself_10_000_times(tmp_path: Path, mode: str) -> None:
    """Down a stack, down a chain of coroutines, down generators, and on both sides of a bridge."""
    (tmp_path / "app.py").write_text(PROGRAM)
    words = [
        "-o",
        "out.gprof",
        "-o",
        "out.html",
        "app.py",
        *(["--print"] if mode == "spans" else []),
    ]
    finished = run_python("-m", "greenprof", "run", "-q", *MODES[mode], *words, cwd=tmp_path)
    length, generated = map(int, finished.stdout.split())
    assert generated == 1
    # Of a stack that is printed, the innermost 2,000 levels are: none of many megabytes.
    assert (10_000 < length < 1_000_000) == (mode == "spans")
    assert finished.stderr == ""
    profile = Profile.load(tmp_path / "out.gprof")
    levels = max(len(profile.frame_ids(sample.stack)) for sample in profile.samples[-50:])
    deepest = max(levels, *(len(profile.frame_ids(one.stack)) for one in profile.samples[:50]))
    assert deepest > 500
    assert {"burn"} <= {frame.name for frame in profile.frames}
    assert (tmp_path / "out.html").stat().st_size < 8_000_000
    if mode == "spans":
        (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
        (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
        assert span["name"].endswith("chain")
        assert len(line) < 100_000


def test_the_page_of_such_a_profile_opens(report: Reports) -> None:
    page = report(recursion(LEVELS))
    assert_sound(page)
    for _ in every_tab(page):
        assert_sound(page)


def test_a_million_distinct_stacks_are_bounded(tmp_path: Path) -> None:
    """In a process of its own, whose memory is looked at: what is over the cap is counted, not kept."""
    program = """
import resource, sys, time
from greenprof.profiles import *
builder = ProfileBuilder()
group, thread = builder.group("main", "asyncio"), builder.thread("MainThread")
began = time.monotonic()
root = builder.stack([Frame("main", "app.py", 1, 1)])
for number in range(1_000_000):
    frame = builder.frame(Frame(f"f{number}", "app.py", number, number))
    builder.add(group, thread, builder.node(builder.node(root, frame), frame), State.ON_CPU, 1, 10, 10)
profile = builder.build(ProfileInfo(command="app.py"))
profile.save(sys.argv[1])
assert Profile.load(sys.argv[1]) == profile
print(len(profile.nodes), profile.info.overflow_samples, time.monotonic() - began)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""
    finished = run_python("-c", program, tmp_path / "big.gprof")
    nodes, overflow, seconds, megabytes = map(float, finished.stdout.split())
    assert 200_000 <= nodes <= 400_001
    assert overflow >= 600_000
    assert (tmp_path / "big.gprof").stat().st_size < 20 << 20
    assert seconds < 60
    assert megabytes < 1024


def test_what_is_over_the_cap_is_one_level_below_what_is_kept() -> None:
    builder = ProfileBuilder(max_nodes=3)
    group, thread = builder.group("main", "asyncio"), builder.thread("MainThread")
    for number in range(100):
        node = builder.stack(
            [Frame("main", "a.py"), Frame(f"f{number}", "a.py"), Frame("g", "a.py")]
        )
        builder.add(group, thread, node, State.ON_CPU, 1, 1, 1)
    profile = builder.build(ProfileInfo())
    assert len(profile.nodes) <= 6
    assert sum(sample.count for sample in profile.samples) == 100
    assert profile.info.overflow_samples >= 98
    names = {profile.stack(sample.stack)[-1].name for sample in profile.samples}
    assert OVERFLOW_NAME in names
