"""The process that sends spans by OTLP; the profiled program's own process only writes lines to it.

The exporters bring gRPC or requests, threads and log records along. In the program's process they would
break what it does later: gevent warns of, and partly misses, an ssl that is imported before it patches,
gRPC and forks do not go together, and a Python that is about to exit neither imports them nor lets them
start what they need. Here they are in nobody's way, a slow one costs the program nothing, and what was
written is sent even if the program is killed.

To the program, which may wait for its children, it is none: its parent ends at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from greenprof.cli.causes import causes
from greenprof.cli.otlp import Destination
from greenprof.cli.spanqueue import GRACE_S, NOT_IN_TIME, Tally, setting

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Sender", "main"]

BOOT = """\
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
import json
sys.path[:] = json.loads(sys.argv[1])
from greenprof.cli.sender import main
main(*json.loads(sys.argv[2]))
"""
START_LIMIT_S = 30.0
# How long it goes on when the program is gone without a word.
ORPHAN_S = 10.0
# Programs may use low numbers of their own choice.
LOWEST_FD = 100


class Sender:
    """The program's end: starts the process, and is a target of a `SpanQueue`."""

    def __init__(self, destination: Destination) -> None:
        """Raises OSError or SubprocessError where no process can be started."""
        near, far = socket.socketpair()
        with far:
            command = [destination.protocol, destination.endpoint, far.fileno()]
            arguments = [json.dumps(sys.path), json.dumps(command)]
            subprocess.run(  # noqa: S603  # this very Python
                [sys.executable, "-I", "-c", BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                timeout=START_LIMIT_S,
                check=True,
            )
        self._socket = _with_high_number(near)
        self._identity = os.fstat(self._socket.fileno())

    def put(self, line: bytes) -> None:
        """Hand a line over."""
        # A program that closes all files it does not know may have another one by our number now.
        now = os.fstat(self._socket.fileno())
        if (now.st_dev, now.st_ino) != (self._identity.st_dev, self._identity.st_ino):
            raise OSError("the program closed greenprof's connection")
        rest = memoryview(line)
        while rest:
            # Without a signal: a program may have made SIGPIPE deadly.
            rest = rest[self._socket.send(rest, getattr(socket, "MSG_NOSIGNAL", 0)) :]

    def finish(self, limit_s: float) -> Tally:
        """Wait until all is sent, or given up, and return what the process did."""
        try:
            self.put(json.dumps({"within_s": max(limit_s, 0.0)}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = self._socket.recv(65536)
                if not piece:
                    raise OSError("greenprof's sending process is gone")
                answer += piece
        finally:
            self._socket.close()
        return Tally(**json.loads(answer))

    def abandon(self) -> None:
        """Leave the process to the parent."""
        self._socket.close()


def _with_high_number(near: socket.socket) -> socket.socket:
    import fcntl

    with near:
        if hasattr(socket, "SO_NOSIGPIPE"):  # macOS, in place of MSG_NOSIGNAL
            near.setsockopt(socket.SOL_SOCKET, socket.SO_NOSIGPIPE, 1)
        try:
            number = fcntl.fcntl(near.fileno(), fcntl.F_DUPFD_CLOEXEC, LOWEST_FD)
        except OSError:  # not that many are allowed
            number = os.dup(near.fileno())
    return socket.socket(fileno=number)


# From here on in the process.


def main(protocol: str, endpoint: str, fd: int) -> None:
    """Sends what comes until the program says that it ends, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It ends with the program, which may get the same signal and have something to say at its end.
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=fd) as connection:
        sending = Sending(Destination(protocol, endpoint))
        limit_s = ORPHAN_S
        with connection.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                message = json.loads(line)
                if "within_s" in message:
                    limit_s = message["within_s"]
                    break
                sending.take(message)
        tally = sending.end(limit_s)
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(asdict(tally)).encode() + b"\n")
    os._exit(0)


class Sending:
    """Takes requests, and exports them in a thread."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._exporter: SpanExporter | None = None
        self._waiting: deque[list[ReadableSpan]] = deque()
        self._max_waiting = setting("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._taken = 0
        self._tally = Tally()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, request: dict[str, Any]) -> None:
        """Queue the spans of a request, or drop them where too many wait."""
        from greenprof.cli.otlpjson import spans_in

        spans = list(spans_in(request))
        with self._changed:
            self._taken += len(spans)
            if sum(map(len, self._waiting)) + len(spans) > self._max_waiting and self._waiting:
                self._tally.queue_full += len(spans)
                return
            self._waiting.append(spans)
            self._changed.notify_all()

    def end(self, limit_s: float) -> Tally:
        """Export what waits, for so long at most, and return what became of all."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(max(limit_s - GRACE_S, 0) if self._taken else 0)
        if self._taken and self._thread.is_alive() and self._exporter is not None:
            # It makes the exporter's waiting for another attempt end; itself it may take its time.
            threading.Thread(target=self._exporter.shutdown, daemon=True).start()
            self._thread.join(GRACE_S / 2)
        with self._changed:
            tally = self._tally
            tally.failed = self._taken - tally.out - tally.queue_full
            tally.reason = tally.reason or causes.latest or NOT_IN_TIME
            return tally

    def _work(self) -> None:
        try:
            causes.listen()
            self._exporter = self._destination.exporter()
        except Exception as error:
            # A certificate that cannot be read, a timeout that is no number.
            self._tally.reason = f"{type(error).__name__}: {error}"
            return
        while spans := self._next():
            if self._export(self._exporter, spans):
                with self._changed:
                    self._tally.out += len(spans)

    def _next(self) -> list[ReadableSpan]:
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else []

    def _export(self, exporter: SpanExporter, spans: list[ReadableSpan]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            return exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:
            causes.latest = f"{type(error).__name__}: {error}"
            return False
