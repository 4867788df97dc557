"""Open files to be had at the end of a program that has used up all of its own."""

from __future__ import annotations

import contextlib
import resource  # here, since at that end nothing can be imported
from collections.abc import Iterator

__all__ = ["more_descriptors"]

MORE = 64


@contextlib.contextmanager
def more_descriptors() -> Iterator[None]:
    """Raises the process's limit of open files for a moment, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    more = soft + MORE if hard == unlimited else min(soft + MORE, hard)
    raised = False
    if soft not in (unlimited, more):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            raised = True
    try:
        yield
    finally:
        if raised:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
