"""The food-delivery example under greenprof: whole stacks in its profile, whole traces from its requests."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from greenprof.profiles import Frame, Profile
from tests.food_server import RUN, new_database
from tests.otlp_receiver import running_receiver
from tests.postgres import Postgres
from tests.running import run_greenprof, run_python

pytestmark = pytest.mark.flaky(reruns=3)

ROUTE = "POST /customers/{}/orders/"
REQUEST = "POST /customers/<int:customer_id>/orders/"
CUSTOMERS, ORDERS = 6, 6


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> list[str]:
    """The arguments that spare each run a server of its own."""
    return ["--database-url", new_database(postgres)]


def function_at(stack: tuple[Frame, ...], name: str, path: str) -> int:
    """Where the function stands on the stack; -1 where it does not."""
    for index, frame in enumerate(stack):
        if frame.name.split(".")[-1] == name and path in frame.path:
            return index
    return -1


def test_its_profile_has_every_order_from_the_server_down_to_psycopg(
    tmp_path: Path, database: list[str]
) -> None:
    saved = tmp_path / "food.gprof"
    load = ("--customers", str(CUSTOMERS), "--orders", str(ORDERS), "--delay", "0.02")
    done = run_greenprof("run", "--rate", "250", "-o", saved, RUN, *load, *database)
    assert f"{CUSTOMERS * ORDERS} orders in " in done.stdout
    profile = Profile.load(saved)
    of_view = whole = saving = asking = 0
    for sample in profile.samples:
        stack = profile.stack(sample.stack)
        view = function_at(stack, "food_delivery", "delivery/views.py")
        if view < 0:
            continue
        of_view += 1
        server = function_at(stack, "run_asgi", "uvicorn")
        chain = function_at(stack, "get_response", "django")
        crossed = any(frame.crosses for frame in stack[: chain + 1])
        whole += (
            profile.groups[sample.group].name == ROUTE and 0 <= server < chain < view and crossed
        )
        below = stack[view:]
        driver = function_at(below, "execute", "psycopg/cursor_async.py")
        if driver >= 0 and any(frame.crosses for frame in below[: driver + 1]):
            saving += 0 <= function_at(below, "save", "django/db/models/base.py") < driver
        asking += any(frame.crosses for frame in below) and (
            function_at(below, "post", "httpx/_client.py") > 0
        )
    assert of_view > 20
    assert whole / of_view > 0.98
    assert saving > 0
    assert asking > 0


@dataclass(frozen=True)
class Spanned:
    """One span, from the file or the collector."""

    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, object]


def in_file(database: list[str], tmp_path: Path) -> tuple[str, list[Spanned]]:
    spans = tmp_path / "spans.jsonl"
    done = run_python(RUN, "--customers", "2", "--orders", "2", *database, "--trace", spans)
    assert done.stderr == ""
    return done.stdout, [
        Spanned(
            found["name"],
            found["context"]["trace_id"],
            found["context"]["span_id"],
            found["parent_id"] or "",
            found["attributes"],
        )
        for found in map(json.loads, spans.read_text(encoding="utf-8").splitlines())
    ]


def at_collector(database: list[str], tmp_path: Path) -> tuple[str, list[Spanned]]:
    with running_receiver() as receiver:
        service = f"food {uuid4()}"
        done = run_python(
            RUN,
            *("--customers", "2", "--orders", "2", *database, "--trace", "otlp"),
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
                "OTEL_SERVICE_NAME": service,
            },
        )
        assert done.stderr == ""
        receiver.wait_until(lambda spans: sum(span.name == REQUEST for span in spans) == 4)
        assert {span.resource["service.name"] for span in receiver.spans} == {service}
        return done.stdout, [
            Spanned(span.name, span.trace_id, span.span_id, span.parent_id, span.attributes)
            for span in receiver.spans
        ]


Traced = Callable[[list[str], Path], tuple[str, list[Spanned]]]


@pytest.mark.parametrize("traced", [in_file, at_collector])
def test_its_traces_lead_from_the_request_to_what_it_awaits(
    traced: Traced, database: list[str], tmp_path: Path
) -> None:
    stdout, spans = traced(database, tmp_path)
    assert re.search(r"(\d+) of \1 awaits recorded, dropped: {}", stdout)
    below: dict[str, list[Spanned]] = defaultdict(list)
    for span in spans:
        below[span.parent].append(span)
    requests = [span for span in spans if span.name == REQUEST]
    assert len(requests) == 4
    for request in requests:
        assert request.parent == ""
        views = [span for span in below[request.span] if span.name == "food_delivery"]
        assert len(views) == 1
        awaits = Counter(span.name for span in below[views[0].span])
        assert awaits["await async_postgres.driver.SyncCursor.execute"] == 3
        assert awaits["await httpx._client.AsyncClient.post"] == 1
        assert awaits["await delivery.browsers.notify"] <= 1
        for span in below[views[0].span]:
            assert span.trace == request.trace
            if span.name.endswith((".execute", ".post")):
                assert span.attributes["code.function.name"] == "delivery.views.food_delivery"
                assert span.attributes["greenprof.bridge"] == "greenhack"
    if traced is in_file:
        tree = [line.split("ms  ")[1] for line in stdout.splitlines() if "ms  " in line]
        assert tree[:2] == [REQUEST, "  food_delivery"]
        assert "    await httpx._client.AsyncClient.post" in tree
