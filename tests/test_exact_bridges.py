"""Call trees of the exact engine go on across greenlet boundaries, and inclusive times with them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import greenback
import greenlet
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

try:
    from sqlalchemy.util import await_
except ImportError:  # SQLAlchemy 2.0
    from sqlalchemy.util import await_only as await_

from greenprof.profiles import FrameKind
from tests.counted_calls import assert_counts_agree, burn, count, counted, counting
from tests.postgres import Postgres

BRIDGED = ("endpoint", "report", "load", "fetch", "decode")


def decode() -> None:
    count()
    burn(5)


async def fetch() -> None:
    count()
    await asyncio.sleep(0)
    decode()


def load(session: Session) -> None:
    count()
    assert session.execute(text("select 1")).scalar_one() == 1
    await_(fetch())


def report(session: Session) -> None:
    count()
    for _ in range(3):
        load(session)


async def endpoint(engine: Any) -> None:
    count()
    async with AsyncSession(engine) as session:
        await session.run_sync(report)


async def serve(url: str, requests: int) -> None:
    count()
    engine = create_async_engine(url)
    await asyncio.gather(*(endpoint(engine) for _ in range(requests)))
    await engine.dispose()


def sqlite(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder}/data.db"


def check_bridged(result: Any, requests: int) -> None:
    assert_counts_agree(result, BRIDGED)
    assert counted["fetch"] == 3 * requests
    # Of the whole tree there is one path, from the task's root to what the awaited coroutine calls.
    whole = {path for path in result.paths(*BRIDGED) if "decode" in path}
    assert whole == {("endpoint", "|", "report", "load", "|", "fetch", "decode")}
    for name in BRIDGED:
        assert 15 * requests <= result.total_ms(name) < 60 * requests, name
    assert result.groups()["endpoint"] == ("asyncio", requests)


def test_sqlalchemy_and_sqlite(tmp_path: Path) -> None:
    with counting() as found:
        asyncio.run(serve(sqlite(tmp_path), 8))
    result = found()
    check_bridged(result, 8)
    frames = {frame.name.rpartition(".")[2]: frame for frame in result.profile.frames}
    assert frames["greenlet_spawn"].kind is FrameKind.BOUNDARY
    hands_over = "await_" if "await_" in frames else "await_only"  # as SQLAlchemy 2.0 calls it
    assert frames[hands_over].kind is FrameKind.BOUNDARY
    assert frames["fetch"].kind is frames["decode"].kind is FrameKind.AWAITED
    assert frames["report"].crosses
    assert frames["fetch"].crosses
    assert not frames["load"].crosses


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_sqlalchemy_and_postgresql(postgres: Postgres, driver: str) -> None:
    with counting() as found:
        asyncio.run(serve(postgres.url(driver), 5))
    result = found()
    check_bridged(result, 5)
    assert any(frame.qualified_name.endswith("Session.execute") for frame in result.profile.frames)


def test_greenlets_that_end_leave_their_numbers_to_others(tmp_path: Path) -> None:
    with counting() as found:
        asyncio.run(serve(sqlite(tmp_path), 4))
        numbers = [number for _, number in found().engine._calls.contexts.living()]
    assert counted["report"] == 4
    assert max(numbers, default=0) < 20


def test_greenback() -> None:
    def load() -> None:
        count()
        greenback.await_(fetch())

    def report() -> None:
        count()
        for _ in range(3):
            load()

    async def endpoint() -> None:
        count()
        await greenback.ensure_portal()
        report()

    async def main() -> None:
        await asyncio.gather(*(endpoint() for _ in range(6)))
        await greenback.with_portal_run(endpoint)

    with counting() as found:
        asyncio.run(main())
    result = found()
    assert_counts_agree(result, BRIDGED)
    assert counted["fetch"] == 21
    paths = {path for path in result.paths(*BRIDGED) if "decode" in path}
    assert {tuple(part for part in path if part != "|") for path in paths} == {BRIDGED}
    for name in BRIDGED:
        assert 105 <= result.total_ms(name) < 150, name


async def run_in_greenlet(function: Any) -> None:
    """A bridge that nobody has described."""
    count()
    child = greenlet.greenlet(function)
    awaitable = child.switch()
    while not child.dead:
        awaitable = child.switch(await awaitable)


def ask(awaitable: Any) -> Any:
    count()
    return greenlet.getcurrent().parent.switch(awaitable)  # type: ignore[union-attr]


async def below() -> None:
    """Awaits by itself first, then on behalf of sync code, then by itself again."""
    count()
    await fetch()
    await run_in_greenlet(sync)
    await fetch()


def sync() -> None:
    count()
    burn(2)
    for _ in range(2):
        ask(fetch())


def test_a_bridge_that_nobody_has_described() -> None:
    with counting() as found:
        asyncio.run(below())
    result = found()
    assert_counts_agree(result, ["below", "sync", "ask", "fetch", "run_in_greenlet"])
    names = ("below", "run_in_greenlet", "sync", "ask", "fetch")
    assert {path for path in result.paths(*names) if "fetch" in path} == {
        ("below", "fetch"),
        ("below", "run_in_greenlet", "|", "sync", "ask", "|", "fetch"),
    }
    assert 12 <= result.total_ms("sync") < 20
    assert 10 <= result.total_ms("ask") < 15
    assert 22 <= result.total_ms("below") < 35


def test_a_loop_that_runs_below_the_sync_code() -> None:
    def in_child() -> None:
        async def serve_parent() -> None:
            value = None
            while (awaitable := greenlet.getcurrent().parent.switch(value)) is not None:  # type: ignore[union-attr]
                value = await awaitable

        asyncio.run(serve_parent())

    def caller() -> None:
        count()
        burn(1)
        child = greenlet.greenlet(in_child)
        child.switch()
        for _ in range(3):
            child.switch(fetch())
        child.switch(None)

    with counting() as found:
        caller()
    result = found()
    assert_counts_agree(result, ["caller", "fetch"])
    assert ("caller", "|", "fetch") in result.paths("caller", "fetch")
    assert 16 <= result.total_ms("caller") < 25


def test_greenlets_that_switch_to_and_fro() -> None:
    def child(parent: greenlet.greenlet) -> None:
        count()
        burn(2)
        parent.switch()
        inner()

    def inner() -> None:
        count()
        burn(2)

    def start() -> None:
        count()
        one = greenlet.greenlet(child)
        one.switch(greenlet.getcurrent())
        burn(1)
        one.switch()

    with counting() as found:
        for _ in range(5):
            start()
    result = found()
    assert_counts_agree(result, ["start", "child", "inner"])
    assert result.paths("start", "child", "inner") == {
        ("start",),
        ("start", "|", "child"),
        ("start", "|", "child", "inner"),
    }
    assert 25 <= result.total_ms("start") < 35
    assert 20 <= result.total_ms("child") < 28


def test_the_time_of_the_parts_is_that_of_the_process(tmp_path: Path) -> None:
    with counting() as found:
        began = time.thread_time_ns()
        asyncio.run(below())
        asyncio.run(serve(sqlite(tmp_path), 4))
        used_ms = (time.thread_time_ns() - began) / 1e6
    result = found()
    main = [i for i, name in enumerate(result.profile.threads) if name == "MainThread"]
    parts_ms = sum(one.cpu_ns for one in result.profile.samples if one.thread in main) / 1e6
    spent_ms = sum(result.engine._calls.spent_ns.values()) / 1e6
    assert parts_ms + spent_ms == pytest.approx(used_ms, rel=0.1)
