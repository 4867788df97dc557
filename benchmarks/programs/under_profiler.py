"""Runs a program whose `greenprof.Profiler` is switched on and off as it goes: python under_profiler.py OPTIONS SCRIPT ...

OPTIONS are those of `Profiler`, as JSON.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

import greenprof
from benchmarks.programs import steady


class Switched:
    """A profiler anew each time."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._profiler = greenprof.Profiler(**options)

    def __call__(self, on: bool) -> None:
        if on:
            self._profiler = greenprof.Profiler(**self._options)
            self._profiler.start()
        else:
            self._profiler.stop()


def main() -> None:
    options, script, *rest = sys.argv[1:]
    sys.argv = [script, *rest]
    sys.path[0] = os.path.dirname(script)
    steady.switch = Switched(json.loads(options))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
