"""The run's side of its children: what they are told, and their profiles put together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from greenprof._native import time
from greenprof._version import __version__
from greenprof.cli.children.child import Child
from greenprof.cli.children.folder import Folder, Place, Settings
from greenprof.cli.delivery import Delivery
from greenprof.cli.imports import OwnImports
from greenprof.cli.outputs import STDOUT, Output
from greenprof.cli.terminal import complain, say
from greenprof.errors import GreenprofError, ProfileFileError
from greenprof.model import nanoseconds_between
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Family", "take_over"]

VARIABLE = "GREENPROF_CHILDREN"
PATH = "PYTHONPATH"
HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hook")
# Ctrl-C ends a whole group of processes at once, and the run may be the first to be done.
GRACE_S = 1.0
WRITING_LIMIT_S = 10.0
STEP_S = 0.01
# Threads of so many processes are told apart; a reader follows no more, and a profile need not either.
MOST_APART = 64


class Family:
    """The processes of one run: gives them a folder, and makes one profile of theirs."""

    def __init__(self, folder: Folder, settings: Settings, delivery: Delivery) -> None:
        self.folder = folder
        self.settings = settings
        self._delivery = delivery
        # What this process left there, in case that it becomes another program.
        self._left: Place | None = None

    @classmethod
    def found(
        cls, recorded: dict[str, Any], autosave_s: float | None, delivery: Delivery
    ) -> Family:
        """Makes the folder. Raises OutputError."""
        folder = Folder.create()
        settings = Settings(__version__, os.getpid(), recorded, autosave_s)
        folder.write_settings(settings)
        return cls(folder, settings, delivery)

    def child(self, imports: OwnImports, command: str) -> Child:
        """What a fork of the run becomes."""
        return Child(self.folder, self.settings, imports, command)

    def follow(self) -> None:
        """Has the Pythons that start from now on profile themselves."""
        os.environ[VARIABLE] = self.folder.path
        # An empty part would be the current folder.
        os.environ[PATH] = os.pathsep.join(filter(None, (HOOK, os.environ.get(PATH))))

    def deliver(self, profile: Profile, *, goes_on: bool) -> bool:
        """Writes the profile of all processes; see `Session`. `goes_on`: right before an exec."""
        if goes_on:
            return self._leave(profile)
        places = [place for place in self.folder.places() if place != self._left]
        living = self._wait(places)
        merged, trouble = self._together(profile, places, living)
        for text in trouble:
            complain(text)
        seen = len(merged.info.pids)
        if seen > 1 and not self._delivery.quiet:
            say(f"greenprof: {seen} processes in one profile")
        delivered = self._delivery(merged)
        if delivered and not living:
            self.folder.remove()
        elif not delivered:
            complain(f"the profiles of its processes are in {printable(self.folder.path)}")
        return delivered

    def _leave(self, profile: Profile) -> bool:
        """Writes what there is, and leaves the rest to the program that this process becomes.

        That is a Python perhaps, which takes over. If it is none, what is written now is all.
        """
        self._left = self._left or self.folder.place(profile.info.command)
        places = [place for place in self.folder.places() if place != self._left]
        ended = [place for place in places if os.path.exists(place.whole)]
        merged, _ = self._together(profile, ended, [])
        # What is written to standard output cannot be replaced.
        files = [output for output in self._delivery.outputs if output.path != STDOUT]
        delivered = True
        if files or not self._delivery.outputs:
            delivered = dataclasses.replace(self._delivery, outputs=files, quiet=True)(merged)
        profile.save(self._left.whole, force=True)
        self._left.announce()
        self.folder.leave_to_heir(_packed(self._delivery, profile.info.command))
        return delivered

    def _together(
        self, profile: Profile, places: list[Place], living: list[Place]
    ) -> tuple[Profile, list[str]]:
        """The run's profile with those that children left, and what a reader has to know of them."""
        parts, cut, lost = [profile], 0, 0
        apart: set[int] = set()
        for place in places:
            if place in living:
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
            if place.pid != self.settings.root:
                part.threads = [f"{name} ({whose})" for name in part.threads]
            parts.append(part)
        total = len({*profile.info.pids, *(place.pid for place in places)})
        trouble = list(self._trouble(total, cut, lost, living))
        try:
            merged = _merge(parts)
        except GreenprofError as error:
            trouble.append(f"not in the profile: children ({error})")
            merged = profile
        merged.info.command = profile.info.command
        merged.info.warnings += trouble
        return merged, trouble

    def _trouble(self, total: int, cut: int, lost: int, living: list[Place]) -> Iterator[str]:
        if cut:
            yield (
                f"{_of(cut, total)} killed: what was saved last is in the profile, and the"
                " last seconds are not"
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


def take_over(folder: Folder, settings: Settings, child: Child) -> None:
    """Goes on with a run whose process has become this one. Raises OSError, ValueError or GreenprofError."""
    legacy = folder.legacy()
    family = Family(folder, settings, _unpacked(legacy))
    child.start(family.deliver, command=str(legacy["command"]))


def _done(place: Place) -> bool:
    return os.path.exists(place.whole)


def _of(count: int, total: int) -> str:
    return f"{count} of {total} processes {'was' if count == 1 else 'were'}"


def _load(path: str) -> Profile | None:
    with contextlib.suppress(ProfileFileError):
        return Profile.load(path)
    return None


def _packed(delivery: Delivery, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "label": delivery.label,
        "outputs": [(one.shown, one.path, one.exporter.name) for one in delivery.outputs],
        "clock": delivery.clock,
        "force": delivery.force,
        "quiet": delivery.quiet,
        "called": delivery.called,
        "folder": str(delivery.folder),
        "written": delivery.written,
    }


def _unpacked(legacy: dict[str, Any]) -> Delivery:
    from greenprof.exporters import find_exporter

    outputs = [Output(shown, path, find_exporter(name)) for shown, path, name in legacy["outputs"]]
    return Delivery(
        legacy["label"],
        outputs,
        clock=legacy["clock"],
        force=legacy["force"],
        quiet=legacy["quiet"],
        called=legacy["called"],
        folder=Path(legacy["folder"]),
        written={path: (device, inode) for path, (device, inode) in legacy["written"].items()},
    )


def _merge(parts: list[Profile]) -> Profile:
    """As `Profile.merge`, with the time from the first start to the last end as the duration."""
    first = min(parts, key=lambda part: part.info.started_at)
    end_ns = max(
        nanoseconds_between(first.info, part.info) + part.info.duration_ns for part in parts
    )
    merged = Profile.merge(parts)
    merged.info.duration_ns = end_ns
    return merged
