"""Numbers for greenlets: what yappi tells its call stacks apart by (its "context ids").

yappi asks for one at every event, so the answer comes from C: the number under the running
greenlet's id, in a dictionary. Python code runs at a greenlet's first event only.

yappi keeps what belongs to a number, some 20 KB, for as long as it holds figures. So the number
of a greenlet that died is given to the next one that begins in the same thread; in another thread
yappi would take it for a mistake, except for the one that a thread begins with.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import repeat, starmap
from typing import Any
from weakref import ref

from greenlet import getcurrent, greenlet


class _Death(ref[greenlet]):
    """Is put among the dead when its greenlet dies, with the number that gets free then."""

    __slots__ = ("free", "number")

    number: int
    free: list[int]


class Contexts(dict[int, int]):
    """The number of each greenlet that has had an event, by the greenlet's id.

    `free` gives the numbers that may be used again in the calling thread; `begun` is called when a
    greenlet gets a number at an event, that is, not from the switch with which it begins: it may
    have begun long ago.
    """

    def __init__(self, free: Callable[[], list[int]], begun: Callable[[greenlet], None]) -> None:
        super().__init__()
        self._free = free
        self._begun = begun
        self._numbers = itertools.count(1)
        self._of_threads: list[int] = []
        self._dead: deque[_Death] = deque()
        self._kept: dict[int, tuple[Any, _Death]] = {}

    def callback(self) -> Callable[[], int]:
        """What yappi is to ask for the running greenlet's number: no Python code as a rule."""
        running: Any = map(self.__getitem__, map(id, starmap(getcurrent, repeat(()))))
        return running.__next__  # type: ignore[no-any-return]

    def __missing__(self, key: int) -> int:
        current = getcurrent()
        number = self.begin(current)
        self._begun(current)
        return number

    def begin(self, one: greenlet) -> int:
        """Give a greenlet of the calling thread a number."""
        return self._give(one, self._free())

    def begin_thread(self, one: greenlet) -> int:
        """Give the greenlet that a thread begins with a number; yappi is told of the thread next."""
        return self._give(one, self._of_threads)

    def living(self) -> list[tuple[greenlet, int]]:
        """The greenlets that have a number, and that."""
        return [
            (one, number)
            for number, (_, death) in list(self._kept.items())
            if (one := death()) is not None
        ]

    def _give(self, one: greenlet, free: list[int]) -> int:
        while self._dead:
            gone = self._dead.popleft()
            gone.free.append(gone.number)
        number = free.pop() if free else next(self._numbers)
        death = _Death(one, self._dead.append)
        death.number, death.free = number, free
        # Its id may be another greenlet's a moment after its death: what forgets it is C, too.
        self._kept[number] = ref(one, partial(self.pop, id(one))), death
        self[id(one)] = number
        return number
