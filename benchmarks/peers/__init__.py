"""The profilers that benchmarks set greenprof beside: how each is run at its best, how its output is read.

    pip install -e '.[bench]'

A profiler whose best settings for CPU are not its best for waiting is here once with each. Each runs the
program in a process of its own, as a user would start it.
"""

from __future__ import annotations

from benchmarks.peers.austin import Austin
from benchmarks.peers.base import Clock, Peer, Stack
from benchmarks.peers.cprofile import CProfile
from benchmarks.peers.ddtrace import Ddtrace
from benchmarks.peers.greenprof import Greenprof
from benchmarks.peers.pyinstrument import Pyinstrument
from benchmarks.peers.pyspy import PySpy
from benchmarks.peers.scalene import Scalene
from benchmarks.peers.viztracer import Viztracer
from benchmarks.peers.yappi import Yappi

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Greenprof(),
        Pyinstrument(),
        PySpy("py-spy"),
        PySpy("py-spy --idle", "--idle"),
        Austin("austin"),
        Austin("austin --sleepless", "--sleepless"),
        Yappi("cpu"),
        Yappi("wall"),
        Yappi("cpu", builtins=True),
        Yappi("wall", builtins=True),
        Viztracer("viztracer"),
        Viztracer("viztracer --log_async", "--log_async"),
        Scalene(),
        CProfile(),
        Ddtrace("ddtrace"),
        Ddtrace("ddtrace, fixed rate", fixed=True),
    )
}

__all__ = ["PEERS", "Clock", "Peer", "Stack"]
