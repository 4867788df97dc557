"""The one owner of greenlet's tracer slot: who it calls, what it gives back, and what it keeps alive."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import weakref
from typing import Any

import greenlet
import pytest

from greenprof import switches
from greenprof.switches import MAX_REINSTALLS, PRUNE_AT
from tests.shapes import switch_once

Events = list[tuple[str, Any]]


def collecting(events: Events) -> Any:
    return lambda event, args: events.append((event, args))


def take_back(followed: switches.Switches) -> None:
    """Stop following, with a tracer of the test's between two of ours, and take that one out too."""
    switches.unfollow()
    assert greenlet.gettrace() is not None
    greenlet.settrace(None)
    switches.follow()


def chaining(previous: Any, events: Events) -> Any:
    """A tracer that calls the one that it found, as gevent's monitor does."""

    def trace(event: str, args: Any) -> None:
        events.append((event, args))
        if previous is not None:
            previous(event, args)

    return trace


def test_follows_the_greenlet_that_runs_and_counts_switches(followed: switches.Switches) -> None:
    seen = []

    def run() -> None:
        current = followed.position()[1]
        seen.append(current is not None and current() is greenlet.getcurrent())

    before = followed.position()[0]
    greenlet.greenlet(run).switch()
    count, current = followed.position()
    assert seen == [True]
    assert count == before + 2
    assert current is not None
    assert current() is greenlet.getcurrent()


def test_the_tracer_found_is_called_and_given_back() -> None:
    events: Events = []
    earlier = collecting(events)
    greenlet.settrace(earlier)
    try:
        switches.follow()
        switch_once()
        switches.unfollow()
        assert [event for event, _ in events] == ["switch", "switch"]
        assert greenlet.gettrace() is earlier
        switch_once()
        assert len(events) == 4
    finally:
        greenlet.settrace(None)


def test_the_tracer_found_may_fail_and_only_it_is_lost(followed: switches.Switches) -> None:
    """What a program's own tracer raises reaches its greenlet, as without us; then we come back alone."""
    switches.unfollow()

    def failing(event: str, args: Any) -> None:
        raise ZeroDivisionError

    greenlet.settrace(failing)
    switches.follow()
    state = switches.of_thread(threading.get_ident())
    assert state is not None
    with pytest.raises(ZeroDivisionError):
        switch_once()
    assert greenlet.gettrace() is None
    assert state.check()
    before = state.position()[0]
    switch_once()
    assert state.position()[0] == before + 2


def test_follow_is_counted() -> None:
    switches.follow()
    ours = greenlet.gettrace()
    switches.follow()
    switches.unfollow()
    assert greenlet.gettrace() is ours
    assert switches.following()
    switches.unfollow()
    assert greenlet.gettrace() is None
    assert not switches.following()


def test_one_unfollow_too_many_changes_nothing() -> None:
    switches.unfollow()
    switches.follow()
    assert switches.following()
    switches.unfollow()
    assert greenlet.gettrace() is None


def test_the_slot_is_left_to_whoever_took_it(followed: switches.Switches) -> None:
    switches.follow()
    events: Events = []
    later = collecting(events)
    greenlet.settrace(later)
    switches.unfollow()
    switches.unfollow()
    try:
        assert greenlet.gettrace() is later
    finally:
        greenlet.settrace(None)
        switches.follow()


def test_displaced_by_a_tracer_that_calls_us_nothing_is_counted_twice(
    followed: switches.Switches,
) -> None:
    events: Events = []
    greenlet.settrace(chaining(greenlet.gettrace(), events))
    assert followed.check()
    before = followed.position()[0]
    switch_once()
    assert followed.position()[0] == before + 2
    assert len(events) == 2
    assert followed.displaced == 1
    take_back(followed)


def test_displaced_by_a_tracer_that_calls_nobody_we_come_back(followed: switches.Switches) -> None:
    events: Events = []
    greenlet.settrace(collecting(events))
    before = followed.position()[0]
    switch_once()
    assert followed.position()[0] == before, "nothing can be seen until the next check"
    assert followed.check()
    switch_once()
    assert followed.position()[0] == before + 2
    assert len(events) == 4
    take_back(followed)


def test_the_displacer_that_leaves_gives_the_slot_to_our_older_callback() -> None:
    """gevent's tracer restores whatever it found, without a look at who holds the slot by then."""
    first: Events = []
    greenlet.settrace(collecting(first))
    earlier = greenlet.gettrace()
    switches.follow()
    try:
        state = switches.of_thread(threading.get_ident())
        assert state is not None
        found = greenlet.gettrace()
        events: Events = []
        greenlet.settrace(chaining(found, events))
        assert state.check()
        greenlet.settrace(found)
        count = state.position()[0]
        assert state.check()
        switch_once()
        assert state.position()[0] == count + 2
        assert len(first) == 2, "the tracer that we found first is still called"
        assert greenlet.gettrace() is found
    finally:
        switches.unfollow()
        assert greenlet.gettrace() is earlier
        greenlet.settrace(None)


def test_a_tug_of_war_is_given_up(followed: switches.Switches) -> None:
    """A tracer that always comes back would else have ever more of ours in front of it."""
    answers = []
    for _ in range(MAX_REINSTALLS + 2):
        greenlet.settrace(chaining(greenlet.gettrace(), []))
        answers.append(followed.check())
    assert answers == [True] * MAX_REINSTALLS + [False, False]
    assert followed.given_up
    greenlet.settrace(None)


def test_a_slot_that_was_emptied_is_taken_again(followed: switches.Switches) -> None:
    greenlet.settrace(None)
    assert followed.check()
    before = followed.position()[0]
    switch_once()
    assert followed.position()[0] == before + 2


def switch_to_parent() -> Any:
    parent = greenlet.getcurrent().parent
    assert parent is not None
    return parent.switch()


class HandlerError(Exception):
    """What a program's signal handler raises."""


def test_what_a_signal_handler_raises_in_the_callback_reaches_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real signal that comes while the callback runs; the earlier tracer and ours come back."""
    events: Events = []
    earlier = collecting(events)
    greenlet.settrace(earlier)
    switches.follow()
    state = switches.of_thread(threading.get_ident())
    assert state is not None
    ours = greenlet.gettrace()

    def handler(number: int, frame: Any) -> None:
        raise HandlerError

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(state, "_prune_at", -1)
        monkeypatch.setattr(state, "prune", lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with pytest.raises(HandlerError):
            switch_once()
        monkeypatch.undo()
        assert greenlet.gettrace() is None, "greenlet takes out a tracer that raises"
        assert state.check()
        assert greenlet.gettrace() is ours
        events.clear()
        switch_once()
        assert len(events) == 2
    finally:
        signal.signal(signal.SIGUSR1, previous)
        switches.unfollow()
        assert greenlet.gettrace() is earlier
        greenlet.settrace(None)


class Awaitable:
    """An awaitable that nothing else refers to."""

    def __await__(self) -> Any:
        return (yield self)


def test_nothing_is_kept_alive(followed: switches.Switches) -> None:
    """Greenlets, the frames of bridges and what they await all go as soon as the program lets go."""

    def sync(awaitable: Any) -> None:
        parent = greenlet.getcurrent().parent
        assert parent is not None
        parent.switch(awaitable)

    async def bridge(awaitable: Any) -> None:
        child = greenlet.greenlet(sync)
        references.append(weakref.ref(child))
        await child.switch(awaitable)

    class Local:
        pass

    references: list[Any] = []
    awaitable = Awaitable()
    references.append(weakref.ref(awaitable))
    coroutine: Any = bridge(awaitable)
    assert coroutine.send(None) is awaitable
    assert len(followed.waiting) == 1
    assert followed.awaited_by(coroutine.cr_frame) is references[1]()
    coroutine.close()
    del awaitable, coroutine
    # The greenlet was suspended: it is killed by its deallocation, which is a switch as well.
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_bridge_frame_of_old_does_not_wait_any_more(followed: switches.Switches) -> None:
    """Ids are used again: an entry under the id of a frame that is gone must not count."""

    def sync() -> None:
        while True:
            switch_to_parent()

    child = greenlet.greenlet(sync)

    async def step() -> None:
        child.switch()
        await Awaitable()

    first: Any = step()
    second: Any = step()
    first.send(None)
    second.send(None)
    assert followed.awaited_by(second.cr_frame) is child
    assert followed.awaited_by(first.cr_frame) is None
    first.close()
    second.close()


def test_a_hundred_thousand_greenlets_leave_bounded_tables(followed: switches.Switches) -> None:
    async def bridge() -> None:
        child = greenlet.greenlet(switch_to_parent)
        child.switch()
        child.switch()

    for _ in range(50_000):
        switch_once()
        try:
            bridge().send(None)
        except StopIteration:
            pass
    followed.check()
    assert len(followed.born) <= PRUNE_AT + 1
    assert len(followed.waiting) <= PRUNE_AT + 1
    assert len(followed._awaited_in) <= PRUNE_AT + 1


def test_dead_greenlets_wait_for_nobody(followed: switches.Switches) -> None:
    frames = []

    async def bridge() -> None:
        child = greenlet.greenlet(switch_to_parent)
        child.switch()
        frames.append(followed.awaited_by(sys._getframe()) is child)
        child.switch()
        frames.append(followed.awaited_by(sys._getframe()) is None)

    asyncio.run(bridge())
    assert frames == [True, True]


def test_a_listener_is_told_of_what_it_asks_for() -> None:
    """Switches to coroutines and first switches always; the others while it wants any."""
    told: list[tuple[str, bool, bool]] = []
    wants: list[int] = []

    def listener(event: str, _origin: Any, _target: Any, frame: Any, handed: bool) -> None:
        told.append((event, frame is None, handed))

    async def bridge() -> None:
        child = greenlet.greenlet(switch_to_parent)
        child.switch()
        told.append(("back", False, False))
        child.switch()

    switches.follow(record=False)
    try:
        switches.add_listener(listener, wants)
        asyncio.run(bridge())
        first, told[:] = list(told), []
        wants.append(1)
        asyncio.run(bridge())
        switches.remove_listener(listener)
        second, told[:] = list(told), []
        asyncio.run(bridge())
    finally:
        switches.remove_listener(listener)
        switches.unfollow(record=False)
    born, handed, back = ("switch", True, False), ("switch", False, True), ("back", False, False)
    ended = ("switch", False, False)
    assert first == [born, handed, back, ended]
    assert second == [born, handed, back, ("switch", False, False), ended]
    assert told == [back]
    assert greenlet.gettrace() is None


def test_several_listeners_are_told_each_of_what_it_asks_for() -> None:
    told: dict[str, list[bool]] = {"all": [], "few": []}

    def of_all(_event: str, _origin: Any, _target: Any, frame: Any, handed: bool) -> None:
        told["all"].append(handed)

    def of_few(_event: str, _origin: Any, _target: Any, frame: Any, handed: bool) -> None:
        told["few"].append(handed)

    async def bridge() -> None:
        child = greenlet.greenlet(switch_to_parent)
        child.switch()
        child.switch()

    switches.follow(record=False)
    try:
        switches.add_listener(of_all, [1])
        switches.add_listener(of_few)
        switches.add_listener(of_few)  # once is enough
        asyncio.run(bridge())
        assert told == {"all": [False, True, False, False], "few": [False, True, False]}
        switches.remove_listener(of_all)
        asyncio.run(bridge())
    finally:
        switches.remove_listener(of_all)
        switches.remove_listener(of_few)
        switches.unfollow(record=False)
    assert told == {"all": [False, True, False, False], "few": [False, True, False] * 2}


def test_a_method_is_a_listener_as_well() -> None:
    class Counter:
        count = 0

        def switched(self, *_: Any) -> None:
            self.count += 1

    async def bridge() -> None:
        greenlet.greenlet(int).switch()

    counter = Counter()
    switches.follow(record=False)
    try:
        switches.add_listener(counter.switched)
        asyncio.run(bridge())
        counted = counter.count
        switches.remove_listener(counter.switched)
        asyncio.run(bridge())
    finally:
        switches.remove_listener(counter.switched)
        switches.unfollow(record=False)
    assert counter.count == counted > 0


def test_who_waits_for_whom_is_noted_only_while_somebody_records() -> None:
    noted: list[tuple[bool, bool]] = []

    async def bridge(state: switches.Switches) -> None:
        child = greenlet.greenlet(switch_to_parent)
        child.switch()
        frame = sys._getframe()
        noted.append((state.position()[1] is not None, state.awaited_by(frame) is child))
        switches.follow()  # what was noted before would be of the last time that somebody recorded
        noted.append((state.position()[1] is not None, state.awaited_by(frame) is child))
        switches.unfollow()
        child.switch()

    switches.follow(record=False)
    try:
        state = switches.adopt_thread()
        asyncio.run(bridge(state))
        switches.follow()
        noted.append((False, False))
        asyncio.run(bridge(state))
        switches.unfollow()
    finally:
        switches.unfollow(record=False)
    assert noted == [(False, False), (False, False), (False, False), (True, True), (True, True)]


def test_another_tool_that_hands_on_what_is_no_greenlet(followed: switches.Switches) -> None:
    """gevent's monitor calls the tracer that it found with whatever it is called with."""
    ours: Any = greenlet.gettrace()
    before = followed.position()[0]
    ours("switch", (object(), object()))
    ours("switch", (greenlet.getcurrent(), None))
    assert followed.position()[0] == before
