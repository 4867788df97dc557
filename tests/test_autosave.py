"""Autosaves of large profiles: what is new is added to what is there, and together it is the profile."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import CodeType

import pytest

from greenprof.cli import autosave as autosave_module
from greenprof.cli.autosave import SUFFIX, Autosave
from greenprof.errors import ProfileFileError
from greenprof.frames import FrameTable
from greenprof.profile_file import MAX_LATER_PARTS
from greenprof.profiler import Profiler
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from greenprof.samplers.marks import Marks
from greenprof.samplers.recorder import Recorder

CODES: list[CodeType] = [
    compile(f"def f{number}(): pass", "app.py", "exec").co_consts[0] for number in range(60)
]
STATES = (State.ON_CPU, State.AWAITING, State.BLOCKED)


def record(recorder: Recorder, turn: int) -> None:
    """Old and new stacks, groups and tasks; with a cap of 40 nodes, some over it."""
    for number in range(turn % 3, 20 + 5 * turn):
        group = recorder.group(f"task {number % (turn + 2)}", "task")
        recorder.count_task(group)
        node = recorder._child(-1, CODES[number % 7], 0)
        node = recorder._child(node, CODES[number], number * 8) if node >= 0 else ~node
        thread = recorder.thread(f"thread {number % 2}")
        recorder.add(group, thread, node if node >= 0 else ~node, STATES[number % 3], number, turn)


def summed(profile: Profile) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for one in profile.samples:
        where = profile.groups[one.group].name, profile.threads[one.thread], one.state
        frames = tuple((frame.name, frame.line) for frame in profile.stack(one.stack))
        for name, number in zip(
            ("count", "wall", "cpu"), (one.count, one.wall_ns, one.cpu_ns), strict=True
        ):
            found[name, *where, frames] += number
    for group in profile.groups:
        found["tasks", group.name, group.kind] += group.count
    return +found


def part(recorder: Recorder, marks: Marks | None) -> tuple[bytes, int]:
    builder = ProfileBuilder(10_000)
    over = recorder.fill(builder, FrameTable(), marks)
    return builder.build(ProfileInfo(duration_ns=over)).to_bytes(), over


def test_the_parts_add_up_to_the_whole() -> None:
    recorder, marks = Recorder(40), Marks()
    data, sizes = b"", []
    for turn in range(6):
        record(recorder, turn)
        if turn == 3:
            part(recorder, marks)  # one that could not be saved: the next has it, too
        piece, over = part(recorder, marks)
        marks.keep()
        data += piece
        sizes.append(len(piece))
        whole, whole_over = part(recorder, None)
        assert summed(Profile.from_bytes(data)) == summed(Profile.from_bytes(whole))
        assert over == whole_over
    assert whole_over
    assert Profile.from_bytes(data).info.duration_ns == whole_over
    nothing, _ = part(recorder, marks)
    assert not Profile.from_bytes(nothing).samples
    assert len(nothing) < min(sizes)


def test_a_part_that_is_cut_short_is_left_out() -> None:
    """At whatever byte; the first one may not be, nor may anything else follow."""
    recorder, marks = Recorder(), Marks()
    record(recorder, 1)
    first, _ = part(recorder, marks)
    marks.keep()
    record(recorder, 2)
    second, _ = part(recorder, marks)
    one, both = Profile.from_bytes(first), Profile.from_bytes(first + second)
    assert summed(one) != summed(both)
    for length in range(len(second)):
        assert Profile.from_bytes(first + second[:length]) == one
    for length in range(1, len(first)):
        with pytest.raises(ProfileFileError, match="cut short"):
            Profile.from_bytes(first[:length])
    for tail in (b"x", first[1:], b"\0" * 40):
        with pytest.raises(ProfileFileError, match="after its end"):
            Profile.from_bytes(first + tail)
    Profile.from_bytes(first + second * MAX_LATER_PARTS)
    with pytest.raises(ProfileFileError, match="after its end"):
        Profile.from_bytes(first + second * (MAX_LATER_PARTS + 1))


def test_between_wholes_there_are_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a whole takes long: here the first one is the last for a minute."""
    monkeypatch.setattr(autosave_module, "SHARE", 1.0)
    path = tmp_path / f"one{SUFFIX}"
    with Profiler(rate_hz=500) as profiler:
        saving = Autosave(profiler, str(path), every_s=0.03)
        saving.start()
        until = time.monotonic() + 30
        inode = 0
        seen: list[Profile] = []
        while len(seen) < 5 and time.monotonic() < until:
            sum(range(1000))
            if not path.exists():
                continue
            saving._whole_due_ns = time.monotonic_ns() + 60_000_000_000
            profile = Profile.load(path)
            if not seen or profile.info.duration_ns > seen[-1].info.duration_ns:
                seen.append(profile)
                if len(seen) == 3:
                    inode = path.stat().st_ino
        assert path.stat().st_ino == inode, "it was replaced"
        saving.stop()
        last = Profile.load(path)
        at_last = profiler.snapshot()
        saving.discard()
    counts = [sum(one.count for one in each.samples) for each in seen]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    # Nothing twice, and nothing that is not there in the end.
    assert not summed(last) - summed(at_last)
    assert [len(each.info.pids) for each in seen] == [1] * 5
    assert not path.exists()
