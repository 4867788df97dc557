"""What each bridge's frames look like: one small file a bridge, and a place to register more.

Stacks are rebuilt without knowing any library, from the switches that were seen. A bridge is
described for what switches cannot tell:

- which frames are its internals, so that reports can fold them;
- where the awaitable sits that sync code handed over (an await site's local variable);
- which greenlet a bridge frame awaits for, when nobody followed switches at the time;
- which greenlet's frames are a hub's: nobody's callers.

Register a bridge of your own with `register_bridge`, or from a package by an entry point in the
group ``greenprof.bridges`` that names a `Bridge`.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from types import CodeType, FrameType
from typing import Any, NamedTuple

from greenlet import greenlet

from greenprof import variables
from greenprof.entrypoints import entry_points
from greenprof.interrupted import from_signal_handler
from greenprof.printable import message_of

ENTRY_POINT_GROUP = "greenprof.bridges"

# Code objects come and go in programs that compile as they run, and would stay: some kB each. The cache
# starts anew here.
CACHE_LIMIT = 20_000
# One line for each; more would be the same again.
MAX_PROBLEMS = 50


class Part(enum.Enum):
    """The part that a function plays in a bridge."""

    #: Internals without a part of their own: wrappers, adapters.
    INTERNAL = "internal"
    #: Runs on the async side, started the sync greenlet and awaits on its behalf.
    BRIDGE_FRAME = "bridge frame"
    #: Runs on the sync side and hands the awaitable over.
    AWAIT_SITE = "await site"
    #: Runs in the sync greenlet and drives the task's own coroutine in it.
    TRAMPOLINE = "trampoline"
    #: Runs between two others and says nothing: left out of stacks.
    TRANSPARENT = "transparent"
    #: The outermost function of a greenlet that serves everybody.
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Role:
    """A function's part, and the local or closure variable that belongs to it.

    The variable holds the sync greenlet (bridge frame), the awaitable (await site) or the
    task's coroutine (trampoline). Several names are tried in turn.
    """

    part: Part
    variables: tuple[str, ...] = ()
    #: Of a bridge frame: those that hold what it awaits, for await sites that do not keep it.
    awaited: tuple[str, ...] = ()


class SpawnFrame(NamedTuple):
    """A line on the stack of whoever spawned a greenlet, as kept by the library."""

    f_code: CodeType
    f_lineno: int


@dataclass(frozen=True)
class Bridge:
    """One library's greenlet switching.

    `roles` is keyed by the end of the file's path, with ``/`` between folders, and the
    function's qualified name: ``("sqlalchemy/util/concurrency.py", "greenlet_spawn")``.
    `spawned_at` gives the stack that spawned a greenlet, innermost frame first, and the greenlet
    that did it if it is known; it must be quick, since it runs at each sample of a greenlet.
    """

    name: str
    roles: Mapping[tuple[str, str], Role] = field(default_factory=dict)
    spawned_at: Callable[[greenlet], tuple[Iterable[SpawnFrame], greenlet | None]] | None = None
    #: The function that awaitables are handed to, as (module, name), of a bridge that runs what
    #: is awaited in the sync greenlet: there an await begins before anything switches.
    entry: tuple[str, str] | None = None


_bridges: dict[str, Bridge] = {}
_by_qualname: dict[str, list[tuple[str, Role]]] = {}
_spawners: tuple[Bridge, ...] = ()
# Functions that were looked at, by their codes' ids, which stay taken while the codes are kept;
# the roles of those that have one; and the ids alone. Code objects themselves are slow to hash.
_known: dict[int, CodeType] = {}
_roles: dict[int, Role] = {}
_seen: set[int] = set()
_code_of = attrgetter("f_code")
_position_of = itemgetter(0)
#: Grows when what is known of bridges changes.
age = 0
_problems: list[str] = []
_loaded = False


def register_bridge(bridge: Bridge) -> None:
    """Make a bridge known; one of the same name is replaced. Raises TypeError for no `Bridge`."""
    if not isinstance(bridge, Bridge):
        raise TypeError(
            f"register_bridge() takes a greenprof.bridges.Bridge, not {type(bridge).__name__}"
        )
    _load()
    _bridges[bridge.name] = bridge
    _reindex()


def _reindex() -> None:
    global _by_qualname, _spawners, age
    index: dict[str, list[tuple[str, Role]]] = {}
    for known in _bridges.values():
        for (path, qualname), role in known.roles.items():
            index.setdefault(qualname, []).append(("/" + path.lstrip("/"), role))
    # Replaced, not changed: a sample may be looking.
    _by_qualname = index
    _spawners = tuple(bridge for bridge in _bridges.values() if bridge.spawned_at is not None)
    age += 1
    _forget_codes()


def bridges() -> list[Bridge]:
    """Every known bridge."""
    _load()
    return list(_bridges.values())


def problems() -> list[str]:
    """What went wrong with bridges of other packages: one line each."""
    return list(_problems)


def _note_problem(line: str) -> None:
    if line not in _problems and len(_problems) < MAX_PROBLEMS:
        _problems.append(line)


def _load() -> None:
    global _loaded
    if _loaded:
        return
    _loaded = True
    try:
        _find_bridges()
    except BaseException:  # a signal handler of the program's raised: another time, then
        _loaded = False
        raise
    _reindex()


def _find_bridges() -> None:
    for module in pkgutil.iter_modules(__path__):
        bridge: Bridge = importlib.import_module(f"{__name__}.{module.name}").BRIDGE
        _bridges[bridge.name] = bridge
    for entry in entry_points(ENTRY_POINT_GROUP):
        try:
            found = entry.load()
            if not isinstance(found, Bridge):
                raise TypeError(f"it is {type(found).__name__}, not greenprof.bridges.Bridge")
            _bridges[found.name] = found
        except Exception as error:  # another package's bug must not stop the profiler
            if from_signal_handler(error):
                raise
            _note_problem(f"bridge {entry.name} ({entry.value}) left out: {message_of(error)}")


def role_of(code: CodeType) -> Role | None:
    """The part that a function plays, None for all functions outside of bridges."""
    key = id(code)
    if key in _known:
        return _roles.get(key)
    _load()
    role = None
    candidates = _by_qualname.get(code.co_qualname)
    if candidates is not None:
        path = code.co_filename.replace("\\", "/")
        role = next((role for end, role in candidates if path.endswith(end)), None)
    if len(_known) >= CACHE_LIMIT:
        _forget_codes()
    if role is not None:
        _roles[key] = role
    _known[key] = code
    _seen.add(key)
    return role


def bridge_of(code: CodeType) -> str | None:
    """The name of the bridge that a function plays a part in, None for all others. Slow."""
    path = code.co_filename.replace("\\", "/")
    for bridge in bridges():
        for end, qualname in bridge.roles:
            if qualname == code.co_qualname and path.endswith("/" + end.lstrip("/")):
                return bridge.name
    return None


def awaits_at_entry(code: CodeType) -> bool:
    """Whether a function belongs to a bridge whose awaits begin at its `entry`. Slow."""
    name = bridge_of(code)
    return name is not None and _bridges[name].entry is not None


def roles_in(frames: Sequence[Any]) -> list[tuple[int, Role]]:
    """The frames that play a part: their indexes, in ascending order, and roles. Quick."""
    # Runs for every frame of every sample: what can be done in C is.
    codes = list(map(_code_of, frames))
    keys = list(map(id, codes))
    if not _seen.issuperset(keys):
        for code in codes:
            role_of(code)
    found: list[tuple[int, Role]] = []
    for key in _roles.keys() & keys:
        role = _roles.get(key)
        if role is None:
            continue
        at = -1
        for _ in range(keys.count(key)):
            at = keys.index(key, at + 1)
            found.append((at, role))
    return sorted(found, key=_position_of)


def _forget_codes() -> None:
    _seen.clear()
    _known.clear()
    _roles.clear()


def variable_of(frame: FrameType, role: Role) -> Any:
    """The value of the role's variable in a frame, None if it is not bound."""
    return variables.value_in(frame, role.variables)


def waiter_kept_in(frame: FrameType) -> Any:
    """Whom a bridge frame awaits for, as its library keeps it; None for all other frames."""
    role = role_of(frame.f_code)
    if role is None or role.part is not Part.BRIDGE_FRAME:
        return None
    return variable_of(frame, role)


def spawned_at(child: greenlet) -> tuple[Iterable[SpawnFrame], greenlet | None]:
    """The stack that spawned a greenlet, innermost first, where its library keeps it."""
    for bridge in _spawners:
        try:
            frames, spawner = bridge.spawned_at(child)  # type: ignore[misc]
        except Exception as error:  # another package's code; the stack does without
            if from_signal_handler(error):
                raise
            _note_problem(f"bridge {bridge.name}: spawned_at failed: {error!r}")
            continue
        if frames or spawner is not None:
            return frames, spawner
    return (), None
