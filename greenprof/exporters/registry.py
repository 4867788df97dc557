"""What exporters there are, found by name or by a file's suffix."""

from __future__ import annotations

import importlib
import os
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from greenprof.errors import OptionError, OutputError
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Exporter", "Render", "exporters", "find_exporter", "register_exporter"]


class Render(Protocol):
    """Turns a profile into the contents of a file: text, or bytes for a binary format."""

    def __call__(self, profile: Profile, /, *, clock: str = "wall") -> str | bytes: ...


@dataclass(frozen=True, slots=True)
class Exporter:
    """An output format.

    A module of `greenprof.exporters` that has one of these under the name EXPORTER is found by
    itself; other packages call `register_exporter`.
    """

    name: str
    suffixes: tuple[str, ...]
    """With their dots; a file belongs to the exporter with the longest suffix that fits."""
    binary: bool
    render: Render
    description: str = ""
    """A few words for the command line's help."""


_PACKAGE = "greenprof.exporters"
_registered: dict[str, Exporter] = {}
_discovered = False


def register_exporter(exporter: Exporter) -> None:
    """Add a format. Raises OptionError if its name or a suffix of it is taken."""
    _discover()
    _add(exporter)


def exporters() -> list[Exporter]:
    """Return all formats, sorted by name."""
    _discover()
    return sorted(_registered.values(), key=lambda exporter: exporter.name)


def find_exporter(name_or_path: str | os.PathLike[str]) -> Exporter:
    """Return the format of that name, or the one that a path's suffix tells.

    Raises OutputError, with the formats that there are, if there is none.
    """
    wanted = os.fspath(name_or_path)
    if not _discovered and not _find_alone(wanted):
        _discover()
    if wanted in _registered:
        return _registered[wanted]
    lowered = wanted.lower()
    fitting = [
        (len(suffix), exporter.name)
        for exporter in _registered.values()
        for suffix in exporter.suffixes
        if lowered.endswith(suffix)
    ]
    if fitting:
        return _registered[max(fitting)[1]]
    known = ", ".join(
        f"{exporter.name} ({' '.join(exporter.suffixes)})" for exporter in exporters()
    )
    raise OutputError(f"no format is known for '{printable(wanted)}'; choose one of {known}")


def _add(exporter: Exporter) -> None:
    for other in _registered.values():
        taken = sorted(set(other.suffixes) & set(exporter.suffixes))
        if other.name == exporter.name or taken:
            raise OptionError(
                f"cannot register the format {exporter.name!r}: "
                f"{taken[0] if taken else 'its name'} belongs to {other.name!r}; choose another"
            )
    _registered[exporter.name] = exporter


def _find_alone(wanted: str) -> bool:
    """Whether the format's module is the one of its name: the others need not be imported then."""
    name = wanted.lower().rpartition(".")[2]
    if name not in {module.name for module in pkgutil.iter_modules(_package().__path__)}:
        return False
    exporter = _import(f"{_PACKAGE}.{name}")
    return exporter is not None and (wanted == exporter.name or f".{name}" in exporter.suffixes)


def _discover() -> None:
    global _discovered
    if _discovered:
        return
    for module in pkgutil.iter_modules(_package().__path__, f"{_PACKAGE}."):
        _import(module.name)
    _discovered = True


def _package() -> ModuleType:
    return importlib.import_module(_PACKAGE)


def _import(name: str) -> Exporter | None:
    exporter: Exporter | None = getattr(importlib.import_module(name), "EXPORTER", None)
    if exporter is not None and exporter.name not in _registered:
        _add(exporter)
    return exporter
