"""What Perfetto and chrome://tracing make of timelines: nothing is left out, slices nest, arrows are on their slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from greenprof.exporters import find_exporter
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, Slice, SliceKind, Track
from tests import trace_format
from tests.perfetto import Perfetto, catapult
from tests.profiles import app
from tests.running import PROGRAMS, run_python

SLICES = """
    select thread.name, slice.name, slice.category, slice.ts, slice.ts + slice.dur, slice.depth
    from slice join thread_track on slice.track_id = thread_track.id join thread using (utid)
    order by slice.ts
"""
ARROWS = """
    select outof.name, outof.ts, into_.name, into_.ts
    from flow join slice outof on flow.slice_out = outof.id join slice into_ on flow.slice_in = into_.id
"""

Open = Callable[[str], Perfetto]


@pytest.fixture
def perfetto(browser: Browser) -> Iterator[Open]:
    opened: list[Perfetto] = []

    def load(trace: str) -> Perfetto:
        opened.append(Perfetto(browser, trace))
        return opened[-1]

    yield load
    for one in opened:
        one.close()


def text_of(profile: Profile) -> str:
    text = find_exporter("x.trace.json").render(profile)
    assert isinstance(text, str)
    return text


def assert_read_alike(loaded: Perfetto, text: str) -> None:
    """Perfetto finds the slices, nestings and arrows that the format's own rules say there are."""
    trace = trace_format.read(text)
    assert loaded.problems() == []
    instants = [(row, name, "block", at, at) for row, name, at in trace.marks]
    drawn = [(one.row, one.name, one.category, one.start_ns, one.end_ns) for one in trace.slices]
    found = loaded.query(SLICES)
    assert sorted(row[:5] for row in found) == sorted(drawn + instants)
    depths = sorted((one.row, one.start_ns, one.end_ns, one.depth) for one in trace.slices)
    assert sorted((row[0], *row[3:]) for row in found if row[3] != row[4]) == [
        depth for depth in depths if depth[1] != depth[2]
    ]
    arrows = [(one.name, one.start_ns, to.name, to.start_ns) for one, to in trace.arrows]
    assert sorted(loaded.query(ARROWS)) == sorted(arrows)


def assert_catapult_reads_alike(browser: Browser, text: str) -> None:
    trace, found = trace_format.read(text), catapult(browser, text)
    assert found["warnings"] == []
    drawn = [[one.row, one.name] for one in trace.slices]
    drawn += [[row, name] for row, name, _ in trace.marks]
    assert sorted(found["slices"]) == sorted(drawn)
    arrows = [[one.name, to.name] for one, to in trace.arrows]
    assert sorted(found["arrows"]) == sorted(arrows)


def test_slices_that_nest_to_the_nanosecond_under_hostile_names(
    perfetto: Open, browser: Browser
) -> None:
    builder = ProfileBuilder()
    hostile = '"}],"x":[{"\u2028\udce9</script><b>\x1b[2J'
    group, thread = builder.group("GET /orders/{}", "asyncio"), builder.thread(hostile)
    stack = builder.stack([app("get_order", 40)])
    tracks = [builder.track(Track(f"Task-{n}{hostile}", group, thread)) for n in range(3)]
    at = 1_234_567
    for flow in range(1, 201):
        # Odd lengths: a reader that rounds would make neighbours overlap.
        edges = [at, at + 1_003, at + 1_999, at + 77_777, at + 100_003, at + 101_111]
        run, begin, suspended, resumed, end, over = edges
        for kind, start_ns, end_ns, name, of_flow in (
            (SliceKind.RUN, run, begin, "GET /orders/{}", 0),
            (SliceKind.BLOCK, run, suspended, "block" + hostile, 0),
            (SliceKind.AWAIT, begin, end, "fetch" + hostile, flow),
            (SliceKind.RUN, begin, suspended, "fetch" + hostile, flow),
            (SliceKind.RUN, resumed, end, "fetch" + hostile, flow),
            (SliceKind.RUN, end, over, "GET /orders/{}", 0),
        ):
            length = end_ns - start_ns
            track = tracks[flow % 3]
            builder.add_slice(Slice(track, kind, start_ns, length, stack, name, of_flow))
        at = run + 50_001 if flow % 2 else over
    text = text_of(builder.build(ProfileInfo()))
    assert len(trace_format.read(text).arrows) == 200
    assert_catapult_reads_alike(browser, text)
    loaded = perfetto(text)
    assert_read_alike(loaded, text)
    names = [name for (name,) in loaded.query("select name from process where name is not null")]
    assert names == trace_format.read(text).processes
    [(lines,)] = loaded.query(
        "select count(*) from slice join args using (arg_set_id) "
        "where args.key = 'args.line' and display_value = 'get_order /srv/orders/api.py:40'"
    )
    assert lines == 200 * 7, "a line for each slice, and for each blocker's mark"


def test_a_recorded_timeline_of_sqlalchemy(
    perfetto: Open, browser: Browser, tmp_path: Path
) -> None:
    out = tmp_path / "out.trace.json"
    run_python(PROGRAMS / "timeline_orders.py", out, tmp_path / "orders.db")
    text = out.read_text(encoding="utf-8")
    assert json.loads(text)["otherData"]["shows"] == "timeline"
    assert trace_format.read(text).arrows
    assert_catapult_reads_alike(browser, text)
    assert_read_alike(perfetto(text), text)
