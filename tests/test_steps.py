"""Stretches in which somebody has a loop's thread: each is told once, exactly, with whose it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import threading
import time
from asyncio import events
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from sqlalchemy.util import await_only, greenlet_spawn

from greenprof import switches
from greenprof._native import get_ident
from greenprof._native import time as clock
from greenprof.samplers import steps
from tests.running import REPOSITORY, run_python
from tests.shapes import shape

# Of a stretch that burns 30 ms on a machine with more to do: never less, and seldom ten times as much.
pytestmark = pytest.mark.flaky(reruns=3)


class Told(NamedTuple):
    kind: str
    ident: int
    loop: Any
    owner: Any
    start_ns: int
    end_ns: int

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@contextlib.contextmanager
def listening(min_ns: int = 0) -> Iterator[list[Told]]:
    told: list[Told] = []

    def listen(*stretch: Any) -> None:
        told.append(Told(*stretch))

    steps.add_listener(listen, min_ns)
    try:
        yield told
    finally:
        steps.remove_listener(listen)


def burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def name_of(one: Told) -> str:
    """The name of the task whose stretch it is, "" for any other."""
    return one.owner.get_name() if isinstance(one.owner, asyncio.Task) else ""


def names(told: list[Told]) -> Counter[str]:
    return Counter(map(name_of, told))


def test_each_step_of_a_task_is_told_once() -> None:
    async def stepping(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(
            *(asyncio.create_task(stepping(n), name=f"task {n}") for n in range(5))
        )

    with listening() as told:
        asyncio.run(main())
    counted = names(told)
    assert {name: counted[name] for name in counted if name.startswith("task ")} == {
        f"task {n}": n + 1 for n in range(5)
    }
    assert {one.kind for one in told} == {"asyncio"}
    assert {one.ident for one in told} == {get_ident()}
    for earlier, later in pairwise(told):
        assert earlier.start_ns <= earlier.end_ns <= later.start_ns


def test_durations_are_those_of_random_programs() -> None:
    rng = random.Random(5)
    plans = {
        f"plan {n}": [rng.uniform(0, 0.01) for _ in range(rng.randrange(1, 6))] for n in range(8)
    }
    spent: dict[str, list[float]] = {name: [] for name in plans}

    async def follow(name: str) -> None:
        for seconds in plans[name]:
            began = time.monotonic()
            burn(seconds)
            spent[name].append(time.monotonic() - began)
            await asyncio.sleep(rng.uniform(0, 0.002))

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(follow(name), name=name) for name in plans))

    with listening() as told:
        asyncio.run(main())
    for name in plans:
        found = sum(one.duration_s for one in told if name_of(one) == name)
        assert sum(spent[name]) <= found <= 1.5 * sum(spent[name]) + 0.01


def test_the_time_in_which_a_loop_waits_is_in_no_stretch() -> None:
    with listening() as told:
        asyncio.run(asyncio.sleep(0.3))
    assert sum(one.duration_s for one in told) < 0.15


def test_callbacks_that_are_no_tasks_are_their_own_owners() -> None:
    called: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(called.append, 1)
        loop.call_later(0.001, called.append, 2)
        await asyncio.sleep(0.01)

    with listening() as told:
        asyncio.run(main())
    assert called == [1, 2]
    assert [one.owner for one in told].count(called.append) == 2


def test_only_stretches_that_are_long_enough_are_told_of() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        burn(0.05)
        await asyncio.sleep(0)

    with listening(30_000_000) as long, listening() as every:
        asyncio.run(main())
    assert [one.duration_s >= 0.05 for one in long] == [True]
    assert len(every) > 3


def test_the_stretch_that_lasts_is_seen_from_another_thread() -> None:
    seen: list[steps.Stretch | None] = []
    begun, looked = threading.Event(), threading.Event()
    home = get_ident()

    def look() -> None:
        assert begun.wait(20)
        seen.append(steps.current(home))
        seen.extend(steps.current(ident) for ident in steps.lasting(clock.monotonic_ns()))
        looked.set()

    async def main() -> Any:
        await asyncio.sleep(0)
        begun.set()
        assert looked.wait(20)
        return asyncio.current_task()

    watcher = threading.Thread(target=look)
    watcher.start()
    before_ns = clock.monotonic_ns()
    with listening():
        task = asyncio.run(main())
        assert steps.current(home) is None
        assert steps.lasting(clock.monotonic_ns()) == []
    watcher.join()
    one, same = seen
    assert one is not None
    assert same == one
    assert one.owner is task
    assert one.kind == "asyncio"
    assert before_ns < one.start_ns < clock.monotonic_ns()


def test_loops_of_several_threads_are_kept_apart() -> None:
    def run(name: str) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.set_name(name)
            for _ in range(20):
                await asyncio.sleep(0)
            idents[name] = get_ident()

        asyncio.run(main())

    idents: dict[str, int] = {}
    with listening() as told:
        threads = [threading.Thread(target=run, args=(f"loop {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, ident in idents.items():
        own = [one for one in told if name_of(one) == name]
        assert len(own) == 21
        assert {one.ident for one in own} == {ident}


def test_one_who_comes_in_the_middle_of_a_step_hears_of_it_too() -> None:
    """Its end is where the loop goes on, however long that then waits for something."""
    before = time.monotonic()
    told: list[Told] = []

    def listen(*stretch: Any) -> None:
        told.append(Told(*stretch))

    async def main() -> None:
        await asyncio.sleep(0)
        steps.add_listener(listen)
        burn(0.05)
        await asyncio.sleep(0.2)
        steps.remove_listener(listen)

    asyncio.run(main())
    first = told[0]
    assert asyncio.isfuture(first.owner)
    assert first.kind == "asyncio"
    assert 0.05 <= first.duration_s < 0.2 + (time.monotonic() - before - 0.25)
    assert steps._come_round not in [one.owner for one in told]


def test_a_loop_within_a_callback_of_another() -> None:
    """As `nest_asyncio` makes them. The outer stretch lasts until the outer callback is over."""
    home: list[steps.Stretch | None] = []

    async def inner() -> None:
        await asyncio.sleep(0)
        burn(0.01)

    def nested() -> None:
        outer, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        asyncio.tasks._leave_task(outer, task)
        events._set_running_loop(None)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(inner())
        finally:
            loop.close()
            events._set_running_loop(outer)
            asyncio.tasks._enter_task(outer, task)
        home.append(steps.current(get_ident()))

    async def main() -> None:
        await asyncio.sleep(0)
        nested()

    with listening() as told:
        asyncio.run(main())
    (now,) = home
    assert now is not None
    outer = next(one for one in told if one.start_ns == now.start_ns)
    inside = [one for one in told if outer.start_ns < one.start_ns and one.end_ns <= outer.end_ns]
    assert len(inside) >= 2
    assert {one.loop for one in inside} != {outer.loop}


def test_a_listener_that_raises_spoils_nothing() -> None:
    def bad(*_: Any) -> None:
        raise LookupError("a listener's own")

    steps.add_listener(bad)
    try:
        with listening() as told:
            assert asyncio.run(asyncio.sleep(0, "result")) == "result"
        assert told
        assert steps.problem() == "LookupError: a listener's own"
    finally:
        steps.remove_listener(bad)
    with listening():
        assert steps.problem() is None  # it was somebody else's


def test_what_callbacks_raise_goes_where_it_goes_without() -> None:
    heard: list[BaseException] = []

    def fails() -> None:
        raise ValueError("a callback's own")

    def interrupts() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, said: heard.append(said["exception"]))
        loop.call_soon(fails)
        await asyncio.sleep(0)
        loop.call_soon(interrupts)
        await asyncio.sleep(1)

    with listening() as told, pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [str(error) for error in heard] == ["a callback's own"]
    assert {fails, interrupts} <= {one.owner for one in told if callable(one.owner)}


def test_asyncio_is_as_it_was_afterwards() -> None:
    before = events.Handle._run
    with listening(), listening():
        assert events.Handle._run is not before
    assert events.Handle._run is before


def test_somebody_elses_replacement_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours stays behind it, and does nothing any more but pass calls on."""
    monkeypatch.setattr(events.Handle, "_run", events.Handle._run)  # what it is in the end
    calls: list[Any] = []
    with listening() as told:
        ours = events.Handle._run

        def theirs(handle: Any) -> None:
            calls.append(handle)
            ours(handle)

        monkeypatch.setattr(events.Handle, "_run", theirs)
    assert events.Handle._run is theirs
    assert asyncio.run(asyncio.sleep(0, "result")) == "result"
    assert calls
    assert told == []
    assert steps.current(get_ident()) is None


def test_the_stack_does_not_show_it() -> None:
    def here() -> list[str]:
        return await_only(there())

    async def there() -> list[str]:
        return shape()

    async def main() -> list[str]:
        await asyncio.sleep(0)
        return await greenlet_spawn(here)

    plain = asyncio.run(main())
    with listening():
        watched = asyncio.run(main())
    assert watched == plain


def test_threads_that_run_a_loop_are_followed_from_then_on() -> None:
    """Also those that were started before anybody followed."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def followed() -> bool:
        return switches.of_thread(get_ident()) is not None

    async def release() -> None:
        switches.release_thread()

    try:
        assert not asyncio.run_coroutine_threadsafe(followed(), loop).result(20)
        with listening():
            assert asyncio.run_coroutine_threadsafe(followed(), loop).result(20)
        asyncio.run_coroutine_threadsafe(release(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_threads_that_have_ended_are_forgotten() -> None:
    with listening():
        thread = threading.Thread(target=lambda: asyncio.run(asyncio.sleep(0)))
        thread.start()
        ident = thread.ident
        thread.join()
        assert ident in steps._callbacks
        steps.forget_threads(set(sys._current_frames()))
        assert ident not in steps._callbacks


# In processes of their own: asyncio is imported already here, and hubs stay with their thread.

HEAD = """
import json, sys, time
sys.path.insert(0, {repository!r})
from greenprof.samplers import steps
told = []
def listen(*one):
    told.append(one)
def burn(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
"""
EVENTLET = "import warnings; warnings.simplefilter('ignore')\nimport eventlet, eventlet.hubs\n"
LIBRARIES = {
    "gevent": "import gevent; from gevent import sleep, spawn\ndef wait(one): one.join()\n",
    "gevent, patched": (
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent; from gevent import sleep, spawn\ndef wait(one): one.join()\n"
    ),
    "eventlet": EVENTLET + "from eventlet import sleep, spawn\ndef wait(one): one.wait()\n",
    "eventlet on asyncio": EVENTLET
    + "eventlet.hubs.use_hub('eventlet.hubs.asyncio')\n"
    + "from eventlet import sleep, spawn\ndef wait(one): one.wait()\n",
}


def run_program(body: str, *, before: str = "") -> Any:
    finished = run_python("-c", before + HEAD.format(repository=str(REPOSITORY)) + body)
    assert finished.stderr == "", str(finished)
    return json.loads(finished.stdout)


def test_asyncio_may_be_imported_afterwards() -> None:
    found = run_program("""
before = list(sys.meta_path)
steps.add_listener(listen)
assert "asyncio" not in sys.modules
import asyncio
original = steps._original[1]
async def main():
    await asyncio.sleep(0)
asyncio.run(main())
steps.remove_listener(listen)
print(json.dumps([len(told), sys.meta_path == before, asyncio.events.Handle._run is original]))
""")
    assert found[0] >= 3
    assert found[1:] == [True, True]


def test_no_asyncio_at_all() -> None:
    assert run_program("""
before = list(sys.meta_path)
steps.add_listener(listen)
import json.tool
steps.remove_listener(listen)
print(json.dumps(["asyncio" in sys.modules, sys.meta_path == before, told]))
""") == [False, True, []]


@pytest.mark.parametrize("library", LIBRARIES)
def test_hubs(library: str) -> None:
    """Every time that a greenlet runs, from the hub's switch to it until the hub has control again."""
    kind = library.partition(" ")[0].rstrip(",")
    told = run_program(
        """
import greenlet
def work(times):
    for _ in range(times):
        burn(0.01)
        sleep(0)
    other = greenlet.greenlet(lambda: burn(0.02))  # one of the greenlet's own
    other.switch()
steps.add_listener(listen)
begun = time.monotonic()
workers = [spawn(work, times) for times in (1, 2, 3)]
for worker in workers:
    wait(worker)
sleep(0.2)
took = time.monotonic() - begun
steps.remove_listener(listen)
again = spawn(work, 1)
wait(again)
number = {id(worker): n for n, worker in enumerate(workers)}
print(json.dumps([
    (kind, number.get(id(owner)), (end - start) / 1e9) for kind, _, _, owner, start, end in told
] + [took]))
""",
        before=LIBRARIES[library],
    )
    *told, took = told
    assert {one[0] for one in told} == {kind}
    for number in range(3):
        own = [seconds for _, owner, seconds in told if owner == number]
        assert len(own) == number + 2
        assert min(own[:-1]) >= 0.01
        assert own[-1] >= 0.02
    assert sum(seconds for *_, seconds in told) < took - 0.15


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_who_comes_while_a_greenlet_runs(library: str) -> None:
    found = run_program(
        """
def work():
    burn(0.02)
sleep(0)
steps.add_listener(listen)
ident = steps.get_ident()
now = steps.current(ident)
burn(0.03)
wait(spawn(work))
steps.remove_listener(listen)
kind, _, hub, owner, start, end = told[0]
print(json.dumps([now.kind, kind, start == now.start_ns, (end - start) / 1e9, len(told)]))
""",
        before=LIBRARIES[library],
    )
    kind = library.partition(" ")[0].rstrip(",")
    assert found[:3] == [kind, kind, True]
    assert found[3] >= 0.03
    assert found[4] >= 2


def test_a_forked_child_is_told_of_nothing() -> None:
    found = run_program("""
import asyncio, os
original = asyncio.events.Handle._run
steps.add_listener(listen)
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    told.clear()
    asyncio.run(asyncio.sleep(0))
    right = not told and asyncio.events.Handle._run is original
    os.write(writing, b"1" if right else b"0")
    os._exit(0)
os.waitpid(pid, 0)
asyncio.run(asyncio.sleep(0))
steps.remove_listener(listen)
print(json.dumps([os.read(reading, 1).decode(), len(told) > 2]))
""")
    assert found == ["1", True]


def test_what_a_signal_handler_raises_reaches_the_program() -> None:
    """It may run in the middle of code of ours, and is the program's all the same."""

    class RungError(Exception):
        pass

    def ring(*_: object) -> None:
        raise RungError

    def listen(*_: Any) -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, ring)
    steps.add_listener(listen, 10_000_000)
    try:
        with pytest.raises(RungError):
            asyncio.run(burning())
    finally:
        steps.remove_listener(listen)
        signal.signal(signal.SIGALRM, before)
    assert steps.current(get_ident()) is None


async def burning() -> None:
    burn(0.02)
