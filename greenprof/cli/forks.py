"""What a fork is for."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["starts_a_program"]

MODULES = frozenset({"subprocess", "gevent.subprocess", "eventlet.green.subprocess"})


def starts_a_program() -> bool:
    """Whether the fork in progress is for another program, which `subprocess` or `os.spawn*` runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module in MODULES or (module == "os" and frame.f_code.co_name == "_spawnvef"):
            return True
        frame = frame.f_back
    return False
