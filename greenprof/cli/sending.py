"""The process that sends a program's spans, or writes them into a file; `greenprof.cli.sender` starts it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from greenprof.cli.causes import causes
from greenprof.cli.otlp import Destination
from greenprof.cli.otlpjson import request_line
from greenprof.cli.tally import GRACE_S, NOT_IN_TIME, Tally, setting
from greenprof.cli.wire import Unpacker
from greenprof.errors import GreenprofError
from greenprof.output import GrowingOutput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["main"]

#: What waits in the socket is taken this often: a span that wakes who waits for it costs the program twice
#: as much as one that does not.
PAUSE_MS = 10
#: So much at once says that the socket's buffer may be full before the pause is over.
BUSY_BYTES = 32 << 10


class NotTakenError(Exception):
    """The receiver took none of the spans, whatever they are."""


class Exporter(Protocol):
    """What gives spans out."""

    def export(self, spans: Sequence[ReadableSpan]) -> None:
        """Raises whatever exception says why it cannot."""

    def close(self) -> None:
        """Everything is exported."""

    def abort(self) -> None:
        """Make an export that is under way in another thread fail soon."""


class Network:
    """Sends by OpenTelemetry's exporter."""

    def __init__(self, protocol: str, endpoint: str) -> None:
        causes.listen()
        self._exporter = Destination(protocol, endpoint).exporter()

    def export(self, spans: Sequence[ReadableSpan]) -> None:
        """Send, for as long as the exporter tries to."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            # Some exporters raise what this does, others only say that they failed.
            encode_spans(spans)
            raise NotTakenError(causes.latest or NOT_IN_TIME)

    def close(self) -> None:
        """Nothing: the process ends."""

    def abort(self) -> None:
        """End the exporter's waiting for another attempt."""
        self._exporter.shutdown()


class Lines:
    """Writes lines into a file."""

    def __init__(self, path: str, force: bool) -> None:
        self._output = GrowingOutput(path, force=force)

    def export(self, spans: Sequence[ReadableSpan]) -> None:
        """Append a line."""
        self._output.append(request_line(spans))

    def close(self) -> None:
        """Make an empty file where there were no spans: it was asked for."""
        self._output.append(b"")
        self._output.close()

    def abort(self) -> None:
        """Nothing: the system writes, or waits, as it likes."""


class Outlet:
    """Exports spans in a thread, in batches."""

    def __init__(self, make: Callable[[], Exporter]) -> None:
        self._make = make
        self._exporter: Exporter | None = None
        self._waiting: deque[ReadableSpan] = deque()
        # More than OpenTelemetry's default: here a queue costs the program no memory.
        self._max_waiting = setting("OTEL_BSP_MAX_QUEUE_SIZE", 16384)
        self._max_batch = setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
        self._delay_s = setting("OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000
        self._taken = 0
        self._tally = Tally()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, spans: list[ReadableSpan]) -> None:
        """Queue spans; drop them where too many wait."""
        with self._changed:
            self._taken += len(spans)
            room = max(self._max_waiting - len(self._waiting), 0)
            self._tally.queue_full += max(len(spans) - room, 0)
            self._waiting.extend(spans[:room])
            self._changed.notify_all()

    def end(self) -> None:
        """Begin to end: what waits is exported at once."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def finish(self, deadline: float) -> Tally:
        """Wait for the end until the deadline, then force it, and tell what became of the spans."""
        self._thread.join(max(deadline - GRACE_S - time.monotonic(), 0))
        if self._thread.is_alive() and self._exporter is not None:
            # An older exporter's shutdown waits for what it should end.
            threading.Thread(target=self._exporter.abort, daemon=True).start()
            self._thread.join(GRACE_S / 2)
        with self._changed:
            tally = self._tally
            tally.failed = self._taken - tally.out - tally.queue_full
            if tally.failed and not tally.reason:
                tally.reason = causes.latest or NOT_IN_TIME
            return tally

    def _work(self) -> None:
        try:
            self._exporter = self._make()
            while spans := self._next():
                self._export(self._exporter, spans)
            self._exporter.close()
        except Exception as error:
            # A certificate that cannot be read, a timeout that is no number; a disk that was full.
            self._tally.out = 0
            self._tally.reason = str(error) or type(error).__name__

    def _next(self) -> list[ReadableSpan]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            self._changed.wait_for(
                lambda: len(self._waiting) >= self._max_batch or self._ending, self._delay_s
            )
            number = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft() for _ in range(number)]

    def _export(self, exporter: Exporter, spans: list[ReadableSpan]) -> None:
        try:
            exporter.export(spans)
        except (NotTakenError, GreenprofError, OSError) as error:
            self._tally.reason = str(error) or type(error).__name__
        except Exception as error:
            # They cannot be encoded; it may be one span that cannot.
            if half := len(spans) // 2:
                self._export(exporter, spans[:half])
                self._export(exporter, spans[half:])
            else:
                self._tally.reason = str(error) or type(error).__name__
        else:
            with self._changed:
                self._tally.out += len(spans)


def _maker(arguments: dict[str, Any]) -> Callable[[], Exporter]:
    if "path" in arguments:
        return lambda: Lines(arguments["path"], arguments["force"])
    return lambda: Network(arguments["protocol"], arguments["endpoint"])


def main(fd: int, limit_s: float, outputs: dict[str, dict[str, Any]]) -> None:
    """Gives out what comes until the program has ended, however it did, and tells it what became of it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It ends with the program, which may get the same signal and have something to say at its end.
        signal.signal(number, signal.SIG_IGN)
    outlets = {name: Outlet(_maker(arguments)) for name, arguments in outputs.items()}
    unpacker = Unpacker()
    with socket.socket(fileno=fd) as connection, contextlib.suppress(OSError):
        ending = select.poll()
        ending.register(connection, getattr(select, "POLLRDHUP", 0))
        while data := _received(connection):
            groups: dict[str, list[ReadableSpan]] = {name: [] for name in outlets}
            for span, names in unpacker.unpack(data):
                for name in names:
                    groups[name].append(span)
            if unpacker.forgotten:
                os._exit(0)
            for name, spans in groups.items():
                if spans:
                    outlets[name].take(spans)
            if len(data) < BUSY_BYTES:
                ending.poll(PAUSE_MS)
        deadline = time.monotonic() + limit_s
        for outlet in outlets.values():
            outlet.end()
        answer = {name: asdict(outlet.finish(deadline)) for name, outlet in outlets.items()}
        connection.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _received(connection: socket.socket) -> bytes:
    """More from the program; nothing once it has ended."""
    try:
        return connection.recv(1 << 20)
    except ConnectionError:
        return b""
