"""Asks a server again and again, in a process of its own: what `Load` starts, and a script of the standard library.

Each connection asks anew once it has its answer. Lines on standard input begin the counting, and make the clients
pause; at its end the requests that were answered while they were counted, and how long these took, are printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

CONNECTIONS = 16
PAUSE_S = 0.1
"""How long after a pause began there is an answer to all that was asked before."""


def interpreter() -> str:
    """The Python that runs us, whatever a profiler has put into sys.executable."""
    return str(Path("/proc/self/exe").resolve())


class Load:
    """Clients of a server on loopback. They end with the block, or with this process, however it ends."""

    def __init__(self, kind: str, port: int) -> None:
        self._process = subprocess.Popen(
            # Some profilers get into children: by the environment, by sys.executable, by Popen's arguments.
            ["/usr/bin/env", interpreter(), "-I", __file__, kind, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Ask, and count."""
        self._say("begin")

    def pause(self) -> None:
        """Ask and count no more, until there is another beginning."""
        self._say("pause")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Waits for the clients' end, in which nobody is answered any more."""
        said, _ = self._process.communicate(timeout=20)
        found: dict[str, Any] = json.loads(said)
        return found

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Asking:
    """What the clients have in common."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        self.port = port
        self.took_s: list[float] = []
        self.counting = False
        self.asking = asyncio.Event()
        self.asking.set()
        self.failed = 0

    async def client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            while True:
                await self.asking.wait()
                started = time.perf_counter()
                right = await self._ask(reader, writer, number)
                if self.counting:
                    self.took_s.append(time.perf_counter() - started)
                self.failed += not right
        finally:
            writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        if self.kind == "echo":
            line = b"(%d + 7) * 2 - 7 * (1 + 1)\n" % number
            writer.write(line)
            return await reader.readline() == line
        writer.write(b"GET /customers/%d/total HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        return b" 200 " in head.split(b"\r\n", 1)[0]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        clients = [asyncio.create_task(self.client(number)) for number in range(CONNECTIONS)]
        took_s = started = 0.0
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            self.counting = line == "begin\n"
            if self.counting:
                started = time.perf_counter()
                self.asking.set()
            else:
                self.asking.clear()
                took_s += (time.perf_counter() - started) if started else 0.0
        ended = sum(client.done() for client in clients)
        for client in clients:
            client.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*clients, return_exceptions=True)
        self._tell(took_s, ended)

    def _tell(self, seconds: float, ended: int) -> None:
        took_s = sorted(self.took_s)
        shares = {"p50_s": 0.5, "p99_s": 0.99}
        found = {name: took_s[int(len(took_s) * at)] for name, at in shares.items() if took_s}
        answered = {"per_s": len(took_s) / seconds, "failed": self.failed + ended}
        print(json.dumps({**found, **answered}))


if __name__ == "__main__":
    asyncio.run(Asking(sys.argv[1], int(sys.argv[2])).run())
