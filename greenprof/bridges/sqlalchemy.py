"""SQLAlchemy's asyncio extension, 1.4 to 2.1, with any of its async drivers."""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

_SPAWN = Role(Part.BRIDGE_FRAME, ("context",))
_AWAIT = Role(Part.AWAIT_SITE, ("awaitable",))

# 2.1 moved the functions and renamed `await_only` to `await_`.
_FILES = ("sqlalchemy/util/concurrency.py", "sqlalchemy/util/_concurrency_py3k.py")

BRIDGE = Bridge(
    name="sqlalchemy",
    roles={
        (path, name): role
        for path in _FILES
        for name, role in {
            "greenlet_spawn": _SPAWN,
            "await_": _AWAIT,
            "await_only": _AWAIT,
            "await_fallback": _AWAIT,
        }.items()
    },
)
