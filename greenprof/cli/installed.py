"""Finds an installed command by its name: `greenprof run -- uvicorn app:app`."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.machinery import BuiltinImporter
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from greenprof.cli.find import find_script
from greenprof.cli.program import Loaded, Program, path_unless_safe
from greenprof.errors import ProgramError

__all__ = ["find_command"]


def find_command(name: str, arguments: list[str]) -> Program:
    """The console script `name` of this Python's environment, else a Python script on PATH, else a file.

    Raises `ProgramError` where there is none, or where what PATH has is not Python.
    """
    if os.sep in name or name.endswith((".py", ".pyc")) or name == "-":
        return find_script(name, arguments)
    for entry_point in entry_points(group="console_scripts", name=name):
        return _console_script(entry_point, arguments)
    on_path = shutil.which(name)
    if on_path is not None:
        if not _is_python_script(Path(on_path)):
            raise ProgramError(
                f"cannot profile {name!r}: {on_path} is not a Python script; name a script or a module"
            )
        return find_script(on_path, arguments)
    if Path(name).exists():
        return find_script(name, arguments)
    raise ProgramError(
        f"no such command: {name!r} is not installed in this Python's environment, nor a script on"
        " PATH: check the name, or install it beside greenprof"
    )


def _console_script(entry_point: EntryPoint, arguments: list[str]) -> Program:
    """The installed script itself where there is one: multiprocessing's children look for its file."""
    installed = Path(sysconfig.get_path("scripts")) / entry_point.name
    if installed.is_file() and _is_python_script(installed):
        return find_script(str(installed), arguments)
    # Installed elsewhere (--user, --target), or with a launcher that is no script: do what they all do.
    attribute = entry_point.attr.partition(".")[0]
    source = f"import sys\nfrom {entry_point.module} import {attribute}\nsys.exit({entry_point.attr}())\n"
    code = compile(source, str(installed), "exec", dont_inherit=True)
    return Program(
        entry_point.name,
        [str(installed), *arguments],
        path_unless_safe(str(installed.parent)),
        lambda: Loaded(code, {"__loader__": BuiltinImporter}),
    )


def _is_python_script(path: Path) -> bool:
    """Whether a script says that Python runs it: in its first line, or as pip does for long paths."""
    try:
        with path.open("rb") as file:
            first, second = file.readline(512), file.readline(512)
    except OSError:
        return False
    if not first.startswith(b"#!"):
        return path.suffix == ".py"
    return b"python" in first or (second.startswith(b"'''exec'") and b"python" in second)
