"""The one place that writes output files: whole or not at all, and never over a file by accident."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
import sys
from pathlib import Path

from greenprof.errors import OutputError
from greenprof.printable import printable

__all__ = ["GrowingOutput", "append_output", "check_output", "identity", "write_output"]

_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
)
_NEW_FILE = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
# A link that has taken the file's place since is somebody else's doing.
_ADD = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_STREAM = re.compile(r"/dev/(stdin|stdout|stderr)|(?:/dev|/proc/self)/fd/(\d+)")
_STREAM_FD = {"stdin": 0, "stdout": 1, "stderr": 2}


def write_output(path: str | os.PathLike[str], data: str | bytes, *, force: bool = False) -> None:
    """Write `data` to the file `path`, or to standard output if `path` is "-".

    The file appears whole under its name or not at all, with the mode that the umask gives. An
    existing file is replaced only with `force`; a symbolic link is replaced like a file and never
    written through. Devices, pipes and `/dev/fd/N` are written to directly.

    Raises OutputError if that is not possible; nothing is left behind then. A BrokenPipeError
    means that the reader of standard output or of a pipe went away: mostly no error at all.
    """
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    target = os.fspath(path)
    if target == "-":
        _write_stdout(payload)
        return
    try:
        fd = _open_special(target)
        if fd is not None:
            _write_fd(fd, payload)
            return
        _check_file(target, force=force)
        _write_file(target, payload, force=force)
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise _failed(target, error) from None


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise the OutputError that `write_output` would, as far as it can be told beforehand.

    A run of an hour should not end with "it exists already".
    """
    target = os.fspath(path)
    if target == "-":
        return
    try:
        if not _is_special(target):
            _check_file(target, force=force)
    except OSError as error:
        raise _failed(target, error) from None


def identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Which file it is, by device and inode; None where there is none."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


class GrowingOutput:
    """A file that is written piece by piece, by the rules of `write_output`.

    Appears with its first piece; each is written whole or not at all, except to devices and pipes.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        self._target = os.fspath(path)
        self._force = force
        self._fd: int | None = None

    def append(self, piece: bytes) -> None:
        """Raise OutputError where it cannot be written; the pieces before it stay."""
        try:
            if self._fd is None:
                self._fd = self._open()
            _append(self._fd, piece)
        except FileExistsError:
            raise _exists(self._target) from None
        except OSError as error:
            raise _failed(self._target, error) from None

    def close(self) -> None:
        """Raise OutputError where what was written is not kept."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError as error:
                raise _failed(self._target, error) from None

    def _open(self) -> int:
        fd = _open_special(self._target)
        if fd is not None:
            return fd
        _check_file(self._target, force=self._force)
        if not self._force:
            return os.open(self._target, _NEW_FILE | os.O_APPEND, 0o666)
        temporary = _temporary_beside(self._target)
        fd = os.open(temporary, _NEW_FILE | os.O_APPEND, 0o666)
        try:
            Path(temporary).replace(self._target)
        except BaseException:
            os.close(fd)
            Path(temporary).unlink()
            raise
        return fd


def append_output(path: str | os.PathLike[str], piece: bytes) -> None:
    """Add to a file that there is, and is no link, all of it or nothing. Raises OutputError."""
    target = os.fspath(path)
    try:
        fd = os.open(target, _ADD)
        try:
            _append(fd, piece)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(target, error) from None


def _append(fd: int, piece: bytes) -> None:
    status = os.fstat(fd)
    try:
        _write_all(fd, piece)
    except OSError:
        if stat.S_ISREG(status.st_mode):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, status.st_size)
        raise


def _check_file(target: str, *, force: bool) -> None:
    if not target or not _is_name(target):
        raise OutputError(f"cannot write to {_quoted(target)}: not a file name; give another")
    folder, name = os.path.split(target)
    if Path(target).is_dir() or not name:
        raise OutputError(
            f"cannot write to {_quoted(target)}: it is a directory; name a file in it"
        )
    folder = folder or os.curdir
    if not Path(folder).is_dir():
        raise OutputError(
            f"cannot write to {_quoted(target)}: there is no directory {_quoted(folder)}; create it first"
        )
    if not force and os.path.lexists(target):
        raise _exists(target)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _is_name(target: str) -> bool:
    try:
        return b"\0" not in os.fsencode(target)
    except UnicodeEncodeError:
        return False


def _write_file(target: str, payload: bytes, *, force: bool) -> None:
    temporary = _temporary_beside(target)
    fd = os.open(temporary, _NEW_FILE, 0o666)
    try:
        _write_fd(fd, payload)
        if force:
            Path(temporary).replace(target)
        else:
            _rename_new(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()


def _temporary_beside(target: str) -> str:
    # A name of its own length: the target's, with something added, could be too long for the folder.
    return str(Path(target).parent / f".greenprof-{os.urandom(8).hex()}.tmp")


def _rename_new(temporary: str, target: str) -> None:
    """Give the file its name unless that exists by now, which `os.rename` would not tell."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return
    # Without hard links (FAT, some network and container file systems): hold the name, then take it.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        Path(temporary).replace(target)
    except BaseException:
        Path(target).unlink()
        raise


def _open_special(target: str) -> int | None:
    """Open a device, a pipe or an open file of this process for writing; None for anything else."""
    stream = _STREAM.fullmatch(target)
    if stream is not None:
        fd = _STREAM_FD[stream[1]] if stream[1] else int(stream[2])
        # A new opening of a redirected /dev/stdout would start at its first byte.
        return os.dup(fd)
    if _is_special(target):
        return os.open(target, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
    return None


def _is_special(target: str) -> bool:
    if _STREAM.fullmatch(target):
        return True
    try:
        mode = os.lstat(target).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_fd(fd: int, payload: bytes) -> None:
    try:
        _write_all(fd, payload)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    # Some file systems tell of a full disk only now.
    os.close(fd)


def _write_all(fd: int, payload: bytes) -> None:
    rest = memoryview(payload)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


def _write_stdout(payload: bytes) -> None:
    try:
        sys.stdout.flush()
        try:
            fd = sys.stdout.fileno()
        except (OSError, AttributeError, ValueError):
            _write_replaced_stdout(payload)
        else:
            # Past Python's buffer: what a full disk leaves in there would fail once more at exit.
            _write_all(fd, payload)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(
            f"cannot write to standard output: {_reason(error)}; redirect it or give a file name"
        ) from None


def _write_replaced_stdout(payload: bytes) -> None:
    """Write to a `sys.stdout` that is no file: a test's or a notebook's."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(payload.decode("utf-8"))
    else:
        buffer.write(payload)
    sys.stdout.flush()


def _exists(target: str) -> OutputError:
    return OutputError(
        f"{_quoted(target)} exists; choose another name, or overwrite it with --force (force=True)"
    )


def _failed(target: str, error: OSError) -> OutputError:
    mend = {
        errno.EACCES: "choose a directory that you may write to",
        errno.EPERM: "choose a directory that you may write to",
        errno.EROFS: "choose a directory that you may write to",
        errno.ENOSPC: "free some space, or choose another disk",
        errno.EDQUOT: "free some space, or choose another disk",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(error.errno or 0, "choose another place")
    return OutputError(f"cannot write to {_quoted(target)}: {_reason(error)}; {mend}")


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text).lower() or type(error).__name__


def _quoted(path: str) -> str:
    return f"'{printable(path)}'"
