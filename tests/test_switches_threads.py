"""Following switches in threads, across a fork, beside gevent, and to the interpreter's end."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import greenlet

from greenprof import switches
from tests.running import run_python
from tests.shapes import switch_once


def test_threads_started_later_are_followed_and_hooks_stay(followed: switches.Switches) -> None:
    """The program's hook for new threads is called for each of them, before and after us."""
    switches.unfollow()
    called: list[int] = []
    found: list[Any] = []

    def hook(frame: Any, event: str, arg: Any) -> None:
        called.append(threading.get_ident())

    def work() -> None:
        ident = threading.get_ident()
        switch_once()
        state = switches.of_thread(ident)
        found.append((ident, None if state is None else state.position()[0], sys.getprofile()))

    def in_thread() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    threading.setprofile(hook)
    try:
        switches.follow()
        in_thread()
        assert found[0] == (found[0][0], 2, hook)
        assert called
        assert set(called) == {found[0][0]}
        switches.unfollow()
        assert threading.getprofile() is hook
        in_thread()
        assert found[1][1:] == (None, hook)
    finally:
        threading.setprofile(None)
        switches.follow()


def test_a_hook_for_new_threads_that_came_after_us_is_left(followed: switches.Switches) -> None:
    def hook(frame: Any, event: str, arg: Any) -> None:
        pass

    switches.follow()
    threading.setprofile(hook)
    switches.unfollow()
    switches.unfollow()
    try:
        assert threading.getprofile() is hook
    finally:
        threading.setprofile(None)
        switches.follow()


def test_the_profile_function_of_the_program_stays(followed: switches.Switches) -> None:
    switches.unfollow()

    def mine(frame: Any, event: str, arg: Any) -> None:
        pass

    sys.setprofile(mine)
    try:
        switches.follow()
        switch_once()
        assert sys.getprofile() is mine
        switches.unfollow()
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
        switches.follow()


def test_unfollow_elsewhere_leaves_a_thread_that_can_be_released(
    followed: switches.Switches,
) -> None:
    """A slot can only be given back from within its thread: until then our callback does nothing."""
    ours = greenlet.gettrace()
    thread = threading.Thread(target=switches.unfollow)
    thread.start()
    thread.join()
    assert greenlet.gettrace() is ours
    assert switches.of_thread(threading.get_ident()) is None
    before = followed.position()[0]
    switch_once()
    assert followed.position()[0] == before
    assert followed.born == {}
    switches.release_thread()
    assert greenlet.gettrace() is None
    switches.follow()


def test_an_identity_that_is_used_again_is_a_new_thread(followed: switches.Switches) -> None:
    """Threads come and go under the same identity; each is followed, and no switch is lost count of."""
    counts = []

    def work() -> None:
        switch_once()
        state = switches.of_thread(threading.get_ident())
        counts.append((threading.get_ident(), None if state is None else state.position()[0]))

    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    idents = {ident for ident, _ in counts}
    assert all(count for _, count in counts)
    assert switches.forget_threads({threading.get_ident()}) == 40
    assert all(switches.of_thread(ident) is None for ident in idents)


def test_a_forked_child_follows_nobody(followed: switches.Switches) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # No pytest in the child: it ends at once, whatever happens.
        try:
            clean = greenlet.gettrace() is None and not switches.following()
            clean = clean and threading.getprofile() is None and not switches.all_threads()
            switches.follow()
            switch_once()
            state = switches.of_thread(threading.get_ident())
            counted = state is not None and state.position()[0] == 2
            os.write(writer, b"yes" if clean and counted else b"no")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        assert answers.read() == b"yes"
    os.waitpid(child, 0)
    assert switches.following()


LIVE_AT_EXIT = """
import greenlet, threading
from greenprof import switches
switches.follow()
def run():
    try:
        greenlet.getcurrent().parent.switch()
    finally:
        greenlet.greenlet(list).switch()
kept = [greenlet.greenlet(run) for _ in range(10)]
for one in kept: one.switch()
def other():
    mine = [greenlet.greenlet(run) for _ in range(10)]
    for one in mine: one.switch()
    kept.extend(mine)
thread = threading.Thread(target=other); thread.start(); thread.join()
async def bridge():
    greenlet.greenlet(run).switch()
coroutine = bridge()
try: coroutine.send(None)
except StopIteration: pass
print("end")
"""


def test_the_interpreter_ends_with_live_greenlets() -> None:
    """Greenlets killed while modules go away, some of a thread that has ended: no word on stderr."""
    finished = run_python("-c", LIVE_AT_EXIT)
    assert finished.stdout == "end\n"
    assert finished.stderr == ""


GEVENT_PATCHED = """
from gevent import monkey
import sys, threading
from greenprof import switches
from greenprof._native import get_ident
switches.follow()
monkey.patch_all()
import gevent
def mine(frame, event, arg): pass
sys.setprofile(mine)
switches.leave_patched_threading()
assert threading.getprofile() is None, threading.getprofile()
def work():
    seen.append((sys.getprofile(), len(switches.all_threads())))
seen = []
for _ in range(3):
    thread = threading.Thread(target=work); thread.start(); thread.join()
sys.setprofile(None)
assert seen == [(mine, 1)] * 3, seen
state = switches.of_thread(get_ident())
before = state.position()[0]
gevent.joinall([gevent.spawn(gevent.sleep, 0.001) for _ in range(5)])
assert state.position()[0] >= before + 10
# gevent's own pool has real threads: they are not ours to touch, and nothing breaks.
assert gevent.get_hub().threadpool.apply(lambda: 42) == 42
switches.unfollow()
print("end")
"""


def test_gevent_may_patch_threading_while_we_follow() -> None:
    """Its "threads" are greenlets of this one: they must not take the program's profile function."""
    finished = run_python("-c", GEVENT_PATCHED)
    assert finished.stdout == "end\n", str(finished)


GEVENT_MONITOR = """
import gevent, greenlet, sys
from gevent import config
gevent.sleep(0)  # a hub that does not run yet is false, and the monitor would take it for gone
config.monitor_thread = True
from greenprof import switches
from greenprof._native import get_ident
switches.follow()
state = switches.of_thread(get_ident())
hub = gevent.get_hub()
monitor = hub.start_periodic_monitoring_thread()
assert greenlet.gettrace() is not None
assert state.check()
def work():
    for _ in range(5): gevent.sleep(0.001)
before = state.position()[0]
gevent.joinall([gevent.spawn(work) for _ in range(3)])
assert state.position()[0] > before + 15
assert monitor._greenlet_tracer.greenlet_switch_counter > 15, "the monitor sees its switches as well"
monitor.kill()
assert state.check()
before = state.position()[0]
gevent.joinall([gevent.spawn(work) for _ in range(3)])
assert state.position()[0] > before + 15
switches.unfollow()
assert greenlet.gettrace() is None, greenlet.gettrace()
print("end", state.displaced)
"""


def test_gevents_monitor_and_we_live_side_by_side() -> None:
    """It displaces us when it starts, and gives the slot back to our older callback when it ends."""
    finished = run_python("-c", GEVENT_MONITOR)
    assert finished.stdout == "end 1\n", str(finished)


def test_greenlets_that_began_before_are_known_where_they_serve_as_threads() -> None:
    """gevent's greenlets are seen at `follow`, not only those that begin later."""
    program = """
import gevent
from greenprof import switches
from greenprof._native import get_ident
early = gevent.spawn(gevent.sleep, 5)
gevent.sleep(0)
switches.follow()
born = [found() for found in switches.of_thread(get_ident()).born.values()]
assert early in born, born
print("end")
"""
    assert run_python("-c", program).stdout == "end\n"
