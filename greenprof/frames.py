"""From code objects and positions to the frames of a report."""

from __future__ import annotations

import os
import sys
import sysconfig
from bisect import bisect_right
from types import CodeType
from typing import Any

from greenprof.interrupted import from_signal_handler
from greenprof.profiles import Frame, FrameKind, FrameOrigin

KINDS = (FrameKind.PYTHON, FrameKind.AWAITED, FrameKind.BOUNDARY)

_STDLIB = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
# Code of the program's that never was in a file: python -c, a prompt.
_TYPED_IN = ("<string>", "<stdin>", "<console>", "<input>", "<python-input", "<ipython-input")
# Compilers make code objects of any name; files have no longer paths.
MOST_LETTERS = 4096
_LIBRARY_FOLDERS = ("/site-packages/", "/dist-packages/")
_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def origin_of(path: str) -> FrameOrigin:
    """Whose code a file is, on this machine: the program's, an installed library's, Python's."""
    if path.startswith("<frozen "):
        return FrameOrigin.STDLIB
    if path.startswith("<") and not path.startswith(_TYPED_IN):
        return FrameOrigin.LIBRARY  # <sqlalchemy generated ...>, <attrs generated ...>
    slashed = path.replace("\\", "/")
    if path.startswith(_OWN) or any(folder in slashed for folder in _LIBRARY_FOLDERS):
        return FrameOrigin.LIBRARY
    if path.startswith(_STDLIB):
        return FrameOrigin.STDLIB
    return FrameOrigin.APP


def module_of(path: str) -> str:
    """The dotted module name of a file, by the import path; "" if it is not below it."""
    if not path.endswith(".py"):
        return ""
    best = ""
    for folder in sys.path or ():
        try:
            prefix = os.path.join(os.path.abspath(folder or os.curdir), "")
        except (OSError, TypeError, ValueError) as error:
            if from_signal_handler(error):
                raise
            continue  # the current folder is gone; no path at all
        if path.startswith(prefix) and len(prefix) > len(best):
            best = prefix
    if not best:
        return ""
    parts = path[len(best) : -len(".py")].replace("\\", "/").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


class FrameTable:
    """Makes `Frame`s of code objects, each once."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, int, int, bool], Frame] = {}
        self._lines: dict[int, tuple[CodeType, list[int], list[int]]] = {}
        self._files: dict[str, tuple[FrameOrigin, str]] = {}

    def frame(self, code: CodeType, lasti: int, kind: int, crosses: bool) -> Frame:
        """The frame of a code object at a bytecode offset."""
        return self.at_line(code, self.line(code, lasti), kind, crosses)

    def at_line(self, code: CodeType, line: int, kind: int, crosses: bool) -> Frame:
        """The frame of a code object at a line."""
        key = (id(code), line, kind, crosses)
        found = self._frames.get(key)
        if found is None:
            path = code.co_filename
            if path not in self._files:
                self._files[path] = origin_of(path), module_of(path)
            origin, module = self._files[path]
            found = self._frames[key] = Frame(
                code.co_qualname[:MOST_LETTERS],
                path[-MOST_LETTERS:],
                line,
                code.co_firstlineno,
                KINDS[kind],
                origin,
                module,
                crosses,
            )
            self._lines.setdefault(id(code), _lines_of(code))  # keeps the code, so its id
        return found

    def line(self, code: CodeType, lasti: int) -> int:
        """The line at a bytecode offset, 0 if there is none."""
        entry = self._lines.get(id(code))
        if entry is None:
            entry = self._lines[id(code)] = _lines_of(code)
        _, starts, lines = entry
        at = bisect_right(starts, max(lasti, 0)) - 1
        return lines[at] if at >= 0 else 0


def _lines_of(code: CodeType) -> tuple[CodeType, list[int], list[int]]:
    starts: list[int] = []
    lines: list[int] = []
    for start, _, line in code.co_lines():
        starts.append(start)
        # Instructions without a line of their own belong to the line before them.
        lines.append(line if line is not None else (lines[-1] if lines else code.co_firstlineno))
    return code, starts, lines


def position_of(frame: Any) -> tuple[CodeType, int]:
    """A frame's code and bytecode offset; minus the line where a library kept only that."""
    lasti = getattr(frame, "f_lasti", None)
    return frame.f_code, -frame.f_lineno - 1 if lasti is None else lasti
