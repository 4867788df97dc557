"""The exact engine on gevent, eventlet, greenletio and uvloop, and as people start it.

In processes of their own: a hub stays with its thread, and patching stays with its process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from greenprof.profiles import Profile, State
from tests.running import REPOSITORY, run_python

HEAD = """
import json, sys
sys.path.insert(0, {repository!r})
from tests.counted_calls import assert_counts_agree, burn, count, counted, counting
"""
TAIL = """
result = found()
assert_counts_agree(result)
print(json.dumps({
    "paths": sorted(result.paths(*counted)),
    "groups": result.groups(),
    "totals": {name: result.total_ms(name) for name in counted},
    "troubles": result.engine._calls.troubles,
    "sum": sum(one.cpu_ns for one in result.profile.samples) / 1e6,
}))
"""


def run_program(body: str, *, before: str = "") -> dict[str, Any]:
    """What was found of the program, which itself checks that the calls are those that it counted."""
    head = HEAD.format(repository=str(REPOSITORY))
    finished = run_python("-c", before + head + body + TAIL)
    assert finished.returncode == 0, str(finished)
    assert finished.stderr == "", str(finished)
    result: dict[str, Any] = json.loads(finished.stdout)
    assert result["troubles"] == {}
    return result


GEVENT = """
import gevent, threading

def leaf():
    count()
    burn(2)
    gevent.sleep(0.001)
    burn(2)

def parent():
    count()
    gevent.joinall([gevent.spawn(leaf) for _ in range(5)])

def work():
    count()
    burn(1)

with counting() as found:
    gevent.joinall([gevent.spawn(parent) for _ in range(4)])
    gevent.sleep(0.001)
    gevent.joinall([gevent.spawn(leaf)])
    threads = [threading.Thread(target=work) for _ in range(3)]
    [one.start() for one in threads]
    [one.join() for one in threads]
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"


@pytest.mark.parametrize("before", ["", PATCHED], ids=["unpatched", "patched"])
def test_gevent(before: str) -> None:
    found = run_program(GEVENT, before=before)
    assert found["groups"]["leaf"] == ["greenlet", 21]
    assert found["groups"]["parent"] == ["greenlet", 4]
    # A greenlet's stack goes on at what spawned it, as everywhere in greenprof.
    assert ["|", "parent", "|", "leaf", "burn"] in found["paths"]
    assert ["|", "leaf", "burn"] in found["paths"]
    assert 84 <= found["totals"]["leaf"] < 126
    assert 80 <= found["totals"]["parent"] < 120
    assert found["totals"]["work"] >= 3


EVENTLET = """
import eventlet

def leaf():
    count()
    burn(2)
    eventlet.sleep(0.001)
    burn(2)

def parent():
    count()
    pool = eventlet.GreenPool(3)
    for _ in range(5):
        pool.spawn(leaf)
    pool.waitall()

with counting() as found:
    parent()
    eventlet.spawn(parent).wait()
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="needs Python 3.13 or older")
def test_eventlet() -> None:
    found = run_program(EVENTLET, before="import warnings; warnings.simplefilter('ignore')\n")
    assert 40 <= found["totals"]["leaf"] < 60
    assert found["groups"]["leaf"] == ["greenlet", 10]


GREENLETIO = """
import asyncio
from greenletio import async_, await_

async def fetch():
    count()
    await asyncio.sleep(0)
    burn(5)

def report():
    count()
    for _ in range(3):
        await_(fetch())

@async_
def endpoint():
    count()
    report()

async def main():
    count()
    await asyncio.gather(endpoint(), endpoint())

with counting() as found:
    asyncio.run(main())
"""


def test_greenletio() -> None:
    found = run_program(GREENLETIO)
    for name in ("fetch", "report", "endpoint"):
        assert 30 <= found["totals"][name] < 45, name
    assert any(path[-4:] == ["report", "|", "fetch", "burn"] for path in found["paths"])


UVLOOP = """
import asyncio, uvloop
from sqlalchemy.util import greenlet_spawn
try:
    from sqlalchemy.util import await_
except ImportError:
    from sqlalchemy.util import await_only as await_

async def fetch():
    count()
    await asyncio.sleep(0)
    burn(3)

def report():
    count()
    for _ in range(4):
        await_(fetch())

async def endpoint():
    count()
    await greenlet_spawn(report)

async def main():
    count()
    await asyncio.gather(*(endpoint() for _ in range(5)))

with counting() as found:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
"""


def test_uvloop() -> None:
    found = run_program(UVLOOP)
    assert found["groups"]["endpoint"] == ["asyncio", 5]
    whole = [path for path in found["paths"] if path[-2:] == ["fetch", "burn"]]
    assert whole == [["main", "endpoint", "|", "report", "|", "fetch", "burn"]]
    assert 60 <= found["totals"]["endpoint"] < 90


PROGRAM = """
import asyncio, sys

calls = 0

def work(number):
    global calls
    calls += 1
    return sum(range(number))

async def main():
    for number in range(100):
        work(number)
    await asyncio.sleep(0)

asyncio.run(main())
print(calls)
"""


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_greenprof_run(tmp_path: Path, clock: str) -> None:
    program, output = tmp_path / "program.py", tmp_path / "out.gprof"
    program.write_text(PROGRAM)
    options = ["--engine", "exact", "--exact-clock", clock, "-o", str(output)]
    finished = run_python("-m", "greenprof", "run", *options, str(program))
    assert finished.returncode == 0, str(finished)
    assert finished.stdout == "100\n"
    profile = Profile.load(output)
    assert profile.info.engine == "exact"
    assert profile.info.clock == clock
    calls = 0
    for sample in profile.samples:
        names = [frame.name for frame in profile.stack(sample.stack)]
        assert "<module>" not in names or "main" in profile.groups[sample.group].name.lower()
        if names[-1:] == ["work"]:
            assert sample.state is State.ON_CPU
            calls += sample.count
    assert calls == 100
    paths = {frame.path for frame in profile.frames}
    assert not any("/click/" in path or "/greenprof/" in path for path in paths)
    roots = {profile.stack(one.stack)[0].path for one in profile.samples if one.stack >= 0}
    assert not any("greenprof" in Path(path).name for path in roots), roots
