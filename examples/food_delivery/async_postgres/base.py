"""What Django loads for ENGINE = "async_postgres"."""

from __future__ import annotations

import asyncio
import atexit
import threading
from inspect import getattr_static, iscoroutinefunction
from types import MethodType
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base as postgresql
from django.db.backends.postgresql.psycopg_any import register_tzloader
from django.utils.asyncio import async_unsafe
from psycopg.pq import Format

from async_postgres import driver
from greenprof import greenhack


class Unguarded:
    """A method that a guard of Django's stands before, looked up without that.

    Django refuses the ORM wherever an event loop runs in the thread, and so below sync code that greenhack runs,
    which waits without holding that loop up. `look_round` refuses coroutines only. A lookup, not a wrapper: on
    stacks then stands Django's function alone, and is Django's, so that an await's line is that of who called it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        # Anew each time, for whoever replaces Django's.
        method = getattr(postgresql.DatabaseWrapper, self.name)
        method = getattr(method, "__wrapped__", method)
        return method if instance is None else MethodType(method, instance)


def look_round() -> None:
    """Sees to it that the calling code can wait for the database; raises where it cannot."""
    if greenhack.can_await():
        return
    if in_event_loop():
        raise SynchronousOnlyOperation(
            "A coroutine called Django's sync ORM: put greenhack.as_async on a plain function and await that, or"
            " use the ORM's own async methods."
        )
    if in_other_thread():
        # Threads are often started by code that knows nothing of this. The loop ends with the thread.
        greenhack.start_loop()


def in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_other_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


class UnguardedWrapper(postgresql.DatabaseWrapper):
    """Django's own without its guards."""


GUARD = async_unsafe(lambda: None).__code__
for name in dir(postgresql.DatabaseWrapper):
    if getattr(getattr_static(postgresql.DatabaseWrapper, name), "__code__", None) is GUARD:
        setattr(UnguardedWrapper, name, Unguarded(name))


async def close_pools() -> None:
    """Closes the running loop's pools: at the end of whoever runs it."""
    for pool in DatabaseWrapper._pools.pop(asyncio.get_running_loop(), {}).values():
        await pool.close()


@atexit.register
def close_pools_of_script() -> None:
    """For programs that called `start_loop`: the loop's end would cancel a pool's workers, who then go on trying.

    It is called before greenhack's own, which was registered earlier.
    """
    if DatabaseWrapper._pools and greenhack.can_await():
        greenhack.await_(close_pools())


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class DatabaseWrapper(UnguardedWrapper):
    """Django's own, on connections that wait by `greenhack.await_`."""

    Database = driver
    # Pools belong to the loop that their connections were opened on.
    _pools: ClassVar[dict[asyncio.AbstractEventLoop, dict[str, driver.Pool]]] = {}

    @property
    def _connection_pools(self) -> dict[str, driver.Pool]:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # After start_loop() the loop runs only while it is waited on.
            loop = greenhack.await_(running_loop())
        for other in [other for other in self._pools if other.is_closed()]:
            del self._pools[other]
        return self._pools.setdefault(loop, {})

    @property
    def pool(self) -> driver.Pool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if in_other_thread() and not in_event_loop():
            return None  # a pool for one, which nobody would close
        pools = self._connection_pools
        if self.alias not in pools:
            if self.settings_dict["CONN_MAX_AGE"] != 0:
                raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
            checks = self.settings_dict["CONN_HEALTH_CHECKS"]
            chosen = {
                "check": driver.Pool.check_connection if checks else None,
                **({} if options is True else options),
            }
            for callback in ("check", "reset"):
                if chosen.get(callback) and not iscoroutinefunction(chosen[callback]):
                    chosen[callback] = greenhack.as_async(chosen[callback])
            pools[self.alias] = driver.Pool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                connection_class=driver.Connection,
                open=False,
                configure=greenhack.as_async(self._configure_connection),
                **chosen,
            )
        return pools[self.alias]

    # One of these three is called at the begin of whatever the guards stood before, and is over before that waits.

    def close_if_health_check_failed(self) -> None:
        look_round()
        super().close_if_health_check_failed()

    def validate_thread_sharing(self) -> None:
        look_round()
        super().validate_thread_sharing()

    def get_connection_params(self) -> dict[str, Any]:
        look_round()
        params: dict[str, Any] = super().get_connection_params()
        options = self.settings_dict["OPTIONS"]
        by_server = options.get("server_side_binding") is True
        usual = driver.ServerBindingCursor if by_server else driver.Cursor
        params["cursor_factory"] = options.get("cursor_factory", usual)
        if not issubclass(params["cursor_factory"], driver.SyncCursor):
            raise ImproperlyConfigured(
                f"OPTIONS['cursor_factory'] is {params['cursor_factory'].__qualname__}, which is no subclass of"
                " async_postgres.driver.Cursor or ServerBindingCursor: psycopg's sync cursors need its sync"
                " connections."
            )
        return params

    def create_cursor(self, name: str | None = None) -> Any:
        if name is None:
            return super().create_cursor()
        by_server = self.settings_dict["OPTIONS"].get("server_side_binding") is True
        server_side = driver.ServerBindingServerSideCursor if by_server else driver.ServerSideCursor
        # Without a transaction it would be gone after the statement that declares it.
        cursor = server_side(
            self.connection, name, scrollable=False, withhold=self.connection.autocommit
        )
        loader = self.connection.adapters.get_loader(postgresql.TIMESTAMPTZ_OID, Format.TEXT)
        if self.timezone != loader.timezone:
            register_tzloader(self.timezone, cursor)
        return cursor
