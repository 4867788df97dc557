"""Starts everything, has customers order for a while, says how it went, and ends.

    python run.py                                       database, kitchen, server, customers
    greenprof run -o report.html run.py                 the same, profiled
    python run.py --trace spans.jsonl                   the same, traced, into a file
    python run.py --trace otlp                          the same, traced, to a collector
    python run.py --customers 100 --orders 1 --delay 0.5
    python run.py --serve --port 8000                   until Ctrl-C, for your browser

PostgreSQL comes from a wheel and is thrown away, unless --database-url names a database of yours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from database import running_postgres
from greenprof.greenhack import as_async
from tracing import traced

FOLDER = Path(__file__).parent
END_LIMIT_S = 10.0


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=8, help="how many order at the same time")
    parser.add_argument("--orders", type=int, default=12, help="of each, one after the other")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that the kitchen takes")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--serve", action="store_true", help="no customers: serve until Ctrl-C")
    parser.add_argument("--trace", metavar="FILE", help="write spans there; otlp: to a collector")
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help="postgresql://user@host/database; it gets the example's tables",
    )
    return parser.parse_args()


@contextmanager
def running_kitchen(delay_s: float) -> Iterator[str]:
    """The kitchen in a process of its own, for as long as the context lasts; its address."""
    command = [sys.executable, str(FOLDER / "kitchen.py"), "--port", "0", "--delay", str(delay_s)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise SystemExit("the kitchen did not start")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def prepare(customers: int) -> None:
    """Plain Django."""
    from django.core.management import call_command
    from django.db import connections

    call_command("prepare", customers=customers)
    connections.close_all()


async def serve(arguments: argparse.Namespace) -> int:
    from food_delivery.asgi import application

    # In a task, and with it in a context, of its own: what it leaves there is no request's.
    await asyncio.create_task(as_async(prepare)(max(arguments.customers, 8)), name="prepare")
    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=arguments.port,
        lifespan="on",
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="server")
    try:
        while not server.started:
            if serving.done():
                await serving
                raise SystemExit("the server did not start")
            await asyncio.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()
        print(f"serving http://{host}:{port}/customers/1/", flush=True)
        if arguments.serve:
            await serving
            return 0
        return await ordered(f"http://{host}:{port}", arguments)
    finally:
        server.should_exit = True
        await serving


async def ordered(address: str, arguments: argparse.Namespace) -> int:
    """Has customers order, who have a process of their own: their work is not the service's."""
    command = [sys.executable, str(FOLDER / "load.py"), address]
    options = ["--customers", str(arguments.customers), "--orders", str(arguments.orders)]
    threads = 0
    # Not asyncio's own way to run programs: before Python 3.12 that takes a thread, and threads are counted here.
    with subprocess.Popen([*command, *options]) as process:  # noqa: ASYNC220 - see above
        try:
            while process.poll() is None:
                threads = max(threads, threading.active_count())
                await asyncio.sleep(0.02)
        finally:
            process.kill()
    print(f"served in one process, on {threads} thread{'s' if threads > 1 else ''}", flush=True)
    return process.returncode


def main() -> int:
    arguments = parsed_arguments()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "food_delivery.settings")
    with ExitStack() as stack:
        database = arguments.database_url or stack.enter_context(running_postgres())
        os.environ["FOOD_DELIVERY_DATABASE"] = database
        os.environ["FOOD_DELIVERY_KITCHEN"] = stack.enter_context(running_kitchen(arguments.delay))
        if arguments.trace:
            stack.enter_context(traced(arguments.trace))
        try:
            return asyncio.run(serve(arguments))
        except KeyboardInterrupt:
            return 0 if arguments.serve else 130


if __name__ == "__main__":
    sys.exit(main())
