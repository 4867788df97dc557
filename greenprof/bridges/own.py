"""greenprof's own functions that stand between those of the program while it is watched."""

from __future__ import annotations

from greenprof.bridges import Bridge, Part, Role

_TRANSPARENT = Role(Part.TRANSPARENT)
_ENTRIES = "greenprof/handovers/entries.py"

BRIDGE = Bridge(
    name="greenprof",
    roles={
        ("greenprof/samplers/steps.py", "_timed.<locals>.run"): _TRANSPARENT,
        (_ENTRIES, "_entry"): _TRANSPARENT,
        (_ENTRIES, "_awaiting.<locals>.hand_over"): _TRANSPARENT,
    },
)
