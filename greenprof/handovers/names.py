"""What an await is called, and the line that waited."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, CoroutineType, FrameType
from typing import Any, NamedTuple, Protocol

from greenlet import greenlet

from greenprof import awaitables, bridges, idle, loops, variables
from greenprof.bridges import Part
from greenprof.frames import MOST_LETTERS, module_of, origin_of
from greenprof.interrupted import from_signal_handler
from greenprof.profiles import FrameOrigin

__all__ = [
    "AwaitInfo",
    "awaitable_in",
    "info_of",
    "line_of",
    "name_of",
    "name_of_waiting",
    "task_name",
]

#: A bridge that nobody has described.
GENERIC = "generic"
UNKNOWN = "?"
# How far from the await site the program's own line is looked for.
_SEARCH_DEPTH = 200
_CACHE_LIMIT = 20_000
# A task's frames begin below the innermost of these.
_RUNS_TASKS = frozenset(
    {"Handle._run", "BaseEventLoop.run_forever", "BaseEventLoop.run_until_complete", "Runner.run"}
)


class InHub(Protocol):
    """What is known of an await."""

    @property
    def hub(self) -> str:
        """The library whose hub it waits in, or ""."""


class Waiting(InHub, Protocol):
    """What is known of an await from the start."""

    waiter: Callable[[], greenlet | None]


class AwaitInfo(NamedTuple):
    """One await, as the `attributes` and `name` callables of `greenprof.trace` are told of it.

    `awaited` is the qualified name of what was awaited, `function`, `path` and `line` are the
    line that waited: the innermost of the program's own, outside of bridges and libraries.
    `duration` is in seconds; `outcome` is "returned", "raised" or "cancelled"; `error` is the
    type of what was raised, None if nothing was.
    """

    awaited: str
    bridge: str
    function: str
    path: str
    line: int
    task: str
    duration: float
    outcome: str
    error: str | None


class _Function(NamedTuple):
    code: CodeType  # kept, so that its id stays taken
    name: str
    bridge: str | None
    variables: tuple[str, ...]
    """Those that hold the awaitable, at an await site."""
    awaited: tuple[str, ...]
    """And those of a bridge frame, which hold what it awaits."""
    starts_sync: bool
    """Whether it is a bridge frame."""
    kind: int
    """What ends a walk (_APP, _RUNS), what it leaves out (_BRIDGE), or 0: another library's."""


_functions: dict[int, _Function] = {}
_APP, _BRIDGE, _RUNS = 1, 2, 3
# The kinds of the same functions, by themselves: most of what is asked, and at every frame.
_kinds: dict[int, int] = {}


def _function(code: CodeType) -> _Function:
    found = _functions.get(id(code))
    if found is None:
        role = bridges.role_of(code)
        if len(_functions) >= _CACHE_LIMIT:
            _functions.clear()
            _kinds.clear()
        found = _functions[id(code)] = _Function(
            code,
            qualified_name(code),
            None if role is None else bridges.bridge_of(code),
            role.variables if role is not None and role.part is Part.AWAIT_SITE else (),
            () if role is None else role.awaited,
            role is not None and role.part is Part.BRIDGE_FRAME,
            _kind(code, is_bridges=role is not None),
        )
    return found


def _kind(code: CodeType, *, is_bridges: bool) -> int:
    if not is_bridges and origin_of(code.co_filename) is FrameOrigin.APP:
        return _APP
    if code.co_qualname in _RUNS_TASKS:
        return _RUNS
    return _BRIDGE if is_bridges else 0


def qualified_name(code: CodeType) -> str:
    """`module.function` of a code object; the function alone where the module is not known."""
    module = module_of(code.co_filename)
    name = code.co_qualname[:MOST_LETTERS]
    return f"{module}.{name}" if module else name


def info_of(
    span: InHub,
    frame: FrameType,
    other: greenlet | None,
    awaitable: Any = None,
    bridge: str | None = None,
) -> tuple[str, str, str, str, int]:
    """What was awaited, over which bridge, and the line that waited: function, path, number.

    `frame` is where the sync code waits, `other` the greenlet that awaited for it; `awaitable` and
    `bridge` are given where frames do not tell them.
    """
    line, called, outside = line_of(frame, None if span.hub else other)
    if span.hub:
        awaited, bridge = _called(line or frame, called), span.hub
    else:
        awaited = name_of(awaitable_in(frame, other) if awaitable is None else awaitable)
        bridge = bridge or _function(frame.f_code).bridge
        below = None if bridge is not None or other is None else other.gr_frame
        if below is not None:
            bridge = _function(below.f_code).bridge
    site = line or outside or frame
    found = _function(site.f_code)
    return awaited, bridge or GENERIC, found.name, site.f_code.co_filename, site.f_lineno or 0


def line_of(
    frame: FrameType, other: greenlet | None
) -> tuple[FrameType | None, FrameType | None, FrameType | None]:
    """The program's innermost line, what that calls, and the innermost frame outside the bridge."""
    called: FrameType | None = None
    outside: FrameType | None = None
    kinds = _kinds
    one: FrameType | None = frame
    for _ in range(_SEARCH_DEPTH):
        if one is None:
            # A suspended greenlet's frames cost time for each: only if they are needed.
            one, other = None if other is None else other.gr_frame, None
            if one is None:
                break
        kind = kinds.get(id(one.f_code))
        if kind is None:
            code = one.f_code
            kind = kinds[id(code)] = _function(code).kind
        if kind:
            if kind == _APP:
                return one, called, outside
            if kind == _RUNS:
                break
        elif outside is None:
            outside = one
        called = one
        one = one.f_back
    return None, called, outside


def _called(line: FrameType, called: FrameType | None) -> str:
    """What a line that waits in a hub has called: `gevent.hub.sleep`."""
    if called is not None:
        return _function(called.f_code).name
    return idle.called_name(line) or UNKNOWN


def awaitable_in(frame: FrameType, other: greenlet | None) -> Any:
    """The awaitable that was handed over, as far as frames hold it; else None."""
    code = frame.f_code
    site = _functions.get(id(code)) or _function(code)
    if site.variables:
        found = variables.value_in(frame, site.variables)
        if found is not None:
            return found
    for one in (frame, None if other is None else other.gr_frame):
        if one is None:
            continue
        awaited = _function(one.f_code).awaited
        if awaited:
            return variables.value_in(one, awaited)
        if site.variables:
            continue  # nothing is guessed of a bridge that is described
        awaitable = [value for value in variables.all_of(one).values() if _can_be_awaited(value)]
        if len({id(value) for value in awaitable}) == 1:
            return awaitable[0]
    return None


def _can_be_awaited(value: Any) -> bool:
    try:
        return hasattr(type(value), "__await__")
    except Exception as error:  # a metaclass of somebody's own
        if from_signal_handler(error):
            raise
        return False


def name_of(awaitable: Any) -> str:
    """The qualified name of what an awaitable runs: its coroutine's function, a class."""
    if type(awaitable) is CoroutineType:
        found = _function(awaitable.cr_code)
        if found.starts_sync and awaitable.__name__ != awaitable.cr_code.co_name:
            return awaitable.__qualname__[
                :MOST_LETTERS
            ]  # it runs sync code, and bears the name of that
        return found.name
    if awaitable is None:
        return UNKNOWN
    try:
        return _name_of_object(awaitable)
    except Exception as error:  # objects of any class
        if from_signal_handler(error):
            raise
        return UNKNOWN


def _name_of_object(awaitable: Any) -> str:
    described = awaitables.describe(awaitable)
    if awaitables.is_task(awaitable):
        coroutine = awaitables.coroutine_of(awaitable)
        return UNKNOWN if coroutine is None else name_of(coroutine)
    if described is not None:
        return described
    for attribute in ("cr_code", "gi_code", "ag_code"):
        code = getattr(awaitable, attribute, None)
        if isinstance(code, CodeType):
            return _function(code).name
    _, kept = awaitables.step(awaitable)
    if kept is not None and not awaitables.is_future(kept):
        return name_of(kept)
    kind = type(awaitable)
    module = "asyncio" if kind.__module__ == "_asyncio" else kind.__module__
    return f"{module}.{kind.__qualname__}"[:MOST_LETTERS]


def name_of_waiting(span: Waiting) -> str:
    """A span's name while it is open: who asks for it runs on the other side."""
    try:
        waiter = span.waiter()
        frame = None if waiter is None else waiter.gr_frame
        if frame is None:
            return "await"
        if span.hub:
            line, called, _ = line_of(frame, None)
            return f"await {_called(line or frame, called)}"
        awaitable = awaitable_in(frame, None)
        if awaitable is None:
            awaitable = _awaited_for(span.waiter())
        return f"await {name_of(awaitable)}"
    except Exception as error:  # objects of any library
        if from_signal_handler(error):
            raise
        return "await"


def _awaited_for(waiter: greenlet | None) -> Any:
    """What a bridge frame above the caller awaits for a greenlet, None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_SEARCH_DEPTH):
        if frame is None:
            break
        found = _function(frame.f_code)
        if found.awaited and bridges.waiter_kept_in(frame) is waiter:
            return variables.value_in(frame, found.awaited)
        frame = frame.f_back
    return None


def task_name(current: greenlet) -> str:
    """The name of the asyncio task, the greenlet or the thread that runs, as it was given."""
    task = loops.current_task(loops.running_loop())
    try:
        if task is not None:
            return str(task.get_name())
        name = getattr(current, "name", None)  # gevent's
        if isinstance(name, str):
            return name
    except Exception as error:  # classes of somebody's own
        if from_signal_handler(error):
            raise
    return threading.current_thread().name
