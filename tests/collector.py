"""A real collector, rotel, on loopback: takes OTLP by both protocols and forwards it to a receiver."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.postgres import free_port

if TYPE_CHECKING:
    from tests.otlp_receiver import Receiver

SKIP_REASON = "needs the rotel collector"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
PORT_TRIES = 3
LIBRARY = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


@dataclass(frozen=True)
class Collector:
    """A running collector."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int

    @property
    def http_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    def stop(self) -> None:
        """End it at once, as a crash would: nothing it holds goes out any more."""
        self.process.kill()
        self.process.wait(STOP_LIMIT_S)


def binary() -> Path | None:
    """The collector in the wheel; None where it is not installed, as on systems it has no wheel for."""
    spec = importlib.util.find_spec("rotel")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "rotel-agent"
    return path if path.is_file() else None


def library_folder() -> str | None:
    """Where the collector finds the shared library of this Python, which it runs its processors with.

    Empty where the system knows it anyway; None where there is none, as where Python was built without.
    """
    for folder in (sysconfig.get_config_var("LIBDIR"), Path(sys.base_prefix) / "lib"):
        if folder and (Path(folder) / LIBRARY).exists():
            return str(folder)
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    return ""


def available() -> bool:
    return binary() is not None and library_folder() is not None


def expected() -> bool:
    """Whether a collector has to be here: the test extra brings it, and this Python is built for it."""
    return (
        sys.platform == "linux"
        and sys.version_info < (3, 14)
        and bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
    )


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def start(receiver: Receiver, log: Path) -> Collector:
    path, folder = binary(), library_folder()
    assert path is not None
    assert folder is not None
    for _ in range(PORT_TRIES):
        http_port, grpc_port = free_port(), free_port()
        arguments = [
            f"--otlp-http-endpoint=127.0.0.1:{http_port}",
            f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
            "--exporter=otlp",
            f"--otlp-exporter-endpoint={receiver.grpc_endpoint}",
            "--otlp-exporter-protocol=grpc",
            "--batch-timeout=50ms",
        ]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [path, "start", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "LD_LIBRARY_PATH": folder} if folder else None,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            if answers(http_port) and answers(grpc_port):
                return Collector(process, http_port, grpc_port)
            time.sleep(0.05)
        process.kill()
        process.wait(STOP_LIMIT_S)
    message = f"rotel did not start:\n{log.read_text(errors='replace')[-4000:]}"
    raise RuntimeError(message)


@contextlib.contextmanager
def running_collector(receiver: Receiver, folder: Path) -> Iterator[Collector]:
    """A collector that forwards to the receiver; its log is in the folder.

    Raises RuntimeError where it does not start.
    """
    collector = start(receiver, folder / "rotel.log")
    try:
        yield collector
    finally:
        collector.stop()
