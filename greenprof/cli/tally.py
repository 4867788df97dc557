"""What the program's process and the sending one both say of spans."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["GRACE_S", "NOT_IN_TIME", "Tally", "setting"]

# How much longer than its bound the end may take, for the process's own sake.
GRACE_S = 0.2
NOT_IN_TIME = "no answer in time"


@dataclass(slots=True)
class Tally:
    """What became of the spans that an output was given."""

    out: int = 0
    failed: int = 0
    reason: str = ""
    """Why the last of the failed ones did."""
    queue_full: int = 0
    left_out: int = 0
    """Not given to the output, which did not want them."""


def setting(name: str, default: int) -> int:
    """One of OpenTelemetry's settings of batches; its default where it is no number above 0."""
    try:
        value = int(os.environ.get(name, default))
    except ValueError:
        return default
    return value if value > 0 else default
