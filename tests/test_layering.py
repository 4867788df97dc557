"""Imports run down the layers, and never in a circle; what opens a profile needs nothing that records one."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenprof

ROOT = Path(greenprof.__file__).parent

# Top first. A part of the package is a module, or a folder with all that is in it; it may import from the
# rows below its own, and from itself.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"integrations"}),
    frozenset({"__init__"}),
    frozenset({"greenhack"}),
    frozenset({"profiler", "dumps", "blocking"}),
    frozenset({"recording"}),
    frozenset({"spans", "samplers"}),
    frozenset({"handovers"}),
    frozenset({"capture"}),
    frozenset({"labels", "idle"}),
    frozenset({"stacks", "loops"}),
    frozenset({"shapes"}),
    frozenset({"rawstack"}),
    frozenset({"bridges", "awaitables"}),
    frozenset({"switches"}),
    frozenset({"frames"}),
    frozenset({"exporters"}),
    frozenset({"differences"}),
    frozenset({"analysis"}),
    frozenset({"sites"}),
    frozenset({"profiles"}),
    frozenset({"profile_file"}),
    frozenset({"event_columns"}),
    frozenset({"columns", "events"}),
    frozenset({"interning"}),
    frozenset({"model", "output", "clocks", "checking", "decorating"}),
    frozenset(
        {
            "durations",
            "printable",
            "redacting",
            "entrypoints",
            "errors",
            "interrupted",
            "spancontext",
            "variables",
            "_native",
            "_version",
        }
    ),
)
# A saved profile opens where nothing was recorded, and recording does not wait for what shows it.
SHOWING = frozenset({"exporters", "differences", "analysis", "sites"})
DATA = frozenset(
    {
        "clocks",
        "columns",
        "durations",
        "event_columns",
        "events",
        "interning",
        "profiles",
        "profile_file",
        "model",
        "output",
        "printable",
        "errors",
        "_version",
    }
)
NOT_FOR_SHOWING = ("greenlet", "asyncio", "gevent", "sqlalchemy", "yappi", "opentelemetry.sdk")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package's own is the folder's name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("greenprof", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """What a file imports, inside functions too; of `from package import module`, the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def layer_of(part: str) -> int:
    found = [index for index, layer in enumerate(LAYERS) if part in layer]
    assert len(found) == 1, f"greenprof/{part}: give it a layer in {Path(__file__).name}"
    return found[0]


IMPORTS = {module: sorted(set(imported(path))) for module, path in MODULES.items()}
INTERNAL = {
    module: {name for name in names if name in MODULES and name != module}
    for module, names in IMPORTS.items()
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down_the_layers(module: str) -> None:
    part = part_of(module)
    own = layer_of(part)
    upwards = [
        name
        for name in INTERNAL[module]
        if part_of(name) != part and layer_of(part_of(name)) <= own
    ]
    assert not upwards, f"{module} imports from a layer that is not below its own: {upwards}"


def test_no_import_goes_in_a_circle() -> None:
    graphlib.TopologicalSorter(INTERNAL).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in SHOWING | DATA])
def test_what_shows_a_profile_needs_nothing_that_records_one(module: str) -> None:
    recording = [name for name in INTERNAL[module] if part_of(name) not in SHOWING | DATA]
    assert not recording, f"{module} imports {recording}"
    foreign = [
        name
        for name in IMPORTS[module]
        if any(name == top or name.startswith(f"{top}.") for top in NOT_FOR_SHOWING)
    ]
    assert not foreign, f"{module} imports {foreign}"


def test_only_the_command_line_brings_recording_and_showing_together() -> None:
    both = {
        module: shown
        for module, names in INTERNAL.items()
        if part_of(module) not in {"cli", *SHOWING}
        and (shown := [name for name in names if part_of(name) in SHOWING])
    }
    assert not both


def test_only_one_module_touches_the_greenlet_tracer() -> None:
    owners = [
        module
        for module, path in MODULES.items()
        if "settrace"
        in {
            node.attr if isinstance(node, ast.Attribute) else node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, (ast.Attribute, ast.alias))
        }
    ]
    assert owners == ["greenprof.switches"]
