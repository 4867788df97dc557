"""Sync code with async I/O underneath, for programs that cannot be rewritten with async and await.

>>> from greenprof import greenhack
>>> @greenhack.exempt
... async def fetch(url): ...
>>> @greenhack.as_async
... def view(request):  # a coroutine function for its caller, plain code inside
...     return fetch("http://kitchen/")  # waits, and other tasks go on

Where there is no loop, `start_loop` gives the program one.
"""

from __future__ import annotations

from typing import Any, TextIO

from greenprof.errors import LoopStateError, NoLoopError
from greenprof.greenhack import ipython
from greenprof.greenhack.crossing import as_async, await_, can_await
from greenprof.greenhack.modes import mode
from greenprof.greenhack.ownloop import start_loop, stop_loop
from greenprof.greenhack.wrapping import exempt, exempt_cm, exempt_it

__all__ = [
    "LoopStateError",
    "NoLoopError",
    "as_async",
    "await_",
    "can_await",
    "exempt",
    "exempt_cm",
    "exempt_it",
    "ipython",
    "mode",
    "print_stack",
    "start_loop",
    "stop_loop",
]


def print_stack(target: Any = None, file: TextIO | None = None) -> None:
    """Print the unified stack from here, or of `target`: see `greenprof.print_stack`."""
    from greenprof.dumps import print_stack as print_unified

    print_unified(target, file)
