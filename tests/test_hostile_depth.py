"""Deep recursion in a profile: no format takes quadratic time or room of it, and none recurses."""

from __future__ import annotations

import dataclasses
import gzip
import json
import time

import pytest

from greenprof.analysis import totals
from greenprof.differences import compare
from greenprof.exporters import Exporter, exporters, find_exporter
from greenprof.exporters.depth import shallow
from greenprof.exporters.difference import difference_text
from greenprof.exporters.html.difference import difference_page
from greenprof.profiles import (
    Frame,
    FrameOrigin,
    Profile,
    ProfileInfo,
    Sample,
    Slice,
    SliceKind,
    SpanSample,
    State,
    TaskGroup,
    Track,
)
from tests.profiles import MS, SECOND, traced_profile

# Some measure time, on machines that are busy with others.
pytestmark = pytest.mark.flaky(reruns=3)


def recursion(levels: int) -> Profile:
    """A stack of so many levels that was seen at each of them; a file of it has a few kilobytes."""
    frames = [Frame(f"down_{n}", "/srv/app.py", n + 1, n + 1, module="app") for n in range(7)]
    return Profile(
        info=ProfileInfo(command="app.py", duration_ns=levels * SECOND, rate_hz=100.0),
        frames=frames,
        nodes=[(level - 1, level % 7) for level in range(levels)],
        groups=[TaskGroup("main", "asyncio", 1)],
        threads=["MainThread"],
        samples=[
            Sample(0, 0, level, State.AWAITING if level % 2 else State.ON_CPU, 1, MS, 0)
            if level % 2
            else Sample(0, 0, level, State.ON_CPU, 1, MS, MS)
            for level in range(levels)
        ],
    )


@pytest.mark.parametrize("exporter", exporters(), ids=lambda exporter: exporter.name)
def test_recursion_of_30_000_levels_is_written_at_once(exporter: Exporter) -> None:
    """Each of its 30,000 stacks written out would be 450 million frames, some 10 GB of text."""
    profile = recursion(30_000)
    assert len(profile.to_bytes()) < 300_000
    began = time.monotonic()
    data = exporter.render(profile)
    assert time.monotonic() - began < 20
    assert len(data) < 100 << 20


def test_a_timeline_of_deep_recursion_is_written_at_once() -> None:
    """What a slice says of its callers is looked for from the innermost one, and not for long."""
    profile = recursion(10_000)
    profile.tracks = [Track("main", 0, 0)]
    profile.slices = [
        Slice(0, SliceKind.RUN, level * MS, MS, level, "main") for level in range(10_000)
    ]
    for origin in FrameOrigin:
        profile.frames = [dataclasses.replace(frame, origin=origin) for frame in profile.frames]
        began = time.monotonic()
        events = json.loads(find_exporter("chrome").render(profile))["traceEvents"]
        assert time.monotonic() - began < 20
        last = next(event for event in reversed(events) if event["ph"] == "X")
        assert "down_" in last["args"]["stack"]


def test_deep_recursion_is_compared_and_merged_at_once() -> None:
    one, other = recursion(20_000), recursion(19_000)
    began = time.monotonic()
    comparison = compare(one, other)
    assert len(difference_text(comparison, ("one", "other"))) < 100_000
    assert len(difference_page(comparison, ("one", "other"))) < 20_000_000
    assert len(Profile.merge([one, other]).nodes) == 20_000
    assert len(one.subtract(one).samples) == 0
    assert time.monotonic() - began < 30


def test_more_warnings_than_anybody_reads() -> None:
    profile = recursion(3)
    profile.info.warnings = [f"warning {number}" for number in range(100_000)]
    text = find_exporter("text").render(profile)
    assert isinstance(text, str)
    assert text.count("\n") < 300
    assert "more warnings; `greenprof export` has them all" in text


def test_what_is_short_enough_stays_as_it_is() -> None:
    profile = traced_profile()
    assert shallow(profile) is profile
    assert shallow(recursion(100)).nodes == recursion(100).nodes


def test_only_the_deepest_levels_are_left_out_and_no_time() -> None:
    profile = recursion(1000)
    cut = shallow(profile, most=100_000)
    assert totals(cut) == totals(profile)
    assert len(cut.nodes) == len(profile.nodes) + 1
    depths = [len(cut.frame_ids(sample.stack)) for sample in cut.samples]
    # 1000 stacks: some 105 levels of each are 100,000 frames.
    assert 100 <= max(depths) <= 110
    deepest = {cut.stack(sample.stack)[-1].name for sample in cut.samples[-2:]}
    assert deepest == {"[105 and more levels below]"}
    assert "105 levels deep" in cut.info.warnings[-1]
    assert profile.info.warnings == []


def test_spans_keep_their_parts() -> None:
    profile = recursion(1000)
    profile.spans = traced_profile().spans[:1]
    profile.span_samples = [SpanSample(0, 998, 1, MS, MS), SpanSample(0, 996, 1, MS, MS)]
    cut = shallow(profile, most=100_000)
    (part,) = cut.span_samples
    assert (part.count, part.wall_ns, part.cpu_ns) == (2, 2 * MS, 2 * MS)
    assert cut.samples[part.sample].state is State.ON_CPU
    data = find_exporter("pprof").render(cut)
    assert isinstance(data, bytes)
    assert gzip.decompress(data)


def test_names_of_megabytes_do_not_stand_in_each_line() -> None:
    profile = recursion(300)
    profile.frames[0] = Frame("W" * 10_000_000, "/srv/app.py", 1, 1)
    assert len(find_exporter("collapsed").render(profile)) < 60_000_000
    document = json.loads(find_exporter("speedscope").render(profile))
    assert len(document["profiles"][0]["samples"]) == 300
