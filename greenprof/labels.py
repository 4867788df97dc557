"""Names for tasks: what a reader calls one logical thread of work.

In this order: the route of the web request that the task serves, the name it was given, the
function that is its root. Numbers in routes and names are folded (``GET /orders/{}``), so that a
thousand requests are one group.
"""

from __future__ import annotations

import re
import threading
from types import FrameType
from typing import Any

from greenlet import greenlet

from greenprof import awaitables, bridges
from greenprof.stacks import RawStack

_NUMBER = re.compile(r"(?<![A-Za-z_])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\d+")
_DEFAULT_TASK_NAME = re.compile(r"Task-\d+\Z")
_DEFAULT_THREAD_NAME = re.compile(r"(.*?)[-_ ]?\d+( \(.*\))?\Z", re.DOTALL)

#: How far from the root a request's frame is looked for: servers and middleware sit above it.
_SEARCH_DEPTH = 40
_MAX_LABEL = 200


def fold_numbers(name: str) -> str:
    """A name with its numbers and UUIDs replaced by ``{}``."""
    return _NUMBER.sub("{}", name)[:_MAX_LABEL]


def label_of(owner: Any, raw: RawStack, ident: int) -> tuple[str, str]:
    """The name and the kind ("asyncio", "greenlet", "thread") of whoever a stack belongs to."""
    if awaitables.is_task(owner):
        return route_of(raw.frames) or task_name(owner, raw), "asyncio"
    if isinstance(owner, greenlet) and owner.parent is not None:
        return route_of(raw.frames) or root_name(raw) or type(owner).__name__, "greenlet"
    return thread_name(ident), "thread"


def task_name(task: Any, raw: RawStack) -> str:
    """The name a task was given, or that of its root function."""
    name = str(task.get_name())
    if not _DEFAULT_TASK_NAME.match(name):
        return fold_numbers(name)
    coroutine = task.get_coro()
    role = bridges.role_of(code) if (code := getattr(coroutine, "cr_code", None)) else None
    if role is None and (found := getattr(coroutine, "__qualname__", None)):
        return str(found)[:_MAX_LABEL]
    return root_name(raw) or name


def root_name(raw: RawStack) -> str | None:
    """The outermost function that is no bridge's internal, nor above the greenlet's own root."""
    start = 0
    for at, _, crosses in raw.segments:
        if crosses and hasattr(raw.frames[at - 1] if at else None, "f_lineno"):
            start = at if not isinstance(raw.frames[at - 1], FrameType) else start
    for frame in raw.frames[start:]:
        if bridges.role_of(frame.f_code) is None:
            return str(frame.f_code.co_qualname)[:_MAX_LABEL]
    return None


def thread_name(ident: int) -> str:
    """A thread's name with its number folded, so that a pool's workers are one group."""
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    name = getattr(thread, "name", None)
    if name is None:
        return "thread outside of threading"
    return fold_numbers(str(name))


def route_of(frames: list[Any]) -> str | None:
    """``METHOD /path`` of the web request whose server frame is on the stack, None without one.

    ASGI: the first function with a parameter ``scope``, or uvicorn's request cycle. WSGI: gevent's
    and the standard library's handlers.
    """
    for frame in frames[:_SEARCH_DEPTH]:
        code = frame.f_code
        if not isinstance(frame, FrameType) or code.co_argcount == 0:
            continue
        arguments = code.co_varnames[: code.co_argcount]
        if "scope" in arguments and "receive" in arguments:
            found = _asgi_route(frame.f_locals.get("scope"))
        elif code.co_name == "run_asgi":
            found = _asgi_route(getattr(frame.f_locals.get("self"), "scope", None))
        elif code.co_name == "handle_one_response":
            found = _wsgi_route(getattr(frame.f_locals.get("self"), "environ", None))
        else:
            continue
        if found is not None:
            return found
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


__all__ = ["fold_numbers", "label_of", "route_of", "task_name", "thread_name"]
