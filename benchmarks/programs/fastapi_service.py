"""A FastAPI service by uvicorn; each request is a query and a lazy load below `run_sync`. Its clients are elsewhere."""

from __future__ import annotations

import asyncio

import uvicorn
from fastapi import FastAPI

from benchmarks.programs.load import CONNECTIONS, PAUSE_S, Load
from benchmarks.programs.shop import Shop
from benchmarks.programs.steady import WARM_UP_S, Arguments, Window, arguments


class Service:
    """How many customers it knows the total of, and how often it was asked."""

    def __init__(self, url: str) -> None:
        self.shop = Shop(url, CONNECTIONS)
        self.served = 0
        self.app = FastAPI()
        self.app.get("/customers/{number}/total")(self.total)

    async def total(self, number: int) -> dict[str, int]:
        total = await self.shop.total_of(number)
        self.served += 1
        return {"total": total}


async def serve(given: Arguments) -> None:
    service = Service(given.url)
    config = uvicorn.Config(
        service.app, host="127.0.0.1", port=0, log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="server")
    while not server.started:  # noqa: ASYNC110  # a flag is all that uvicorn has
        await asyncio.sleep(0.01)
    with Load("http", server.servers[0].sockets[0].getsockname()[1]) as load:
        await asyncio.sleep(0.5 + WARM_UP_S)
        load.pause()
        await asyncio.sleep(PAUSE_S)
        # Whoever waits for a slice blocks the loop: nobody asks meanwhile.
        for _ in given.slices():
            load.begin()
            before = service.served
            with Window(given.above) as window:
                await asyncio.sleep(given.seconds)
            units = service.served - before
            load.pause()
            await asyncio.sleep(PAUSE_S)
            given.tell(window.per(units))
        given.tell(load.end())
    server.should_exit = True
    await serving
    await service.shop.close()


def main() -> None:
    given = arguments()
    asyncio.run(serve(given))


if __name__ == "__main__":
    main()
