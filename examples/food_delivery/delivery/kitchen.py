"""The kitchen's service, by a sync-looking httpx.AsyncClient."""

from __future__ import annotations

from typing import Any

import httpx
from django.conf import settings

from greenprof.greenhack import exempt

# Requests wait for the kitchen, not for one another.
SETTINGS: dict[str, Any] = {
    "base_url": settings.KITCHEN,
    "timeout": 60,
    "limits": httpx.Limits(max_connections=None),
}
client = httpx.AsyncClient(**SETTINGS)

post = exempt(client.post, blocking=httpx.Client(**SETTINGS).post)


def complaint(answer: httpx.Response) -> str:
    """Why the kitchen did not take an order, in its own words where there are any."""
    try:
        return str(answer.json()["error"])
    except (ValueError, LookupError, TypeError):
        return f"The kitchen answered {answer.status_code}."
