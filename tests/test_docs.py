"""What the pages say exists: the tests and benchmarks they name, the pages they link to, the options they use."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from greenprof.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
# `greenprof run` leaves what follows the program to the program.
PROGRAM = re.compile(r"^(--|-[mc]|[\w./-]+\.py|[a-z]\w*)$")


def each(pattern: str, *, of: str = "") -> Iterator[tuple[Path, str]]:
    """What pages hold; of `of` alone, if it is given."""
    for page in PAGES:
        if of in page.name:
            for found in re.findall(pattern, page.read_text(encoding="utf-8")):
                yield page, found


def named(page: Path, what: str) -> str:
    return f"{page.relative_to(ROOT)}: {what}"


def test_pages_are_found() -> None:
    assert {"README.md", "benchmarks.md", "cost.md"} <= {page.name for page in PAGES}


def test_tests_that_are_named_exist() -> None:
    found = list(each(r"tests/[\w/]+\.py(?:::\w+)*"))
    assert found
    missing = []
    for page, name in found:
        path, *functions = name.split("::")
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""
        if not text or not all(re.search(rf"(def|class) {one}\b", text) for one in functions):
            missing.append(named(page, name))
    assert not missing


def test_benchmarks_that_are_named_exist() -> None:
    found = list(each(r"python -m ((?:benchmarks|tests|docs)\.\w+)"))
    assert found
    assert not [named(page, name) for page, name in found if importlib.util.find_spec(name) is None]


def test_links_lead_somewhere() -> None:
    found = list(each(r"\]\(([^)\s]+)\)"))
    assert found
    assert not [
        named(page, link)
        for page, link in found
        if not link.startswith(("http://", "https://", "#", "mailto:"))
        and not (page.parent / link.partition("#")[0]).exists()
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_options_that_are_used_exist(name: str) -> None:
    """In lines that begin with the command, up to the program that `greenprof run` runs."""
    command: click.Command = importlib.import_module(f"greenprof.cli.{name}").command
    known = {
        option
        for param in command.params
        if isinstance(param, click.Option)
        for option in (*param.opts, *param.secondary_opts)
    } | {"-h", "--help"}
    unknown = []
    for page, line in each(rf"(?m)^[ $]*(?:\S*bin/)?greenprof {name}\b(.*)$"):
        for word in shlex.split(line, comments=True):
            if name == "run" and PROGRAM.match(word):
                break
            option = word.partition("=")[0]
            if option.startswith("-") and option != "-" and option not in known:
                unknown.append(named(page, f"greenprof {name} {option}"))
    assert not unknown
