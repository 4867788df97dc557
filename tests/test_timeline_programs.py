"""Timelines on hubs, on uvloop, of blocked loops, and of processes that fork.

In processes of their own: a hub stays with its thread, and patching stays with its process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from greenprof.profiles import Profile
from tests import trace_format
from tests.running import BURN, REPOSITORY, run_python

HEAD = """
import json, sys
sys.path.insert(0, {repository!r})
from greenprof._native import time as clock
from greenprof.frames import FrameTable
from greenprof.profiles import ProfileBuilder, ProfileInfo
from greenprof.samplers.awaits import AwaitAccount
from greenprof.samplers.blocks import Blocks
from greenprof.samplers.timeline import Timeline

noted = []

def work(who, ns=2_000_000):
    start_ns = clock.monotonic_ns()
    while clock.monotonic_ns() - start_ns < ns:
        pass
    noted.append((who, start_ns, clock.monotonic_ns()))

account, blocks = AwaitAccount(), Blocks(0.1)
timeline = Timeline(account, blocks)
parts = timeline, blocks, account

def start():
    for part in parts:
        part.start()

def stop():
    for part in reversed(parts):
        part.stop()

def slices():
    builder, table = ProfileBuilder(), FrameTable()
    for part in (account, blocks, timeline):
        part.fill(builder, table, 0)
    profile = builder.build(ProfileInfo())
    found = {{}}
    for one in profile.slices:
        lines = [
            (frame.name, frame.line - frame.first_line) for frame in profile.stack(one.stack)[-1:]
        ]
        end_ns = one.start_ns + one.duration_ns
        group = profile.groups[profile.tracks[one.track].group].name
        found.setdefault(f"{{group}} {{one.track}}", []).append(
            (str(one.kind), one.start_ns, end_ns, one.name, lines, one.flow)
        )
    return found

start()
"""
TAIL = """
stop()
print(json.dumps({"noted": noted, "tracks": slices()}))
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"


def recorded(body: str, *, before: str = "") -> tuple[list[Any], dict[str, list[Any]]]:
    """What a program noted of its work, and its tracks."""
    program = before + HEAD.format(repository=str(REPOSITORY)) + body + TAIL
    finished = run_python("-c", program)
    assert finished.stderr == "", str(finished)
    result = json.loads(finished.stdout)
    return result["noted"], result["tracks"]


def ran_at(slices: list[Any], start_ns: int, end_ns: int) -> list[Any]:
    return [one for one in slices if one[0] == "run" and one[1] <= start_ns and end_ns <= one[2]]


def assert_never_runs_while_it_waits(slices: list[Any]) -> None:
    runs = [one for one in slices if one[0] == "run"]
    for waits in (one for one in slices if one[0] == "await"):
        assert all(run[2] <= waits[1] or waits[2] <= run[1] for run in runs)


GEVENT = """
import gevent

def worker(who):
    for _ in range(3):
        work(who)
        gevent.sleep(0.003)

gevent.joinall([gevent.spawn(worker, who) for who in range(3)])
"""
GEVENT_PATCHED = """
import threading, time

def worker(who):
    for _ in range(3):
        work(who)
        time.sleep(0.003)

threads = [threading.Thread(target=worker, args=(who,)) for who in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
EVENTLET = """
import eventlet

def worker(who):
    for _ in range(3):
        work(who)
        eventlet.sleep(0.003)

pool = eventlet.GreenPool()
for who in range(3):
    pool.spawn(worker, who)
pool.waitall()
"""


@pytest.mark.parametrize(
    ("body", "before"),
    [
        (GEVENT, ""),
        (GEVENT_PATCHED, PATCHED),
        (EVENTLET, "import warnings; warnings.simplefilter('ignore')\n"),
    ],
    ids=["gevent", "gevent, patched", "eventlet"],
)
def test_greenlets_run_and_wait_in_turn(body: str, before: str) -> None:
    noted, tracks = recorded(body, before=before)
    assert len(noted) == 9
    by_worker: dict[int, set[str]] = {}
    for who, start_ns, end_ns in noted:
        at = [name for name, slices in tracks.items() if ran_at(slices, start_ns, end_ns)]
        assert len(at) == 1
        by_worker.setdefault(who, set()).update(at)
    assert len(set.union(*by_worker.values())) == 3, "a track for each greenlet"
    for [name] in by_worker.values():
        slices = tracks[name]
        assert_never_runs_while_it_waits(slices)
        waits = [one for one in slices if one[0] == "await"]
        assert len(waits) >= 3
        assert sum(one[4] == [["worker", 3]] for one in waits) == 3
        # What ran before a wait has its line.
        ran = [one for one in slices if one[0] == "run" and one[4] == [["worker", 3]]]
        assert len(ran) == 3
        # Two greenlets of a thread never run at once.
        others = [
            run for other, found in tracks.items() if other != name
            for run in found if run[0] == "run"
        ]  # fmt: skip
        for run in ran:
            assert all(other[2] <= run[1] or run[2] <= other[1] for other in others)


def test_on_uvloop_sync_code_and_awaits_are_seen() -> None:
    noted, tracks = recorded("""
import asyncio, uvloop
from sqlalchemy.util import await_only, greenlet_spawn

async def fetch(who):
    await asyncio.sleep(0.002)

def service(who):
    for _ in range(3):
        work(who)
        await_only(fetch(who))

async def main():
    await asyncio.gather(*(greenlet_spawn(service, who) for who in range(2)))

uvloop.run(main())
""")
    assert len(noted) == 6
    for who in range(2):
        own = [one for one in noted if one[0] == who]
        [slices] = [found for found in tracks.values() if ran_at(found, *own[0][1:])]
        assert all(ran_at(slices, *one[1:]) for one in own)
        assert_never_runs_while_it_waits(slices)
        waits = [one for one in slices if one[0] == "await"]
        assert [one[4] for one in waits] == [[["service", 3]]] * 3


def test_blockers_are_marked_where_they_were() -> None:
    noted, tracks = recorded("""
import asyncio

async def hog():
    await asyncio.sleep(0.01)
    work("hog", 400_000_000)
    await asyncio.sleep(0)

async def other():
    for _ in range(20):
        await asyncio.sleep(0.001)

async def main():
    await asyncio.gather(hog(), other())

asyncio.run(main())
""")
    [(_, start_ns, end_ns)] = noted
    [(name, slices)] = [
        (name, one) for name, one in tracks.items() if ran_at(one, start_ns, end_ns)
    ]
    assert name.startswith("hog")
    blocks = [one for one in slices if one[0] == "block"]
    assert [one for one in blocks if one[1] <= start_ns and end_ns <= one[2]]
    assert all(
        one[0] != "block" for other, found in tracks.items() for one in found if other != name
    )


def test_a_forked_child_has_a_timeline_of_its_own_or_none() -> None:
    noted, tracks = recorded("""
import asyncio, os

async def main():
    work("parent")
    await asyncio.sleep(0)
    for part in parts:
        part.before_fork()
    pid = os.fork()
    if pid == 0:
        for part in parts:
            part.abandon()
        try:
            assert not slices()
            assert account.observer is None and blocks.observer is None
        except BaseException:
            os._exit(1)
        os._exit(0)
    for part in parts:
        part.after_fork_in_parent()
    assert os.waitpid(pid, 0)[1] == 0
    work("parent")

asyncio.run(main())
""")
    assert len(noted) == 2
    [slices] = [found for found in tracks.values() if ran_at(found, *noted[0][1:])]
    assert ran_at(slices, *noted[1][1:])


def test_run_writes_a_timeline_where_the_suffix_asks_for_one(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "import asyncio, time\n" + BURN + "async def hog():\n"
        "    await asyncio.sleep(0.001)\n    burn(0.5)\n    await asyncio.sleep(0)\n"
        "asyncio.run(hog())\n"
    )
    out, saved = tmp_path / "app.trace.json", tmp_path / "app.gprof"
    run_python(
        "-m", "greenprof", "run", "-o", out, "-o", saved, "--block-limit", "100ms", program
    )  # fmt: skip
    trace = trace_format.read(out.read_text())
    assert trace.document["otherData"]["shows"] == "timeline"
    assert any(one.name == "hog" and one.category == "run" for one in trace.slices)
    [blocker] = trace.named("loop blockers")
    assert blocker.name.startswith("burn blocks for ")
    assert re.search(r"hog \(app\.py:\d+\) > burn \(app\.py:\d+\)$", blocker.args["stack"])
    assert Profile.load(saved).slices
    again = tmp_path / "again.trace.json"
    run_python("-m", "greenprof", "export", saved, "-o", again)
    assert json.loads(again.read_text()) == json.loads(out.read_text())
