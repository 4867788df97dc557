"""Turn a profile into files: one module for each format, found by name or suffix.

exporter = find_exporter("out.speedscope.json")
write_output("out.speedscope.json", exporter.render(profile))
"""

from __future__ import annotations

from greenprof.exporters.registry import (
    Exporter,
    Render,
    exporters,
    find_exporter,
    register_exporter,
)
from greenprof.output import check_output, write_output

__all__ = [
    "Exporter",
    "Render",
    "check_output",
    "exporters",
    "find_exporter",
    "register_exporter",
    "write_output",
]
