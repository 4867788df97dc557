"""eventlet: its hub serves everybody. It keeps no record of where a greenlet was spawned."""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

BRIDGE = Bridge(
    name="eventlet",
    roles={
        ("eventlet/hubs/hub.py", "BaseHub.run"): Role(Part.HUB),
        ("eventlet/hubs/asyncio.py", "Hub.run"): Role(Part.HUB),
        ("eventlet/hubs/asyncio.py", "Hub.run.<locals>.async_run"): Role(Part.HUB),
        ("eventlet/hubs/hub.py", "BaseHub.switch"): Role(Part.INTERNAL),
        ("eventlet/greenthread.py", "GreenThread.main"): Role(Part.INTERNAL),
        ("eventlet/green/thread.py", "__thread_body"): Role(Part.INTERNAL),
    },
)
