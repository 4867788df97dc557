"""The version, written once: the build, the command line and saved profiles read it here."""

from __future__ import annotations

__version__ = "0.1.0"
