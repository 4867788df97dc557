"""gevent: its hub serves everybody, and its greenlets know the stack that spawned them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from greenlet import greenlet

from greenprof.bridges import Bridge, Part, Role, SpawnFrame


def _spawned_at(child: greenlet) -> tuple[Iterable[SpawnFrame], greenlet | None]:
    # Kept unless GEVENT_TRACK_GREENLET_TREE=0 (gevent's documentation of Greenlet).
    kind = getattr(sys.modules.get("gevent.greenlet"), "Greenlet", None)
    if kind is None or not isinstance(child, kind):
        return (), None
    reference = child.spawning_greenlet
    spawner = reference() if reference is not None else None
    if spawner is not None and spawner is child.parent:
        return (), None  # the hub did it, as a server's does for each connection
    frames: list[SpawnFrame] = []
    frame = child.spawning_stack
    while frame is not None and len(frames) < child.spawning_stack_limit:
        frames.append(SpawnFrame(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return frames, spawner


BRIDGE = Bridge(
    name="gevent",
    roles={("gevent/hub.py", "Hub.run"): Role(Part.HUB)},
    spawned_at=_spawned_at,
)
