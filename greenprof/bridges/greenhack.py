"""greenhack, greenprof's own: sync code below a coroutine, or above a loop that runs below it."""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

_CROSSING = "greenprof/greenhack/crossing.py"
_CONTEXTS = "greenprof/greenhack/contexts.py"
_OWN_LOOP = "greenprof/greenhack/ownloop.py"
_WRAPPING = "greenprof/greenhack/wrapping.py"

# What stands between the program's code and those that play a part.
_INTERNAL = {
    _CROSSING: ("_own_loop_for", "_end"),
    _CONTEXTS: ("_awaiting",),
    _OWN_LOOP: (
        "OwnLoop.__init__",
        "OwnLoop.resume",
        "OwnLoop._end",
        "start_loop",
        "start_for_blocking",
        "stop_loop",
        "_at_exit",
    ),
    _WRAPPING: (
        "exempt_cm.<locals>.make",
        "exempt_it.<locals>.make",
        "_called",
        "_make",
        "_made",
        "SyncManager.__enter__",
        "SyncManager.__exit__",
        "SyncManager.__aenter__",
        "SyncManager.__aexit__",
        "SyncIterator.__next__",
        "SyncIterator.close",
    ),
}

BRIDGE = Bridge(
    name="greenhack",
    roles={
        # Below a coroutine the awaitable is in the bridge frame alone: an await site that held it
        # would keep abandoned tasks for good.
        (_CROSSING, "await_"): Role(Part.AWAIT_SITE, ("awaitable",)),
        (_CROSSING, "as_async.<locals>.run"): Role(Part.BRIDGE_FRAME, ("child",), ("awaitable",)),
        (_OWN_LOOP, "OwnLoop._serve"): Role(Part.BRIDGE_FRAME, ("owner",), ("awaitable",)),
        # Steps through what is awaited by itself, in a context that the task cannot enter.
        (_CONTEXTS, "in_context"): Role(Part.TRAMPOLINE, ("steps",)),
        (_OWN_LOOP, "OwnLoop.stop"): Role(Part.AWAIT_SITE, ("ending",)),
        (_OWN_LOOP, "OwnLoop._run"): Role(Part.HUB),
        # They may call what they wrap, and wait for nothing.
        (_WRAPPING, "exempt.<locals>.call"): Role(Part.TRANSPARENT),
        (_CROSSING, "_plain.<locals>.plain"): Role(Part.TRANSPARENT),
        **{
            (path, name): Role(Part.INTERNAL) for path, names in _INTERNAL.items() for name in names
        },
    },
)
