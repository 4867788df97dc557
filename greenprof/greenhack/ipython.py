"""greenhack in IPython and Jupyter: what is typed at a prompt is sync code that may wait.

A terminal's prompt and what is typed there take turns, so `start_loop` serves, and cells with
`await` run on the same loop. A notebook's kernel runs a loop all the time: there each plain piece of
a cell is run as by `as_async`, on that loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from greenprof.errors import LoopStateError
from greenprof.greenhack import ownloop
from greenprof.greenhack.crossing import as_async, await_

__all__ = ["disable", "enable"]

_enabled: dict[str, Any] = {}
_MISSING = object()


def enable() -> None:
    """Let code at this IPython or Jupyter prompt wait for `exempt` functions and `await_`.

    Lasts for the session, or until `disable`. Raises LoopStateError where no IPython runs.
    """
    if _enabled:
        return
    shell = _shell()
    if asyncio._get_running_loop() is None:
        ownloop.start_loop()
        _replace(shell, loop_runner=await_)
        return
    run_code = shell.run_code

    async def run_as_async(code: Any, result: Any = None, *, async_: bool = False) -> Any:
        if async_:
            return await run_code(code, result, async_=True)
        return await as_async(_run_to_end)(run_code(code, result))

    def always(*_: Any, preprocessing_exc_tuple: Any = None, **__: Any) -> bool:
        return preprocessing_exc_tuple is None

    _replace(shell, run_code=run_as_async, should_run_async=always)


def disable() -> None:
    """Undo `enable`; nothing if that was not called."""
    if not _enabled:
        return
    shell = _enabled.pop("shell")
    served = "loop_runner" in _enabled
    for name, earlier in _enabled.items():
        if earlier is _MISSING:
            delattr(shell, name)
        else:
            setattr(shell, name, earlier)
    _enabled.clear()
    if served:
        ownloop.stop_loop()


def _shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    if shell is None:
        raise LoopStateError(
            "greenhack.ipython.enable() is for the prompt of IPython or Jupyter, and none runs "
            "here: call greenhack.start_loop() instead"
        )
    return shell


def _replace(shell: Any, **attributes: Any) -> None:
    _enabled["shell"] = shell
    for name, value in attributes.items():
        own = name == "loop_runner" or name in vars(shell)
        _enabled[name] = getattr(shell, name) if own else _MISSING
        setattr(shell, name, value)


def _run_to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that awaits nothing: it is IPython's wrapping of sync code."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise LoopStateError("IPython awaits something where it runs plain code")
