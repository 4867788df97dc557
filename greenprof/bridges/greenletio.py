"""greenletio, in both directions: `async_` under a loop, and its own loop below sync code."""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

_FILE = "greenletio/core.py"
_INTERNAL = Role(Part.INTERNAL)

BRIDGE = Bridge(
    name="greenletio",
    roles={
        (_FILE, "async_.<locals>.decorator.<locals>.run"): Role(Part.BRIDGE_FRAME, ("gl",)),
        (_FILE, "async_.<locals>.decorator"): _INTERNAL,
        (_FILE, "await_"): Role(Part.AWAIT_SITE, ("coro_or_fn",)),
        (_FILE, "await_.<locals>.decorator"): _INTERNAL,
        (_FILE, "GreenletBridge.run.<locals>.async_run"): Role(Part.BRIDGE_FRAME, ("gl",)),
        (_FILE, "GreenletBridge.run"): Role(Part.HUB),
        (_FILE, "GreenletBridge.start"): _INTERNAL,
    },
)
