"""Code, tasks, threads and awaitables whose names and manners are as bad as Python lets them be."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from types import CodeType
from typing import Any, NoReturn

from sqlalchemy.util import await_only, greenlet_spawn

NAMES = {
    "escape": "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "lines": "a\nb\rc\u2028d\x85e\x0bf",
    "separators": "a;b,c (d) 12\t13",
    "direction": "\u202eexe.gpj\u202c\u2066x",
    "invisible": "a\u200b\u200d\ufeffb\u00ad",
    "surrogates": "\udce9\udfff\ud800",
    "markup": "</script><script>x</script><!-- & \"'",
    "nul": "a\x00b",
    "empty": "",
    "space": " ",
    "long": "W" * 100_000,
    "rich": "[bold]x[/bold][link=file:///etc/passwd]y[/link]",
    "format": "%s%n{0.__class__}",
}


class RaisesError(Exception):
    """Has no message that could be read."""

    def __str__(self) -> str:
        raise RuntimeError("no message")

    __repr__ = __str__


class Hostile:
    """An awaitable that lies about what it is, and raises whenever it is asked anything."""

    def __init__(self, seconds: float) -> None:
        object.__setattr__(self, "seconds", seconds)

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(object.__getattribute__(self, "seconds")).__await__()

    def __getattribute__(self, name: str) -> Any:
        if name == "__await__":
            return object.__getattribute__(self, name)
        if name == "__class__":
            return asyncio.Future
        raise RaisesError

    def __repr__(self) -> NoReturn:
        raise RaisesError

    __str__ = __hash__ = __bool__ = __len__ = __iter__ = __eq__ = __repr__  # type: ignore[assignment]


class HostileTask(asyncio.Task[Any]):
    """Is called by something that is no text, and raises when it is asked."""

    def get_name(self) -> Any:
        raise RaisesError


def renamed(code: CodeType, name: str) -> CodeType:
    """A code object of that name, in a file of that name, with what is inside of it as well."""
    inner = tuple(
        renamed(each, name) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(
        co_name=name.replace("\x00", ""),
        co_qualname=f"{name}.q".replace("\x00", ""),
        co_filename=f"/srv/{name}.py",
        co_consts=inner,
    )


def spin(seconds: float) -> int:
    """Uses the CPU."""
    until, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        rounds += 1
    return rounds


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, with code of that name."""
    function.__code__ = renamed(function.__code__, name)
    return function


def one(name: str) -> tuple[Callable[[], Any], Callable[[], Coroutine[Any, Any, None]]]:
    """A function that uses the CPU, and a coroutine function that goes over a bridge, so called."""

    async def fetch() -> None:
        await asyncio.sleep(0.002)

    def handle() -> None:
        spin(0.003)
        await_only(named_fetch())
        await_only(Hostile(0.001))

    named_fetch = named(fetch, name)
    named_handle = named(handle, name)

    async def main() -> None:
        await greenlet_spawn(named_handle)

    def work() -> None:
        spin(0.02)

    return named(work, name), named(main, name)


async def everything() -> None:
    """Each of the names, one after the other, and all of them as tasks at once."""
    tasks: list[Any] = []
    for name in NAMES.values():
        work, main = one(name)
        work()
        await main()
        tasks.append(asyncio.create_task(main(), name=name))
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()
    _, main = one("x")
    tasks.append(HostileTask(main(), loop=asyncio.get_running_loop()))
    tasks.append(asyncio.create_task(main(), name=7))  # type: ignore[arg-type]
    tasks[-1].set_name(b"\xff\x1b")
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(everything())
