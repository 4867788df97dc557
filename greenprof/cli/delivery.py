"""What happens with a profile when the program is done: the files, the summary, the last words."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from greenprof.cli.outputs import STDOUT, Output, automatic_path
from greenprof.cli.terminal import complain, put, say, standard_error
from greenprof.errors import GreenprofError
from greenprof.output import check_output, identity, write_output
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Delivery", "write"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Writes a profile to its outputs; to a file of its own, after a summary, where none was named."""

    label: str
    outputs: Sequence[Output]
    clock: str
    force: bool
    quiet: bool
    called: str = "greenprof"
    """How this greenprof was called, for the command that is shown."""
    folder: Path = field(default_factory=Path.cwd)
    written: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By path: device and inode of what an earlier call has written, and a later one replaces."""

    def check(self) -> None:
        """Raises OutputError where the file that nobody named could not be written."""
        if not self.outputs:
            check_output(automatic_path(self.label, ".gprof", self.folder))

    def __call__(self, profile: Profile) -> bool:
        """One line for each output that fails; the others are written all the same.

        Returns whether all were. A later call replaces what an earlier one has written, and nothing else.
        """
        if not self.outputs:
            return self._save_and_summarise(profile)
        done = [self._write(profile, output) for output in self.outputs]
        return all(done)

    def _write(self, profile: Profile, output: Output) -> bool:
        def attempt() -> None:
            force = self.force or self._is_own(output.path)
            write(profile, output, self.clock, force=force)
            self._remember(output.path)
            if not self.quiet and output.path != STDOUT:
                say(f"greenprof: wrote {printable(output.shown)}")

        return _tried(attempt, output.shown)

    def _save_and_summarise(self, profile: Profile) -> bool:
        own = next(filter(self._is_own, self.written), None)
        path = str(own or automatic_path(self.label, ".gprof", self.folder))

        def save() -> None:
            profile.save(path, force=own is not None)
            self._remember(path)

        saved = _tried(save, path)
        if self.quiet:
            return saved
        _tried(lambda: _say_summary(profile, self.clock), "the summary")
        if saved:
            name = Path(path).name
            say(f"\ngreenprof: saved {printable(name)}; in the browser, or its whole stacks here:")
            say(f"  {self.called} view {shlex.quote(name)}")
            say(f"  {self.called} show --tree {shlex.quote(name)}")
        return saved

    def _remember(self, path: str) -> None:
        found = identity(path)
        if found is not None:
            self.written[path] = found

    def _is_own(self, path: str) -> bool:
        return path in self.written and self.written[path] == identity(path)


def _say_summary(profile: Profile, clock: str) -> None:
    stream = standard_error()
    if stream is None:
        return
    from greenprof.cli.screen import draw
    from greenprof.exporters.summary import summary_renderable

    put(b"\n" + draw(summary_renderable(profile, clock=clock), stream))


def write(profile: Profile, output: Output, clock: str, *, force: bool) -> None:
    """Raises OutputError where the output cannot be written."""
    with _original_stdout():
        write_output(output.path, output.exporter.render(profile, clock=clock), force=force)


def _tried(attempt: Callable[[], None], what: str) -> bool:
    """Whether it was done; one line says why not."""
    try:
        attempt()
    except BrokenPipeError:
        # Who read it has gone.
        return True
    except GreenprofError as error:
        complain(str(error))
    except Exception as error:
        # The program's exit code stands, and a traceback of ours would look like its own.
        complain(f"could not write {what}: {type(error).__name__}: {error}")
    else:
        return True
    return False


@contextlib.contextmanager
def _original_stdout() -> Iterator[None]:
    """Makes "-" what the shell calls standard output, not what the program put into `sys.stdout`."""
    replaced, sys.stdout = sys.stdout, sys.__stdout__ or sys.stdout
    try:
        yield
    finally:
        sys.stdout = replaced
