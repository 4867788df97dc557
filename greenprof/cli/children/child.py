"""A process of a run that records itself and leaves its profile in the run's folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from greenprof.cli.children.folder import Folder, Place, Settings
from greenprof.cli.forks import starts_a_program
from greenprof.cli.imports import OwnImports
from greenprof.cli.session import Session

if TYPE_CHECKING:
    from greenprof.profiles import Profile

__all__ = ["Child"]


class Deliver(Protocol):
    """Takes the profile; says whether all was written."""

    def __call__(self, profile: Profile, /, *, goes_on: bool) -> bool: ...


class Child:
    """A process of the run's, and those that are forked from it."""

    def __init__(
        self, folder: Folder, settings: Settings, imports: OwnImports, command: str
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._imports = imports
        self._command = command
        self._place: Place | None = None

    def start(self, deliver: Deliver | None = None, *, command: str | None = None) -> None:
        """Records from here on. Raises GreenprofError or OSError.

        The profile goes to the folder, or to `deliver`, whose `goes_on` tells that an exec is next.
        """
        if command is not None:
            self._command = command
        place = self._enter() if deliver is None else None

        def delivered(profile: Profile) -> bool | None:
            if deliver is None:
                return self._deliver(profile)
            with self._imports.restored():
                return deliver(profile, goes_on=session.recording)

        saving = None if place is None else place.saving(self._settings.autosave_s)
        session = Session(delivered, None, self.forked, saving)
        session.start(self._settings.recorded, command=self._command)
        if place is not None:
            place.announce()
        self._imports.hide(_program_folder())

    def stand_by(self) -> None:
        """Records nothing here, but each process that is forked from this one."""
        # Not once for each of them.
        import greenprof.profiler  # noqa: F401

        here = os.getpid()

        def forked() -> None:
            # Forks of a fork have that one's hook.
            if os.getppid() == here:
                with self._told():
                    self.start()

        os.register_at_fork(after_in_child=forked)

    def forked(self, session: Session) -> None:
        """Goes on in a fork, with a profile of its own."""
        self._place = None
        if starts_a_program():
            return
        with self._told():
            place = self._enter()
            session.begin_again(
                self._deliver,
                self._settings.recorded,
                command=self._command,
                saving=place.saving(self._settings.autosave_s),
            )
            place.announce()

    def _enter(self) -> Place:
        # Announced when it is recorded, from when on a SIGTERM loses nothing.
        self._place = self._folder.place(self._command)
        return self._place

    def _deliver(self, profile: Profile) -> bool | None:
        if self._place is not None:
            with self._imports.restored():
                self._place.announce()
                self._place.begins_to_end()
                profile.save(self._place.whole, force=True)
        return None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Nothing of ours may come up in the program; the run says it.
            with contextlib.suppress(OSError):
                self._folder.note_failure(error)


def _program_folder() -> str | None:
    """What Python will put first in `sys.path`, as far as it is known before it does."""
    if sys.flags.safe_path or not sys.argv:
        return None
    name = sys.argv[0]
    if name in {"", "-", "-c", "-m"}:
        with contextlib.suppress(OSError):
            return os.getcwd()
        return None
    return os.path.dirname(os.path.realpath(name))
