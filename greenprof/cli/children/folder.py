"""The private folder where processes of one run leave their profiles, and what is known of each.

A process has a name there, in the order in which they started, and up to four files:
`NAME.json` from its start on, `NAME.saved.gprof` while it autosaves, `NAME.ending` when it begins to
write, and `NAME.gprof`, its whole profile. A process that could not be profiled leaves `PID.failed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from greenprof._native import time
from greenprof.cli.autosave import Saving
from greenprof.errors import OutputError
from greenprof.printable import printable

__all__ = ["Folder", "Place", "Settings"]

SETTINGS, LEGACY = "settings", "legacy"
WHOLE, SAVED, STARTED, ENDING, FAILED = ".gprof", ".saved.gprof", ".json", ".ending", ".failed"
ANNOUNCED = ("pid", "command", "born")


@dataclass(frozen=True, slots=True)
class Settings:
    """What every process of a run has to know."""

    greenprof: str
    """Its version: another one may write other files."""
    root: int
    """Process id of the run itself."""
    recorded: dict[str, Any]
    """The options of `Profiler`."""
    autosave_s: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """One process's part of the folder."""

    folder: str
    name: str
    pid: int
    command: str
    born: str
    """What tells the process from a later one of the same id."""

    @property
    def whole(self) -> str:
        return self._path(WHOLE)

    @property
    def saved(self) -> str:
        return self._path(SAVED)

    def saving(self, every_s: float | None) -> Saving | None:
        """How to save what is there so far; None for not at all."""
        return None if every_s is None else Saving(self.saved, every_s)

    def announce(self) -> None:
        """Have the run know of the process. Raises OSError."""
        _write(self._path(STARTED), {name: getattr(self, name) for name in ANNOUNCED})

    def is_ending(self) -> bool:
        return os.path.lexists(self._path(ENDING))

    def begins_to_end(self) -> None:
        """Tell the run that the profile comes in a moment. Raises OSError."""
        os.close(os.open(self._path(ENDING), os.O_WRONLY | os.O_CREAT, 0o600))

    def is_alive(self) -> bool:
        """Whether the process is still there, and no zombie."""
        return _born(self.pid) == self.born

    def _path(self, suffix: str) -> str:
        return os.path.join(self.folder, self.name + suffix)


class Folder:
    """A folder of the user's own, that nobody else can look into or write to."""

    def __init__(self, path: str) -> None:
        """Raises OSError where it is none of the user's, or no folder."""
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
            raise NotADirectoryError(f"{path} is no private folder")
        if found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is another user's")
        self.path = path

    @classmethod
    def create(cls) -> Self:
        """Raises OutputError where no folder can be made."""
        import tempfile  # by the run alone: children start in a hurry

        try:
            return cls(os.path.abspath(tempfile.mkdtemp(prefix="greenprof-run-")))
        except OSError as error:
            raise OutputError(
                "cannot make a temporary folder for the children's profiles:"
                f" {(error.strerror or str(error)).lower()}; set TMPDIR, or leave out --subprocesses"
            ) from None

    def write_settings(self, settings: Settings) -> None:
        """Raises OSError."""
        _write(self._path(SETTINGS), asdict(settings))

    def settings(self) -> Settings:
        """Raises OSError or ValueError where there are none."""
        return Settings(**self._read(SETTINGS + STARTED))

    def leave_to_heir(self, legacy: dict[str, Any]) -> None:
        """Leave what the run knows to the program that its process becomes. Raises OSError."""
        _write(self._path(LEGACY), legacy)

    def legacy(self) -> dict[str, Any]:
        """What was left. Raises OSError or ValueError where nothing was."""
        return self._read(LEGACY + STARTED)

    def place(self, command: str) -> Place:
        """A place for this process, which nobody knows of before it is `announced`."""
        pid = os.getpid()
        # A clock that all processes share orders them; with the id, names are never equal.
        return Place(self.path, f"{time.monotonic_ns():020d}-{pid}", pid, command, _born(pid))

    def places(self) -> list[Place]:
        """All processes that began to be profiled, in the order of their starts."""
        found = []
        for name in self._names(STARTED):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(Place(self.path, name, **self._read(name + STARTED)))
        return found

    def failures(self) -> list[str]:
        """Why processes could not be profiled, one line for each."""
        found = []
        for name in self._names(FAILED):
            with contextlib.suppress(OSError):
                text = Path(self.path, name + FAILED).read_text("utf-8", "backslashreplace")
                found.append(f"process {name}: {text}")
        return found

    def note_failure(self, error: Exception) -> None:
        """Have the run say why this process is not profiled. Raises OSError."""
        with open(os.path.join(self.path, f"{os.getpid()}{FAILED}"), "w", encoding="utf-8") as file:
            file.write(printable(f"{type(error).__name__}: {error}"))

    def remove(self) -> None:
        """Remove it with all that is in it, as far as that is possible."""
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name + STARTED)

    def _names(self, suffix: str) -> Iterator[str]:
        try:
            entries = sorted(os.listdir(self.path))
        except FileNotFoundError:  # somebody has removed it
            return
        for entry in entries:
            name = entry.removesuffix(suffix)
            if name not in (entry, SETTINGS, LEGACY):
                yield name

    def _read(self, name: str) -> dict[str, Any]:
        with open(os.path.join(self.path, name), encoding="utf-8") as file:
            content = json.load(file)
        if not isinstance(content, dict):
            raise ValueError(f"{name} is no object")  # noqa: TRY004  # as bad JSON would be
        return content


def _write(path: str, content: dict[str, Any]) -> None:
    # Whole or not at all: others read it while this one writes.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(f"{path}.new", flags, 0o600)
    with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(content, file)
    os.replace(f"{path}.new", path)


def _born(pid: int) -> str:
    """When the process started, in the system's own words; "" if it is gone, or only a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything; state is the first field behind, starttime the 20th.
            fields = file.read().rpartition(b")")[2].split()
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "unknown"
    except OSError:
        return ""
    return "unknown"
