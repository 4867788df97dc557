"""Files that greenprof writes: by the umask, never through a link that somebody planted; and how it never reads."""

from __future__ import annotations

import ast
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenprof
from greenprof.cli.autosave import Autosave
from greenprof.cli.children.folder import Folder
from greenprof.cli.main import main
from greenprof.errors import OutputError
from greenprof.output import GrowingOutput, append_output
from greenprof.profiler import Profiler
from tests.profiles import orders_profile

PACKAGE = Path(greenprof.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What makes objects, or runs code, of what it reads; and what reads files that others wrote.
NEVER = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "yaml", "xml", "lxml", "html.parser"}  # fmt: skip
RUNS_CODE = {"eval", "exec", "compile", "__import__", "marshal.load", "marshal.loads", "runpy.run_path"}  # fmt: skip
ALLOWED = {
    ("cli/program.py", "exec"),  # the program that is profiled
    ("cli/find.py", "compile"),
    ("cli/installed.py", "compile"),
    ("cli/find.py", "__import__"),
    ("cli/wire.py", "marshal.loads"),  # what greenprof itself sends its own process, over a socket pair
}  # fmt: skip
# Where files are made: they are held to the umask, and to following no link.
WRITES = {"output.py", "cli/children/folder.py", "cli/children/hook/sitecustomize.py"}


def trees() -> Iterator[tuple[str, ast.AST]]:
    """Each module's name and tree, one at a time: all of them are a third of a million objects."""
    for path in SOURCES:
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_bytes())


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a module, by the names that they are written with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_that_is_read_is_run() -> None:
    for name, tree in trees():
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            assert not [one for one in modules if one.split(".")[0] in NEVER], name
    found = {(name, call) for name, tree in trees() for call, _ in called(tree)}
    running = {(name, call) for name, call in found if call in RUNS_CODE}
    assert running <= ALLOWED
    assert ("cli/program.py", "exec") in running  # the test sees calls


def test_files_are_made_in_one_place() -> None:
    makers = set()
    for name, tree in trees():
        for call, node in called(tree):
            written = ast.unparse(node)
            by_mode = call in {"open", "io.open", "os.fdopen"} and any(
                isinstance(each, ast.Constant) and isinstance(each.value, str) and set(each.value) & set("wax+")
                for each in [*node.args[1:2], *(one.value for one in node.keywords if one.arg == "mode")]
            )  # fmt: skip
            makes = call.endswith((".write_text", ".write_bytes", ".touch", "tempfile.mktemp"))
            if by_mode or makes or ("O_CREAT" in written and call == "os.open"):
                makers.add(name)
    assert makers <= WRITES
    assert "cli/children/folder.py" in makers


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


class TestGrowingOutput:
    def test_a_planted_link_is_not_written_through(self, tmp_path: Path, victim: Path) -> None:
        link = tmp_path / "spans.jsonl"
        for target in (victim, tmp_path / "nowhere"):
            link.symlink_to(target)
            with pytest.raises(OutputError, match="exists"):
                GrowingOutput(link).append(b"x")
            forced = GrowingOutput(link, force=True)
            forced.append(b"one ")
            forced.append(b"two")
            forced.close()
            assert link.read_bytes() == b"one two"
            assert not link.is_symlink()
            link.unlink()
        assert victim.read_bytes() == b"precious"
        assert sorted(os.listdir(tmp_path)) == ["victim"]

    def test_mode_is_by_the_umask(self, tmp_path: Path, umask: int) -> None:
        for force in (False, True):
            grown = GrowingOutput(tmp_path / "spans.jsonl", force=force)
            grown.append(b"x")
            grown.close()
            assert stat.S_IMODE((tmp_path / "spans.jsonl").stat().st_mode) == umask


def test_nothing_is_added_through_a_planted_link(tmp_path: Path, victim: Path) -> None:
    link = tmp_path / "app.autosave.gprof"
    link.symlink_to(victim)
    with pytest.raises(OutputError, match="cannot write"):
        append_output(link, b"x")
    assert victim.read_bytes() == b"precious"


def test_an_autosave_is_not_written_through_a_planted_link(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "app.autosave.gprof"
    path.symlink_to(victim)
    with Profiler() as profiler:
        saving = Autosave(profiler, str(path), every_s=0.02)
        saving.start()
        time.sleep(0.3)
        saving.discard()
    assert victim.read_bytes() == b"precious"
    assert path.is_symlink()


def test_a_view_without_a_file_goes_into_a_folder_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    orders_profile().save(tmp_path / "app.gprof")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.umask(0)
    try:
        assert main(["view", "--no-browser", str(tmp_path / "app.gprof")]) == 0
    finally:
        os.umask(before)
    page = Path(capfd.readouterr().out.strip())
    assert page.parent.parent == tmp_path
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700


def test_childrens_folder_is_no_other_than_ones_own(tmp_path: Path) -> None:
    own, link, shared = tmp_path / "own", tmp_path / "link", tmp_path / "shared"
    own.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o777)
    link.symlink_to(own)
    assert Folder(str(own)).path == str(own)
    for planted in (link, shared, tmp_path / "nowhere"):
        with pytest.raises(OSError):  # any of them: it is not used
            Folder(str(planted))
