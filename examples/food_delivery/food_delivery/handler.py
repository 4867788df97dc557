"""Django's ASGI handler with every request in one greenlet, on the event loop's own thread.

Django's own handler takes each sync middleware and view to a thread, one for every request. Here the request goes
through Django's sync chain, which is what middleware, the admin and REST framework were written for, and whatever
of it waits does so by `greenhack.await_`. A view that `as_async` made a coroutine function, or that is written as
one, is awaited from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
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

    def submit(self, call: Callable[..., R], /, *args: Any, **options: Any) -> Future[R]:
        @greenhack.as_async
        def run() -> R:
            return call(*args, **options)

        task = asyncio.get_running_loop().create_task(run())
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()
        task.add_done_callback(lambda done: _hand_over(done, future))
        return future


def _hand_over(done: asyncio.Task[Any], future: Future[Any]) -> None:
    if done.cancelled():
        future.set_exception(asyncio.CancelledError())
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


class LoopHandler(ASGIHandler):
    """See above. All that it changes of Django's is who calls the middleware chain, and how."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with ThreadSensitiveContext(executor=LoopExecutor()):
            # Django handles a request in several tasks, and each has its own context: connections are made here,
            # for all of them to find the same, and never those of whoever started the server.
            for alias in connections:
                connections[alias] = connections.create_connection(alias)
            try:
                await super().__call__(scope, receive, send)
            finally:
                # As a rule request_finished has closed them; a request that was cancelled may have got no so far.
                await greenhack.as_async(connections.close_all)()

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
