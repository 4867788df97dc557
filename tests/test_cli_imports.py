"""A run imports what it needs and no more, and that before the program begins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.running import run_python

# The first import of the program: what comes after it, its world may have changed for.
BEGIN = "mark_the_beginning"
PROGRAM = f"""
import time
import {BEGIN}

until = time.monotonic() + 0.2
while time.monotonic() < until:
    sum(range(1000))
"""
# What `python -v` says of each module, whoever imports it.
IMPORT = re.compile(r"^import '([\w.]+)' #", re.MULTILINE)
NOT_NEEDED = (
    "asyncio",
    "difflib",
    "email",
    "greenprof.analysis",
    "greenprof.blocking",
    "greenprof.capture",
    "greenprof.cli.children",
    "greenprof.cli.otlp",
    "greenprof.cli.screen",
    "greenprof.cli.spans",
    "greenprof.differences",
    "greenprof.greenhack",
    "greenprof.samplers.blocks",
    "greenprof.samplers.exact",
    "greenprof.samplers.timeline",
    "greenprof.sites",
    "greenprof.spans",
    "importlib.metadata",
    "opentelemetry",
    "rich",
    "yappi",
)


def imported(tmp_path: Path, *options: str) -> tuple[list[str], list[str]]:
    """What a run imports before its program begins, and what afterwards, in order."""
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / f"{BEGIN}.py").write_text("")
    ended = run_python(
        "-v", "-m", "greenprof", "run", "--quiet", *options, "app.py", cwd=tmp_path
    )  # fmt: skip
    names = IMPORT.findall(ended.stderr)
    begin = names.index(BEGIN)
    return names[:begin], names[begin + 1 :]


def within(names: list[str], tops: tuple[str, ...]) -> list[str]:
    return [
        name for name in names if any(name == top or name.startswith(f"{top}.") for top in tops)
    ]


def test_a_run_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    before, after = imported(tmp_path, "--output", "app.gprof")
    assert "greenprof.profile_file" in before
    assert not within(before + after, NOT_NEEDED)
    exporters = within(before, ("greenprof.exporters",))
    assert sorted(exporters) == [
        "greenprof.exporters",
        "greenprof.exporters.gprof",
        "greenprof.exporters.registry",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ["--output", "app.gprof"],
        ["--output", "app.gprof", "--engine", "exact"],
        ["--output", "app.gprof", "--block-limit", "50ms", "--timeline", "all", "--awaits"],
        ["--output", "app.speedscope.json"],
        ["--output", "app.pprof"],
    ],
    ids=lambda options: options[1:][-1],
)
def test_what_a_run_needs_is_imported_before_its_program(
    options: list[str], tmp_path: Path
) -> None:
    """Later, modules may be patched, paths changed and descriptors gone; and handlers import nothing."""
    _, after = imported(tmp_path, *options)
    assert not within(after, ("greenprof",))
