"""Where a Python that starts below a run begins to be profiled."""

from __future__ import annotations

import os
import re
import shlex
import sys

from greenprof._version import __version__
from greenprof.cli.children.child import Child
from greenprof.cli.children.folder import Folder
from greenprof.cli.imports import OwnImports
from greenprof.redacting import without_secrets

__all__ = ["begin"]

# Of multiprocessing, and of libraries that have their own: helpers that do none of the program's work.
TRACKER = re.compile(r"(?:import sys; )?from [\w.]*resource_tracker import main\b")
FORKSERVER = re.compile(r"(?:import sys; )?from [\w.]*forkserver import main\b")


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


def _code(argv: list[str]) -> str:
    """The code of `-c`; "" for other programs."""
    return argv[argv.index("-c") + 1] if "-c" in argv[1:-1] else ""


def _is_greenprof() -> bool:
    """Whether this is greenprof's own command line, which records, or does not, by its own options."""
    argv = sys.orig_argv
    if os.path.basename(sys.argv[0]) in {"greenprof", "greenprof.exe"}:
        return True
    return sys.argv[0] == "-m" and "-m" in argv[1:-1] and argv[argv.index("-m") + 1] == "greenprof"
