"""Errors that come over from the other side, raised as if they had been raised here."""

from __future__ import annotations

from types import TracebackType

__all__ = ["beyond", "with_context"]

# Of errors that were raised while others were handled.
MAX_CHAIN = 100


def beyond(error: BaseException) -> TracebackType | None:
    """An error's traceback without the frame that caught it, which is about to raise it again."""
    traceback = error.__traceback__
    return None if traceback is None else traceback.tb_next


def with_context(error: BaseException, context: BaseException | None) -> None:
    """Give an error that was raised again the context that it had.

    Python has replaced that by what is handled here, which belongs at the end of it.
    """
    handled = error.__context__
    if context is None or handled is context:
        return
    error.__context__ = context
    chain = _chain(context)
    if handled is None or any(one is handled for one in chain):
        return
    if len(chain) < MAX_CHAIN and not any(
        one is error or one is chain[-1] for one in _chain(handled)
    ):
        chain[-1].__context__ = handled


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < MAX_CHAIN:
        found.append(error)
        error = error.__context__
    return found
