"""Loop blockers on asyncio: who kept the loop, at which line, for how long, and who waited."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import sys
import threading
import time
from typing import Any

import greenlet
import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from greenprof import switches
from greenprof.errors import OptionError
from greenprof.profiles import FrameOrigin, Profile
from greenprof.samplers import blocks as blocks_module
from greenprof.samplers.blocks import Blocks
from greenprof.samplers.looks import Looker
from tests.blocking_programs import LIMIT_S, burn, watching
from tests.shapes import outline

pytestmark = pytest.mark.flaky(reruns=3)

HERE = __file__


def line_after(mark: str) -> int:
    """The number of the line in this file that ends with a comment."""
    with open(HERE, encoding="utf-8") as source:
        found = [number for number, text in enumerate(source, 1) if text.endswith(f"# {mark}\n")]
    (number,) = found
    return number


def computes() -> None:
    total = 0
    until = time.monotonic() + 3 * LIMIT_S
    while time.monotonic() < until:
        total += sum(range(1000))  # computes here


def sleeps() -> None:
    time.sleep(2 * LIMIT_S)  # sleeps here


async def handler() -> None:
    await asyncio.sleep(0)
    computes()
    await asyncio.sleep(0)


def test_the_line_the_duration_and_the_stack() -> None:
    async def main() -> None:
        await asyncio.create_task(handler(), name="the handler")

    with watching() as watched:
        asyncio.run(main())
    (one,) = watched.told
    assert (one.function, one.path) == ("computes", HERE)
    assert abs(one.line - line_after("computes here")) <= 1
    assert 3 * LIMIT_S <= one.duration < 9 * LIMIT_S
    assert one.task == "the handler"
    assert one.loop == "asyncio"
    assert outline(one.stack)[:3] == ["main", "handler", "computes"]
    assert watched.blocks.warnings == []


def test_a_call_that_waits_keeps_the_loop_as_well() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        sleeps()

    with watching() as watched:
        asyncio.run(main())
    (one,) = watched.told
    assert (one.function, one.line) == ("sleeps", line_after("sleeps here"))
    assert 2 * LIMIT_S <= one.duration < 6 * LIMIT_S


def test_a_call_into_c_that_keeps_the_interpreter_too() -> None:
    """Nobody can look meanwhile; the first moment at which somebody can is still within the line.

    It is a short one, and a machine with more to do may miss it: what was not seen is said.
    """

    def matches() -> None:
        re.match(r"(a+)+$", "a" * 23 + "b")  # matches here

    async def main() -> None:
        for _ in range(6):
            await asyncio.sleep(0)
            matches()

    with watching() as watched:
        asyncio.run(main())
    unseen = [int(text.split()[0]) for text in watched.blocks.warnings]
    assert len(watched.told) + sum(unseen) == 6
    assert {one.function.rpartition(".")[2] for one in watched.told} == {"matches"}, unseen
    assert {one.line for one in watched.told} == {line_after("matches here")}


def test_who_it_was_is_said_where_the_line_was_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Looker, "look", lambda *_: None)

    async def task() -> None:
        sleeps()

    async def main() -> None:
        await asyncio.create_task(task())
        await asyncio.create_task(task(), name="order 17")
        asyncio.get_running_loop().call_soon(functools.partial(sleeps))
        await asyncio.create_task(task())
        await asyncio.sleep(0)

    with watching() as watched:
        asyncio.run(main())
    assert watched.told == []
    (said,) = watched.blocks.warnings
    assert said.startswith("4 times a loop was kept for longer than the limit, and at which line")
    own = "test_who_it_was_is_said_where_the_line_was_not_seen.<locals>.task"
    assert said.endswith(f" not seen: by {own} (2 times), order {{}}, callback sleeps")


def test_what_is_short_is_not_reported_and_waiting_is_no_block() -> None:
    async def busy() -> None:
        for _ in range(10):
            burn(LIMIT_S / 10)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.sleep(3 * LIMIT_S)
        await asyncio.gather(*(busy() for _ in range(3)))

    with watching() as watched:
        asyncio.run(main())
    # Unless the machine itself kept somebody waiting.
    assert [one for one in watched.told if one.duration < LIMIT_S] == []
    assert len(watched.told) <= 1


def test_the_middle_counts_where_a_stretch_has_several_lines() -> None:
    def first() -> None:
        burn(0.6 * LIMIT_S)

    def most() -> None:
        burn(3 * LIMIT_S)

    def last() -> None:
        burn(0.6 * LIMIT_S)

    async def main() -> None:
        await asyncio.sleep(0)
        first()
        most()
        last()

    with watching() as watched:
        asyncio.run(main())
    (one,) = watched.told
    assert [line for line in outline(one.stack) if line in ("first", "most", "last")] == ["most"]
    assert one.duration >= 4.2 * LIMIT_S


def test_sync_code_over_a_bridge_is_seen_whole() -> None:
    """In the sync greenlet, and in what it awaits: with the task above, and the sync code."""

    def report() -> None:
        computes()
        await_only(load())

    async def load() -> None:
        await asyncio.sleep(0)
        sleeps()

    async def endpoint() -> None:
        await greenlet_spawn(report)

    with watching() as watched:
        asyncio.run(endpoint())
    (computed,) = watched.of("computes")
    (slept,) = watched.of("sleeps")
    assert outline(computed.stack) == ["endpoint", "~greenlet_spawn", "|report", "computes"]
    shape = outline(slept.stack)
    assert shape[:3] == ["endpoint", "~greenlet_spawn", "|report"]
    assert shape[-2:] == ["|*load", "*sleeps"]


def test_how_many_waited() -> None:
    """Tasks whose next step was due, sleeps that were over, and sockets with something to read."""

    async def ready(event: asyncio.Event) -> None:
        await event.wait()

    async def sleeper() -> None:
        await asyncio.sleep(LIMIT_S / 10)

    async def reader(one: socket.socket) -> bytes:
        return await asyncio.get_running_loop().sock_recv(one, 1)

    async def blocker(event: asyncio.Event, ours: list[socket.socket]) -> None:
        await asyncio.sleep(0)
        event.set()
        for one in ours:
            one.send(b"x")
        computes()

    async def main() -> None:
        event = asyncio.Event()
        pairs = [socket.socketpair() for _ in range(4)]
        for one, other in pairs:
            one.setblocking(False)
            other.setblocking(False)
        waiting = [ready(event), ready(event), *(sleeper() for _ in range(3))]
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in waiting]
        tasks += [asyncio.ensure_future(reader(one)) for one, _ in pairs]
        never = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        await asyncio.create_task(blocker(event, [other for _, other in pairs]))
        await asyncio.gather(*tasks)
        never.cancel()
        for pair in pairs:
            for one in pair:
                one.close()

    with watching() as watched:
        asyncio.run(main())
    (one,) = watched.told
    expected = 2 + 3 + (4 if sys.platform == "linux" else 0)
    assert one.waiting == expected


def test_nobody_waits_for_a_loop_that_has_one_task() -> None:
    with watching() as watched:
        asyncio.run(handler())
    (one,) = watched.told
    assert one.waiting == 0


def test_a_callback_that_is_no_tasks() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(computes)
        asyncio.get_running_loop().call_later(0.01, time.sleep, 2 * LIMIT_S)
        await asyncio.sleep(0.02)

    with watching() as watched:
        asyncio.run(main())
    computed, slept = watched.told
    assert (computed.task, computed.function) == ("MainThread", "computes")
    # Of a function in C nothing is on the stack but what calls it.
    assert slept.function == "Handle._run"
    assert [frame.name for frame in slept.stack.frames] == ["Handle._run"]


def test_loops_of_other_threads() -> None:
    def run() -> None:
        asyncio.run(handler())

    with watching() as watched:
        thread = threading.Thread(target=run, name="worker-7")
        thread.start()
        thread.join()
    (one,) = watched.told
    assert one.function == "computes"
    profile = watched.profile()
    assert profile.threads[profile.blocks[0].thread] == "worker-{}"


def rests(seconds: float) -> None:
    time.sleep(seconds)


def test_the_profile_has_one_record_of_each_line() -> None:
    async def slow(seconds: float) -> None:
        await asyncio.sleep(0)
        rests(seconds)

    async def main() -> None:
        for seconds in (2 * LIMIT_S, 4 * LIMIT_S, 2 * LIMIT_S):
            await asyncio.create_task(slow(seconds))
        await asyncio.create_task(handler())

    with watching() as watched:
        asyncio.run(main())
    profile = watched.profile()
    assert len(profile.blocks) == 2
    rested = next(one for one in profile.blocks if one.count == 3)
    durations = [one.duration for one in watched.of("rests")]
    assert rested.total_ns == pytest.approx(sum(durations) * 1e9)
    assert rested.worst_ns == pytest.approx(max(durations) * 1e9)
    assert rested.worst_ns >= 4 * LIMIT_S * 1e9
    assert names_of(profile, rested.stack)[-1] == "rests"
    assert profile.groups[rested.group].name.endswith("slow")
    assert rested.loop == "asyncio"


def names_of(profile: Profile, node: int) -> list[str]:
    found: list[str] = []
    while node >= 0:
        node, frame = profile.nodes[node]
        found.insert(0, profile.frames[frame].name)
    return found


def test_a_timeline_is_told_of_each() -> None:
    async def main() -> Any:
        await handler()
        return asyncio.current_task()

    with watching() as watched:
        task = asyncio.run(main())
    ((owner, ident, start_ns, end_ns, site),) = watched.observed
    assert owner is task
    assert ident == threading.get_ident()
    assert (end_ns - start_ns) / 1e9 == watched.told[0].duration
    profile = watched.profile()
    group, stack, name = watched.blocks.placed_site(site)
    assert (group, stack) == (profile.blocks[0].group, profile.blocks[0].stack)
    assert name == "computes"
    assert watched.blocks.placed_site(site + 1) == watched.blocks.placed_site(-1) == (0, -1, "")


def test_one_that_lasts_when_watching_ends_counts_until_then() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        sleeps()
        blocks.stop()
        sleeps()

    found: list[Any] = []
    blocks = Blocks(LIMIT_S, found.append)
    blocks.start()
    asyncio.run(main())
    (one,) = found
    assert one.function == "sleeps"
    assert 2 * LIMIT_S <= one.duration < 4 * LIMIT_S


def test_one_that_lasts_when_watching_begins_counts_from_then() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        sleeps()
        with watching() as watched:
            computes()
            await asyncio.sleep(2 * LIMIT_S)
            sleeps()
        found.extend(watched.told)

    found: list[Any] = []
    asyncio.run(main())
    computed, slept = found
    assert computed.function == "computes"
    assert 3 * LIMIT_S <= computed.duration < 6 * LIMIT_S
    assert slept.function == "sleeps"


def test_a_block_within_one_step_from_begin_to_end() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        with watching() as watched:
            computes()
        found.extend(watched.told)

    found: list[Any] = []
    asyncio.run(main())
    assert [one.function for one in found] == ["computes"]


def test_one_watch_after_another_within_one_step() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        with watching() as first:
            await asyncio.sleep(0)
            computes()
        with watching() as second:
            sleeps()
            await asyncio.sleep(0)
        found.extend([first, second])

    found: list[Any] = []
    asyncio.run(main())
    for watched, least in zip(found, (3, 2), strict=True):
        (one,) = watched.told
        assert least * LIMIT_S <= one.duration < (least + 3) * LIMIT_S
        assert watched.blocks.warnings == []


def test_a_callback_that_raises_is_noted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raises(_: object) -> None:
        raise LookupError("the callback's own")

    async def main() -> None:
        for _ in range(2):
            await asyncio.sleep(0)
            sleeps()

    blocks = Blocks(LIMIT_S, raises)
    blocks.start()
    asyncio.run(main())
    blocks.stop()
    (warning,) = blocks.warnings
    assert "the callback failed: LookupError: the callback's own (2 times)" in warning
    assert len(caplog.records) == 1


def test_a_callback_may_stop_the_watch() -> None:
    """It runs in the watching thread, which cannot wait for its own end."""
    stopped = threading.Event()

    def stop(_: object) -> None:
        blocks.stop()
        stopped.set()

    async def main() -> None:
        await asyncio.sleep(0)
        sleeps()
        await asyncio.to_thread(stopped.wait, 20)

    blocks = Blocks(LIMIT_S, stop)
    blocks.start()
    asyncio.run(main())
    assert stopped.is_set()
    blocks.stop()
    switches.release_thread()  # its tracer could not be taken out from another one


def test_deep_recursion_is_seen() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        else:
            time.sleep(2 * LIMIT_S)

    async def main() -> None:
        await asyncio.sleep(0)
        deep(2500)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(4000)
    try:
        with watching() as watched:
            asyncio.run(main())
    finally:
        sys.setrecursionlimit(limit)
    assert [one.function.rpartition(".")[2] for one in watched.told] == ["deep"]


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprof.samplers.blocktable.MAX_SITES", 1)
    monkeypatch.setattr(blocks_module, "MAX_SITES", 1)

    async def main() -> None:
        await handler()
        sleeps()

    with watching() as watched:
        asyncio.run(main())
    assert len(watched.told) == 2
    assert len(watched.profile().blocks) == 1
    assert watched.blocks.warnings == [
        "1 loop blockers are left out: no more than 1 lines are told apart"
    ]


def test_sync_code_that_drives_a_loop_does_not_keep_it() -> None:
    """A loop in a child of the sync code's greenlet, as with Playwright's sync API.

    It hands control back in the middle of a callback, and waits for nobody until it is asked again.
    """
    sync = greenlet.getcurrent()

    async def main() -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(sync.switch)
        await asyncio.sleep(0.01)
        computes()

    with watching() as watched:
        loop = greenlet.greenlet(lambda: asyncio.run(main()))
        loop.switch()
        rests(4 * LIMIT_S)
        loop.switch()
    assert [one.function.rpartition(".")[2] for one in watched.told] == ["computes"]
    assert watched.told[0].duration < 4 * LIMIT_S + 3 * LIMIT_S
    assert watched.blocks.warnings == []


@pytest.mark.parametrize("limit", [0, -1, 0.001, 3601, float("nan"), float("inf"), "soon", None])
def test_limits_that_make_no_sense(limit: Any) -> None:
    with pytest.raises(OptionError, match=r"^the limit is .*: give seconds, from 0\.01 to 3600$"):
        Blocks(limit)


def test_library_code_is_reported_at_the_line_of_the_application() -> None:
    """What runs is the library's; what one can change is one's own."""

    async def main() -> None:
        await asyncio.sleep(0)
        threading.Event().wait(2 * LIMIT_S)  # waits here

    with watching() as watched:
        asyncio.run(main())
    (one,) = watched.told
    assert one.line == line_after("waits here")
    assert one.stack.frames[-1].origin is FrameOrigin.STDLIB
