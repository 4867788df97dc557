"""The kitchen: a service of its own, which takes its time for every order and says how long the customer waits.

python kitchen.py --port 8001 --delay 0.5

POST /orders {"order": 1, "dish": "soup"}   201 {"minutes": 24}, or 409 {"error": "..."} for what it cannot cook
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import uvicorn

SOLD_OUT = {"unicorn", "fugu"}


class Kitchen:
    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One ASGI request."""
        if (scope["method"], scope["path"]) != ("POST", "/orders"):
            await answer(send, 404, {"error": "The kitchen takes orders only."})
            return
        order = json.loads(await body(receive))
        await asyncio.sleep(self.delay_s)
        dish = str(order["dish"]).lower()
        if dish in SOLD_OUT:
            await answer(send, 409, {"error": f"No {dish} today."})
        else:
            await answer(send, 201, {"minutes": 15 + len(dish)})


async def body(receive: Any) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def answer(send: Any, status: int, content: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8001, help="0: any that is free")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that an order takes")
    arguments = parser.parse_args()
    config = uvicorn.Config(
        Kitchen(arguments.delay),
        host="127.0.0.1",
        port=arguments.port,
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    with config.bind_socket() as listening:
        host, port = listening.getsockname()
        print(f"http://{host}:{port}", flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
