"""Runs a script under yappi: yappi_runner.py CLOCK BUILTINS OUTPUT SCRIPT [ARGS]...

As `python -m yappi` does, but with the backend for greenlets, which has no option there.
"""

from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    clock, builtins, output, script, *arguments = sys.argv[1:]
    # This file's folder holds modules that are called like the profilers that they are about.
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    import yappi

    yappi.set_clock_type(clock)
    yappi.set_context_backend("greenlet")
    sys.argv = [script, *arguments]
    yappi.start(builtins=builtins == "yes")
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        yappi.stop()
        yappi.get_func_stats().save(output, "pstat")


if __name__ == "__main__":
    main()
