"""greenback: a portal runs the whole task in a greenlet.

The awaited coroutine runs step by step inside the sync greenlet, so while it is suspended its
frames hang on a local variable of `await_`; so do the task's own, on `trampoline`, while the
task waits in an ordinary ``await``.
"""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

_FILE = "greenback/_impl.py"
_INTERNAL = Role(Part.INTERNAL)
_TRANSPARENT = Role(Part.TRANSPARENT)
_SHIM = Role(Part.BRIDGE_FRAME, ("resume_greenlet", "child_greenlet"))

BRIDGE = Bridge(
    name="greenback",
    entry=("greenback._impl", "await_"),
    roles={
        (_FILE, "_greenback_shim"): _SHIM,
        (_FILE, "_greenback_shim_sync"): _SHIM,
        (_FILE, "await_"): Role(Part.AWAIT_SITE, ("coro", "aw")),
        (_FILE, "trampoline"): Role(Part.TRAMPOLINE, ("orig_coro",)),
        (_FILE, "greenback_shim"): _INTERNAL,
        (_FILE, "with_portal_run"): _INTERNAL,
        (_FILE, "with_portal_run_sync"): _INTERNAL,
        (_FILE, "with_portal_run_tree"): _INTERNAL,
        (_FILE, "adapt_awaitable"): _INTERNAL,
        ("outcome/_impl.py", "Value.send"): _TRANSPARENT,
        ("outcome/_impl.py", "Error.send"): _TRANSPARENT,
    },
)
