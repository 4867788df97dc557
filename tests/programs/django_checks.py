"""What the async database backend and the ASGI handler of examples/food_delivery do, one check after the other.

python django_checks.py postgresql://...    prints {"check": "" or the traceback of why not}
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "food_delivery"
sys.path.insert(0, str(EXAMPLE))
os.environ["DJANGO_SETTINGS_MODULE"] = "food_delivery.settings"
os.environ["FOOD_DELIVERY_DATABASE"] = sys.argv[1]

import django  # noqa: E402

django.setup()

import httpx  # noqa: E402
import psycopg  # noqa: E402
from asgiref.sync import sync_to_async  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.exceptions import SynchronousOnlyOperation  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import (  # noqa: E402
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.urls import path  # noqa: E402

from async_postgres.base import DatabaseWrapper, close_pools  # noqa: E402
from delivery import kitchen  # noqa: E402
from delivery.models import Customer, Order  # noqa: E402
from delivery.views import food_delivery  # noqa: E402
from food_delivery.handler import LoopHandler  # noqa: E402
from greenprof import greenhack  # noqa: E402

Check = Callable[[], Any]


def one(sql: str, *parameters: object) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def backend_pid() -> int:
    pid: int = one("select pg_backend_pid()")
    return pid


# Transactions.


def check_an_atomic_block_commits_or_rolls_back() -> None:
    with transaction.atomic():
        kept = Customer.objects.create(name="kept")
    try:
        with transaction.atomic():
            lost = Customer.objects.create(name="lost")
            raise LookupError
    except LookupError:
        pass
    assert Customer.objects.filter(pk=kept.pk).exists()
    assert not Customer.objects.filter(pk=lost.pk).exists()


def check_a_savepoint_rolls_back_alone() -> None:
    with transaction.atomic():
        outer = Customer.objects.create(name="outer")
        try:
            with transaction.atomic():
                inner = Customer.objects.create(name="inner")
                Customer.objects.create(pk=inner.pk, name="twice")
        except IntegrityError:
            pass
        else:
            raise AssertionError("no error")
    assert [c.pk for c in Customer.objects.filter(pk__in=(outer.pk, inner.pk))] == [outer.pk]


def check_on_commit_runs_after_the_commit() -> None:
    seen: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append("committed"))
        assert seen == []
    assert seen == ["committed"]


def check_autocommit_can_be_switched_off() -> None:
    transaction.set_autocommit(False)
    try:
        gone = Customer.objects.create(name="gone")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert not Customer.objects.filter(pk=gone.pk).exists()


# Cursors.


def check_an_iterator_leaves_rows_on_the_server() -> None:
    Customer.objects.bulk_create(Customer(name=f"row {number}") for number in range(250))
    rows = Customer.objects.filter(name__startswith="row ").order_by("pk").iterator(chunk_size=100)
    first = next(rows)
    assert one("select count(*) from pg_cursors where name like '_django_curs_%%'") == 1
    names = [first.name, *(customer.name for customer in rows)]
    assert names == [f"row {number}" for number in range(250)]
    assert one("select count(*) from pg_cursors where name like '_django_curs_%%'") == 0
    with transaction.atomic():
        assert sum(1 for _ in Customer.objects.filter(name__startswith="row ").iterator(10)) == 250


def check_a_cursor_is_what_psycopgs_is() -> None:
    with connection.cursor() as cursor:
        cursor.execute("create temporary table pairs (id int primary key, word text)")
        cursor.executemany("insert into pairs values (%s, %s)", [(n, str(n)) for n in range(5)])
        cursor.execute("select * from pairs order by id")
        assert cursor.rowcount == 5
        assert [column.name for column in cursor.description] == ["id", "word"]
        assert cursor.fetchone() == (0, "0")
        assert cursor.fetchmany(2) == [(1, "1"), (2, "2")]
        cursor.scroll(-3)
        assert cursor.fetchall() == [(n, str(n)) for n in range(5)]
        cursor.execute("select id from pairs order by id")
        assert [row[0] for row in cursor] == list(range(5))
        assert list(cursor.cursor.stream("select id from pairs order by id")) == [
            (n,) for n in range(5)
        ]
        cursor.execute("drop table pairs")


def check_copy_goes_both_ways() -> None:
    with connection.cursor() as cursor:
        cursor.execute("create temporary table copied (id int, word text)")
        with cursor.copy("copy copied from stdin") as copy:
            copy.write_row((1, "one"))
            copy.write_row((2, "two"))
        with cursor.copy("copy copied from stdin") as copy:
            copy.write("3\tthree\n")
        with cursor.copy("copy copied to stdout") as copy:
            assert list(copy.rows()) == [("1", "one"), ("2", "two"), ("3", "three")]
        with cursor.copy("copy copied to stdout") as copy:
            parts = [bytes(part) for part in copy]
        assert parts == [b"1\tone\n", b"2\ttwo\n", b"3\tthree\n"]
        cursor.execute("drop table copied")


def check_a_pipeline_takes_many_statements_at_once() -> None:
    connection.ensure_connection()
    with connection.connection.pipeline(), connection.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)


def check_notices_are_heard() -> None:
    heard: list[str] = []
    connection.ensure_connection()

    def on_notice(diagnostic: psycopg.errors.Diagnostic) -> None:
        heard.append(str(diagnostic.message_primary))

    connection.connection.add_notice_handler(on_notice)
    try:
        with connection.cursor() as cursor:
            cursor.execute("do $$ begin raise notice 'the soup is ready'; end $$")
    finally:
        connection.connection.remove_notice_handler(on_notice)
    assert heard == ["the soup is ready"]


def check_errors_are_djangos() -> None:
    wrong: list[tuple[type[Exception], str]] = [
        (ProgrammingError, "select nothing_like_it"),
        (DataError, "select 1 / 0"),
        (OperationalError, "set statement_timeout = 1; select pg_sleep(5)"),
    ]
    for expected, sql in wrong:
        try:
            one(sql)
        except expected as error:
            cause = error.__cause__
        else:
            raise AssertionError(sql)
        assert isinstance(cause, psycopg.Error)
    with connection.cursor() as cursor:
        cursor.execute("set statement_timeout = 0")


def check_times_have_their_zone() -> None:
    at = datetime(2031, 5, 6, 7, 8, tzinfo=timezone(timedelta(hours=3)))
    order = Order.objects.create(customer=Customer.objects.create(name="late"), dish="soup")
    Order.objects.filter(pk=order.pk).update(placed_at=at)
    order.refresh_from_db()
    assert order.placed_at == at
    assert order.placed_at.utcoffset() == timedelta(0)
    assert one("select now()").tzinfo == UTC


# Connections.


async def check_each_task_has_its_own_connection_of_the_pool() -> None:
    async def use(number: int) -> int:
        def used() -> int:
            connections["default"] = connections.create_connection("default")
            try:
                with transaction.atomic():
                    pid = backend_pid()
                    one("select pg_sleep(0.2)")
                    assert backend_pid() == pid
                return pid
            finally:
                connection.close()

        return await asyncio.create_task(greenhack.as_async(used)())

    pids = await asyncio.gather(*(use(number) for number in range(8)))
    assert len(set(pids)) == 8, "side by side, so on one connection each"
    again = [await use(number) for number in range(3)]
    assert set(again) <= set(pids), "given back, and taken again"


async def check_what_waits_for_a_lock_holds_nobody_up() -> None:
    customer = await asyncio.create_task(
        on_own_connection(lambda: Customer.objects.create(name="locked"))
    )
    order: list[str] = []
    locked, passed = asyncio.Event(), asyncio.Event()

    def holder() -> None:
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=customer.pk)
            locked.set()
            greenhack.await_(passed.wait())
            order.append("held")

    def waiter() -> None:
        with transaction.atomic():
            Customer.objects.select_for_update().get(pk=customer.pk)
            order.append("waited")

    def passer() -> None:
        Customer.objects.count()
        order.append("passed")
        passed.set()

    holding = asyncio.create_task(on_own_connection(holder))
    await locked.wait()
    await asyncio.gather(
        holding, *(asyncio.create_task(on_own_connection(f)) for f in (waiter, passer))
    )
    assert order == ["passed", "held", "waited"]


async def on_own_connection(function: Callable[[], Any]) -> Any:
    connections["default"] = connections.create_connection("default")
    try:
        return await greenhack.as_async(function)()
    finally:
        await greenhack.as_async(connections.close_all)()


async def check_who_is_cancelled_leaves_a_clean_connection() -> None:
    began = asyncio.Event()

    def slow() -> None:
        with transaction.atomic():
            Customer.objects.create(name="cancelled")
            began.set()
            one("select pg_sleep(30)")

    task = asyncio.create_task(on_own_connection(slow))
    await began.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("not cancelled")

    await nothing_is_left()
    found = await asyncio.create_task(
        on_own_connection(lambda: Customer.objects.filter(name="cancelled").count())
    )
    assert found == 0


async def check_a_thread_of_the_programs_own_has_its_own() -> None:
    found: list[Any] = []

    def count() -> None:
        try:
            with transaction.atomic():
                found.append((Customer.objects.count() >= 0, backend_pid()))
            connection.close()
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counted for counted, _ in found] == [True, True], found
    assert len({pid for _, pid in found}) == 2
    await nothing_is_left()


async def check_a_coroutine_is_refused() -> None:
    try:
        Customer.objects.count()
    except SynchronousOnlyOperation as error:
        said = str(error)
    else:
        raise AssertionError("no error")
    assert "as_async" in said


# The handler.


def whereabouts(**more: object) -> dict[str, object]:
    return {"thread": threading.current_thread() is threading.main_thread(), **more}


def sync_view(request: Any) -> HttpResponse:
    return JsonResponse(whereabouts(pid=backend_pid(), again=backend_pid()))


@greenhack.as_async
def as_async_view(request: Any) -> HttpResponse:
    greenhack.await_(asyncio.sleep(0))
    return JsonResponse(whereabouts(pid=backend_pid()))


async def async_view(request: Any) -> HttpResponse:
    customer = await Customer.objects.acreate(name="by await")
    return JsonResponse(whereabouts(name=(await Customer.objects.aget(pk=customer.pk)).name))


def streaming_view(request: Any) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for number in range(3):
            yield f"{number}{one('select %s', number)} "

    return StreamingHttpResponse(parts())


def streaming_by_await_view(request: Any) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{number} "

    return StreamingHttpResponse(parts())


def failing_view(request: Any) -> HttpResponse:
    with transaction.atomic():
        Customer.objects.create(name="failed")
        raise LookupError("of the view's own")


def slow_view(request: Any) -> HttpResponse:
    with transaction.atomic():
        Customer.objects.create(name="gone before")
        one("select pg_sleep(30)")
    return HttpResponse("never")


async def slow_async_view(request: Any) -> HttpResponse:
    await sync_to_async(slow_view)(request)
    return HttpResponse("never")


urlpatterns = [
    path("sync/", sync_view),
    path("as_async/", as_async_view),
    path("async/", async_view),
    path("streaming/", streaming_view),
    path("streaming_by_await/", streaming_by_await_view),
    path("failing/", failing_view),
    path("slow/", slow_view),
    path("slow_async/", slow_async_view),
]


async def answered(
    handler: LoopHandler, address: str, leave_after_s: float | None = None
) -> tuple[int, str]:
    """One request, from a client that stays, or leaves; the status and the body."""
    status, body = 0, b""
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        if requests:
            return requests.pop()
        if leave_after_s is None:
            await asyncio.Event().wait()
        await asyncio.sleep(leave_after_s or 0)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/{address}/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    await asyncio.create_task(handler(scope, receive, send))
    return status, body.decode()


async def check_every_kind_of_view_runs_on_the_loops_thread() -> None:
    handler = LoopHandler()
    before = threading.active_count()
    for address in ("sync", "as_async", "async"):
        status, body = await answered(handler, address)
        assert status == 200, body
        found = json.loads(body)
        assert found["thread"] is True, address
        assert found.get("again", found.get("pid")) == found.get("pid")
        assert found.get("name", "by await") == "by await"
    assert await answered(handler, "streaming") == (200, "00 11 22 ")
    assert await answered(handler, "streaming_by_await") == (200, "0 1 2 ")
    assert threading.active_count() == before
    await nothing_is_left()


async def check_an_error_of_a_view_is_an_answer() -> None:
    status, _ = await answered(LoopHandler(), "failing")
    assert status == 500
    await nothing_is_left()


async def check_a_kitchen_that_does_not_answer_is_reported() -> None:
    def no_kitchen() -> HttpResponse:
        customer = Customer.objects.create(name="hungry")
        request = RequestFactory().post("/", {"dish": "soup"})
        return greenhack.await_(food_delivery(request, customer.pk))

    kitchen.client.base_url = "http://127.0.0.1:9"
    response = await asyncio.create_task(on_own_connection(no_kitchen))
    assert response.status_code == 502
    assert json.loads(response.content)["error"].startswith("No word from the kitchen")


def check_what_the_kitchen_says_is_told() -> None:
    assert kitchen.complaint(httpx.Response(409, json={"error": "No fugu."})) == "No fugu."
    assert kitchen.complaint(httpx.Response(500, text="oh")) == "The kitchen answered 500."
    assert kitchen.complaint(httpx.Response(500, json=[])) == "The kitchen answered 500."


async def check_a_client_that_leaves_cancels_its_query() -> None:
    for address in ("slow", "slow_async"):
        assert await answered(LoopHandler(), address, leave_after_s=0.3) == (0, "")
        await nothing_is_left()
    found = await asyncio.create_task(
        on_own_connection(
            lambda: Customer.objects.filter(name__in=("gone before", "failed")).count()
        )
    )
    assert found == 0


async def nothing_is_left() -> None:
    """Every connection is back in the pool, and no statement runs."""
    [pool] = [pool for pools in DatabaseWrapper._pools.values() for pool in pools.values()]
    async with asyncio.timeout(10):
        # It may still be making one that was asked for meanwhile.
        while (stats := pool.get_stats())["pool_available"] != stats["pool_size"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    active = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and state <> 'idle'"
    )
    assert await asyncio.create_task(on_own_connection(lambda: one(active))) == 1


async def main() -> dict[str, str]:
    settings.ROOT_URLCONF = __name__
    checks = {name: check for name, check in globals().items() if name.startswith("check_")}
    outcomes = {}
    await asyncio.create_task(on_own_connection(lambda: call_command("migrate", verbosity=0)))
    for name, check in checks.items():
        if asyncio.iscoroutinefunction(check):
            running = asyncio.create_task(check())
        else:
            running = asyncio.create_task(on_own_connection(check))
        try:
            await running
        except Exception:
            outcomes[name] = traceback.format_exc()
        else:
            outcomes[name] = ""
    await close_pools()
    return outcomes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
