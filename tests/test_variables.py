"""Reading a frame's variables leaves no trace: nothing lives longer, and nobody's `locals()` changes.

The functions that are read assert nothing themselves: pytest has each assertion ask for `locals()`, which keeps
what it refers to alive as well.
"""

from __future__ import annotations

import gc
import sys
import weakref
from types import FrameType
from typing import Any

import pytest

from greenprof import variables
from greenprof.samplers.repeats import operation_of


class Thing:
    """Something to refer to."""


def caller() -> FrameType:
    return sys._getframe(2)


def read() -> Any:
    return variables.value_in(caller(), ("missing", "thing"))


def read_all() -> Any:
    return variables.all_of(caller()).get("thing")


def read_operation() -> Any:
    return operation_of(caller(), sys._getframe()) or None


@pytest.mark.parametrize("look", [read, read_all, read_operation])
def test_what_was_read_lives_no_longer(look: Any) -> None:
    def work(_text: str) -> tuple[bool, Any]:
        thing = Thing()
        reference = weakref.ref(thing)
        found = look() is not None
        del thing
        return found, reference()

    gc.disable()
    try:
        assert work("SELECT") == (True, None)
    finally:
        gc.enable()


def test_values_are_read() -> None:
    def work(first: Any, _second: None) -> Any:
        frame = sys._getframe()
        return (
            variables.values_of(frame, ("_second", "first", "third")),
            variables.value_in(frame, ("_second", "first")),
            variables.value_in(frame, ()),
            variables.all_of(frame)["first"],
        )

    thing = Thing()
    assert work(thing, None) == ([None, thing, None], thing, None, thing)


def test_a_function_that_asks_for_its_locals_keeps_what_it_got() -> None:
    def work() -> Any:
        thing = 1
        mine = locals()
        thing = 2
        read()
        read_all()
        return dict(mine), thing

    assert work() == ({"thing": 1}, 2)


def test_a_function_with_assertions_of_pytests_is_read() -> None:
    thing = Thing()
    assert read() is thing


def test_somebody_who_holds_the_variables_of_another_keeps_them() -> None:
    def work(thing: Any) -> Any:
        held = get_variables(sys._getframe())
        return read(), read_all(), held["thing"], thing

    thing = Thing()
    assert work(thing) == (thing, thing, thing, thing)


def get_variables(frame: FrameType) -> Any:
    return frame.f_locals


def test_a_modules_variables_are_its_own() -> None:
    names: dict[str, Any] = {"read": lambda: variables.value_in(sys._getframe(1), ("thing",))}
    exec("thing = 3\nfound = read()\nagain = thing", names)
    assert names["found"] == names["again"] == names["thing"] == 3


def test_a_class_body_keeps_its_variables() -> None:
    class Body:
        thing = 4
        found = variables.all_of(sys._getframe())["thing"]
        again = thing

    assert Body.found == Body.again == Body.thing == 4
