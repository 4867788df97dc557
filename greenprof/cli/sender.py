"""Gives the program's spans to a process of greenprof's own, which sends or writes them.

The exporters bring gRPC or requests, threads and log records along. In the program's process they would
break what it does later: gevent warns of, and partly misses, an ssl that is imported before it patches,
gRPC and forks do not go together, Python 3.12 warns of forks where there are threads, and a Python that is
about to exit neither imports them nor lets them start what they need. In another process they are in
nobody's way, a slow one costs the program nothing, and spans are sent even if the program is killed.

To the program, which may wait for its children, that process is none: its parent ends at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor

from greenprof._native import time
from greenprof.cli.tally import GRACE_S, NOT_IN_TIME, Tally, setting
from greenprof.cli.wire import Packer
from greenprof.interrupted import from_signal_handler

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Sender", "SpanOutput"]

BOOT = """\
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
import json
sys.path[:] = json.loads(sys.argv[1])
from greenprof.cli.sending import main
main(**json.loads(sys.argv[2]))
"""
START_LIMIT_S = 30.0
# Programs may count on the low numbers.
LOWEST_FD = 100
BUFFER_BYTES = 4 << 20
INHERITED = re.compile(r"(?:/dev|/proc/self)/fd/(\d+)|/dev/(stdout|stderr)")
# Without a signal: a program may have made SIGPIPE deadly.
FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)


@dataclass(frozen=True, slots=True)
class SpanOutput:
    """One place that spans go to."""

    name: str
    arguments: dict[str, Any]
    """For the process; see `greenprof.cli.sending`."""
    wants: Callable[[ReadableSpan], bool] = lambda _span: True


class Sender(SpanProcessor):
    """Hands ended spans over as they end, and never waits but in `finish`, and there with a bound.

    `shutdown` and `force_flush`, which are the program's to call where the provider is the program's, do
    nothing: a program ends its provider before it ends itself, and greenprof's outputs are not what it
    means to wait for. Forked children hand nothing over.
    """

    # Who hands over just now. Nobody waits for that, so that signal handlers and greenlets may come by.
    _handing: object = None

    def __init__(self, outputs: list[SpanOutput], limit_s: float) -> None:
        """`limit_s` bounds the end. Raises OSError or SubprocessError where no process can be started."""
        self._outputs = outputs
        self._pid = os.getpid()
        self._limit_s = limit_s
        self._socket = _start(outputs, limit_s)
        self._identity = os.fstat(self._socket.fileno())
        self._packer = Packer()
        self._spans: deque[tuple[ReadableSpan, tuple[str, ...]]] = deque()
        self._max_waiting = setting("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._rest = memoryview(b"")
        self._taken = {output.name: count() for output in outputs}
        self._left_out = {output.name: count() for output in outputs}
        self._overflow = {output.name: count() for output in outputs}
        self._open = True
        self._lost = False
        self._reason = ""
        self._deadline = 0.0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    # A span processor's part. What is not here does nothing.

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; drop it where too many wait."""
        context = span.context
        # Where gevent's subprocess forks, awaits end in the child as well, and are no spans of its.
        if os.getpid() != self._pid:
            return
        if not self._open or context is None or not context.trace_flags.sampled:
            return
        wanted = []
        for output in self._outputs:
            if output.wants(span):
                wanted.append(output.name)
            else:
                next(self._left_out[output.name])
        if not wanted:
            return
        for name in wanted:
            next(self._taken[name])
        if self._lost:
            return
        if len(self._spans) >= self._max_waiting:
            self._hand_over()
        if len(self._spans) >= self._max_waiting:
            for name in wanted:
                next(self._overflow[name])
            return
        self._spans.append((span, tuple(wanted)))
        self._hand_over()

    # The end.

    def end(self) -> None:
        """Take no more spans, and let the process come to its end. Returns at once."""
        if not self._open:
            return
        self._open = False
        self._deadline = time.monotonic() + self._limit_s
        self._hand_over()
        if not self._spans and not self._rest:
            self._say_end()

    def discard(self) -> None:
        """End without a word, and without files."""
        self._open = False
        with contextlib.suppress(OSError):
            self._socket.send(self._packer.forget(), FLAGS)
        self._close()

    def finish(self) -> dict[str, Tally]:
        """Wait for the end, and tell what became of the spans of each output."""
        answer: dict[str, Any] = {}
        try:
            if self._spans or self._rest:
                self._socket.settimeout(max(self._deadline - time.monotonic(), 0.01))
                self._hand_over()
                self._say_end()
            answer = json.loads(self._answer() or b"{}")
        except (OSError, ValueError) as error:
            self._reason = self._reason or str(error)
        finally:
            self._close()
        return {output.name: self._tally(output.name, answer) for output in self._outputs}

    def _say_end(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._reason = self._reason or str(error)

    def _answer(self) -> bytes:
        answer = b""
        while not answer.endswith(b"\n"):
            left_s = self._deadline + GRACE_S - time.monotonic()
            if left_s <= 0:
                return b""
            self._socket.settimeout(left_s)
            piece = self._socket.recv(65536)
            if not piece:
                raise OSError("greenprof's sending process is gone")
            answer += piece
        return answer

    def _tally(self, name: str, answer: dict[str, Any]) -> Tally:
        tally = Tally(**answer.get(name, {}))
        taken = next(self._taken[name])
        tally.left_out = next(self._left_out[name])
        tally.queue_full += next(self._overflow[name])
        if unknown := taken - tally.out - tally.failed - tally.queue_full:
            tally.failed += unknown
            tally.reason = tally.reason or self._reason or NOT_IN_TIME
        return tally

    def _in_child(self) -> None:
        self._open = False
        self._close()
        self._spans.clear()

    def _is_ours(self) -> bool:
        try:
            now = os.fstat(self._socket.fileno())
        except OSError:
            return False
        return now.st_ino == self._identity.st_ino and now.st_dev == self._identity.st_dev

    def _close(self) -> None:
        if self._is_ours():
            self._socket.close()
        else:
            self._socket.detach()

    # Handing over.

    def _hand_over(self) -> None:
        me = object()
        while self._spans or self._rest:
            try:
                # A lock would be left taken by a signal handler that raises right after it was: what a
                # call returns is known only later. This is ours from within the call on.
                if self.__dict__.setdefault("_handing", me) is not me or not self._write():
                    return
            except BaseException as error:
                # What spans refer to is told once, and may not have been told now.
                self._packer = Packer()
                if from_signal_handler(error):
                    raise
                if isinstance(error, OSError):
                    self._give_up(error)
                else:  # values of classes of somebody's own
                    self._reason = f"{type(error).__name__}: {error}"
            finally:
                # Not by a function: signal handlers run at calls.
                if self._handing is me:
                    del self._handing

    def _write(self) -> bool:
        """Whether all is written; False where the process cannot take more just now."""
        while True:
            if not self._rest:
                if not self._spans:
                    return True
                self._rest = memoryview(self._packer.pack(*self._spans.popleft()))
            # A program that closes all files it does not know may have another one by our number now.
            if not self._is_ours():
                raise OSError("the program closed greenprof's connection")
            # Nothing of it is written twice, whatever a signal's handler raises in here.
            rest, self._rest = self._rest, memoryview(b"")
            try:
                sent = self._socket.send(rest, FLAGS)
            except (BlockingIOError, TimeoutError) as error:
                if from_signal_handler(error):
                    raise
                self._rest = rest
                return False
            if sent < len(rest):
                self._rest = rest[sent:]

    def _give_up(self, error: OSError) -> None:
        self._lost = True
        self._reason = str(error)
        self._spans.clear()
        self._rest = memoryview(b"")


def _start(outputs: list[SpanOutput], limit_s: float) -> socket.socket:
    near, far = socket.socketpair()
    with far, near:
        command = {
            "fd": far.fileno(),
            "limit_s": limit_s,
            "outputs": {output.name: output.arguments for output in outputs},
        }
        passed = _inherited(outputs)
        subprocess.run(  # noqa: S603  # this very Python
            [sys.executable, "-I", "-c", BOOT, json.dumps(sys.path), json.dumps(command)],
            stdin=subprocess.DEVNULL,
            stdout=None if 1 in passed else subprocess.DEVNULL,
            stderr=None if 2 in passed else subprocess.DEVNULL,
            pass_fds=[far.fileno(), *(number for number in passed if number > 2)],
            timeout=START_LIMIT_S,
            check=True,
        )
        return _prepared(near)


def _inherited(outputs: list[SpanOutput]) -> set[int]:
    """The open files that outputs are named by, as shells do for `>(command)`."""
    found = [INHERITED.fullmatch(str(output.arguments.get("path", ""))) for output in outputs]
    streams = {"stdout": 1, "stderr": 2}
    return {int(each[1]) if each[1] else streams[each[2]] for each in found if each is not None}


def _prepared(near: socket.socket) -> socket.socket:
    import fcntl

    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    if hasattr(socket, "SO_NOSIGPIPE"):  # macOS, in place of MSG_NOSIGNAL
        near.setsockopt(socket.SOL_SOCKET, socket.SO_NOSIGPIPE, 1)
    try:
        number = fcntl.fcntl(near.fileno(), fcntl.F_DUPFD_CLOEXEC, LOWEST_FD)
    except OSError:  # there may not be that many
        number = os.dup(near.fileno())
    prepared = socket.socket(fileno=number)
    prepared.setblocking(False)
    return prepared
