"""Describing bridges: one's own, other packages', broken ones; and what is known of each function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

import greenprof
from greenprof import Bridge, Part, Role, bridges, register_bridge
from greenprof.bridges import CACHE_LIMIT, SpawnFrame
from tests.shapes import ended, shape, until_waiting


@pytest.fixture(autouse=True)
def bridges_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers goes with it."""
    bridges.bridges()
    monkeypatch.setattr(bridges, "_bridges", dict(bridges._bridges))
    monkeypatch.setattr(bridges, "_problems", list(bridges._problems))
    yield
    monkeypatch.undo()
    bridges._reindex()


def test_greenprofs_own_are_found() -> None:
    names = {bridge.name for bridge in bridges.bridges()}
    libraries = {"eventlet", "gevent", "greenback", "greenletio", "playwright", "sqlalchemy"}
    assert names == libraries | {"greenprof", "greenhack"}
    assert bridges.problems() == []


def test_both_supported_sqlalchemys_are_described() -> None:
    """One of them is installed, and tested for real; the other one's functions are called so."""
    from greenprof.bridges.sqlalchemy import BRIDGE

    for path, await_ in (
        ("sqlalchemy/util/_concurrency_py3k.py", "await_only"),
        ("sqlalchemy/util/concurrency.py", "await_"),
    ):
        assert BRIDGE.roles[path, "greenlet_spawn"].part is Part.BRIDGE_FRAME
        assert BRIDGE.roles[path, await_].part is Part.AWAIT_SITE


def run_in_greenlet(function: Callable[[], None]) -> Any:
    child = greenlet(function)

    async def drive() -> None:
        handed = child.switch()
        while handed is not None:
            handed = child.switch(await handed)

    return drive()


def hand_over(awaitable: Any) -> Any:
    parent = getcurrent().parent
    assert parent is not None
    return switch_back(parent, awaitable)


def switch_back(parent: greenlet, awaitable: Any) -> Any:
    return parent.switch(awaitable)


MINE = Bridge(
    name="mine",
    roles={
        (
            "tests/test_bridges.py",
            "run_in_greenlet.<locals>.drive",
        ): Role(Part.BRIDGE_FRAME, ("child",)),
        ("tests/test_bridges.py", "hand_over"): Role(Part.AWAIT_SITE, ("awaitable",)),
        ("tests/test_bridges.py", "switch_back"): Role(Part.TRANSPARENT),
    },
)


def look_at_my_bridge() -> dict[str, list[str]]:
    """The stacks of a task that waits in this module's bridge, with no tracer to help."""
    found: dict[str, list[str]] = {}

    async def leaf() -> None:
        found["awaited"] = shape()
        await asyncio.sleep(10)

    def work() -> None:
        found["sync"] = shape()
        hand_over(leaf())

    async def main() -> None:
        task = asyncio.create_task(run_in_greenlet(work))
        await until_waiting(task)
        found["suspended"] = shape(task)
        await ended(task)

    asyncio.run(main())
    return found


def test_a_bridge_of_ones_own() -> None:
    """Without a tracer, only its description says which greenlet a frame awaits for."""
    undescribed = look_at_my_bridge()
    assert undescribed["suspended"] == ["drive", "leaf", "sleep"]
    register_bridge(MINE)
    assert look_at_my_bridge() == {
        "sync": ["~drive", "|work"],
        "awaited": ["~drive", "|work", "~hand_over", "|*leaf"],
        "suspended": ["~drive", "|work", "~hand_over", "|*leaf", "*sleep"],
    }


def test_a_bridge_of_the_same_name_replaces_the_earlier_one() -> None:
    register_bridge(MINE)
    register_bridge(Bridge(name="mine"))
    assert bridges.role_of(hand_over.__code__) is None
    assert [bridge.name for bridge in bridges.bridges()].count("mine") == 1


def test_what_a_library_keeps_of_where_greenlets_were_spawned() -> None:
    spawners: dict[greenlet, Any] = {}

    def spawned_at(child: greenlet) -> Any:
        return spawners.get(child, ((), None))

    register_bridge(Bridge(name="mine", spawned_at=spawned_at))
    code = test_a_bridge_of_ones_own.__code__

    def run() -> None:
        main.switch()

    main = getcurrent()
    child, spawner = greenlet(run), greenlet(run)
    spawners[child] = ([SpawnFrame(code, 1)], spawner)
    spawners[spawner] = ([SpawnFrame(run.__code__, 2), SpawnFrame(code, 3)], child)
    child.switch()
    assert shape(child) == [
        "test_a_bridge_of_ones_own",
        "run",
        "|test_a_bridge_of_ones_own",
        "|run",
    ], "innermost first in, root first out; and spawners that go round end"
    lines = [frame.line for frame in greenprof.capture_stack(child).frames]
    assert lines[:3] == [3, 2, 1]
    child.switch()


@pytest.mark.parametrize("value", [None, 3, "bridge", object()])
def test_something_else_is_no_bridge(value: Any) -> None:
    with pytest.raises(TypeError, match=r"register_bridge\(\) takes a greenprof.bridges.Bridge"):
        register_bridge(value)


def load_with(monkeypatch: pytest.MonkeyPatch, *entries: Any) -> None:
    monkeypatch.setattr(bridges, "entry_points", lambda group: entries)
    monkeypatch.setattr(bridges, "_loaded", False)
    monkeypatch.setattr(bridges, "_bridges", {})
    bridges.bridges()


def test_other_packages_bridges(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works is used; each that does not is left out, with a line that says why."""
    group = bridges.ENTRY_POINT_GROUP
    load_with(
        monkeypatch,
        EntryPoint("good", "tests.test_bridges:MINE", group),
        EntryPoint("missing", "no_such_module_here:BRIDGE", group),
        EntryPoint("attribute", "tests.test_bridges:NOTHING", group),
        EntryPoint("other", "tests.test_bridges:look_at_my_bridge", group),
    )
    assert "mine" in {bridge.name for bridge in bridges.bridges()}
    assert look_at_my_bridge()["sync"] == ["~drive", "|work"]
    missing, attribute, other = bridges.problems()
    assert missing.startswith("bridge missing (no_such_module_here:BRIDGE) left out: No module")
    assert attribute.startswith("bridge attribute (tests.test_bridges:NOTHING) left out: ")
    assert other.endswith("left out: it is function, not greenprof.bridges.Bridge")
    assert len(bridges.bridges()) == 9


def test_one_of_ones_own_can_replace_greenprofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program knows its patched library best; registered first or last makes no difference."""
    monkeypatch.setattr(bridges, "_loaded", False)
    monkeypatch.setattr(bridges, "_bridges", {})
    register_bridge(Bridge(name="gevent"))
    (gevent,) = (bridge for bridge in bridges.bridges() if bridge.name == "gevent")
    assert gevent.roles == {}


def test_a_spawn_record_that_fails_is_said_and_costs_no_stack() -> None:
    def spawned_at(child: greenlet) -> Any:
        raise RuntimeError("library changed")

    register_bridge(Bridge(name="mine", spawned_at=spawned_at))

    def run() -> None:
        main.switch()

    main = getcurrent()
    child = greenlet(run)
    child.switch()
    stack = greenprof.capture_stack(child)
    assert [frame.name.rpartition(".")[2] for frame in stack.frames] == ["run"]
    assert stack.error is None
    line = "bridge mine: spawned_at failed: RuntimeError('library changed')"
    assert bridges.problems() == [line]
    child.switch()


def test_the_cache_of_functions_is_bounded() -> None:
    """A program that compiles as it runs makes new functions for ever."""
    source = compile("def made(): pass", "generated", "exec").co_consts[0]
    for number in range(CACHE_LIMIT + 100):
        bridges.role_of(source.replace(co_firstlineno=number % 1000 + 1))
    assert len(bridges._known) <= CACHE_LIMIT
    assert bridges.role_of(source) is None
