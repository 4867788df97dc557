"""What tests over SQLAlchemy's bridge share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.util import concurrency

# 2.1 renamed it.
await_: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only
