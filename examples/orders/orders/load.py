"""A few visitors who use the service for some seconds: `python -m orders.load http://127.0.0.1:8000`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from orders.database import CATEGORIES, CUSTOMERS, PRODUCTS

THINKING_S = 0.03
# What visitors come for, and how often.
WISHES = {"report": 3, "statement": 3, "demand": 4, "order": 3}


@dataclass
class Results:
    """How often each route answered, and how."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return sum(count for (_, status), count in self.answers.items() if status >= 400)

    def __str__(self) -> str:
        total = self.answers.total()
        routes = Counter[str]()
        for (route, _), count in self.answers.items():
            routes[route] += count
        each = ", ".join(f"{route} {count}" for route, count in sorted(routes.items()))
        return f"{total} requests in {self.seconds:.1f} s, {self.failed} failed: {each}"


async def visit(
    client: httpx.AsyncClient, route: str, choice: random.Random, results: Results
) -> None:
    """One request."""
    if route == "report":
        response = await client.get("/reports/sales")
    elif route == "statement":
        response = await client.get(f"/customers/{choice.randint(1, CUSTOMERS)}/statement")
    elif route == "demand":
        response = await client.get(f"/stock/{choice.choice(CATEGORIES)}/demand")
    else:
        wanted = [choice.randint(1, PRODUCTS) for _ in range(3)]
        order = {"customer_id": choice.randint(1, CUSTOMERS), "product_ids": wanted}
        response = await client.post("/orders", json=order)
    results.answers[route, response.status_code] += 1


async def drive(base_url: str, seconds: float, visitors: int) -> Results:
    """Visits the service at `base_url` for some seconds, with as many visitors side by side."""
    results = Results()
    started = time.monotonic()

    async def visitor(number: int) -> None:
        choice = random.Random(number)
        route = list(WISHES)[number % len(WISHES)]
        while True:
            await visit(client, route, choice, results)
            if time.monotonic() - started > seconds:
                break
            await asyncio.sleep(choice.uniform(0, 2 * THINKING_S))
            route = choice.choices(list(WISHES), list(WISHES.values()))[0]

    async with (
        httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        for number in range(visitors):
            group.create_task(visitor(number), name=f"visitor {number}")
    results.seconds = time.monotonic() - started
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--visitors", type=int, default=6)
    arguments = parser.parse_args()
    results = asyncio.run(drive(arguments.base_url, arguments.seconds, arguments.visitors))
    print(results)
    return 1 if results.failed or not results.answers else 0


if __name__ == "__main__":
    sys.exit(main())
