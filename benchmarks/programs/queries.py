"""Many small queries: sync ORM code on SQLAlchemy's asyncio bridge, asyncpg, PostgreSQL."""

from __future__ import annotations

import asyncio

from benchmarks.programs.shop import Shop
from benchmarks.programs.steady import arguments, in_turns

REQUESTS = 100


class SqlAlchemy:
    """Requests on PostgreSQL, three at a time, in sync ORM code: a query, then a lazy load of 20 rows."""

    def __init__(self, url: str, requests: int = 300) -> None:
        self.requests = requests
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


def main() -> None:
    given = arguments()
    program = SqlAlchemy(given.url, REQUESTS)
    in_turns(program.turn, given)
    program.close()


if __name__ == "__main__":
    main()
