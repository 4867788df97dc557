"""Where a task was suspended, and what a callback is called: each once, under a number."""

from __future__ import annotations

from types import CodeType, CoroutineType
from typing import Any, Final

from greenprof import awaitables
from greenprof._native import RLock
from greenprof.frames import FrameTable, origin_of
from greenprof.profiles import FrameOrigin, ProfileBuilder

__all__ = ["UNKNOWN", "Places"]

#: Lines and names that are told apart; others have the number UNKNOWN.
MAX_PLACES: Final = 10_000
UNKNOWN: Final = 0
# How deep in a chain of awaits the program's own line is looked for.
_DEPTH: Final = 64
_MAX_NAME: Final = 200


class Places:
    """Numbers of lines and names."""

    def __init__(self) -> None:
        self._lock = RLock()
        # (id(code), offset), or a name -> its number.
        self._numbers: dict[tuple[int, int] | str, int] = {"": UNKNOWN}
        # Keeps the code objects alive, so that their ids stay taken.
        self._places: list[tuple[CodeType, int] | str] = [""]
        # Functions that were looked at: whether they are the program's.
        self._own: dict[int, tuple[CodeType, bool]] = {}

    def abandon(self) -> None:
        """Go without the lock that another thread held when the process forked."""
        self._lock = RLock()

    def suspended_in(self, task: Any) -> int:
        """The program's own line, the innermost one, that a task is suspended in."""
        awaitable = awaitables.coroutine_of(task)
        innermost = None
        # By `cr_await` alone: a frame is made only when it is asked for.
        for _ in range(_DEPTH):
            if type(awaitable) is not CoroutineType or awaitable.cr_running:
                break  # what runs must not be asked: see `awaitables.step`
            code = awaitable.cr_code
            known = self._own.get(id(code))
            if known is None:
                known = self._look_at(code)
            if known[1]:
                innermost = awaitable
            awaitable = awaitable.cr_await
        frame = None if innermost is None else innermost.cr_frame
        if frame is None:
            return UNKNOWN
        code, offset = frame.f_code, frame.f_lasti
        found = self._numbers.get((id(code), offset))
        return self._add((id(code), offset), (code, offset)) if found is None else found

    def _look_at(self, code: CodeType) -> tuple[CodeType, bool]:
        if len(self._own) >= MAX_PLACES:
            self._own.clear()
        found = self._own[id(code)] = code, origin_of(code.co_filename) is FrameOrigin.APP
        return found

    def called(self, callback: Any) -> int:
        """The name of what a loop called, for a person."""
        for _ in range(4):
            inner = getattr(callback, "func", None)  # functools.partial
            if inner is None:
                break
            callback = inner
        name = getattr(callback, "__qualname__", None)
        name = name[:_MAX_NAME] if isinstance(name, str) else type(callback).__name__
        found = self._numbers.get(name)
        return self._add(name, name) if found is None else found

    def _add(self, key: tuple[int, int] | str, place: tuple[CodeType, int] | str) -> int:
        if len(self._places) >= MAX_PLACES:
            return UNKNOWN
        with self._lock:
            number = self._numbers.setdefault(key, len(self._places))
            if number == len(self._places):
                self._places.append(place)
        return number

    def placed(self, number: int, builder: ProfileBuilder, table: FrameTable) -> tuple[int, str]:
        """The stack and the name that a place has in a profile."""
        place = self._places[number]
        if isinstance(place, str):
            return -1, place
        return builder.node(-1, builder.frame(table.frame(*place, 0, False))), ""
