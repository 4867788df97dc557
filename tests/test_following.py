"""The tracer rests where switches are many; stacks are whole all the same, and it wakes for whoever wants it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import greenlet
import pytest
from sqlalchemy.util import await_only, greenlet_spawn

import greenprof
from greenprof import switches
from greenprof.profiles import Profile
from greenprof.samplers import following
from tests.raw_bridges import as_async, wait
from tests.running import REPOSITORY, run_python

pytestmark = pytest.mark.flaky(reruns=3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It rests at the first tick, and whatever the number of switches."""
    monkeypatch.setattr(following, "FIRST_NS", 0)
    monkeypatch.setattr(following, "SHARE", -1.0)


def burn(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(200))


async def computed() -> None:
    burn(0.002)


async def waited() -> None:
    await asyncio.sleep(0.005)


def service(rounds: int, found: list[bool], hand_over: Any) -> None:
    for _ in range(rounds):
        burn(0.002)
        hand_over(computed())
        hand_over(waited())
        found.append(greenlet.gettrace() is None)


def stacks_with(profile: Profile, name: str) -> list[tuple[list[str], int]]:
    found = []
    for sample in profile.samples:
        names = [frame.name for frame in profile.stack(sample.stack)]
        if any(one.endswith(name) for one in names):
            found.append((names, sample.wall_ns))
    return found


def test_stacks_are_whole_while_it_rests() -> None:
    rested: list[bool] = []

    async def request() -> None:
        await greenlet_spawn(service, 80, rested, await_only)

    with greenprof.Profiler(500, awaits=False) as profiler:
        asyncio.run(request())
    assert sum(rested) > 0.7 * len(rested)
    for name in ("computed", "waited", "service"):
        found = stacks_with(profiler.profile, name)
        assert sum(wall_ns for _, wall_ns in found) > 0.1e9
        split = [
            names
            for names, _ in found
            if not {"service", "greenlet_spawn"} <= set(names)
            or not any(one.endswith("request") for one in names)
        ]
        assert split == []


def test_it_does_not_rest_where_a_bridge_is_not_known() -> None:
    rested: list[bool] = []

    async def request() -> None:
        await as_async(service, 40, rested, wait)

    with greenprof.Profiler(500, awaits=False) as profiler:
        asyncio.run(request())
        # Seen once, it is never out again.
        assert not any(rested[10:])
    assert all("service" in names for names, _ in stacks_with(profiler.profile, "waited"))


def test_it_wakes_for_whoever_wants_switches() -> None:
    with greenprof.Profiler(500, awaits=False):
        burn(0.05)
        assert greenlet.gettrace() is None
        switches.follow()
        try:
            burn(0.05)
            assert greenlet.gettrace() is not None
        finally:
            switches.unfollow()
        burn(0.05)
        assert greenlet.gettrace() is None


def test_counting_awaits_pauses_where_switches_cost_too_much() -> None:
    def ping_pong(rounds: int) -> None:
        def pong() -> None:
            while True:
                main.switch()

        main = greenlet.getcurrent()
        other = greenlet.greenlet(pong)
        for _ in range(rounds):
            other.switch()

    with greenprof.Profiler(200) as profiler:
        ping_pong(300_000)
        assert greenlet.gettrace() is None
    assert any("awaits were counted for" in text for text in profiler.profile.info.warnings)


def test_it_wakes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "REST_NS", 20_000_000)
    found = []
    with greenprof.Profiler(500, awaits=False):
        for _ in range(100):
            burn(0.002)
            found.append(greenlet.gettrace() is None)
    assert 10 < sum(found) < 90


SPAWNING = """
import sys, time
sys.path.insert(0, {repository!r})
import gevent, greenlet
import greenprof
from greenprof.samplers import following
from tests.test_following import burn, stacks_with
following.FIRST_NS, following.SHARE = 0, -1.0

def sleeper():
    gevent.sleep(0.3)

with greenprof.Profiler(200, awaits=False) as profiler:
    burn(0.06)
    assert greenlet.gettrace() is None
    gevent.joinall([gevent.spawn(sleeper) for _ in range(4)])
    assert greenlet.gettrace() is None
# And the main greenlet, which waits above the hub.
for name in ("sleeper", "<joinall>"):
    print(sum(wall_ns for _, wall_ns in stacks_with(profiler.profile, name)))
"""


def test_greenlets_that_begin_while_it_rests_are_known() -> None:
    """In a process of its own: a hub stays with its thread."""
    finished = run_python("-c", SPAWNING.format(repository=str(REPOSITORY)))
    assert finished.stderr == "", str(finished)
    slept, joined = map(int, finished.stdout.split())
    assert slept == pytest.approx(4 * 0.3e9, rel=0.2)
    assert joined == pytest.approx(0.3e9, rel=0.2)
