"""Finds out, as greenlets switch, that an await began: what all who record awaits have in common.

A switch to a coroutine's frame is sync code that hands an awaitable over; a switch to a hub is a
greenlet that waits. Either is over when the one that waits is switched to again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from greenlet import greenlet

from greenprof import bridges
from greenprof.bridges import Part
from greenprof.loops import running_loop
from greenprof.rawstack import walk

__all__ = ["Handovers", "Switched", "nobody"]

#: A listener of `greenprof.switches`.
Switched = Callable[[str, greenlet, greenlet, "FrameType | None", bool], None]

#: Awaits that are open are pruned of those whose greenlet is gone when there are so many.
PRUNE_AT = 4096
# Greenlets and functions that were looked at; the tables start anew here.
_CACHE_LIMIT = 20_000
# Libraries whose greenlets wait in a hub.
_WITH_HUBS = frozenset({"gevent.hub", "eventlet.hubs", "playwright.sync_api", "greenletio.core"})


class Handovers:
    """The awaits that are open, in all threads; a base of those that do something with them.

    `met` is called when a library is there for the first time whose awaits do not begin with a
    switch, or that has a hub; `look_after` with the loops and hubs in which greenlets begin, in
    their threads; `failed` with an error of ours.
    """

    def __init__(
        self,
        met: Callable[[], None],
        look_after: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.failed = failed
        self._met = met
        self._look_after = look_after
        self._prune_at = PRUNE_AT
        #: id(greenlet that waits) -> its await. Anything in it means: tell of every switch, as
        #: where there are hubs; 0 is nobody's identity.
        self.open: dict[int, Any] = {}
        # id(greenlet) -> (itself, weakly, the library whose hub it is or "")
        self._greenlets: dict[int, tuple[ref[greenlet], str]] = {}
        # id(code) -> itself, for those to which a switch says nothing: the await began before it.
        self._silent: dict[int, CodeType] = {}
        self._telling: dict[int, CodeType] = {}
        entries = {bridge.entry[0] for bridge in bridges.bridges() if bridge.entry is not None}
        self._last_loop: Callable[[], Any] = nobody
        self._modules = 0
        # Modules of libraries that matter once they are imported.
        self._expected = sorted(entries | _WITH_HUBS)
        self.switched = self._make_switched()

    # What those that derive from it do.

    def _make_switched(self) -> Switched:
        """The listener. A closure rather than a method: it runs at each await twice."""
        raise NotImplementedError

    def _begin_in_hub(self, origin: greenlet, hub: str) -> None:
        """A greenlet begins to wait in the hub of a library."""
        raise NotImplementedError

    def begin_at_entry(self) -> Any:
        """The running greenlet begins an await that does not end with a switch.

        Returns what `end_at_entry` is to get; None if nothing is to be recorded.
        """
        raise NotImplementedError

    def end_at_entry(
        self,
        begun: Any,
        raised: type[BaseException] | None,
        awaitable: Any,
        frame: FrameType,
        bridge: str,
    ) -> None:
        """What `begin_at_entry` began is over, in the function that called from `frame`."""
        raise NotImplementedError

    def _waiter_of(self, entry: Any) -> greenlet | None:
        """The greenlet that waits, of a value in `open`."""
        raise NotImplementedError

    # What they call.

    def begin(self) -> None:
        """Look which libraries are there already."""
        self._look_for_libraries()

    def _clear(self) -> None:
        """Let all open awaits be: they are another process's, or nobody wants them any more."""
        self._clear_open()
        self._greenlets.clear()

    def _clear_open(self) -> None:
        """The same, and there will be others: who is a hub is remembered."""
        hubs = {0: None} if 0 in self.open else {}
        self.open.clear()
        self.open.update(hubs)

    def _other(self, origin: greenlet, target: greenlet, frame: FrameType | None) -> None:
        """Take note of a switch that hands nothing over."""
        if frame is None:
            self._begun(origin, target)
        elif not origin.dead and 0 in self.open:
            known = self._greenlets.get(id(target))
            if known is None or known[0]() is not target:
                known = self._look_at_greenlet(target, frame)
            if known[1] and not self._is_hub(origin):
                self._begin_in_hub(origin, known[1])

    def _begun(self, origin: greenlet, target: greenlet) -> bool:
        """A greenlet's first switch; return whether it is a hub."""
        loop = running_loop()
        if loop is not None and self._last_loop() is not loop:
            self._last_loop = ref(loop)
            self._look_after(loop)
        if len(sys.modules) != self._modules:
            self._look_for_libraries()
        hub = _library_of_new_hub(target) if 0 in self.open else ""
        if hub:
            self._look_after(target)
            self._greenlets[id(target)] = ref(target), hub
            self._begin_in_hub(origin, hub)
        return bool(hub)

    def _prune(self) -> list[Any]:
        """Drop the awaits whose greenlets are gone, and return them."""
        gone = []
        for key, entry in list(self.open.items()):
            if entry is None:
                continue
            waiter = self._waiter_of(entry)
            if waiter is None or waiter.dead:
                gone.append(entry)
                self.open.pop(key, None)
        self._prune_at = max(PRUNE_AT, 2 * len(self.open))
        return gone

    def _look_for_libraries(self) -> None:
        """See which libraries were imported since the last time."""
        self._modules = len(sys.modules)
        found = [name for name in self._expected if name in sys.modules]
        if found:
            self._expected = [name for name in self._expected if name not in found]
            if not _WITH_HUBS.isdisjoint(found):
                self.open[0] = None
            self._met()

    def _is_silent(self, code: CodeType) -> bool:
        """Whether a switch to this coroutine says nothing, because the await began before."""
        if id(code) in self._silent:
            return True
        for known in (self._silent, self._telling):
            if len(known) >= _CACHE_LIMIT:
                known.clear()
        silent = bridges.awaits_at_entry(code)
        (self._silent if silent else self._telling)[id(code)] = code
        return silent

    def _is_hub(self, one: greenlet) -> bool:
        known = self._greenlets.get(id(one))
        return known is not None and bool(known[1]) and known[0]() is one

    def _look_at_greenlet(self, one: greenlet, frame: FrameType) -> tuple[ref[greenlet], str]:
        if len(self._greenlets) >= _CACHE_LIMIT:
            self._greenlets.clear()
        hub = _library_of_new_hub(one)
        if not hub:
            root = walk(frame)[0].f_code
            role = bridges.role_of(root)
            if role is not None and role.part is Part.HUB:
                hub = bridges.bridge_of(root) or ""
        found = self._greenlets[id(one)] = ref(one), hub
        return found


def nobody() -> None:
    """No greenlet, and no loop: as a weak reference whose object is gone."""


def _library_of_new_hub(one: greenlet) -> str:
    """Name the library whose hub it is, also if it has no frames yet; "" if it is none."""
    kind = getattr(sys.modules.get("gevent.hub"), "Hub", None)
    if kind is not None and issubclass(type(one), kind):
        return "gevent"
    hubs = sys.modules.get("eventlet.hubs")
    hub = getattr(getattr(hubs, "_threadlocal", None), "hub", None)
    return "eventlet" if getattr(hub, "greenlet", None) is one else ""
