"""Profiles programs whose stack is split between greenlets."""

from __future__ import annotations

from greenprof._version import __version__
from greenprof.capture import capture_stack, format_stack, print_stack, capture_all, dump, dump_on_signal, Stack

__all__ = ["__version__"]
