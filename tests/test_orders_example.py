"""The example service runs as its README says, on both databases, and its answers are right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from greenprof.profiles import Frame, FrameKind, Profile, Sample, State
from tests.postgres import Postgres
from tests.running import REPOSITORY, run_greenprof, run_python

MAIN = REPOSITORY / "examples" / "orders" / "main.py"
ROUTES = ("demand", "order", "report", "statement")


def assert_served(stdout: str, database: str) -> None:
    serving, results = stdout.splitlines()
    assert re.fullmatch(rf"serving http://127\.0\.0\.1:\d+ from {database}", serving)
    counts = re.fullmatch(r"(\d+) requests in \S+ s, 0 failed: (.*)", results)
    assert counts is not None, stdout
    assert int(counts[1]) >= len(ROUTES)
    assert [part.split()[0] for part in counts[2].split(", ")] == list(ROUTES)


def test_it_serves_from_sqlite() -> None:
    done = run_python("-W", "error", MAIN, "--seconds", "2")
    assert_served(done.stdout, "sqlite")
    assert done.stderr == ""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_it_serves_from_postgresql(postgres: Postgres, driver: str) -> None:
    done = run_python(MAIN, "--seconds", "2", env={"ORDERS_DATABASE_URL": postgres.url(driver)})
    assert_served(done.stdout, "postgresql")
    assert done.stderr == ""


def test_a_wrong_database_url_ends_it_with_an_error() -> None:
    done = run_python(MAIN, "--database-url", "nosuch://x", expect=1)
    assert "nosuch" in done.stderr


ASK = """
import asyncio, json, sys
import httpx
from decimal import Decimal
from orders.app import create_app
from orders.database import connect, create_shop

async def main(url):
    engine = connect(url)
    await create_shop(engine)
    transport = httpx.ASGITransport(create_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        report = (await client.get("/reports/sales")).text
        before = (await client.get("/customers/3/statement")).json()
        new = {"customer_id": 3, "product_ids": [1, 2]}
        placed = await client.post("/orders", json=new)
        after = (await client.get("/customers/3/statement")).json()
        demand = (await client.get("/stock/toys/demand")).json()
        missing = [
            (await client.get("/customers/99999/statement")).status_code,
            (await client.post("/orders", json={**new, "customer_id": 99999})).status_code,
        ]
    await engine.dispose()
    print(json.dumps({
        "report": report, "before": before, "placed": placed.json(), "status": placed.status_code,
        "after": after, "demand": demand, "missing": missing,
    }))

asyncio.run(main(sys.argv[1]))
"""


def test_its_answers_are_the_same_from_both_databases(postgres: Postgres) -> None:
    answers = []
    for url in ("sqlite+aiosqlite://", postgres.url("asyncpg")):
        done = run_python("-c", ASK, url, cwd=MAIN.parent)
        answers.append(json.loads(done.stdout))
    on_sqlite, on_postgresql = answers
    assert on_sqlite == on_postgresql
    assert on_sqlite["status"] == 201
    assert on_sqlite["missing"] == [404, 404]
    [header, *lines] = on_sqlite["report"].splitlines()
    assert header == "month,category,lines,sum,median,deviation"
    assert len(lines) == 6 * 4
    assert len(on_sqlite["after"]["orders"]) == len(on_sqlite["before"]["orders"]) + 1
    newest = on_sqlite["after"]["orders"][-1]
    assert newest["order"] == on_sqlite["placed"]["id"]
    assert newest["total"] == on_sqlite["placed"]["total"] != "0"
    assert on_sqlite["demand"]


def position(stack: tuple[Frame, ...], function: str, file: str) -> int:
    """Where the function stands on the stack; -1 where it does not."""
    found = [
        index
        for index, frame in enumerate(stack)
        if frame.name.split(".")[-1] == function and frame.path.endswith(file)
    ]
    return found[0] if found else -1


def right_share(profile: Profile, function: str, route: str, endpoint: str) -> float:
    """How much of what was seen of a function in `reports.py` lies below its endpoint and its route."""
    seen_ns = right_ns = 0

    def weight_ns(sample: Sample) -> int:
        return sample.wall_ns + sample.cpu_ns

    for sample in profile.samples:
        stack = profile.stack(sample.stack)
        at = position(stack, function, "reports.py")
        if at < 0:
            continue
        seen_ns += weight_ns(sample)
        above = position(stack, endpoint, "app.py")
        crossed = any(frame.crosses for frame in stack[above + 1 : at + 1])
        if profile.groups[sample.group].name == route and 0 <= above < at and crossed:
            right_ns += weight_ns(sample)
    assert seen_ns > 0, f"{function} was never seen"
    return right_ns / seen_ns


def test_its_profile_shows_whole_stacks_under_their_routes(tmp_path: Path) -> None:
    saved = tmp_path / "orders.gprof"
    done = run_greenprof("run", "--rate", "200", "-o", saved, MAIN, "--seconds", "4")
    assert_served(done.stdout, "sqlite")
    profile = Profile.load(saved)
    statement = "GET /customers/{customer_id}/statement"
    assert right_share(profile, "sales_report", "GET /reports/sales", "sales") >= 0.98
    assert right_share(profile, "statement", statement, "customer_statement") >= 0.98
    cpu_ns = waiting_ns = 0
    for sample in profile.samples:
        stack = profile.stack(sample.stack)
        if position(stack, "line_price", "pricing.py") >= 0:
            cpu_ns += sample.cpu_ns
        at = position(stack, "statement", "reports.py")
        if at >= 0 and sample.state in (State.AWAITING, State.READY):
            below = {frame.kind for frame in stack[at:]}
            assert FrameKind.BOUNDARY in below, "a lazy load that awaits shows its bridge"
            waiting_ns += sample.wall_ns
    assert cpu_ns > 0
    assert waiting_ns > 0
