"""Where a profile goes and in which format, checked before anything is spent on it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from greenprof.errors import OutputError
from greenprof.output import check_output
from greenprof.printable import printable

if TYPE_CHECKING:
    from greenprof.exporters import Exporter

__all__ = ["STDOUT", "Output", "automatic_path", "plan_outputs", "safe_name"]

STDOUT = "-"


class Output(NamedTuple):
    """One file to write, or standard output."""

    shown: str
    """The path as it was typed."""
    path: str
    """The path made absolute: the program may change its folder."""
    exporter: Exporter

    def is_at(self, path: str) -> bool:
        """Whether an absolute path, or "-" for standard output, is this one, however it is spelled."""
        if STDOUT in {self.path, path}:
            return self.path == path
        return os.path.realpath(self.path) == os.path.realpath(path)


def plan_outputs(paths: Sequence[str], format_name: str | None, *, force: bool) -> list[Output]:
    """Finds the format of each path and checks that it can be written.

    `format_name` holds for all of them; without it each path's suffix says. Raises OutputError for the
    first that is wrong.
    """
    outputs: list[Output] = []
    if not paths:
        if format_name is not None:
            raise OutputError(
                "--format is for an output: name one with -o, or -o - for standard output"
            )
        return outputs
    # The formats' modules are no business of a program that is profiled without any.
    from greenprof.exporters import find_exporter

    for path in paths:
        if path == STDOUT and format_name is None:
            raise OutputError(
                "-o - has no suffix to tell its format: add --format, such as --format text"
            )
        if path == STDOUT and sys.stdout is None:
            raise OutputError("cannot write to standard output: it is closed; give a file name")
        exporter = find_exporter(path if format_name is None else format_name)
        if path == STDOUT and exporter.binary and sys.stdout.isatty():
            raise OutputError(
                f"{exporter.name} is binary and standard output is a terminal: redirect it, or give a file name"
            )
        absolute = path if path == STDOUT else str(Path.cwd() / path)
        output = Output(path, absolute, exporter)
        if any(output.is_at(other.path) for other in outputs):
            raise OutputError(f"-o {printable(path)} is given twice: name each output once")
        check_output(path, force=force)
        outputs.append(output)
    return outputs


def safe_name(label: str) -> str:
    """A part of a file's name made of `label`: no separators or spaces, and of bounded length."""
    safe = re.sub(r"[^\w.+-]+", "_", label).strip("-._")
    # File systems count bytes.
    return safe.encode()[:80].decode(errors="ignore") or "program"


def automatic_path(label: str, suffix: str, folder: Path) -> Path:
    """A name for a profile nobody named, `app-20260131-120000-4711.gprof`, that is not taken yet."""
    stem = f"{safe_name(label)}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    path, number = folder / f"{stem}{suffix}", 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
