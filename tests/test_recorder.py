"""Samples are added up, each stack is stored once, and memory is bounded without losing time."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

import pytest

from greenprof.frames import FrameTable
from greenprof.profiles import OVERFLOW_NAME, FrameKind, Profile, ProfileBuilder, ProfileInfo, State
from greenprof.samplers import recorder as recorder_module
from greenprof.samplers.recorder import Recorder
from greenprof.stacks import AWAITED, PYTHON, RawStack, walk


def raw_of(frames: list[Any], *segments: tuple[int, int, bool]) -> RawStack:
    raw = RawStack()
    raw.frames.extend(frames)
    raw.segments.extend(segments or [(0, PYTHON, False)])
    return raw


def here() -> list[FrameType]:
    """The frames from the test down."""
    frame = sys._getframe(1)
    return walk(frame)[-1:]


def generated(number: int) -> FrameType:
    """The frame of a function that nobody has seen before."""
    names: dict[str, Any] = {"sys": sys}
    exec(f"def made_{number}(): return sys._getframe()", names)
    frame: FrameType = names[f"made_{number}"]()
    return frame


def profile_of(recorder: Recorder) -> tuple[Profile, int]:
    builder = ProfileBuilder()
    over = recorder.fill(builder, FrameTable())
    return builder.build(ProfileInfo()), over


def names_of(profile: Profile, node: int) -> list[str]:
    return [frame.name for frame in profile.stack(node)]


def test_equal_observations_are_one_sample() -> None:
    recorder = Recorder()
    group, thread = recorder.group("work", "asyncio"), recorder.thread("MainThread")
    for frames in (here(), here()):
        for _ in range(3):
            node = recorder.node(raw_of(frames))
            recorder.add(group, thread, node, State.ON_CPU, 10, 5)
            recorder.add(group, thread, node, State.AWAITING, 7, 0)
            recorder.add_cpu(group, thread, node, 1)
    profile, over = profile_of(recorder)
    assert over == 0
    assert [
        (sample.state, sample.count, sample.wall_ns, sample.cpu_ns) for sample in profile.samples
    ] == [(State.ON_CPU, 6, 60, 36), (State.AWAITING, 6, 42, 0)]
    assert names_of(profile, profile.samples[0].stack) == ["test_equal_observations_are_one_sample"]


def test_lines_kinds_and_boundaries_are_told_apart() -> None:
    recorder = Recorder()
    first = [generated(1)]
    nodes = {
        recorder.node(raw_of(first)),
        recorder.node(raw_of(first)),
        recorder.node(raw_of(first, (0, AWAITED, False))),
        recorder.node(raw_of(first, (0, PYTHON, True))),
    }
    assert len(nodes) == 3
    assert recorder.node(raw_of(here())) != recorder.node(raw_of(here()))  # another line
    leaf = raw_of(first)
    leaf.leaf = "asyncio.gather"
    below = recorder.node(leaf)
    assert recorder.node(leaf) == below
    group, thread = recorder.group("a", "thread"), recorder.thread("t")
    recorder.add(group, thread, below, State.AWAITING, 1, 0)
    profile, _ = profile_of(recorder)
    last = profile.stack(profile.samples[0].stack)[-1]
    assert (last.name, last.kind) == ("<asyncio.gather>", FrameKind.AWAITED)


def test_a_stack_can_be_put_below_another() -> None:
    recorder = Recorder()
    above = recorder.node(raw_of([generated(1)]))
    node = recorder.node(raw_of([generated(2)]), above)
    assert node != recorder.node(raw_of([generated(3)]))
    recorder.add(recorder.group("a", "thread"), recorder.thread("t"), node, State.ON_CPU, 1, 1)
    profile, _ = profile_of(recorder)
    assert names_of(profile, profile.samples[0].stack) == ["made_1", "made_2"]


def test_ever_new_stacks_meet_the_cap_and_no_time_is_lost() -> None:
    recorder = Recorder(max_nodes=50)
    group, thread = recorder.group("work", "thread"), recorder.thread("MainThread")
    root = generated(0)
    for number in range(1, 1001):
        node = recorder.node(raw_of([root, generated(number)]))
        recorder.add(group, thread, node, State.ON_CPU, 10, 3)
    profile, over = profile_of(recorder)
    assert over == 1000 - 49
    assert sum(sample.wall_ns for sample in profile.samples) == 10_000
    assert sum(sample.cpu_ns for sample in profile.samples) == 3000
    assert len(profile.nodes) == 51
    cut = [names_of(profile, sample.stack) for sample in profile.samples]
    assert ["made_0", OVERFLOW_NAME] in cut
    # What is known stays known.
    assert recorder.node(raw_of([root])) == 0


def test_codes_that_went_over_the_cap_are_not_kept() -> None:
    recorder = Recorder(max_nodes=5)
    for number in range(500):
        recorder.node(raw_of([generated(number)]))
    codes = [what for _, what, _ in recorder._nodes if isinstance(what, CodeType)]
    assert len(codes) == 5
    assert len(recorder._remembered) == 5


def test_whole_stacks_are_forgotten_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_REMEMBERED", 3)
    recorder = Recorder()
    frames = [generated(number) for number in range(10)]
    first = [recorder.node(raw_of([frame])) for frame in frames]
    assert [recorder.node(raw_of([frame])) for frame in frames] == first
    assert len(recorder._remembered) <= 3


def test_groups_and_threads_over_their_cap_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_GROUPS", 3)
    recorder = Recorder()
    groups = [recorder.group(f"task {number}", "asyncio") for number in range(10)]
    threads = [recorder.thread(f"thread {number}") for number in range(10)]
    for group in groups:
        recorder.count_task(group)
    assert groups == [0, 1, 2] + [3] * 7
    assert threads == [0, 1, 2] + [3] * 7
    assert recorder.group("task 1", "asyncio") == 1
    profile, _ = profile_of(recorder)
    assert [(group.name, group.count) for group in profile.groups][-1] == ("[other]", 7)


def test_many_groups_with_many_stacks_meet_a_cap_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MIN_SAMPLES", 20)
    recorder = Recorder(max_nodes=10)
    nodes = [recorder.node(raw_of([generated(number)])) for number in range(8)]
    thread = recorder.thread("t")
    for number in range(100):
        group = recorder.group(f"task {number}", "asyncio")
        for node in nodes:
            recorder.add(group, thread, node, State.AWAITING, 1, 0)
    profile, over = profile_of(recorder)
    assert len(recorder._samples) <= 20 + 100
    assert sum(sample.wall_ns for sample in profile.samples) == 800
    assert over == 800 - 20


def test_a_task_that_finds_its_route_takes_its_samples_along() -> None:
    recorder = Recorder()
    thread = recorder.thread("t")
    early, route = recorder.group("run_asgi", "asyncio"), recorder.group("GET /", "asyncio")
    recorder.count_task(early)
    node = recorder.node(raw_of(here()))
    recorder.add(early, thread, node, State.ON_CPU, 5, 5)
    recorder.move_task(early, route)
    profile, _ = profile_of(recorder)
    [sample] = profile.samples
    assert profile.groups[sample.group].name == "GET /"
    assert [(group.name, group.count) for group in profile.groups if group.count] == [("GET /", 1)]
