"""Keeps what greenprof imported out of the program's way; the two share one `sys.modules`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["OwnImports"]

# The program's click may be of another version or author. greenlet is not here: a process has one.
PRIVATE = ("click", "rich")
SHARED = ("greenprof", "greenlet", "__main__")


class OwnImports:
    """greenprof's modules, taken away while the program runs and put back when it is done.

    A project may well have a `secrets.py` or a `calendar.py` of its own. Plain python finds those
    first; after greenprof imported the standard library's, it would not look any more.
    """

    def __init__(self) -> None:
        self._path = list(sys.path)
        self._hidden: dict[str, ModuleType] = {}

    def hide(self, folder: str | None) -> None:
        """Takes away greenprof's private modules and what `folder`, first in the program's path, has."""
        tops = {*PRIVATE, *(_shadowing(folder) if folder is not None else ())}
        self._hidden = _take(_submodules(tops))

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Imports as greenprof did before the program ran."""
        path, sys.path = sys.path, list(self._path)
        theirs = _take({*self._hidden, *_submodules(PRIVATE)})
        sys.modules.update(self._hidden)
        try:
            yield
        finally:
            sys.path = path
            _take({*self._hidden, *_submodules(PRIVATE)})
            sys.modules.update(theirs)


def _submodules(tops: Collection[str]) -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in tops}


def _take(names: set[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in names if name in sys.modules}


def _shadowing(folder: str) -> set[str]:
    """Top-level modules of which the folder has one of its own, other than the one in `sys.modules`."""
    try:
        names = {path.name.partition(".")[0] for path in Path(folder).iterdir()}
    except OSError:  # a zip file, or gone
        names = set()
    found = set()
    for name in names & {name for name in sys.modules if "." not in name} - set(SHARED):
        # Those that python starts with win in plain python too.
        origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None)
        if origin in {"built-in", "frozen", None}:
            continue
        spec = PathFinder.find_spec(name, [folder])
        if spec is not None and spec.loader is not None and spec.origin != origin:
            found.add(name)
    return found
