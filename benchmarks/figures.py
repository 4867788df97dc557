"""Puts measured figures into a page of docs/, between the two marks that name their benchmark."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

END = "<!-- end of figures -->"


def put_into(page: Path, module: str, lines: Iterable[str]) -> None:
    """Replace what stands between the marks of `module`, such as "benchmarks.spans".

    Raises ValueError where the page has no such marks.
    """
    mark = f"<!-- figures: python -m {module} --into -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(mark)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} has no figures to replace: add {mark!r} and {END!r}")
    page.write_text("\n".join([before + mark, *lines, "", END + after]), encoding="utf-8")


def machine() -> str:
    """What the figures were measured on: the Python, the processor, the day."""
    return f"CPython {platform.python_version()}, {_processor()}, {datetime.now(UTC):%Y-%m-%d}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine()
