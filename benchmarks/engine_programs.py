"""What `benchmarks.engines` measures profilers on: three programs, and who profiles them, by name.

As a script it is one of them under one profiler: `python -m benchmarks.engine_programs sqlalchemy cProfile URL`
does a turn for each line on standard input, and answers with what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import gc
import importlib
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import greenprof
from greenprof.profiles import Profile, State

PLAIN = "no profiler"


class Program(Protocol):
    """Something to profile; a turn takes a tenth of a second or two."""

    def turn(self) -> None: ...
    def close(self) -> None: ...


class SqlAlchemy:
    """Requests on PostgreSQL, three at a time, in sync ORM code: a query, then a lazy load of 20 rows."""

    requests = 300

    def __init__(self, url: str) -> None:
        from benchmarks.engine_models import Shop

        self._runner = asyncio.Runner()
        self._shop = Shop(url)

    def turn(self) -> None:
        self._runner.run(self._serve())

    async def _serve(self) -> None:
        limit = asyncio.Semaphore(3)

        async def request(number: int) -> None:
            async with limit:
                await self._shop.total_of(number)

        async with asyncio.TaskGroup() as group:
            for number in range(self.requests):
                group.create_task(request(number), name=f"request-{number}")

    def close(self) -> None:
        self._runner.run(self._shop.close())
        self._runner.close()


class Gevent:
    """Twenty clients in greenlets, each of which asks a server on loopback again and again."""

    clients, requests = 20, 300

    def __init__(self, _: str) -> None:
        from gevent.server import StreamServer

        self._server = StreamServer(("127.0.0.1", 0), self._answer)
        self._server.start()

    @staticmethod
    def _answer(connection: Any, _address: object) -> None:
        while text := connection.recv(256):
            connection.sendall(str(evaluate(text.decode())).encode())

    def _client(self, number: int) -> None:
        from gevent import socket

        port = self._server.server_port
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for request in range(self.requests):
                connection.sendall(f"({number} + {request}) * 2 - 7 * (1 + 1)".encode())
                assert connection.recv(64) == str((number + request) * 2 - 14).encode()

    def turn(self) -> None:
        import gevent

        gevent.joinall(
            [gevent.spawn(self._client, number) for number in range(self.clients)], raise_error=True
        )

    def close(self) -> None:
        self._server.stop()


class Cpu:
    """A parser by recursive descent: little but calls, some of them deep."""

    times = 1500

    def __init__(self, _: str) -> None:
        self._text = " + ".join(f"({number} * (2 - {number % 7}))" for number in range(12))

    def turn(self) -> None:
        for _ in range(self.times):
            evaluate(self._text)

    def close(self) -> None:
        pass


PROGRAMS: dict[str, Callable[[str], Program]] = {
    "sqlalchemy": SqlAlchemy,
    "gevent": Gevent,
    "cpu": Cpu,
}


TOKEN = re.compile(r"\d+|[-+*()]")


class Parser:
    """Of sums and products of integers."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))

    def peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def take(self) -> str:
        return self._tokens.pop(0)

    def sum(self) -> int:
        value = self.product()
        while self.peek() in {"+", "-"}:
            value += self.product() if self.take() == "+" else -self.product()
        return value

    def product(self) -> int:
        value = self.atom()
        while self.peek() == "*":
            self.take()
            value *= self.atom()
        return value

    def atom(self) -> int:
        token = self.take()
        if token != "(":
            return int(token)
        value = self.sum()
        self.take()
        return value


def tokens(text: str) -> Iterator[str]:
    for match in TOKEN.finditer(text):
        yield match[0]


def evaluate(text: str) -> int:
    return Parser(text).sum()


Counted = Callable[[], int | None]
"""After a turn: the calls that were counted, None if the profiler counts none."""


@contextlib.contextmanager
def plain() -> Iterator[Counted]:
    yield lambda: None


@contextlib.contextmanager
def by_greenprof(**options: Any) -> Iterator[Counted]:
    profiler = greenprof.Profiler(**options)
    with profiler:
        yield lambda: _calls(profiler.profile) if options.get("engine") == "exact" else None


def _calls(profile: Profile) -> int:
    return sum(sample.count for sample in profile.samples if sample.state is State.ON_CPU)


@contextlib.contextmanager
def by_yappi(clock: str) -> Iterator[Counted]:
    import yappi

    yappi.set_clock_type(clock)
    yappi.set_context_backend("greenlet")
    yappi.start(builtins=False)
    calls: list[int] = []
    try:
        yield lambda: calls[0]
    finally:
        yappi.stop()
        calls.append(sum(one.ncall for one in yappi.get_func_stats()))
        yappi.clear_stats()


@contextlib.contextmanager
def by_cprofile() -> Iterator[Counted]:
    profiler = cProfile.Profile(builtins=False)
    profiler.enable()
    try:
        yield lambda: sum(one.callcount for one in profiler.getstats())
    finally:
        profiler.disable()


@contextlib.contextmanager
def by_viztracer() -> Iterator[Counted]:
    viztracer: Any = importlib.import_module("viztracer")
    tracer = viztracer.VizTracer(verbose=0, ignore_c_function=True, tracer_entries=2_000_000)
    tracer.start()
    try:
        yield tracer.parse
    finally:
        tracer.stop()


@contextlib.contextmanager
def by_pyinstrument() -> Iterator[Counted]:
    from pyinstrument import Profiler

    profiler = Profiler(interval=0.01, async_mode="disabled")
    profiler.start()
    try:
        yield lambda: None
    finally:
        profiler.stop()


Way = Callable[[], AbstractContextManager[Counted]]

WAYS: dict[str, Way] = {
    PLAIN: plain,
    "greenprof, 100 Hz": partial(by_greenprof, awaits=False),
    "... and all awaits": partial(by_greenprof, awaits=True),
    "... and loop blockers": partial(by_greenprof, awaits=True, block_limit=0.1),
    "... and a timeline": partial(by_greenprof, awaits=True, block_limit=0.1, timeline=math.inf),
    "greenprof, 1000 Hz": partial(by_greenprof, rate_hz=1000, awaits=False),
    "greenprof, exact, CPU clock": partial(by_greenprof, engine="exact", awaits=False),
    "greenprof, exact, wall clock": partial(
        by_greenprof, engine="exact", clock="wall", awaits=False
    ),
    "greenprof, exact, `--only` the program": partial(
        by_greenprof, engine="exact", awaits=False, only=["benchmarks", "__main__"]
    ),
    "yappi, CPU clock": partial(by_yappi, "cpu"),
    "yappi, wall clock": partial(by_yappi, "wall"),
    "cProfile": by_cprofile,
    "viztracer": by_viztracer,
    "pyinstrument, 100 Hz": by_pyinstrument,
}
NEEDS = {"viztracer": "viztracer", "pyinstrument, 100 Hz": "pyinstrument"}


def missing(way: str) -> str | None:
    """The package that a way needs and that is not here."""
    package = NEEDS.get(way)
    return package if package is not None and importlib.util.find_spec(package) is None else None


def answers(program: Program, way: Way) -> Iterator[dict[str, int | None]]:
    """What each turn took; a first one, which is not counted, warms up."""
    program.turn()
    gc.collect()
    gc.freeze()
    for _ in sys.stdin:
        gc.collect()
        with way() as counted:
            started_ns = time.process_time_ns()
            program.turn()
            cpu_ns = time.process_time_ns() - started_ns
        yield {"cpu_ns": cpu_ns, "calls": counted()}


def main() -> int:
    name, way, url = sys.argv[1:]
    program = PROGRAMS[name](url)
    print("ready", flush=True)
    for answer in answers(program, WAYS[way]):
        print(json.dumps(answer), flush=True)
    program.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
