"""A DB-API module for Django's PostgreSQL backend: psycopg's async classes, called as if they were sync.

Each class is psycopg's own with its coroutine functions made `exempt`: called from sync code that greenhack runs
they wait and return, awaited by psycopg's own async code they are the coroutines that they always were. So one
object serves Django above it and psycopg's pool below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg
from django.db.backends.postgresql.base import CursorMixin
from psycopg import AsyncClientCursor, AsyncConnection, AsyncCopy, AsyncCursor, AsyncServerCursor
from psycopg.client_cursor import ClientCursorMixin
from psycopg_pool import AsyncConnectionPool

from greenprof.greenhack import can_await, exempt, exempt_cm, exempt_it

ROWS_AT_ONCE = 100
"""How many rows iterating over a cursor takes in one go, as psycopg's own server-side cursors do."""

# To who reads types, methods that wait in sync code stay what psycopg declares.
waits: Any = exempt


def __getattr__(name: str) -> Any:
    """Whatever else Django asks a DB-API module for, its exceptions above all, is psycopg's."""
    return getattr(psycopg, name)


class SyncCursor(CursorMixin):
    """What Django asks of a cursor, over whichever async cursor comes next in the line of classes."""

    @exempt
    async def execute(self, *args: Any, **options: Any) -> Self:
        return await super().execute(*args, **options)

    @exempt
    async def executemany(self, *args: Any, **options: Any) -> None:
        await super().executemany(*args, **options)

    def fetchone(self) -> Any:
        return self._fetched(super().fetchone())

    def fetchmany(self, size: int = 0) -> Any:
        return self._fetched(super().fetchmany(size))

    def fetchall(self) -> Any:
        return self._fetched(super().fetchall())

    def scroll(self, value: int, mode: str = "relative") -> Any:
        return self._fetched(super().scroll(value, mode))

    def close(self) -> Any:
        return self._fetched(super().close())

    def _fetched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What the coroutine returns, without a switch to the event loop: the rows are here.

        They came with `execute`, so there is nothing that such a coroutine could wait for.
        """
        if self.connection.pgconn.pipeline_status or not can_await():
            return _awaited(coroutine)
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError(f"{coroutine!r} waits, outside of a pipeline")

    def stream(self, *args: Any, **options: Any) -> Iterator[Any]:
        return exempt_it(super().stream(*args, **options))

    @contextmanager
    def copy(self, *args: Any, **options: Any) -> Iterator[Copy]:
        with exempt_cm(super().copy(*args, **options)) as copying:
            yield Copy(copying)

    def __iter__(self) -> Iterator[Any]:
        while rows := self.fetchmany(ROWS_AT_ONCE):
            yield from rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ServerSideSyncCursor(SyncCursor):
    """The same for cursors whose rows are still on the server."""

    def _fetched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return _awaited(coroutine)


@exempt
async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


class Cursor(SyncCursor, AsyncClientCursor[Any]):  # type: ignore[misc]
    """Django's usual one: psycopg puts the parameters into the statement."""


class ServerBindingCursor(SyncCursor, AsyncCursor[Any]):  # type: ignore[misc]
    """For OPTIONS["server_side_binding"]: the server does."""


class ServerSideCursor(ServerSideSyncCursor, ClientCursorMixin[Any, Any], AsyncServerCursor[Any]):  # type: ignore[misc]
    """What `.iterator()` reads from: rows stay on the server until they are asked for."""


class ServerBindingServerSideCursor(ServerSideSyncCursor, AsyncServerCursor[Any]):  # type: ignore[misc]
    """The same for OPTIONS["server_side_binding"]."""


class Copy:
    """A COPY under way, read or written by sync code."""

    def __init__(self, copy: AsyncCopy) -> None:
        self._copy = copy
        self.read = exempt(copy.read)
        self.read_row = exempt(copy.read_row)
        self.write = exempt(copy.write)
        self.write_row = exempt(copy.write_row)
        self.set_types = copy.set_types

    def rows(self) -> Iterator[tuple[Any, ...]]:
        return exempt_it(self._copy.rows())

    def __iter__(self) -> Iterator[Any]:
        return exempt_it(aiter(self._copy))


class Connection(AsyncConnection[Any]):
    """A connection whose methods wait and whose properties can be set, in sync code."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = Cursor
        self.server_cursor_factory = ServerSideCursor

    execute = waits(AsyncConnection.execute)
    commit = waits(AsyncConnection.commit)
    rollback = waits(AsyncConnection.rollback)
    close = waits(AsyncConnection.close)
    set_autocommit = waits(AsyncConnection.set_autocommit)
    set_isolation_level = waits(AsyncConnection.set_isolation_level)
    set_read_only = waits(AsyncConnection.set_read_only)
    set_deferrable = waits(AsyncConnection.set_deferrable)

    # psycopg's properties of an async connection refuse to be set, since setting one may wait.
    def _set_autocommit(self, value: bool) -> None:
        if value != self.autocommit:
            self.set_autocommit(value)

    _set_isolation_level = set_isolation_level
    _set_read_only = set_read_only
    _set_deferrable = set_deferrable

    def transaction(self, *args: Any, **options: Any) -> Any:
        return exempt_cm(super().transaction(*args, **options))

    def pipeline(self) -> Any:
        return exempt_cm(super().pipeline())


connect = waits(Connection.connect)


class Pool(AsyncConnectionPool[Connection]):
    """psycopg's pool, of one event loop, asked and given back to by sync code."""

    getconn = waits(AsyncConnectionPool.getconn)
    close = waits(AsyncConnectionPool.close)

    def open(self, wait: bool = False, timeout: float = 30.0) -> Any:
        # Django opens it for every connection.
        return _awaited(super().open(wait, timeout)) if self.closed else None

    @waits
    async def putconn(self, connection: Connection) -> None:
        # Who is cancelled while giving back must not keep the connection.
        await asyncio.shield(super().putconn(connection))
