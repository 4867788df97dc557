"""Serves the shop on loopback, visits it for a few seconds, says how it went, and ends.

    greenprof run main.py
    python main.py --seconds 10 --visitors 16
    python main.py --database-url postgresql+asyncpg://user@localhost/orders

With --serve it goes on until Ctrl-C and leaves the visiting to you.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import uvicorn

from orders.app import create_app
from orders.database import connect, create_shop


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--database-url",
        default=os.environ.get("ORDERS_DATABASE_URL", ""),
        help="an SQLAlchemy asyncio URL; its tables are created anew. Default: $ORDERS_DATABASE_URL,"
        " or else an SQLite file that is thrown away",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="how long to visit the service")
    parser.add_argument("--visitors", type=int, default=6, help="how many at the same time")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--serve", action="store_true", help="serve only, until Ctrl-C")
    return parser.parse_args()


async def started(server: uvicorn.Server, serving: asyncio.Task[None]) -> str:
    """Waits until the server listens; returns its address."""
    while not server.started:
        if serving.done():
            await serving
            raise SystemExit("the server did not start")
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    return f"http://{host}:{port}"


async def visited(address: str, seconds: float, visitors: int) -> int:
    """Lets visitors in, who have a process of their own: their work is not the service's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orders.load", address),
        *("--seconds", str(seconds), "--visitors", str(visitors)),
        cwd=Path(__file__).parent,
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise


async def run(database_url: str, arguments: argparse.Namespace) -> int:
    engine = connect(database_url)
    await create_shop(engine)
    config = uvicorn.Config(
        create_app(engine),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="server")
    try:
        address = await started(server, serving)
        print(f"serving {address} from {engine.dialect.name}", flush=True)
        if arguments.serve:
            await serving
            return 0
        return await visited(address, arguments.seconds, arguments.visitors)
    finally:
        server.should_exit = True
        await serving
        await engine.dispose()


def main() -> int:
    arguments = parsed_arguments()
    if arguments.database_url:
        return asyncio.run(run(arguments.database_url, arguments))
    with tempfile.TemporaryDirectory(prefix="orders-") as folder:
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'orders.db'}"
        return asyncio.run(run(database_url, arguments))


if __name__ == "__main__":
    sys.exit(main())
