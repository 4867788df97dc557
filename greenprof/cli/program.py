"""Runs a program as `python` would have: `__main__`, `sys.argv`, `sys.path[0]`, tracebacks, the exit code.

greenprof shares the process with the program, so whatever the program can ask about itself has to
have the answer that plain python gives. The programs are found in `greenprof.cli.find`.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import NamedTuple

from greenprof.errors import GreenprofError

__all__ = ["Loaded", "Program", "leave", "path_unless_safe", "report_uncaught", "run_as_main"]

# Files of frames that stand above the program's first: ours, and the import system that ours call.
OURS = (f"{Path(__file__).parent}{os.sep}", "<frozen importlib")
PACKAGE = (f"{Path(__file__).parent.parent}{os.sep}",)
# Files of frames that may stand below any of the program's: a signal handler of the program (Ctrl-C's
# too) raises in whatever runs, and that can be the sampler, which passes it on.
INTERRUPTED = tuple(
    f"{Path(__file__).parent.parent / name}{end}"
    for name, end in (("samplers", os.sep), ("switches", ".py"))
)


class Loaded(NamedTuple):
    """A program's code and what its `__main__` says of itself (`__file__`, `__spec__`, ...)."""

    code: CodeType
    names: dict[str, object]
    argv0: str | None = None
    """What replaces `sys.argv[0]`; None leaves it."""


class Program(NamedTuple):
    """What to run. `load` may already run code of the program: `-m` imports the parent packages."""

    label: str
    """Short name, for the names of files."""
    argv: list[str]
    path0: str | None
    """What python puts first in `sys.path`; None where it puts nothing (`-P`, `-I`)."""
    load: Callable[[], Loaded]


def path_unless_safe(folder: str) -> str | None:
    """`folder` for `Program.path0`, where python was not told (`-P`, `-I`) to leave it out."""
    return None if sys.flags.safe_path else folder


def run_as_main(program: Program, begins: Callable[[], None]) -> BaseException | None:
    """Runs the program to the end of its main module and returns what it raised, None for nothing.

    `begins` is called when the code was found and compiled, right before it runs. The traceback of
    what is returned starts at the program's own first frame. Raises `GreenprofError` only where the
    program cannot be run.
    """
    main = _install_main(program)
    try:
        loaded = program.load()
        main.__dict__.update(loaded.names)
        if loaded.argv0 is not None:
            sys.argv[0] = loaded.argv0
        begins()
        exec(loaded.code, main.__dict__)  # noqa: S102  running the program is what we are for
    except GreenprofError as error:
        # One that the program raised (it may use greenprof itself) has frames of the program.
        if _without_our_frames(error.__traceback__) is None:
            raise
        return _trimmed(error)
    except BaseException as error:
        return _trimmed(error)
    return None


def _install_main(program: Program) -> ModuleType:
    """Makes `sys.modules["__main__"]`, `sys.argv` and `sys.path` the program's."""
    ours = sys.modules["__main__"]
    main = ModuleType("__main__")
    # Which names python gives a main module differs between versions; ours was made by this python.
    for name, value in (("__annotations__", {}), ("__builtins__", builtins)):
        if name in ours.__dict__:
            main.__dict__[name] = value
    sys.modules["__main__"] = main
    sys.argv[:] = program.argv
    # Python put greenprof's own folder first, unless it was told to be safe.
    if not sys.flags.safe_path and sys.path:
        del sys.path[0]
    if program.path0 is not None:
        sys.path.insert(0, program.path0)
    return main


def _trimmed(error: BaseException) -> BaseException:
    first = _without_our_frames(error.__traceback__)
    entry = first
    while entry is not None:
        if entry.tb_next is not None and _is_of(INTERRUPTED, entry.tb_next):
            entry.tb_next = _below_ours(entry.tb_next)
        entry = entry.tb_next
    context = error.__context__
    if context is not None and _is_all_ours(context.__traceback__):
        error.__context__ = context.__context__  # what the sampler was handling itself just then
    return error.with_traceback(first)


def _is_all_ours(entry: TracebackType | None) -> bool:
    while entry is not None and _is_of(PACKAGE, entry):
        entry = entry.tb_next
    return entry is None


def _is_of(files: tuple[str, ...], entry: TracebackType) -> bool:
    return entry.tb_frame.f_code.co_filename.startswith(files)


def _below_ours(entry: TracebackType | None) -> TracebackType | None:
    """What is left below the last frame of greenprof's: those of the handler that raised."""
    below = entry
    while entry is not None:
        if _is_of(PACKAGE, entry):
            below = entry.tb_next
        entry = entry.tb_next
    return below


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(OURS):
        traceback = traceback.tb_next
    return traceback


def report_uncaught(error: BaseException) -> None:
    """Does with an uncaught exception what the interpreter does: `sys.last_exc`, `sys.excepthook`.

    Call it outside of any `except` block: a hook that looks at `sys.exc_info()` finds nothing there
    in plain python.
    """
    kind, traceback = type(error), error.__traceback__
    _set_last(error, traceback)
    hook = getattr(sys, "excepthook", None)
    sys.audit("sys.excepthook", hook, kind, error, traceback)
    if hook is None:
        _print("sys.excepthook is missing\n")
        sys.__excepthook__(kind, error, traceback)
        return
    failure: BaseException | None = None
    try:
        hook(kind, error, traceback)
    except SystemExit:
        raise
    except BaseException as raised:
        failure = _trimmed(raised)
    if failure is not None:
        _print("Error in sys.excepthook:\n")
        sys.__excepthook__(type(failure), failure, failure.__traceback__)
        _print("\nOriginal exception was:\n")
        sys.__excepthook__(kind, error, traceback)


def _set_last(error: BaseException, traceback: TracebackType | None) -> None:
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback


def _print(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)


def leave(error: BaseException | None) -> None:
    """Ends the process's main thread as the program ended; returns if it ended well.

    What follows is the interpreter's own: waiting for threads, `atexit`, flushing, the exit code.
    """
    if error is None:
        return
    if isinstance(error, SystemExit):
        raise error
    report_uncaught(error)
    if type(error) is not KeyboardInterrupt:
        raise SystemExit(1)
    # Only an uncaught KeyboardInterrupt makes the interpreter end by SIGINT after all its cleaning up,
    # which is what tells a shell to stop its loop. It has been printed already.
    hook, traceback = sys.excepthook, error.__traceback__

    def already_printed(*_: object) -> None:
        sys.excepthook = hook
        _set_last(error.with_traceback(traceback), traceback)

    sys.excepthook = already_printed
    raise error
