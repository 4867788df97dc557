"""Loop blockers on uvloop, gevent and eventlet.

Hubs in processes of their own: a hub stays with its thread, and patching stays with its process.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import uvloop
from sqlalchemy.util import await_only, greenlet_spawn

from tests.blocking_programs import LIMIT_S, burn, watching
from tests.running import REPOSITORY, run_python
from tests.shapes import outline

pytestmark = pytest.mark.flaky(reruns=3)


def run(main: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def computes() -> None:
    burn(4 * LIMIT_S)


def sleeps() -> None:
    time.sleep(4 * LIMIT_S)


def test_uvloop_is_asked() -> None:
    """The beginning is known to half an interval, which is an eighth of the limit."""

    async def handler() -> None:
        await asyncio.sleep(0.01)
        sleeps()
        await asyncio.sleep(2 * LIMIT_S)
        computes()
        await asyncio.sleep(0)

    async def main() -> None:
        waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
        await asyncio.create_task(handler(), name="the handler")
        for task in waiting:
            task.cancel()

    with watching() as watched:
        run(main())
    slept, computed = watched.told
    assert (slept.function, computed.function) == ("sleeps", "burn")
    for one in watched.told:
        assert (one.loop, one.task) == ("uvloop", "the handler")
        assert 4 * LIMIT_S - LIMIT_S / 3 <= one.duration < 8 * LIMIT_S
    assert outline(computed.stack) == ["main", "handler", "computes", "burn"]
    assert watched.blocks.warnings == []
    assert {block.loop for block in watched.profile().blocks} == {"uvloop"}


def test_uvloop_many_short_steps_are_no_block() -> None:
    """Also of ten tasks one after the other, between which the loop does not come round."""

    async def short() -> None:
        await asyncio.sleep(0.01)
        burn(LIMIT_S / 2)

    async def main() -> None:
        await asyncio.sleep(3 * LIMIT_S)
        await asyncio.gather(*(short() for _ in range(10)))

    with watching() as watched:
        run(main())
    assert len(watched.told) <= 1


def test_uvloop_over_a_bridge() -> None:
    def report() -> None:
        await_only(asyncio.sleep(LIMIT_S))
        computes()

    async def endpoint() -> None:
        await asyncio.sleep(0.01)
        await greenlet_spawn(report)

    with watching() as watched:
        run(endpoint())
    (one,) = watched.told
    shape = ["endpoint", "~greenlet_spawn", "|report", "computes", "burn"]
    assert outline(one.stack) == shape


def test_uvloop_tasks_that_wait_are_counted() -> None:
    async def ready(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        event = asyncio.Event()
        tasks = [asyncio.create_task(ready(event)) for _ in range(3)]
        never = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(LIMIT_S)
        event.set()
        computes()
        await asyncio.gather(*tasks)
        never.cancel()

    with watching() as watched:
        run(main())
    (one,) = watched.told
    assert one.waiting == 3


def test_uvloop_a_callback_that_is_no_tasks() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(0.02, computes)
        await asyncio.sleep(LIMIT_S)

    with watching() as watched:
        run(main())
    (one,) = watched.told
    assert (one.task, one.function) == ("MainThread", "burn")
    assert outline(one.stack) == ["computes", "burn"]


def test_uvloop_one_that_lasts_when_watching_ends() -> None:
    async def main() -> None:
        await asyncio.sleep(0.02)
        with watching() as watched:
            computes()
        found.extend(watched.told)

    found: list[Any] = []
    run(main())
    (one,) = found
    assert one.duration <= 6 * LIMIT_S


HEAD = """
import json, sys, time
sys.path.insert(0, {repository!r})
from tests.blocking_programs import LIMIT_S, burn, watching
from tests.shapes import outline
def shown(watched):
    return [
        [one.function.rpartition(".")[2], one.task, one.loop, one.duration / LIMIT_S, one.waiting,
         outline(one.stack)]
        for one in watched.told
    ]
def computes():
    burn(3 * LIMIT_S)
def naps():
    real_sleep(2 * LIMIT_S)
import time
real_sleep = time.sleep
"""
EVENTLET = "import warnings; warnings.simplefilter('ignore')\nimport eventlet, eventlet.hubs\n"
SPAWN_EVENTLET = "from eventlet import sleep, spawn\ndef wait(one): one.wait()\n"
PATCH = "import time; real_sleep = time.sleep\nfrom gevent import monkey; monkey.patch_all()\n"
SPAWN_GEVENT = "import gevent; from gevent import sleep, spawn\ndef wait(one): one.join()\n"
LIBRARIES = {
    "gevent": SPAWN_GEVENT,
    "gevent, patched": PATCH + SPAWN_GEVENT,
    "eventlet": EVENTLET + SPAWN_EVENTLET,
    "eventlet on asyncio": (
        EVENTLET + "eventlet.hubs.use_hub('eventlet.hubs.asyncio')\n" + SPAWN_EVENTLET
    ),
}


def run_program(body: str, library: str) -> Any:
    head = HEAD.format(repository=str(REPOSITORY))
    if "patched" in library:
        head = head.replace("import time\nreal_sleep = time.sleep\n", "")
    finished = run_python("-c", LIBRARIES[library] + head + body)
    assert finished.stderr == "", str(finished)
    return json.loads(finished.stdout)


@pytest.mark.parametrize("library", LIBRARIES)
def test_greenlets_that_keep_their_hub(library: str) -> None:
    """By computing, and by a call that the library did not make its own; waiting is no block."""
    told, loops = run_program(
        """
def worker(what):
    sleep(0.01)
    what()
    sleep(2 * LIMIT_S)
with watching() as watched:
    for what in (computes, naps):
        wait(spawn(worker, what))
print(json.dumps([shown(watched), [block.loop for block in watched.profile().blocks]]))
""",
        library,
    )
    kind = library.partition(" ")[0].rstrip(",")
    computed, napped = told
    assert loops == [kind, kind]
    assert (computed[0], computed[2]) == ("burn", kind)
    assert [line.lstrip("|") for line in computed[5][-3:]] == ["worker", "computes", "burn"]
    assert 3 <= computed[3] < 9
    assert (napped[0], napped[2]) == ("naps", kind)
    assert 2 <= napped[3] < 6
    if kind == "gevent":
        assert "worker" in computed[1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_greenlets_that_wait_for_the_hub(library: str) -> None:
    """Those that are ready, or whose time to sleep is over, as far as the hub knows."""
    told = run_program(
        """
def ready():
    sleep(0)
    sleep(0)
def blocker():
    sleep(0)
    waiting.extend(spawn(ready) for _ in range(3))
    computes()
    sleep(0.01)  # its end would be one more thing to tell somebody of
with watching() as watched:
    waiting = []
    wait(spawn(blocker))
    for one in waiting:
        wait(one)
print(json.dumps(shown(watched)))
""",
        library,
    )
    (one,) = told
    assert one[4] == 3


def test_the_main_greenlet_keeps_the_hub_too() -> None:
    told = run_program(
        """
with watching() as watched:
    sleep(0)
    computes()
    sleep(0)
    naps()  # to the end
print(json.dumps(shown(watched)))
""",
        "gevent",
    )
    assert [(one[0], one[1]) for one in told] == [("burn", "MainThread"), ("naps", "MainThread")]


def test_what_runs_in_gevents_hub_itself() -> None:
    """Callbacks of timers and links run in no greenlet; the hub is asked, as uvloop is."""
    told = run_program(
        """
sleep(0)
with watching() as watched:
    timer = gevent.get_hub().loop.timer(0.05)
    timer.start(computes)
    sleep(6 * LIMIT_S)
    timer.close()
print(json.dumps(shown(watched)))
""",
        "gevent",
    )
    (one,) = told
    assert (one[0], one[2]) == ("burn", "gevent")
    assert one[5][-2:] == ["computes", "burn"]
    assert 2 <= one[3] < 9


def test_asyncio_in_a_thread_beside_gevent() -> None:
    told = run_program(
        """
import asyncio, threading
async def main():
    await asyncio.sleep(0)
    computes()
with watching() as watched:
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    while thread.is_alive():
        sleep(0.01)
print(json.dumps(shown(watched)))
""",
        "gevent",
    )
    assert [(one[0], one[2]) for one in told] == [("burn", "asyncio")]


def test_a_thread_that_ends_without_going_back_to_its_hub() -> None:
    told, warnings = run_program(
        """
import threading
def run():
    sleep(0)
    sleep(0)
with watching() as watched:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    real_sleep(3 * LIMIT_S)
print(json.dumps([shown(watched), watched.blocks.warnings]))
""",
        "gevent",
    )
    assert (told, warnings) == ([], [])
