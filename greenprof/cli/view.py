"""`greenprof view`: a saved profile as a page in the browser."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from greenprof.cli import options
from greenprof.cli.browser import open_in_browser
from greenprof.cli.outputs import STDOUT, plan_outputs, safe_name
from greenprof.cli.terminal import say
from greenprof.errors import OutputError
from greenprof.output import write_output
from greenprof.printable import printable

__all__ = ["command"]

FORMAT = "html"

EPILOG = """\b
Examples:
  greenprof view app.gprof                 the report, in the browser
  greenprof view worker1.gprof worker2.gprof
  greenprof view app.gprof -o app.html     keep the file, to send it to somebody
  greenprof view app.gprof --no-browser    print where the report is, for a script

\b
The browser is the desktop's, or the one that BROWSER names. Where there is none, the report's
path is printed. Without -o it is in a new folder for temporary files, which a browser in a
sandbox of its own (snap, flatpak) may not be able to read: use -o there.
"""


@click.command(epilog=EPILOG)
@options.files
@click.option("-o", "--output", "path", metavar="PATH", help="Write the report there, and keep it.")
@click.option("--no-browser", is_flag=True, help="Open no browser: print the report's path.")
@options.clock
@options.force
@options.quiet
def command(
    files: tuple[Path, ...],
    path: str | None,
    clock: str,
    *,
    no_browser: bool,
    force: bool,
    quiet: bool,
) -> Callable[[], None]:
    """Look at a saved profile in the browser; several are merged into one."""

    def job() -> None:
        if path is not None:
            _check(path, force=force)
        profile = options.load(files)
        from greenprof.exporters import find_exporter

        page = find_exporter(FORMAT).render(profile, clock=clock)
        with _place(path, files[0]) as report:
            write_output(report, page, force=force)
        if not no_browser and open_in_browser(report):
            if not quiet:
                say(f"greenprof: opened {printable(str(report))} in the browser")
            return
        if not no_browser and not quiet:
            say("greenprof: found no browser to open the report with; it is here:")
        _print_path(report)

    return job


def _check(path: str, *, force: bool) -> None:
    if path == STDOUT:
        raise OutputError(
            "a browser opens files, not standard output; "
            "for the page itself use greenprof export -o - --format html"
        )
    if not path.lower().endswith((".html", ".htm")):
        raise OutputError(
            f"a browser would not know '{printable(path)}' for a page; end its name with .html"
        )
    plan_outputs([path], FORMAT, force=force)


@contextlib.contextmanager
def _place(path: str | None, profile: Path) -> Iterator[Path]:
    """Where the report goes: as it was asked for, or into a folder that nobody else can read."""
    if path is not None:
        yield Path(path)
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="greenprof-"))
    except OSError as error:
        reason = printable(str(error.strerror or error)).lower()
        raise OutputError(
            f"cannot make a temporary folder for the report: {reason}; name a file with -o"
        ) from None
    try:
        yield folder / f"{safe_name(profile.stem)}.html"
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _print_path(report: Path) -> None:
    """Prints what a program may open: the very bytes, unless a person's terminal would obey them."""
    if sys.stdout is None:
        return
    shown = str(report.absolute())
    data = printable(shown).encode() if sys.stdout.isatty() else os.fsencode(shown)
    write_output(STDOUT, data + b"\n")
