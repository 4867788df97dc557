"""Why an export failed: the exporters return no more than that it did, and log the rest."""

from __future__ import annotations

import logging
import re

__all__ = ["Causes", "cause_in", "causes"]

MAX_LENGTH = 160
# The part of a message that says what happened, in the words of urllib3, grpc and the HTTP exporter.
CAUSES = (
    re.compile(
        r"(connection refused|connection reset[\w ]*|timed out|name resolution)", re.IGNORECASE
    ),
    re.compile(r"\[Errno -?\d+\] ([^'\"()]+)"),
    re.compile(r"error code: StatusCode\.(\w+)"),
    re.compile(r"batch code: None, reason: (.+)"),
    re.compile(r"batch code: (\d+), reason: "),
)
# What they say when they give up; what they said before is why.
GAVE_UP = re.compile(
    r"max retries or shutdown|shutdown in progress|already shut ?down|channel closed",
    re.IGNORECASE,
)


class Causes(logging.Handler):
    """Listens to all loggers, and keeps the latest cause."""

    latest = ""

    def listen(self) -> None:
        """Begin."""
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a record says of a failure."""
        message = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING and not GAVE_UP.search(message):
            self.latest = cause_in(message)


def cause_in(message: str) -> str:
    """What happened, by a log message that says more than that."""
    for pattern in CAUSES:
        if found := pattern.search(message):
            message = f"HTTP status {found[1]}" if found[1].isdigit() else found[1]
            break
    message = message.strip()
    return f"{message[: MAX_LENGTH - 3]}..." if len(message) > MAX_LENGTH else message


causes = Causes(logging.WARNING)
