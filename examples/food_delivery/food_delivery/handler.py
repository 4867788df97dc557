"""Django's ASGI handler with every request in one greenlet, on the event loop's own thread.

Django's own handler takes each sync middleware and view to a thread, one for every request. Here the request goes
through Django's sync chain, which is what middleware, the admin and REST framework were written for, and whatever
of it waits does so by `greenhack.await_`. A view that `as_async` made a coroutine function, or that is written as
one, is awaited from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponseBase

from food_delivery.spans import span_of_view
from greenprof import greenhack

R = TypeVar("R")


class LoopExecutor(Executor):
    """Runs what `sync_to_async` would take to a thread, in a greenlet of the running loop's thread.

    For what is left of that: signals at a request's begin and end, and the ORM's async methods in async views.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def submit(self, call: Callable[..., R], /, *args: Any, **options: Any) -> Future[R]:
        # A query that was cancelled is not over yet, and its connection is what the next call may give back.
        ending = {task for task in self._running if task.cancelling()} - {asyncio.current_task()}

        @greenhack.as_async
        def called() -> R:
            return call(*args, **options)

        async def run() -> R:
            if ending:
                await asyncio.wait(ending)
            return await called()

        task = asyncio.get_running_loop().create_task(run())
        self._running.add(task)
        return OfTask(task, self._running.discard)

    async def ended(self) -> None:
        """Waits for what nobody waits for any more, such as the query of a request that was cancelled."""
        if self._running:
            await asyncio.wait(self._running)


class OfTask(Future[R]):
    """A task's outcome; to cancel it is to cancel the task."""

    def __init__(self, task: asyncio.Task[R], ended: Callable[[asyncio.Task[R]], None]) -> None:
        super().__init__()
        self._task = task
        task.add_done_callback(ended)
        task.add_done_callback(self._take_over)

    def cancel(self) -> bool:
        return self._task.cancel()

    def _take_over(self, task: asyncio.Task[R]) -> None:
        if task.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())


@asynccontextmanager
async def own_connections() -> AsyncIterator[None]:
    """Database connections of the block's own, and of the tasks that it starts; closed at its end.

    Django handles a request in several tasks, each with a context of its own: made here, all of them find the same
    ones, and never those of whoever started the server.
    """
    for alias in connections:
        connections[alias] = connections.create_connection(alias)
    executor = LoopExecutor()
    try:
        async with ThreadSensitiveContext(executor=executor):
            try:
                yield
            finally:
                await executor.ended()
    finally:
        await greenhack.as_async(connections.close_all)()


class LoopHandler(ASGIHandler):
    """See above. All that it changes of Django's is who calls the middleware chain, and how."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with own_connections():
            await super().__call__(scope, receive, send)

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002 - the sync chain, always
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        if (task := asyncio.current_task()) is not None:
            task.set_name(f"{request.method} {request.path}")
        return await greenhack.as_async(self.get_response)(request)

    def adapt_method_mode(self, is_async: bool, method: Any, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        return callable_from_sync(method)

    def make_view_atomic(self, view: Any) -> Any:
        return super().make_view_atomic(span_of_view(callable_from_sync(view)))


def callable_from_sync(function: Any) -> Any:
    return greenhack.exempt(function) if iscoroutinefunction(function) else function
