"""The run's side of its children: what they are told, and their profiles put together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from greenprof._native import time
from greenprof._version import __version__
from greenprof.cli.children.begin import Child
from greenprof.cli.children.folder import Folder, Place, Settings
from greenprof.cli.imports import OwnImports
from greenprof.cli.terminal import complain, say
from greenprof.errors import ProfileFileError
from greenprof.model import nanoseconds_between
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Family"]

VARIABLE = "GREENPROF_CHILDREN"
PATH = "PYTHONPATH"
HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hook")
# Ctrl-C ends a whole group of processes at once, and the run may be the first to be done.
GRACE_S = 1.0
WRITING_LIMIT_S = 10.0
STEP_S = 0.01
AUTOSAVE_S = 3.0
# Threads of so many processes are told apart; a reader follows no more, and a profile need not either.
MOST_APART = 64


class Family:
    """The processes of one run: gives them a folder, and makes one profile of theirs."""

    def __init__(self, folder: Folder, settings: Settings, child: Child, *, quiet: bool) -> None:
        self.folder = folder
        self.settings = settings
        self.forked = child.forked
        """For `Session`: what a fork of the run does."""
        self._quiet = quiet
        self._kept = False

    @classmethod
    def found(
        cls, recorded: dict[str, Any], imports: OwnImports, command: str, *, quiet: bool
    ) -> Family:
        """Makes the folder. Raises OutputError."""
        folder = Folder.create()
        settings = Settings(__version__, os.getpid(), recorded, AUTOSAVE_S, {})
        folder.write_settings(settings)
        return cls(folder, settings, Child(folder, settings, imports, command), quiet=quiet)

    def follow(self) -> None:
        """Has the Pythons that start from now on profile themselves."""
        os.environ[VARIABLE] = self.folder.path
        # An empty part would be the current folder.
        os.environ[PATH] = os.pathsep.join(filter(None, (HOOK, os.environ.get(PATH))))

    def together(self, profile: Profile) -> Profile:
        """The run's profile, and those of its children that have ended."""
        places = self.folder.places()
        living = self._wait(places)
        names = {place.name for place in living}
        parts, cut, lost = [profile], 0, 0
        apart: set[int] = set()
        for place in places:
            if place.name in names:
                continue
            part = _load(place.whole)
            if part is None:
                part = _load(place.saved)
                cut += part is not None
            if part is None:
                lost += 1
                continue
            if len(apart) < MOST_APART:
                apart.add(place.pid)
            whose = f"process {place.pid}" if place.pid in apart else "other processes"
            part.threads = [f"{name} ({whose})" for name in part.threads]
            parts.append(part)
        merged = _merge(parts)
        merged.info.command = profile.info.command
        total = len({profile.info.pids[0], *(place.pid for place in places)})
        trouble = list(self._trouble(total, cut, lost, living))
        merged.info.warnings += trouble
        for text in trouble:
            complain(text)
        if not self._quiet and places:
            seen = len(merged.info.pids)
            say(f"greenprof: {seen} process{'es' * (seen != 1)} in one profile")
        self._kept = bool(living)
        return merged

    def close(self) -> None:
        """Removes the folder, unless a child that goes on will need it."""
        if not self._kept:
            self.folder.remove()

    def _trouble(self, total: int, cut: int, lost: int, living: list[Place]) -> Iterator[str]:
        if cut:
            yield (
                f"{_of(cut, total)} killed: their profiles end with what was saved last,"
                f" up to {self.settings.autosave_s:g} s before"
            )
        if lost:
            yield f"{_of(lost, total)} killed before anything was saved: they are not in the profile"
        failures = self.folder.failures()
        if failures:
            more = f", and {len(failures) - 1} more" * (len(failures) > 1)
            yield f"not profiled: {printable(failures[0])}{more}"
        if living:
            pids = ", ".join(str(place.pid) for place in living[:5])
            more = f" and {len(living) - 5} more" * (len(living) > 5)
            yield (
                f"still running and not in the profile: process {pids}{more};"
                f" when they end, their profiles are in {printable(self.folder.path)}"
            )

    def _wait(self, places: list[Place]) -> list[Place]:
        """Waits a moment for those that are about to end; returns those that go on."""
        start = time.monotonic()
        last = {place.pid: place for place in places}  # an image that exec replaced is over
        living = [place for place in last.values() if not os.path.exists(place.whole)]
        while living := [one for one in living if one.is_alive() and not _done(one)]:
            passed_s = time.monotonic() - start
            writing = any(place.is_ending() for place in living)
            if passed_s > (WRITING_LIMIT_S if writing else GRACE_S):
                break
            time.sleep(STEP_S)
        return living


def _done(place: Place) -> bool:
    return os.path.exists(place.whole)


def _of(count: int, total: int) -> str:
    return f"{count} of {total} processes {'was' if count == 1 else 'were'}"


def _load(path: str) -> Profile | None:
    with contextlib.suppress(ProfileFileError):
        return Profile.load(path)
    return None


def _merge(parts: list[Profile]) -> Profile:
    """As `Profile.merge`, with the time from the first start to the last end as the duration."""
    first = min(parts, key=lambda part: part.info.started_at)
    end_ns = max(
        nanoseconds_between(first.info, part.info) + part.info.duration_ns for part in parts
    )
    merged = Profile.merge(parts)
    merged.info.duration_ns = end_ns
    return merged
