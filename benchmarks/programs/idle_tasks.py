"""10,000 asyncio tasks that wait, each three coroutines deep, beside one that computes and sleeps in turns."""

from __future__ import annotations

import asyncio

from benchmarks.programs.parsing import TEXT, evaluate
from benchmarks.programs.steady import arguments, in_turns

TASKS, ROUNDS, TIMES = 10_000, 20, 50


async def session(ended: asyncio.Event) -> None:
    await message(ended)


async def message(ended: asyncio.Event) -> None:
    await ended.wait()


async def busy() -> None:
    for _ in range(ROUNDS):
        for _ in range(TIMES):
            evaluate(TEXT)
        await asyncio.sleep(0.001)


async def start(ended: asyncio.Event) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(session(ended), name=f"session-{at}") for at in range(TASKS)]
    await asyncio.sleep(0)
    return tasks


async def end(tasks: list[asyncio.Task[None]], ended: asyncio.Event) -> None:
    ended.set()
    await asyncio.gather(*tasks)


def main() -> None:
    given = arguments()
    with asyncio.Runner() as runner:
        ended = asyncio.Event()
        tasks = runner.run(start(ended))
        in_turns(lambda: runner.run(busy()), given)
        runner.run(end(tasks, ended))


if __name__ == "__main__":
    main()
