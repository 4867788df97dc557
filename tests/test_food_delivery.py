"""The food-delivery example as its README says: over real HTTP, real websockets, a real kitchen and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.food_server import FOLDER, PASSWORD, Served, new_database, served
from tests.postgres import Postgres
from tests.running import run_python

# Browsers and databases are several processes, on a machine that may have other things to do.
pytestmark = pytest.mark.flaky(reruns=2)


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> str:
    return new_database(postgres)


@pytest.fixture(scope="module")
def service(database_url: str) -> Iterator[Served]:
    """One for all of these tests; `served` looks at how it ends."""
    with served(database_url, "--delay", "0.05") as running:
        yield running


@pytest.fixture
def visitor(service: Served) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def ordered(visitor: httpx.Client, customer: int, dish: str) -> httpx.Response:
    """Orders as the customer's page does."""
    page = visitor.get(f"/customers/{customer}/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    return visitor.post(
        f"/customers/{customer}/orders/", data={"dish": dish, "csrfmiddlewaretoken": token[1]}
    )


def heard(service: Served, customer: int, dish: str) -> tuple[httpx.Response, list[str]]:
    """Orders with the customer's websocket open; the answer, and what came over that."""

    async def listen() -> tuple[httpx.Response, list[str]]:
        address = f"{service.address.replace('http', 'ws')}/customers/{customer}/notifications/"
        async with connect(address, proxy=None, origin=None) as socket:
            with service.client() as visitor:
                answer = await asyncio.to_thread(ordered, visitor, customer, dish)
            messages = []
            try:
                # A refused order sends nothing: that is waited for, a little.
                async with asyncio.timeout(5 if answer.status_code == 201 else 0.3):
                    messages.append(str(await socket.recv()))
            except TimeoutError:
                pass
            return answer, messages

    return asyncio.run(listen())


def test_an_order_is_saved_cooked_and_told_to_its_customer(service: Served) -> None:
    answer, messages = heard(service, 1, "soup")
    assert answer.status_code == 201
    placed = answer.json()
    assert placed == {"order": placed["order"], "dish": "soup", "minutes": 19}
    assert [json.loads(message) for message in messages] == [placed]
    with service.client() as visitor:
        saved = visitor.get(f"/api/orders/{placed['order']}/").json()
    assert (saved["dish"], saved["status"], saved["minutes"]) == ("soup", "cooking", 19)


def test_what_the_kitchen_says_against_it_is_the_answer(service: Served) -> None:
    answer, messages = heard(service, 2, "unicorn")
    assert answer.status_code == 502
    assert answer.json()["error"] == "No unicorn today."
    assert messages == []
    with service.client() as visitor:
        saved = visitor.get(f"/api/orders/{answer.json()['order']}/").json()
    assert (saved["status"], saved["minutes"]) == ("refused", None)


def test_what_is_no_order_is_refused(visitor: httpx.Client) -> None:
    assert ordered(visitor, 1, "  ").status_code == 400
    assert ordered(visitor, 1, "x" * 81).status_code == 400
    assert visitor.get("/customers/1/orders/").status_code == 405
    assert visitor.get("/customers/999999/").status_code == 404
    assert visitor.post("/customers/1/orders/", data={"dish": "soup"}).status_code == 403


def test_only_its_own_pages_open_websockets(service: Served) -> None:
    async def opened(path: str, origin: str) -> int:
        try:
            async with connect(
                service.address.replace("http", "ws") + path,
                proxy=None,
                additional_headers={"Origin": origin},
            ):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    notifications = "/customers/1/notifications/"
    assert asyncio.run(opened(notifications, service.address)) == 101
    assert asyncio.run(opened(notifications, "http://elsewhere.example")) == 403
    assert asyncio.run(opened("/customers/one/notifications/", service.address)) == 403


def test_rest_framework_and_the_admin_run_unchanged(visitor: httpx.Client) -> None:
    new = {"customer": 1, "dish": "pizza"}
    assert visitor.post("/api/orders/", json=new).status_code == 403
    page = visitor.get("/admin/login/")
    assert page.status_code == 200
    login = {
        "username": "admin",
        "password": PASSWORD,
        "csrfmiddlewaretoken": visitor.cookies["csrftoken"],
    }
    assert visitor.post("/admin/login/?next=/admin/", data=login).status_code == 302
    visitor.headers["X-CSRFToken"] = visitor.cookies["csrftoken"]
    made = visitor.post("/api/orders/", json=new)
    assert made.status_code == 201
    address = f"/api/orders/{made.json()['id']}/"
    assert visitor.patch(address, json={"dish": "calzone"}).json()["dish"] == "calzone"
    listed = visitor.get("/admin/delivery/order/")
    assert listed.status_code == 200
    assert "calzone" in listed.text
    assert visitor.delete(address).status_code == 204
    assert visitor.get(address).status_code == 404
    assert visitor.get("/static/admin/css/base.css").status_code == 200


def test_the_command_line_runs_on_the_same_backend(database_url: str) -> None:
    def manage(*arguments: str) -> str:
        environment = {"FOOD_DELIVERY_DATABASE": database_url}
        return run_python("-W", "error", FOLDER / "manage.py", *arguments, env=environment).stdout

    assert manage("prepare", "--customers", "5") == ""
    assert "No changes" in manage("makemigrations", "--check", "--dry-run")


def test_a_hundred_slow_orders_take_one_thread_and_little_longer_than_one() -> None:
    # Without a server that is there already: it starts its own.
    done = run_python(FOLDER / "run.py", "--customers", "100", "--orders", "1", "--delay", "1")
    serving, orders, threads = done.stdout.splitlines()
    assert serving.startswith("serving http://127.0.0.1:")
    said = re.fullmatch(
        r"100 orders in (\S+) s: (\d+) cooking, (\d+) refused, 0 failed; (\d+) notifications; .*",
        orders,
    )
    assert said is not None, orders
    assert int(said[2]) + int(said[3]) == 100
    assert said[4] == said[2]
    # One after the other would take 100 s. A busy machine may take several times its usual 2 s.
    assert float(said[1]) < 15
    assert threads == "served in one process, on 1 thread"
    assert done.stderr == ""


def test_djangos_own_ways_need_as_many_threads_or_as_much_time() -> None:
    orders, delay_s = 8, 0.25
    done = run_python(FOLDER / "compare.py", "--orders", str(orders), "--delay", str(delay_s))
    found = {
        name: (float(one), float(many), int(threads))
        for name, one, many, threads in re.findall(
            r"^(\S.*?) +(\S+) s +(\S+) s +(\d+)$", done.stdout, re.MULTILINE
        )
    }
    assert len(found) == 3, done.stdout
    ours, by_threads, one_by_one = found.values()
    assert one_by_one[1] > orders * delay_s
    assert ours[1] < one_by_one[1]
    if sys.platform == "linux":  # where it is known
        assert ours[2] == 1
        assert by_threads[2] > orders


@pytest.fixture
def page(browser: Browser, service: Served) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 800, "height": 600})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(f"{service.address}/customers/3/")
    yield opened
    context.close()
    assert problems == []


@pytest.mark.page
def test_a_browser_is_told(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("You will hear from us here.")
    page.get_by_label("dish").fill("<b>dumplings</b>")
    page.get_by_role("button", name="Order").click()
    told = page.locator("#notifications li")
    expect(told).to_have_count(1)
    assert re.fullmatch(
        r"Order \d+: your <b>dumplings</b> will be there in 31 minutes\.", told.inner_text()
    )
    expect(page.get_by_label("dish")).to_have_value("")
    page.get_by_label("dish").fill("unicorn")
    page.get_by_role("button", name="Order").click()
    expect(page.locator("#error")).to_have_text("No unicorn today.")
    expect(told).to_have_count(1)
    page.reload()
    expect(page.locator("table")).to_contain_text("<b>dumplings</b>")
    expect(page.locator("table")).to_contain_text("Refused")
