"""Where a child begins to be profiled: a new Python, or a fork of one that is."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from greenprof._version import __version__
from greenprof.cli.children.folder import Folder, Place, Settings
from greenprof.cli.forks import starts_a_program
from greenprof.cli.imports import OwnImports
from greenprof.cli.session import Session
from greenprof.redacting import without_secrets

if TYPE_CHECKING:
    from greenprof.cli.autosave import Saving
    from greenprof.profiles import Profile


class Deliver(Protocol):
    """Takes the profile; says whether all was written."""

    def __call__(self, profile: Profile, /, *, goes_on: bool) -> bool: ...


__all__ = ["Child", "begin"]

# Of multiprocessing, and of libraries that have their own: helpers that do none of the program's work.
TRACKER = re.compile(r"from [\w.]*resource_tracker import main\b")
FORKSERVER = re.compile(r"from [\w.]*forkserver import main\b")


def begin(path: str) -> None:
    """Records this Python, which has just started. Raises whatever makes that impossible."""
    folder = Folder(path)
    settings = folder.settings()
    if settings.greenprof != __version__:
        raise RuntimeError(f"it has greenprof {__version__}, the run {settings.greenprof}")
    code = _code(sys.orig_argv)
    if TRACKER.match(code) or _is_greenprof():
        return
    imports = OwnImports()
    child = Child(folder, settings, imports, shlex.join(without_secrets(sys.orig_argv)))
    if FORKSERVER.match(code):
        child.stand_by()
    elif os.getpid() == settings.root:
        from greenprof.cli.children.gather import take_over

        take_over(folder, settings, child)
    else:
        child.start()


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
        saving = None
        if deliver is None:
            saving = self._enter()

        def delivered(profile: Profile) -> bool | None:
            if deliver is None:
                return self._deliver(profile)
            with self._imports.restored():
                return deliver(profile, goes_on=session.recording)

        session = Session(delivered, None, self.forked, saving)
        session.start(self._settings.recorded, command=self._command)
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
            saving = self._enter()
            session.begin_again(
                self._deliver, self._settings.recorded, command=self._command, saving=saving
            )

    def _enter(self) -> Saving | None:
        self._place = self._folder.enter(self._command)
        return self._place.saving(self._settings.autosave_s)

    def _deliver(self, profile: Profile) -> bool | None:
        if self._place is not None:
            with self._imports.restored():
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


def _code(argv: list[str]) -> str:
    """The code of `-c`; "" for other programs."""
    return argv[argv.index("-c") + 1] if "-c" in argv[1:-1] else ""


def _is_greenprof() -> bool:
    """Whether this is greenprof's own command line, which records, or does not, by its own options."""
    argv = sys.orig_argv
    if os.path.basename(sys.argv[0]) in {"greenprof", "greenprof.exe"}:
        return True
    return sys.argv[0] == "-m" and "-m" in argv[1:-1] and argv[argv.index("-m") + 1] == "greenprof"


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
