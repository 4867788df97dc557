"""The command line: one module per command; `main` is what the `greenprof` script calls."""

from __future__ import annotations

from greenprof.cli.main import main

__all__ = ["main"]
