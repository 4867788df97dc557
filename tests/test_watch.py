"""Suspended tasks: a bounded number of looks a tick, whose weights stand for all; tables that do not grow."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import greenlet
import pytest

from greenprof import loops
from greenprof.frames import FrameTable
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo, State
from greenprof.samplers import watch as watch_module
from greenprof.samplers.observer import Observer
from greenprof.samplers.recorder import Recorder
from greenprof.samplers.watch import MAX_LOOKS, Rotation, Tasks, Watch

MS = 1_000_000
PERIOD_NS = 10 * MS


class Watched:
    """A watch with a clock of the test's own, and what it saw."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._observer = Observer(self.recorder, PERIOD_NS, 0)
        self.watch: Watch = self._observer.watch
        self.now_ns = time.monotonic_ns()
        self.watch.last_ns = self.watch.ticked_ns = self.now_ns
        self.looks: list[int] = []

    def tick(self, elapsed_ns: int = PERIOD_NS, accounted: set[int] | None = None) -> None:
        self.now_ns += elapsed_ns
        # As when it looks at the thread; from Python 3.14 on tasks are known by their loops only.
        self._observer._finder.find(threading.get_ident(), ())
        before = sum(sample[0] for sample in self.recorder._samples.values())
        self.watch.tick(self.now_ns, accounted or set())
        after = sum(sample[0] for sample in self.recorder._samples.values())
        self.looks.append(after - before)

    @property
    def profile(self) -> Profile:
        builder = ProfileBuilder()
        self.recorder.fill(builder, FrameTable())
        return builder.build(ProfileInfo())

    def wall_ns(self, state: State) -> int:
        return sum(sample.wall_ns for sample in self.profile.samples if sample.state is state)


def run(test: Callable[[Watched], Coroutine[Any, Any, None]]) -> Watched:
    watched = Watched()
    asyncio.run(test(watched))
    return watched


async def nap() -> None:
    await asyncio.sleep(3600)


async def suspended(number: int, sleep: Callable[[], Coroutine[Any, Any, None]] = nap) -> list[Any]:
    tasks = [asyncio.create_task(sleep()) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def cancel(tasks: list[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("number", [1, 10, 1000, 10_000])
def test_looks_are_bounded_and_stand_for_everybody(number: int) -> None:
    async def test(watched: Watched) -> None:
        tasks = await suspended(number)
        me = {id(asyncio.current_task())}
        for _ in range(30):
            watched.tick(accounted=me)
        watched.watch.settle(watched.now_ns + 1)
        await cancel(tasks)

    watched = run(test)
    assert max(watched.looks) <= MAX_LOOKS
    truth = number * 30 * PERIOD_NS
    # Short of what the test's own task was drawn for.
    assert watched.wall_ns(State.AWAITING) == pytest.approx(truth, rel=0.05, abs=2 * truth / 30)
    [group] = [group for group in watched.profile.groups if group.kind == "asyncio"]
    assert group.name == "nap"


def test_states_of_tasks() -> None:
    async def over() -> None:
        await asyncio.sleep(0.001)

    async def on_future(future: Awaitable[None]) -> None:
        await future

    async def test(watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        there = loop.create_future()
        never = loop.create_future()
        tasks = [
            asyncio.create_task(over()),
            asyncio.create_task(on_future(there)),
            asyncio.create_task(on_future(never)),
        ]
        await asyncio.sleep(0)
        there.set_result(None)
        time.sleep(0.005)  # noqa: ASYNC251  # the hog that keeps the first two waiting
        watched.tick(accounted={id(asyncio.current_task())})
        await cancel(tasks)

    watched = run(test)
    states = Counter[tuple[str, State]]()
    for sample in watched.profile.samples:
        name = watched.profile.groups[sample.group].name.rpartition(".")[2]
        states[name, sample.state] += sample.wall_ns
    assert states == {
        ("over", State.READY): PERIOD_NS,
        ("on_future", State.READY): PERIOD_NS,
        ("on_future", State.AWAITING): PERIOD_NS,
    }


def test_a_sleep_that_ended_between_missed_ticks_is_divided() -> None:
    async def test(watched: Watched) -> None:
        tasks = [asyncio.create_task(asyncio.sleep(0.05))]
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251
        watched.tick(100 * MS, {id(asyncio.current_task())})
        await cancel(tasks)

    watched = run(test)
    assert watched.wall_ns(State.READY) + watched.wall_ns(State.AWAITING) == 100 * MS
    assert watched.wall_ns(State.READY) >= 40 * MS
    assert watched.wall_ns(State.AWAITING) > 0


def test_whoever_is_accounted_for_is_not_looked_at() -> None:
    async def test(watched: Watched) -> None:
        tasks = await suspended(3)
        watched.tick(accounted={id(asyncio.current_task()), *map(id, tasks)})
        await cancel(tasks)

    assert not run(test).profile.samples


def test_tables_do_not_grow_with_tasks_that_ended() -> None:
    tasks = Tasks(Recorder())
    kept = []

    class Task:
        pass

    for number in range(100_000):
        task = Task()
        tasks.find(task)
        if number % 1000 == 0:
            kept.append(task)
    assert len(tasks._known) <= 2 * 4096
    assert all(tasks._known[id(task)].reference() is task for task in kept)


def test_a_hundred_thousand_short_tasks() -> None:
    async def test(watched: Watched) -> None:
        for _ in range(1000):
            tasks = await suspended(100)
            watched.tick(accounted={id(asyncio.current_task())})
            await cancel(tasks)
            tasks.clear()

    watched = run(test)
    assert len(watched.watch._tasks._known) <= 2 * 4096
    assert len(watched.recorder._nodes) < 10
    assert max(watched.looks) <= MAX_LOOKS


def test_nothing_is_kept_alive() -> None:
    class Big:
        pass

    async def holder(value: Any, end: asyncio.Future[None]) -> None:
        await end
        assert value

    async def test(watched: Watched) -> None:
        end = asyncio.get_running_loop().create_future()
        value = Big()
        coroutine = holder(value, end)
        task = asyncio.create_task(coroutine)
        gone: list[weakref.ref[Any]] = [weakref.ref(it) for it in (value, task, coroutine)]
        await asyncio.sleep(0)
        watched.tick()
        end.set_result(None)
        await task
        # By reference counts alone.
        del task, value, coroutine
        await asyncio.sleep(0)  # what woke this task up is the other one, which held until now
        assert [found() for found in gone] == [None] * 3
        watched.tick()

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


def test_a_greenlet_is_not_kept_alive() -> None:
    tasks = Tasks(Recorder())
    child = greenlet.greenlet(lambda: None)
    tasks.find(child)
    gone = weakref.ref(child)
    del child
    assert gone() is None


def test_each_gets_its_turn() -> None:
    rotation = Rotation()
    for size in (1, 2, 3, 10, 97, 100):
        rotation.refill(list(range(size)))
        for count in (1, 3, 7, size):
            taken = [number for _ in range(size * 7) for number in rotation.take(count)]
            rounds = Counter(taken)
            assert set(rounds) == set(range(size))
            assert max(rounds.values()) - min(rounds.values()) <= 1


def test_nobody_is_favoured_where_tasks_come_and_go() -> None:
    rotation = Rotation()
    taken = Counter[int]()
    for turn in range(6000):
        rotation.refill(list(range(9 + turn % 3)))
        taken.update(number for number in rotation.take(2) if number < 9)
    assert min(taken.values()) > 1000
    assert max(taken.values()) < 1500


def test_turns_go_on_where_as_many_are_left() -> None:
    rotation = Rotation()
    taken = Counter[int]()
    for _ in range(50):
        rotation.refill(list(range(10)))
        taken.update(rotation.take(2))
    assert set(taken.values()) == {10}


def test_others_in_the_place_of_those_that_ended_are_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "REFRESH_BUDGET", 1e9)

    async def test(watched: Watched) -> None:
        for _ in range(20):
            tasks = await suspended(5)
            watched.tick(accounted={id(asyncio.current_task())})
            await cancel(tasks)
            tasks.clear()

    watched = run(test)
    # In five of six places, until the ended ones are collected.
    assert watched.wall_ns(State.AWAITING) >= 0.4 * 20 * 5 * PERIOD_NS


def test_the_copy_of_the_registry_takes_a_small_part_of_all_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies: list[int] = []
    clock_ns = time.monotonic_ns()

    class Clock:
        @staticmethod
        def monotonic_ns() -> int:
            return clock_ns

    def slow_copy(_: Any) -> list[Any]:
        nonlocal clock_ns
        copies.append(clock_ns)
        clock_ns += MS  # a millisecond of work
        return [lambda: None] * 5000

    watched = Watched()
    monkeypatch.setattr(watch_module, "time", Clock)
    monkeypatch.setattr(loops, "task_refs", slow_copy)
    for _ in range(1000):
        clock_ns += PERIOD_NS
        watched.watch.tick(clock_ns, set())
    assert len(copies) == pytest.approx(1000 * PERIOD_NS * watch_module.REFRESH_BUDGET / MS, abs=2)
    # Of a few tasks it never costs that much: somebody else ran in the middle of it.
    monkeypatch.setattr(loops, "task_refs", lambda seen: slow_copy(seen)[:5])
    copies.clear()
    for _ in range(1000):
        clock_ns += PERIOD_NS
        watched.watch.tick(clock_ns, set())
    assert len(copies) > 150
