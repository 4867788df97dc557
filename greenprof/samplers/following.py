"""Whether the main thread's switches are followed, or its tracer rests because it costs too much.

The tracer adds to each switch what a switch costs, and there are programs that hardly do anything
else. Stacks are whole without it where bridges keep whom they wait for: a signal's handler runs in
the greenlet that it interrupts, and the rest is in the bridges' frames. So it rests where there are
many switches, nobody else wants them, and every bridge that was seen is such a one. It wakes every
now and then, and for good where it meets another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Protocol
from weakref import ref

from greenlet import getcurrent, greenlet

from greenprof import bridges, switches
from greenprof._native import get_ident
from greenprof.bridges import Part
from greenprof.samplers.watch import Watch
from greenprof.switches import CO_AWAITS, Switches, main_of

__all__ = ["Following", "Sparing"]

#: What a switch costs more with the tracer in place, about.
SWITCH_NS = 600
#: It may take this part of the time.
SHARE = 0.001
#: A program is followed for so long at first, and for so long after each rest.
FIRST_NS = 500_000_000
AWAKE_NS = 20_000_000
REST_NS = 2_000_000_000
#: And for no longer than it takes to cost so much.
MOST_NS = 5_000_000
#: Bridges whose frames keep the greenlet that they have switched to, and so whom they wait for.
KEEPING = frozenset({"sqlalchemy", "greenback"})
#: Greenlets that have switched to one another.
MAX_PARTS = 32
#: Greenlets that are looked at before a rest; of what there are many, there are such among them.
MAX_ASKED = 500


class Sparing(Protocol):
    """Somebody who counts switches, and does without them for a while."""

    def is_paused(self, now_ns: int) -> bool:
        """Whether it wants none just now; if not, it expects them from now on."""

    def charge(self, cost_ns: int, now_ns: int) -> None:
        """Take note of what switches cost that are followed for it."""

    @property
    def switched(self) -> switches.Listener:
        """What it listens with."""


class Following:
    """Lets the tracer of the main thread rest. All in that thread, but for `running` and `seen_of`.

    `watch` knows hubs; `sparing` is somebody beside the sampler who follows switches, if there is one.
    """

    def __init__(self, ident: int, watch: Watch) -> None:
        self.sparing: Sparing | None = None
        self._ident = ident
        self._watch = watch
        self._state: Switches | None = None
        self._began_ns = 0
        self._since_ns = 0
        self._until_ns = 0
        #: Whether it is `sparing` that wants what is seen since then, and may want it no more at any tick.
        self.for_sparing = False
        self._count = 0
        self._main: Callable[[], greenlet | None] = _nobody
        self._rested_ns = 0
        self._spawning: Any = None

    def tick(self, now_ns: int) -> None:
        """See to the tracer, at a tick."""
        state = switches.of_thread(self._ident)
        if state is None:
            return
        if state is not self._state:
            self._state = state
            self._begin(state, now_ns, FIRST_NS)
        if state.resting:
            if (
                now_ns >= self._since_ns + REST_NS
                or self._is_wanted(now_ns)
                or self._meets_another(state)
            ):
                state.wake()
                self._rested_ns += now_ns - self._since_ns
                self._begin(state, now_ns, AWAKE_NS)
                self.for_sparing = self.sparing is not None and not self.sparing.is_paused(now_ns)
            return
        state.check()
        cost_ns = (state.position()[0] - self._count) * SWITCH_NS
        sparing = self.sparing
        if (
            now_ns < self._until_ns
            and cost_ns < MOST_NS
            and not (self.for_sparing and sparing is not None and sparing.is_paused(now_ns))
        ):
            return
        if (
            cost_ns <= SHARE * (now_ns - self._since_ns)
            or self._others_want()
            or not self._is_whole_without(state)
        ):
            self._begin(state, now_ns, FIRST_NS)
            return
        wants = sparing is not None and not sparing.is_paused(now_ns)
        if sparing is not None and (wants or self.for_sparing):
            # Of programs that switch all the time, the tracer takes more than all counting.
            sparing.charge(cost_ns, now_ns)
            wants = not sparing.is_paused(now_ns)
        if not wants and state.rest():
            self._since_ns = now_ns
            self._main = ref(main_of(getcurrent()))
        else:
            self._begin(state, now_ns, FIRST_NS)
            self.for_sparing = wants

    def _begin(self, state: Switches, now_ns: int, lasts_ns: int) -> None:
        self._began_ns = self._began_ns or now_ns
        self._since_ns, self._until_ns = now_ns, now_ns + lasts_ns
        self.for_sparing = False
        self._count = state.position()[0]

    def close(self) -> None:
        """Leave nothing behind."""
        if self._spawning is not None:
            self._spawning.remove_spawn_callback(_note_spawned)
            self._spawning = None

    def seen_of(self, now_ns: int) -> tuple[int, int]:
        """For how long switches were seen, of how long in all."""
        whole_ns = max(now_ns - self._began_ns, 1)
        rested_ns = self._rested_ns
        if self._state is not None and self._state.resting:
            rested_ns += now_ns - self._since_ns
        return max(whole_ns - rested_ns, 1), whole_ns

    def running(self) -> greenlet | None:
        """The greenlet that the main thread runs; None if it is not known. From any thread."""
        state = self._state
        if state is None or not state.resting:
            followed = switches.of_thread(self._ident)
            return None if followed is None else followed.running()
        main = self._main()
        if main is None:
            return None
        # Suspended ones have a frame. Where the main greenlet is, it is in the function that has
        # switched to another, which a bridge's keeps.
        found = main
        for _ in range(MAX_PARTS):
            top = found.gr_frame
            if top is None:
                return found
            kept = bridges.waiter_kept_in(top)
            if not isinstance(kept, greenlet):
                break
            found = kept
        for reference in (*self._watch.hubs(), *list(state.born.values())):
            one = reference()
            if one is not None and one and one.gr_frame is None and main_of(one) is main:
                return one
        return None

    def _meets_another(self, state: Switches) -> bool:
        """Whether what runs was switched to by a coroutine that is no such bridge's."""
        parent = getcurrent().parent
        top = None if parent is None else parent.gr_frame
        if top is None or not top.f_code.co_flags & CO_AWAITS or _keeps(top.f_code):
            return False
        state.bridging[id(top.f_code)] = top.f_code
        return True

    def _is_wanted(self, now_ns: int) -> bool:
        sparing = self.sparing
        return (sparing is not None and not sparing.is_paused(now_ns)) or self._others_want()

    def _others_want(self) -> bool:
        if self.sparing is None:
            return switches.wanted(1)
        return switches.wanted(2, (self.sparing.switched,))

    def _is_whole_without(self, state: Switches) -> bool:
        """Whether stacks are as whole without the tracer, as far as has been seen."""
        if not all(map(_keeps, list(state.bridging.values()))):
            return False
        if "eventlet.greenthread" in sys.modules:
            return False  # nobody says that a green thread begins
        kind = getattr(sys.modules.get("gevent.greenlet"), "Greenlet", None)
        for reference in list(state.born.values())[-MAX_ASKED:]:
            found = reference()
            if (
                found is not None
                and self._watch.below_hub(found)
                and (kind is None or not isinstance(found, kind))
            ):
                return False
        if kind is not None and self._spawning is None:
            kind.add_spawn_callback(_note_spawned)
            self._spawning = kind
        return True


# Codes that were asked for, by their ids, which stay taken.
_keeping: dict[int, tuple[CodeType, bool]] = {}


def _keeps(code: CodeType) -> bool:
    """Whether it is a bridge frame that keeps the greenlet that it has switched to."""
    known = _keeping.get(id(code))
    if known is None:
        role = bridges.role_of(code)
        keeps = (
            role is not None
            and role.part is Part.BRIDGE_FRAME
            and bridges.bridge_of(code) in KEEPING
        )
        if len(_keeping) >= switches.MAX_BRIDGING:
            _keeping.clear()
        known = _keeping[id(code)] = code, keeps
    return known[1]


def _nobody() -> None:
    """No greenlet: as a weak reference whose object is gone."""


def _note_spawned(found: greenlet) -> None:
    state = switches.of_thread(get_ident())
    if state is not None and state.resting:
        state.note_born(found)
