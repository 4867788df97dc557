"""Names for tasks: what a reader calls one logical thread of work.

In this order: the route of the web request that the task serves, the name it was given, the
function that is its root. Numbers in routes and names are folded (``GET /orders/{}``), so that a
thousand requests are one group.
"""

from __future__ import annotations

import re
import threading
from operator import attrgetter
from types import CodeType, FrameType
from typing import Any

from greenlet import greenlet

from greenprof import awaitables, bridges, variables
from greenprof._native import main_thread_ident
from greenprof.interrupted import from_signal_handler
from greenprof.stacks import RawStack

# UUIDs, long hexadecimal ids with a digit in them, and numbers; but a path's "/v2/" stays.
_NUMBER = re.compile(
    r"(?P<version>(?<=/)v\d{1,2}(?=/|\Z))"
    r"|(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])(?=[a-fA-F]*\d)[0-9a-fA-F]{16,}(?![0-9A-Za-z])"
    r"|\d+"
)
_DIGITS = re.compile(r"\d+")
# In a shorter name without a slash, there is nothing of it but plain numbers.
_SHORTEST_ID = 16

#: How far from the root a request's frame is looked for: servers and middleware sit above it.
_SEARCH_DEPTH = 40
_MAX_LABEL = 200
# Longer names are cut before they are searched: nobody reads them, and each is searched anew.
_MAX_SEARCHED = 1000

# Functions that were looked at, by their codes' ids, which stay taken while the codes are kept; and
# the places of those that are given a request.
_looked_at: set[int] = set()
_places: dict[int, tuple[str, str]] = {}
_kept: dict[int, CodeType] = {}
_CACHE_LIMIT = 20_000
_code_of = attrgetter("f_code")


def fold_numbers(name: str) -> str:
    """A name with its numbers, UUIDs and long hexadecimal ids replaced by ``{}``."""
    if len(name) < _SHORTEST_ID and "/" not in name:
        return _DIGITS.sub("{}", name)
    folded = _NUMBER.sub(_fold, name[:_MAX_SEARCHED])
    return folded if len(folded) <= _MAX_LABEL else folded[: _MAX_LABEL - 1] + "…"


def _fold(found: re.Match[str]) -> str:
    return found["version"] or "{}"


def label_of(owner: Any, raw: RawStack, ident: int) -> tuple[str, str]:
    """The name and the kind ("asyncio", "greenlet", "thread") of whoever a stack belongs to."""
    if awaitables.is_task(owner):
        return route_of(raw.frames) or task_name(owner, raw), "asyncio"
    if isinstance(owner, greenlet) and owner.parent is not None:
        return route_of(raw.frames) or root_name(raw) or type(owner).__name__, "greenlet"
    return thread_name(ident), "thread"


def task_name(task: Any, raw: RawStack) -> str:
    """The name a task was given, or that of its root function."""
    try:
        name = str(task.get_name())
    except Exception as error:  # a task class of somebody's own
        if from_signal_handler(error):
            raise
        name = "Task-0"
    if not is_default_name(name):
        return fold_numbers(name)
    coroutine = awaitables.coroutine_of(task)
    role = bridges.role_of(code) if (code := getattr(coroutine, "cr_code", None)) else None
    found = getattr(coroutine, "__qualname__", None)
    if role is None and isinstance(found, str) and found:
        return found[:_MAX_LABEL]
    return root_name(raw) or type(task).__name__


def is_default_name(name: object) -> bool:
    """Whether it is what asyncio calls a task that nobody named."""
    return type(name) is str and name.startswith("Task-") and name[5:].isdecimal()


def root_name(raw: RawStack) -> str | None:
    """The outermost function that is no bridge's internal, nor above the greenlet's own root."""
    start = 0
    for at, _, crosses in raw.segments:
        # Above the last line that a library kept of where a greenlet was spawned, it begins.
        if crosses and at and not isinstance(raw.frames[at - 1], FrameType):
            start = at
    for frame in raw.frames[start:]:
        if bridges.role_of(frame.f_code) is None:
            return str(frame.f_code.co_qualname)[:_MAX_LABEL]
    return None


def thread_name(ident: int) -> str:
    """A thread's name with its number folded, so that a pool's workers are one group."""
    if ident == main_thread_ident():
        return "MainThread"  # gevent and eventlet know it by another identity
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    name = getattr(thread, "name", None)
    return "thread outside of threading" if name is None else fold_numbers(str(name))


def route_of(frames: list[Any]) -> str | None:
    """``METHOD /path`` of the web request whose server frame is on the stack, None without one.

    ASGI: the first function with parameters ``scope`` and ``receive``, or uvicorn's request
    cycle. WSGI: the first with ``environ`` and ``start_response``, or gevent's handler.
    """
    try:
        request = _request_of(frames)
        return None if request is None else _asgi_route(request) or _wsgi_route(request)
    except Exception as error:  # objects of any framework, in any state
        if from_signal_handler(error):
            raise
        return None


def awaits_route(frames: list[Any]) -> bool:
    """Whether these are of an ASGI request whose route its framework has not looked up so far."""
    return unrouted_request(frames) is not None


def takes_request(code: CodeType) -> bool:
    """Whether a function's name or arguments say that a server hands it a web request."""
    return _place_of_request(code) is not None


def serves_request(frames: list[Any]) -> bool:
    """Whether a server's frame is among these that may say which request it serves."""
    return any(_place_of_request(frame.f_code) is not None for frame in frames[:_SEARCH_DEPTH])


def unrouted_request(frames: list[Any]) -> Any:
    """What the server keeps of the request that these are of, if its route is not known so far.

    None for what is no ASGI request, or has its route. For `route_of_request`, later.
    """
    try:
        request = _request_of(frames)
        if isinstance(request, dict) and "type" in request and "route" not in request:
            return request
    except Exception as error:
        if from_signal_handler(error):
            raise
    return None


def route_of_request(request: Any) -> str | None:
    """``METHOD /path`` of what `unrouted_request` gave, None as long as the route is not known."""
    try:
        return _asgi_route(request) if "route" in request else None
    except Exception as error:
        if from_signal_handler(error):
            raise
        return None


def _request_of(frames: list[Any]) -> Any:
    """What the server says of the request: a scope or an environ, None without a request."""
    above = frames[:_SEARCH_DEPTH]
    codes = list(map(_code_of, above))
    keys = list(map(id, codes))
    if not _looked_at.issuperset(keys):
        for code in codes:
            if id(code) not in _looked_at:
                _look_at(code)
    if _places.keys().isdisjoint(keys):
        return None
    for frame, key in zip(above, keys, strict=True):
        place = _places.get(key)
        if place is None or not isinstance(frame, FrameType):
            continue
        # Reading a frame's variables is not free: only where the answer is, and only once.
        variable, attribute = place
        value = variables.value_in(frame, (variable,))
        return getattr(value, attribute, None) if attribute else value
    return None


def _look_at(code: CodeType) -> None:
    if len(_kept) >= _CACHE_LIMIT:
        _looked_at.clear()
        _places.clear()
        _kept.clear()
    place = _place_of_request(code)
    if place is not None:
        _places[id(code)] = place
    _kept[id(code)] = code
    _looked_at.add(id(code))


def _place_of_request(code: CodeType) -> tuple[str, str] | None:
    """The argument that a function is given a request in, and the attribute of it ("": itself)."""
    arguments = code.co_varnames[: code.co_argcount]
    if not arguments:
        return None
    if "scope" in arguments and "receive" in arguments:
        return "scope", ""
    if code.co_name == "run_asgi":
        return "self", "scope"
    if "environ" in arguments and "start_response" in arguments:
        return "environ", ""
    if code.co_name == "handle_one_response":
        return "self", "environ"
    return None


def _asgi_route(scope: Any) -> str | None:
    if not isinstance(scope, dict) or scope.get("type") not in ("http", "websocket"):
        return None
    # Set by Starlette and FastAPI once the route is known; the path says it before.
    template = getattr(scope.get("route"), "path", None)
    path = template if isinstance(template, str) else fold_numbers(str(scope.get("path", "")))
    return f"{scope.get('method', 'WEBSOCKET')} {path}"[:_MAX_LABEL]


def _wsgi_route(environ: Any) -> str | None:
    if not isinstance(environ, dict) or "PATH_INFO" not in environ:
        return None
    path = fold_numbers(str(environ["PATH_INFO"]))
    return f"{environ.get('REQUEST_METHOD', 'GET')} {path}"[:_MAX_LABEL]


__all__ = [
    "awaits_route",
    "fold_numbers",
    "is_default_name",
    "label_of",
    "route_of",
    "route_of_request",
    "serves_request",
    "takes_request",
    "task_name",
    "thread_name",
    "unrouted_request",
]
