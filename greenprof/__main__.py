"""`python -m greenprof`: the command line, for environments whose scripts are not on PATH."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Python put the current folder first: a signal.py in there is the profiled program's, not ours.
    # It takes the place back when a program is started.
    if not sys.flags.safe_path:
        sys.path[0] = sys.path[1]

    from greenprof.cli import main

    sys.exit(main())
