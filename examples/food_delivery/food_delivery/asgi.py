"""The ASGI application: `uvicorn food_delivery.asgi:application`."""

from __future__ import annotations

import os
from typing import Any

import django
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "food_delivery.settings")
django.setup()

# These need the settings.
from async_postgres.base import close_pools  # noqa: E402
from delivery import browsers, kitchen  # noqa: E402
from food_delivery.handler import LoopHandler  # noqa: E402

pages = ASGIStaticFilesHandler(LoopHandler())


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await pages(scope, receive, send)
    elif scope["type"] == "websocket":
        await browsers.consumer(scope, receive, send)
    else:
        await lifespan(receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """Opens at the server's start what requests share, and closes it at its end."""
    await receive()
    try:
        async with kitchen.client:
            await send({"type": "lifespan.startup.complete"})
            await receive()
    finally:
        await close_pools()
    await send({"type": "lifespan.shutdown.complete"})
