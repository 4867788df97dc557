"""Waits for the program to import a package, and imports nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ImportWatch"]


class ImportWatch:
    """Calls a function whenever a module whose name has a prefix is about to be imported.

    A finder of modules that finds none: those that the package has imported before that one are
    there already.
    """

    def __init__(self, prefix: str, call: Callable[[], None]) -> None:
        self._prefix = prefix
        self._call = call

    def begin(self) -> None:
        """Begin to wait, unless it waits already."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: Any) -> None:
        """Find nothing, but take note of what is looked for."""
        if name.startswith(self._prefix):
            self._call()
