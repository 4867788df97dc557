"""What a call of async code gives where no loop runs: an awaitable that says so when misused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from greenprof.errors import NoLoopError
from greenprof.greenhack import ownloop

__all__ = ["Unawaited"]

# What inspect, asyncio and profilers ask of coroutines and generators.
_COROUTINES = ("cr_", "gi_", "ag_")
_USES = (
    *("len", "iter", "contains", "getitem", "setitem", "delitem", "call"),
    *("enter", "exit", "int", "float", "index", "lt", "le", "gt", "ge", "add", "radd", "sub"),
    *("rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "mod", "and", "or", "neg"),
)


class Unawaited(Coroutine[Any, Any, Any]):
    """A coroutine that no loop drives yet: to be given to `asyncio.run`, not to be used as result.

    To take it for what it would return raises `NoLoopError`, and to drop it warns, with what to
    do about it.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._driven = False

    def send(self, value: Any) -> Any:
        self._driven = True
        return self._coroutine.send(value)

    def throw(self, *raised: Any) -> Any:
        self._driven = True
        return self._coroutine.throw(*raised)

    def close(self) -> None:
        self._driven = True
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        self._driven = True
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        if name.startswith((*_COROUTINES, "__")):
            return getattr(self._coroutine, name)
        raise self._misused()

    def __bool__(self) -> bool:
        return True  # asyncio asks its tasks' coroutines

    def __repr__(self) -> str:
        return f"<{self._name()}() waits for a loop: {self._complaint()}>"

    def __del__(self) -> None:
        if not self._driven:
            self._coroutine.close()
            warnings.warn(
                f"{self._name()}() was called and did nothing: {self._complaint()}",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def _misused(self) -> NoLoopError:
        self.close()
        return NoLoopError(f"{self._name()}() has no result yet: {self._complaint()}")

    def _name(self) -> str:
        return getattr(self._coroutine, "__qualname__", "") or type(self._coroutine).__qualname__

    def _complaint(self) -> str:
        return f"nothing could wait for it. {ownloop.mend()}."


def _misuse(name: str) -> Callable[..., Any]:
    def method(self: Unawaited, *_: Any) -> Any:
        raise self._misused()

    method.__name__ = f"__{name}__"
    method.__qualname__ = f"{Unawaited.__qualname__}.__{name}__"
    return method


for _name in _USES:
    setattr(Unawaited, f"__{_name}__", _misuse(_name))
