"""Sends no signals while an event loop closes the socket that Python writes them to.

asyncio and trio close it first and take it back from Python after that (`signal.set_wakeup_fd`).
For each signal that comes in between, Python complains on stderr, or writes to whatever file has
got the same number meanwhile. With a signal now and then that never happens. With hundreds a
second it does; and with thousands the next one is there before the complaint is written, for ever.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

# Who closes it: module, class, method.
_CLOSERS = (
    ("asyncio.selector_events", "BaseSelectorEventLoop", "_close_self_pipe"),
    ("trio._core._wakeup_socketpair", "WakeupSocketpair", "close"),
)


class QuietClosing:
    """Has event loops call `pause` when they begin to close their sockets, from any thread."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._changed: dict[str, tuple[type, str, Any, Any]] = {}

    def install(self) -> None:
        """Change the loops whose modules have been imported by now. Cheap: to be called often."""
        for module, name, method in _CLOSERS:
            if module in self._changed or module not in sys.modules:
                continue
            owner = getattr(sys.modules[module], name, None)
            if owner is None or not hasattr(owner, method):  # still at its import
                continue
            earlier = getattr(owner, method)
            self._changed[module] = owner, method, earlier, self._quietly(earlier)
            setattr(owner, method, self._changed[module][3])

    def remove(self) -> None:
        """Change them back, where nobody else has changed them since."""
        for module, (owner, method, earlier, ours) in list(self._changed.items()):
            if getattr(owner, method, None) is ours:
                setattr(owner, method, earlier)
            self._changed.pop(module, None)

    def _quietly(self, close: Any) -> Any:
        @functools.wraps(close)
        def close_quietly(*arguments: Any) -> Any:
            self._pause()
            return close(*arguments)

        return close_quietly
