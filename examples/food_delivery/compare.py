"""The same orders, all at once, on this example's server and on Django's own ways to serve.

    python compare.py --orders 100 --delay 1

Views, models and kitchen are the same. Where Django serves by itself, FOOD_DELIVERY_MODE=blocking makes plain
functions of the views, which block: `greenhack.mode`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from database import free_port, running_postgres
from load import Results, drive
from run import FOLDER, running_kitchen

START_LIMIT_S = 30.0
ONE_THREAD = """
import sys
from socketserver import TCPServer
from wsgiref.simple_server import WSGIRequestHandler, make_server
from food_delivery.wsgi import application
TCPServer.request_queue_size = 256
WSGIRequestHandler.log_message = lambda *_: None
make_server("127.0.0.1", int(sys.argv[1]), application).serve_forever()
"""
UVICORN = ("-m", "uvicorn", "--loop", "asyncio", "--host", "127.0.0.1", "--log-level", "warning")


@dataclass(frozen=True)
class Way:
    """One way to serve: what it is called, the arguments of Python up to the port, the mode."""

    name: str
    command: tuple[str, ...]
    mode: str


WAYS = (
    Way(
        "as_async, this example",
        (*UVICORN, "food_delivery.asgi:application", "--port"),
        "async",
    ),
    Way(
        "Django's ASGI handler, a thread for each request",
        (
            *UVICORN,
            "--lifespan",
            "off",
            "django.core.asgi:get_asgi_application",
            "--factory",
            "--port",
        ),
        "blocking",
    ),
    Way("Django's WSGI handler, one thread", ("-c", ONE_THREAD), "blocking"),
)


@contextmanager
def served(way: Way) -> Iterator[tuple[str, int]]:
    """The server, for as long as the context lasts: its address and its process."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, *way.command, str(port)],
        cwd=FOLDER,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "food_delivery.settings",
            "FOOD_DELIVERY_MODE": way.mode,
        },
    ) as process:
        try:
            deadline = time.monotonic() + START_LIMIT_S
            while not answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{way.name}: the server did not start")
                time.sleep(0.1)
            yield address, process.pid
        finally:
            process.terminate()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/customers/1/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


async def measured(address: str, pid: int, orders: int) -> tuple[Results, int]:
    """The orders, and how many threads the server had at most; 0 where nobody can say."""
    ordering = asyncio.create_task(drive(address, orders, 1, listen=False))
    threads = 0
    while not ordering.done():
        threads = max(threads, threads_of(pid))
        await asyncio.sleep(0.02)
    return ordering.result(), threads


def threads_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(status.partition("Threads:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=100, help="at the same time")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that the kitchen takes")
    arguments = parser.parse_args()
    failed = 0
    with running_postgres() as database, running_kitchen(arguments.delay) as kitchen:
        os.environ.update(FOOD_DELIVERY_DATABASE=database, FOOD_DELIVERY_KITCHEN=kitchen)
        subprocess.run(
            [sys.executable, "manage.py", "prepare", "--customers", str(arguments.orders)],
            cwd=FOLDER,
            check=True,
        )
        print(f"{'':50}{'one':>10}{f'{arguments.orders} at once':>14}{'threads':>10}")
        for way in WAYS:
            with served(way) as (address, pid):
                one, _ = asyncio.run(measured(address, pid, 1))
                many, threads = asyncio.run(measured(address, pid, arguments.orders))
            failed += len(many.failed)
            print(
                f"{way.name:50}{one.seconds:8.2f} s{many.seconds:12.2f} s{threads:10}", flush=True
            )
            for failure in many.failed[:3]:
                print(f"  {failure}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
