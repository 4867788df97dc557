"""Entry points are found where importlib.metadata finds them, and it is not imported where there are none."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from greenprof.entrypoints import entry_points, may_have
from tests.running import run_python

GROUP = "greenprof.of.these.tests"
TEXT = f"[console_scripts]\nother = other:main\n\n[{GROUP}]\nmine = mine:BRIDGE\n"
METADATA = "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"


def found() -> list[str]:
    return [entry.name for entry in entry_points(GROUP)]


def put(folder: Path, name: str = "mine-1.0.dist-info", text: str = TEXT) -> None:
    place = folder / name
    place.mkdir(parents=True)
    place.joinpath("METADATA").write_text(METADATA)
    place.joinpath("PKG-INFO").write_text(METADATA)
    place.joinpath("entry_points.txt").write_text(text)


def test_nobody_has_the_group() -> None:
    assert not may_have(GROUP)
    assert found() == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("site", "mine-1.0.dist-info"),
        ("site", "Mine.DIST-INFO"),
        ("site", "mine.egg-info"),
        ("mine-1.0.egg", "EGG-INFO"),
    ],
)
def test_in_a_folder(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / folder, name)
    monkeypatch.syspath_prepend(tmp_path / folder)
    assert found() == ["mine"]


def test_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert found() == ["mine"]


def test_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(tmp_path.glob("*.dist-info/*")):
            file.write(path, path.relative_to(tmp_path))
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path])
    assert found() == ["mine"]


def test_by_a_finder_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As packages have that are not in folders at all."""
    put(tmp_path)

    class Finder(importlib.metadata.DistributionFinder):
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, *_: object) -> Iterator[importlib.metadata.Distribution]:
            yield importlib.metadata.Distribution.at(tmp_path / "mine-1.0.dist-info")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert found() == ["mine"]


@pytest.mark.parametrize("text", ["", "[console_scripts]\nother = other:main\n", "[", "\udcff"])
def test_others_metadata_does_not_matter(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path)
    file = tmp_path / "mine-1.0.dist-info" / "entry_points.txt"
    file.write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "a-file.egg-info").write_text(METADATA)
    (tmp_path / "folder.dist-info" / "entry_points.txt").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "gone"), "\0", *sys.path])
    assert not may_have(GROUP)


def test_what_is_not_certain_is_left_to_importlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [tmp_path])
    assert may_have(GROUP)
    assert found() == []
    (tmp_path / "looped.dist-info").mkdir()
    os.symlink("entry_points.txt", tmp_path / "looped.dist-info" / "entry_points.txt")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert may_have(GROUP)


def test_the_finder_that_is_known_is_pythons() -> None:
    """It alone has distributions here; else these tests would not see what is spared."""
    assert [one for one in sys.meta_path if hasattr(one, "find_distributions")] == [PathFinder]


def test_bridges_load_without_importlib_metadata() -> None:
    loaded = run_python(
        "-c",
        "import sys; from greenprof import bridges; print(len(bridges.bridges()) > 3,"
        " 'importlib.metadata' in sys.modules)",
    )
    assert loaded.stdout.split() == ["True", "False"]
