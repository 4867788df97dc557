"""Customers who open their page and order from it: `python load.py http://127.0.0.1:8000`.

Each is a browser's work without the browser: the page, its websocket, orders, and the notification of each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import ssl
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx
from websockets.asyncio.client import connect

DISHES = ("soup", "pizza", "curry", "dumplings", "salad", "unicorn")
LIMIT_S = 300.0
# Made once: each client would read all of the system's certificates, for an address that needs none.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


@dataclass
class Results:
    """What became of the orders. `slowest_s` is of one order, from the request to the answer."""

    cooking: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    notified: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        orders = self.cooking + self.refused + len(self.failed)
        return (
            f"{orders} orders in {self.seconds:.2f} s: {self.cooking} cooking, {self.refused} refused,"
            f" {len(self.failed)} failed; {self.notified} notifications; slowest {self.slowest_s:.2f} s"
        )


async def order(
    client: httpx.AsyncClient, customer: int, token: str, dish: str, results: Results
) -> int | None:
    """Orders; returns the order's number if the kitchen took it."""
    began = time.monotonic()
    answer = await client.post(
        f"/customers/{customer}/orders/",
        data={"dish": dish},
        headers={"X-CSRFToken": token, "Cookie": f"csrftoken={client.cookies['csrftoken']}"},
    )
    results.slowest_s = max(results.slowest_s, time.monotonic() - began)
    if answer.status_code == 201:
        results.cooking += 1
        return int(answer.json()["order"])
    if answer.status_code == 502:
        results.refused += 1
    else:
        results.failed.append(f"{dish}: {answer.status_code} {answer.text[:200]}")
    return None


async def customer(
    base_url: str,
    number: int,
    orders: int,
    ready: asyncio.Barrier,
    results: Results,
    *,
    listen: bool,
) -> None:
    choice = random.Random(number)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=base_url, timeout=LIMIT_S, trust_env=False, verify=NO_TLS)
        )
        page = await client.get(f"/customers/{number}/")
        page.raise_for_status()
        token = TOKEN.search(page.text)
        if token is None:
            raise SystemExit(f"no form on {page.url}")
        address = f"{base_url.replace('http', 'ws', 1)}/customers/{number}/notifications/"
        socket = await stack.enter_async_context(connect(address, proxy=None)) if listen else None
        await ready.wait()
        for _ in range(orders):
            taken = await order(client, number, token[1], choice.choice(DISHES), results)
            if taken is not None and socket is not None:
                async with asyncio.timeout(10):
                    message = json.loads(await socket.recv())
                results.notified += message["order"] == taken


async def drive(base_url: str, customers: int, orders: int, *, listen: bool = True) -> Results:
    """All customers open their page, then all begin to order: `seconds` is how long that takes."""
    results = Results()
    ready = asyncio.Barrier(customers + 1)
    async with asyncio.TaskGroup() as group:
        for number in range(1, customers + 1):
            group.create_task(customer(base_url, number, orders, ready, results, listen=listen))
        await ready.wait()
        began = time.monotonic()
    results.seconds = time.monotonic() - began
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base_url")
    parser.add_argument("--customers", type=int, default=8, help="at the same time")
    parser.add_argument("--orders", type=int, default=12, help="of each, one after the other")
    arguments = parser.parse_args()
    results = asyncio.run(drive(arguments.base_url, arguments.customers, arguments.orders))
    print(results, flush=True)
    for failure in results.failed[:5]:
        print(failure, file=sys.stderr)
    return 1 if results.failed or results.notified != results.cooking else 0


if __name__ == "__main__":
    sys.exit(main())
