"""Playwright's sync API: a dispatcher greenlet runs the loop, each call waits for a task in it.

No frame awaits on the caller's behalf, so what links the two sides is the await site's future.
"""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

BRIDGE = Bridge(
    name="playwright",
    roles={
        ("playwright/_impl/_greenlets.py", "wait_for_future"): Role(Part.AWAIT_SITE, ("future",)),
        # Before 1.60 or so the wait was written out in the method itself.
        ("playwright/_impl/_sync_base.py", "SyncBase._sync"): Role(Part.AWAIT_SITE, ("task",)),
        (
            "playwright/sync_api/_context_manager.py",
            "PlaywrightContextManager.__enter__.<locals>.greenlet_main",
        ): Role(Part.HUB),
        ("playwright/_impl/_greenlets.py", "run_in_greenlet"): Role(Part.INTERNAL),
        ("playwright/_impl/_greenlets.py", "run_in_greenlet.<locals>.body"): Role(Part.INTERNAL),
    },
)
