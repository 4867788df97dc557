"""Browsers that hear of a customer's orders, each over a websocket: a plain ASGI consumer."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from greenprof.greenhack import exempt

Send = Callable[[dict[str, Any]], Awaitable[None]]

PATH = re.compile(r"/customers/(\d+)/notifications/")
SEND_LIMIT_S = 5.0

_listening: defaultdict[int, set[Send]] = defaultdict(set)


async def consumer(scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """Serves one websocket for as long as its browser keeps it open."""
    await receive()  # websocket.connect
    path = PATH.fullmatch(scope["path"])
    if path is None or not from_own_page(scope["headers"]):
        await send({"type": "websocket.close", "code": 4404})
        return
    customer_id = int(path[1])
    await send({"type": "websocket.accept"})
    _listening[customer_id].add(send)
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass  # there is nothing that a browser could ask for
    finally:
        _listening[customer_id].discard(send)
        if not _listening[customer_id]:
            del _listening[customer_id]


def from_own_page(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the page that opened it came from this server: browsers let any page open any websocket."""
    values = dict(headers)
    origin = values.get(b"origin", b"").decode("latin1")
    return not origin or urlsplit(origin).netloc == values.get(b"host", b"").decode("latin1")


@exempt
async def notify(customer_id: int, message: dict[str, Any]) -> int:
    """Sends the message to every browser that has the customer's page open; returns how many got it."""
    packet = {"type": "websocket.send", "text": json.dumps(message)}
    sent = await asyncio.gather(
        *(
            asyncio.wait_for(send(packet), SEND_LIMIT_S)
            for send in tuple(_listening.get(customer_id, ()))
        ),
        return_exceptions=True,  # one that is gone or stuck is not the order's trouble
    )
    return sum(1 for outcome in sent if outcome is None)
