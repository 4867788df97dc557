"""Profiles programs whose stack is split between greenlets.

>>> with greenprof.profile() as p:
...     work()
>>> p.profile.save("work.gprof")

>>> greenprof.print_stack()  # the whole stack, from wherever this is called
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from greenprof._version import __version__

if TYPE_CHECKING:
    from greenprof import greenhack
    from greenprof.blocking import BlockInfo, BlockWatch, watch_blocks
    from greenprof.bridges import Bridge, Part, Role, register_bridge
    from greenprof.capture import Stack, capture_all, capture_stack
    from greenprof.dumps import dump, dump_on_signal, format_stack, print_stack
    from greenprof.errors import GreenprofError
    from greenprof.profiler import Profiler, profile
    from greenprof.profiles import Profile
    from greenprof.spans.tracing import (
        AwaitInfo,
        SpanCounts,
        Tracing,
        start_tracing,
        stop_tracing,
        trace,
    )

__all__ = [
    "AwaitInfo",
    "BlockInfo",
    "BlockWatch",
    "Bridge",
    "GreenprofError",
    "Part",
    "Profile",
    "Profiler",
    "Role",
    "SpanCounts",
    "Stack",
    "Tracing",
    "__version__",
    "capture_all",
    "capture_stack",
    "dump",
    "dump_on_signal",
    "format_stack",
    "greenhack",
    "print_stack",
    "profile",
    "register_bridge",
    "start_tracing",
    "stop_tracing",
    "trace",
    "watch_blocks",
]

# Loaded when first used: a saved profile opens without greenlet, and `greenprof --version` is
# quick.
_HOMES = {
    "blocking": ("BlockInfo", "BlockWatch", "watch_blocks"),
    "bridges": ("Bridge", "Part", "Role", "register_bridge"),
    "capture": ("Stack", "capture_all", "capture_stack"),
    "dumps": ("dump", "dump_on_signal", "format_stack", "print_stack"),
    "errors": ("GreenprofError",),
    "profiles": ("Profile",),
    "profiler": ("Profiler", "profile"),
    "spans.tracing": (
        "AwaitInfo",
        "SpanCounts",
        "Tracing",
        "start_tracing",
        "stop_tracing",
        "trace",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "greenhack":
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
