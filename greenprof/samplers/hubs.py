"""A thread's hub: gevent's or eventlet's greenlet that waits for all others, where there is one."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple
from weakref import ref

from greenlet import greenlet

__all__ = ["Hub", "find_hub"]


class Hub(NamedTuple):
    """A thread's hub, kept alive by its library alone."""

    greenlet: ref[greenlet]
    kind: str
    """ "gevent" or "eventlet"."""
    loop: ref[Any] | None = None
    """The asyncio loop that it runs on, if it does: that one runs nothing but the hub."""


def find_hub() -> Hub | None:
    """This thread's hub, if it has one; none is made."""
    find = getattr(sys.modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    found = None if find is None else find()
    if isinstance(found, greenlet):
        return Hub(ref(found), "gevent")
    local: Any = getattr(sys.modules.get("eventlet.hubs"), "_threadlocal", None)
    hub = getattr(local, "hub", None)
    found = getattr(hub, "greenlet", None)
    loop = getattr(hub, "loop", None)
    if not isinstance(found, greenlet):
        return None
    return Hub(ref(found), "eventlet", None if loop is None else ref(loop))
