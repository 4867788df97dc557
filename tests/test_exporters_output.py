"""The one writer of output files: whole or not at all, never over a file by accident."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from greenprof import output
from greenprof.errors import OutputError
from greenprof.exporters import check_output, write_output


def refused(
    path: str | os.PathLike[str], data: str | bytes = b"new", *, force: bool = False
) -> str:
    """The one line that a write is refused with."""
    with pytest.raises(OutputError) as caught:
        write_output(path, data, force=force)
    message = str(caught.value)
    assert message.isprintable()
    return message


def run(program: str, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


class TestFiles:
    def test_new(self, tmp_path: Path) -> None:
        path = tmp_path / "out.bin"
        write_output(path, b"\x00\r\n")
        assert path.read_bytes() == b"\x00\r\n"
        assert os.listdir(tmp_path) == ["out.bin"]

    def test_text_is_utf8_whatever_is_in_it(self, tmp_path: Path) -> None:
        path = tmp_path / "out.txt"
        write_output(path, "é\n\udce9")
        assert path.read_bytes() == b"\xc3\xa9\n\\udce9"

    def test_in_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_output("out.txt", "x")
        assert Path("out.txt").read_text() == "x"

    def test_mode_is_by_the_umask(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        before = os.umask(0o027)
        try:
            write_output(path, b"x")
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            write_output(path, b"y", force=True)
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
        finally:
            os.umask(before)

    def test_an_existing_file_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_bytes(b"precious")
        assert "--force" in refused(path)
        assert path.read_bytes() == b"precious"
        assert os.listdir(tmp_path) == ["out"]

    def test_force_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_bytes(b"old and longer")
        write_output(path, b"new", force=True)
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["out"]

    def test_a_file_that_appears_meanwhile_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "out"
        write_fd = output._write_fd

        def write_slowly(fd: int, payload: bytes) -> None:
            write_fd(fd, payload)
            path.write_bytes(b"somebody else's")

        monkeypatch.setattr(output, "_write_fd", write_slowly)
        assert "exists" in refused(path)
        assert path.read_bytes() == b"somebody else's"
        assert os.listdir(tmp_path) == ["out"]

    @pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
    def test_where_there_are_no_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def no_links(*args: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", no_links)
        path = tmp_path / "out"
        write_output(path, b"new")
        assert path.read_bytes() == b"new"
        assert "exists" in refused(path, b"newer")
        assert path.read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["out"]

    def test_without_hard_links_a_file_that_appears_meanwhile_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "out"

        def no_links(*args: object) -> None:
            path.write_bytes(b"somebody else's")
            raise OSError(errno.EPERM, "no")

        monkeypatch.setattr(os, "link", no_links)
        assert "exists" in refused(path)
        assert path.read_bytes() == b"somebody else's"
        assert os.listdir(tmp_path) == ["out"]

    def test_without_hard_links_a_failed_rename_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object) -> None:
            raise OSError(errno.EPERM, "no")

        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(Path, "replace", refuse)
        assert "cannot write" in refused(tmp_path / "out")
        assert os.listdir(tmp_path) == []


class TestSymbolicLinks:
    @pytest.fixture
    def victim(self, tmp_path: Path) -> Path:
        path = tmp_path / "victim"
        path.write_bytes(b"precious")
        return path

    def test_force_replaces_the_link(self, tmp_path: Path, victim: Path) -> None:
        link = tmp_path / "out"
        link.symlink_to(victim)
        write_output(link, b"new", force=True)
        assert victim.read_bytes() == b"precious"
        assert not link.is_symlink()
        assert link.read_bytes() == b"new"

    def test_a_link_exists_like_a_file(self, tmp_path: Path, victim: Path) -> None:
        link = tmp_path / "out"
        link.symlink_to(victim)
        assert "exists" in refused(link)
        assert victim.read_bytes() == b"precious"

    def test_a_link_to_nothing_is_not_written_through(self, tmp_path: Path) -> None:
        link = tmp_path / "out"
        link.symlink_to(tmp_path / "elsewhere")
        assert "exists" in refused(link)
        write_output(link, b"new", force=True)
        assert not (tmp_path / "elsewhere").exists()
        assert link.read_bytes() == b"new"

    def test_a_link_to_a_device_is_not_written_through(self, tmp_path: Path) -> None:
        link = tmp_path / "out"
        link.symlink_to("/dev/null")
        write_output(link, b"new", force=True)
        assert link.read_bytes() == b"new"
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_a_linked_directory_is_used(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        write_output(tmp_path / "link" / "out", b"new")
        assert (tmp_path / "real" / "out").read_bytes() == b"new"
        assert "is a directory" in refused(tmp_path / "link", force=True)


class TestWhatCannotBe:
    @pytest.mark.parametrize("force", [False, True])
    def test_a_directory(self, tmp_path: Path, force: bool) -> None:
        assert "is a directory" in refused(tmp_path, force=force)
        assert "is a directory" in refused(f"{tmp_path}/", force=force)
        assert os.listdir(tmp_path) == []

    def test_a_missing_directory(self, tmp_path: Path) -> None:
        assert "create it first" in refused(tmp_path / "no" / "out")
        assert "directory" in refused(f"{tmp_path}/no/")

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "there is no directory" in refused(tmp_path / "file" / "out")

    @pytest.mark.parametrize("name", ["", "a\0b", "a\ud800b"])
    def test_no_file_name(self, name: str) -> None:
        assert "give another" in refused(name)

    def test_a_name_too_long(self, tmp_path: Path) -> None:
        assert "shorter name" in refused(tmp_path / ("x" * 300))
        assert os.listdir(tmp_path) == []
        write_output(tmp_path / ("x" * 255), b"as long as may be")

    def test_no_permission(self, tmp_path: Path) -> None:
        """In a child that is not root, as root may write anywhere."""
        program = """
import os
from greenprof.errors import OutputError
from greenprof.output import check_output, write_output
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
for write in check_output, lambda path: write_output(path, b"x"):
    try:
        write("out")
    except OutputError as error:
        print(error)
"""
        folder = tmp_path / "read only"
        folder.mkdir()
        folder.chmod(0o555)
        # By a relative name: the way there may be closed to others.
        done = run(program, cwd=folder)
        lines = done.stdout.decode().splitlines()
        assert len(lines) == 2, done.stderr.decode()
        assert all("permission denied; choose a directory" in line for line in lines)
        assert os.listdir(folder) == []

    def test_a_full_disk_leaves_nothing(self, tmp_path: Path) -> None:
        """A file size limit fails in the middle of a write, as a full disk does."""
        program = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
from greenprof.errors import OutputError
from greenprof.output import write_output
try:
    write_output(sys.argv[1], bytes(1 << 20))
except OutputError as error:
    print(error)
"""

        done = run(program, str(tmp_path / "out"))
        assert b"file too large" in done.stdout, done.stderr.decode()
        assert os.listdir(tmp_path) == []

    def test_a_full_device(self) -> None:
        assert "free some space" in refused("/dev/full")

    def test_an_interrupt_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(fd: int, data: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupt)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(KeyboardInterrupt):
            write_output(tmp_path / "out", b"x")
        assert os.listdir(tmp_path) == []
        assert len(os.listdir("/proc/self/fd")) == len(before)

    def test_messages_are_one_line(self, tmp_path: Path) -> None:
        assert "a\\x1b[2J\\nb" in refused(tmp_path / "no" / "a\x1b[2J\nb")


class TestSpecialFiles:
    def test_a_device_stays_one(self) -> None:
        write_output("/dev/null", b"x")
        write_output("/dev/null", b"x", force=True)
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_a_pipe_with_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
        reader.start()
        data = os.urandom(1 << 18)
        write_output(path, data)
        reader.join(10)
        assert read == [data]
        assert stat.S_ISFIFO(path.stat().st_mode)

    def test_an_open_descriptor(self, tmp_path: Path) -> None:
        """`-o >(gzip > out.gz)` is a /dev/fd/63; what it is must not be opened anew or replaced."""
        with (tmp_path / "out").open("wb") as file:
            file.write(b"before ")
            file.flush()
            write_output(f"/dev/fd/{file.fileno()}", b"in between ")
            write_output(f"/proc/self/fd/{file.fileno()}", b"and ")
            file.write(b"after")
        assert (tmp_path / "out").read_bytes() == b"before in between and after"

    def test_a_closed_descriptor(self) -> None:
        assert "bad file descriptor" in refused("/dev/fd/999")


class TestStandardOutput:
    WRITE = "from greenprof.output import write_output\n"

    def test_as_it_is(self) -> None:
        done = run(self.WRITE + "print('first'); write_output('-', b'\\x00\\n'); print('last')")
        assert done.stdout == b"first\n\x00\nlast\n"
        done = run(self.WRITE + "write_output('/dev/stdout', b'x')")
        assert done.stdout == b"x"

    def test_what_a_test_put_in_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = io.StringIO()
        monkeypatch.setattr(sys, "stdout", text)
        write_output("-", "é")
        assert text.getvalue() == "é"
        binary = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", binary)
        write_output("-", b"\xff")
        assert binary.buffer.getvalue() == b"\xff"

    def test_binary_where_only_text_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        assert "standard output" in refused("-", b"\xff")

    @pytest.mark.parametrize("stdout", [None, "closed"])
    def test_none(self, monkeypatch: pytest.MonkeyPatch, stdout: str | None) -> None:
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr(sys, "stdout", None if stdout is None else closed)
        assert "standard output" in refused("-")

    def test_full(self) -> None:
        program = self.WRITE + (
            "from greenprof.errors import OutputError\n"
            "import sys\n"
            "try: write_output('-', b'x')\n"
            "except OutputError as error: print(error, file=sys.stderr)\n"
        )
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-c", program],
                stdout=full, stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
        # Nothing is left in a buffer that would fail once more when Python ends.
        assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
        assert b"no space left" in done.stderr

    def test_a_reader_that_went_away(self) -> None:
        read, write = os.pipe()
        os.close(read)
        program = self.WRITE + (
            "try: write_output('-', b'x')\nexcept BrokenPipeError: raise SystemExit(7)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=write, timeout=60, check=False
        )
        os.close(write)
        assert done.returncode == 7

    def test_a_slow_reader_behind_a_pipe_that_does_not_block(self) -> None:
        program = (
            self.WRITE + "import os; os.set_blocking(1, False); write_output('-', bytes(1<<20))"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert len(child.stdout.read()) == 1 << 20
        assert child.returncode == 0


class TestBeforehand:
    """`check_output` says what `write_output` would, before an hour is spent."""

    def test_it_agrees(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (
            tmp_path, tmp_path / "file", tmp_path / "no" / "out", "", "a\0b", "a\ud800b", "/dev/fd/x/y",
            tmp_path / "file" / "x",
        ):  # fmt: skip
            with pytest.raises(OutputError) as caught:
                check_output(path)
            assert str(caught.value) == refused(path)

    def test_it_changes_nothing(self, tmp_path: Path) -> None:
        check_output(tmp_path / "out")
        assert os.listdir(tmp_path) == []
        (tmp_path / "out").write_bytes(b"old")
        check_output(tmp_path / "out", force=True)
        assert (tmp_path / "out").read_bytes() == b"old"

    def test_special_files_may_be_there(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in ("-", "/dev/null", "/dev/stdout", "/dev/fd/1", tmp_path / "pipe"):
            check_output(path)
