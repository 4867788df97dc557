"""Outputs that fail: one line says so, the program goes on and ends as it would, and nothing half-written is left."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from greenprof.cli import autosave as autosave_module
from greenprof.cli.autosave import SUFFIX, Autosave
from greenprof.profiler import Profiler
from greenprof.profiles import Profile
from tests.cli_programs import contents, write_program
from tests.running import Finished, run_greenprof, run_python
from tests.test_fault_ends import BUSY, EAGER, left_over

FIRST_SAVE = """
def wait_for(there):
    until = time.monotonic() + 30
    while any("autosave" in name for name in os.listdir(FOLDER)) is not there:
        assert time.monotonic() < until
        order()


def hear():
    # greenprof has said something.
    write, written = os.write, []
    os.write = lambda fd, data: written.append(fd) or write(fd, data)
    until = time.monotonic() + 30
    while 2 not in written:
        assert time.monotonic() < until
        order()
"""


def run(folder: Path, source: str, *options: str) -> Finished:
    """Runs a program that is saved every 30 ms into a folder of its own."""
    (folder / "out").mkdir()
    source = f"{BUSY}\nFOLDER = {str(folder / 'out')!r}\n{FIRST_SAVE}\n{source}\nprint('done')\nsys.exit(3)\n"
    write_program(folder, "app.py", source)
    words = ("--autosave", "30ms", "-o", "out/a.gprof", *options, "app.py")
    finished = run_python(*EAGER[:2], "run", *words, cwd=folder, expect=3)
    assert finished.stdout == "done\n", finished
    return finished


def complaints(finished: Finished) -> list[str]:
    """What greenprof said, one line for each."""
    lines = finished.stderr.splitlines()
    assert all(line.startswith("greenprof: ") for line in lines), finished
    return lines


def test_the_folder_goes_away(tmp_path: Path) -> None:
    source = """
import shutil
wait_for(True)
shutil.rmtree(FOLDER)
hear()
"""
    first, second = complaints(run(tmp_path, source, "-q"))
    assert first.startswith("greenprof: no autosave: cannot write to ")
    assert second.startswith("greenprof: cannot write to ")
    assert "there is no directory" in second
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]


def test_the_folder_comes_back(tmp_path: Path) -> None:
    source = """
import shutil
wait_for(True)
shutil.rmtree(FOLDER)
hear()
os.mkdir(FOLDER)
wait_for(True)
"""
    (line,) = complaints(run(tmp_path, source, "-q"))
    assert "no autosave" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.gprof"]
    Profile.load(tmp_path / "out" / "a.gprof")


def test_the_disk_is_full(tmp_path: Path) -> None:
    """A limit of this process's files stands for the disk's: the write fails after a few bytes."""
    source = """
import resource
wait_for(True)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
hear()
"""
    said = complaints(run(tmp_path, source, "-q", "-o", "out/b.txt"))
    assert [re.sub("'.*'", "", line).split(":")[1].strip() for line in said] == [
        "no autosave",
        "cannot write to",
        "cannot write to",
        "what was recorded some seconds ago is in",
    ]
    # The save before that is whole, and is what remains.
    (path,) = (tmp_path / "out").iterdir()
    assert SUFFIX in path.name
    assert Profile.load(path).info.duration_ns
    assert path.name in said[-1]


def test_one_output_fails_and_the_other_does_not(tmp_path: Path) -> None:
    """What was saved some time ago stays then, if the program took long enough for that."""
    said = complaints(run(tmp_path, "order()", "-q", "-o", "/dev/full", "--format", "gprof"))
    assert re.match(r"greenprof: cannot write to '/dev/full': no space left", said[0])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[0] == "a.gprof"
    assert [name in line for name, line in zip(names[1:], said[1:], strict=True)] in ([], [True])


HOLDS = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}))
wait_for(True)
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
hear()
{then}
"""


def test_open_files_run_out_until_the_end(tmp_path: Path) -> None:
    """The system would allow more, and greenprof takes those."""
    said = complaints(run(tmp_path, HOLDS.format(hard="hard", then=""), "-o", "out/b.html"))
    assert "too many open files" in said[0]
    assert said[1:] == ["greenprof: wrote out/a.gprof", "greenprof: wrote out/b.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.gprof", "b.html"]


def test_open_files_run_out_for_good(tmp_path: Path) -> None:
    said = complaints(run(tmp_path, HOLDS.format(hard="200", then=""), "-q"))
    assert len(said) == 3, said
    assert all("too many open files" in line.lower() for line in said[:2])
    (path,) = (tmp_path / "out").iterdir()
    Profile.load(path)
    assert path.name in said[2]


def test_open_files_run_out_for_a_while(tmp_path: Path) -> None:
    then = "[os.close(fd) for fd in held]\nfor path in os.listdir(FOLDER): os.unlink(f'{FOLDER}/{path}')\nwait_for(True)"
    (line,) = complaints(run(tmp_path, HOLDS.format(hard="200", then=then), "-q"))
    assert "too many open files" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.gprof"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that any user may reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_the_folder_becomes_read_only(open_folder: Path) -> None:
    """root may write everywhere, so that it becomes somebody else for a while, as servers do."""
    source = """
os.chmod(FOLDER, 0o555)
if not os.getuid():
    os.seteuid(65534)
hear()
if not os.getuid():
    os.seteuid(0)
os.chmod(FOLDER, 0o755)
"""
    (line,) = complaints(run(open_folder, source, "-q"))
    assert "no autosave: cannot write to" in line
    assert "choose a directory that you may write to" in line
    assert [path.name for path in (open_folder / "out").iterdir()] == ["a.gprof"]


def test_the_files_of_others_are_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has come to stand where the save was: it stays, also at the end."""
    monkeypatch.setattr(autosave_module, "SHARE", 1.0)
    path = tmp_path / f"one{SUFFIX}"
    with Profiler() as profiler:
        saving = Autosave(profiler, str(path), every_s=0.02)
        saving.start()
        wait_until(path.exists)
        wait_until(partial(stands_in_place_of, path))
        time.sleep(0.1)
        saving.discard()
    assert path.is_dir()
    path.rmdir()
    path.write_text("mine")
    with Profiler() as profiler:
        saving = Autosave(profiler, str(path), every_s=0.02)
        saving.start()
        time.sleep(0.1)
        saving.discard()
    assert contents(tmp_path) == {path: b"mine"}


@pytest.mark.flaky(reruns=3)  # it looks at the time
def test_who_needs_the_profiler_need_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save of many stacks lasts for seconds, since it leaves the program its time; nobody waits for that."""
    monkeypatch.setattr(autosave_module, "SHARE", 1.0)
    path = tmp_path / f"one{SUFFIX}"
    names: dict[str, object] = {}
    source = "".join(f"def f{n}(then):\n then[0](then[1:])\n" for n in range(400))
    exec(source, names)
    functions: list[Any] = [one for name, one in names.items() if name.startswith("f")]
    with Profiler(engine="exact") as profiler:
        # Ever deeper: a hundred times three hundred calls or so.
        for start in range(0, 400, 4):
            functions[start]([*functions[start + 1 :: 2][:300], lambda _: None])
        saving = Autosave(profiler, str(path), every_s=0.01)
        saving.start()
        time.sleep(0.3)
        began = time.monotonic()
        profiler.snapshot()
        snapshot_s = time.monotonic() - began
        assert not path.exists(), "it was too quick for this test"
        began = time.monotonic()
        saving.stop()
        assert time.monotonic() - began < max(0.5, snapshot_s)
    assert left_over(tmp_path) == []


def stands_in_place_of(path: Path) -> bool:
    """Puts a folder where a file is that may be written anew at any moment."""
    path.unlink(missing_ok=True)
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_bad_durations_are_refused(tmp_path: Path) -> None:
    for value in ("5", "0s", "often"):
        finished = run_greenprof("run", "--autosave", value, "-c", "pass", cwd=tmp_path, expect=2)
        assert finished.stderr.count("\n") == 1
