"""Tells of ends that the interpreter does not tell of: `os._exit`, and a process that becomes another program."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

__all__ = ["tell_of_endings"]


def tell_of_endings(
    at_exit: Callable[[], None], before_exec: Callable[[], Callable[[], None]]
) -> None:
    """Has `at_exit` called by `os._exit`, and `before_exec` by all of `os.exec*`.

    What `before_exec` returns is called where the process did not become another program after all.
    It is called only where there is a file to execute: who looks along the path tries many names.
    Neither may raise. What does not go by way of the module `os` is not told of.
    """
    os._exit = _exiting(os._exit, at_exit)
    # execl, execvp and all the others call these two by their names in the module.
    os.execv = _executing(os.execv, before_exec)
    os.execve = _executing(os.execve, before_exec)


def _exiting(exit_now: Callable[..., Any], at_exit: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(exit_now)
    def _exit(*arguments: Any, **named: Any) -> Any:
        # With anything else it raises, and the program goes on.
        if isinstance((*arguments, *named.values(), None)[0], int):
            try:
                at_exit()
            finally:
                exit_now(*arguments, **named)
        return exit_now(*arguments, **named)

    return _known_by_os(_exit)


def _executing(
    execute: Callable[..., Any], before_exec: Callable[[], Callable[[], None]]
) -> Callable[..., Any]:
    @functools.wraps(execute)
    def execute_and_tell(*arguments: Any, **named: Any) -> Any:
        path = arguments[0] if arguments else named.get("path")
        go_on = before_exec() if _can_be_executed(path) else None
        try:
            return execute(*arguments, **named)
        finally:
            if go_on is not None:
                go_on()

    return _known_by_os(execute_and_tell)


def _known_by_os(function: Callable[..., Any]) -> Callable[..., Any]:
    # Pickle finds a function by its module and name, and these are not in `posix`.
    function.__module__ = os.__name__
    return function


def _can_be_executed(path: Any) -> bool:
    try:
        return isinstance(path, int) or (os.access(path, os.X_OK) and not os.path.isdir(path))
    except (TypeError, ValueError):
        return False
