"""Spans of the waits of gevent's and eventlet's greenlets in their hub.

In processes of their own: a hub stays with its thread, and patching stays with its process.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.running import REPOSITORY, run_python
from tests.span_trees import KINDS

HEAD = """
import json, sys, time
sys.path.insert(0, {repository!r})
import greenprof
from tests.span_trees import Spans, attributes_of, current_name, nothing_left, short
spans = Spans({kind!r})
found = {{}}
def said(*names):
    return {{
        short(one.name): [one.status.status_code.name]
        + [attributes_of(one).get(name) for name in names]
        for one in spans.awaits()
    }}
"""
TAIL = """
found["trees"] = sorted(spans.trees())
nothing_left()
print(json.dumps(found))
"""
PATCHED = "from gevent import monkey; monkey.patch_all()\n"
EVENTLET = "import warnings; warnings.simplefilter('ignore')\n"


def run_program(body: str, *, before: str = "", kind: str = KINDS[0]) -> dict[str, Any]:
    """What the program put into `found`, and its trees."""
    head = HEAD.format(repository=str(REPOSITORY), kind=kind)
    finished = run_python("-c", before + head + body + TAIL)
    assert finished.stderr == "", str(finished)
    result: dict[str, Any] = json.loads(finished.stdout)
    result["trees"] = [tuple(tree) for tree in result["trees"]]
    return result


each_kind = pytest.mark.parametrize("kind", KINDS)
each_patch = pytest.mark.parametrize("before", ["", PATCHED], ids=["unpatched", "patched"])


GEVENT = """
import gevent
from gevent.event import Event
from gevent.queue import Queue

def leaf():
    with spans.span("leaf"):
        gevent.sleep(0.001)
        with spans.span("after"):
            pass

def child(queue):
    with spans.span("child"):
        leaf()
        queue.put(17)
        gevent.sleep(0)

def request():
    with spans.span("request"):
        queue = Queue()
        spawned = gevent.spawn(child, queue)
        with spans.span("waits"):
            assert queue.get() == 17
        spawned.join()
        found.setdefault("current", []).append(current_name())
    found["current"].append(current_name())

with spans.trace() as tracing:
    gevent.joinall([gevent.spawn(request)])
found["counts"] = [tracing.counts.awaits, tracing.counts.recorded, tracing.counts.dropped]
"""


@each_kind
@each_patch
def test_gevents_greenlets(before: str, kind: str) -> None:
    """Each wait is below what is current in its own greenlet, which begins with its spawner's span."""
    found = run_program(GEVENT, before=before, kind=kind)
    (tree,) = [tree for tree in found["trees"] if tree[0] == "request"]
    # What is compiled shows no frames: it goes by the name that the program's line calls it by.
    assert tree[:3] == ("request", "  waits", "    await get")
    child = tree.index("  child")
    assert tree[child : child + 5] == (
        "  child",
        "    leaf",
        "      await gevent.hub.sleep",
        "      after",
        "    await gevent.hub.sleep",
    )
    rest = tree[3:child] + tree[child + 5 :]
    assert rest == ("  await join",)
    assert found["current"] == ["request", ""]
    # All of these, and the main greenlet's wait.
    assert found["counts"] == [5, 5, {}]


@each_patch
def test_what_one_span_of_gevent_says(before: str) -> None:
    body = """
import gevent
def load_order():
    gevent.sleep(0.02)
with spans.trace():
    greenlet = gevent.spawn(load_order)
    greenlet.name = "order 17"
    greenlet.join()
(span,) = [one for one in spans.awaits() if one.name == "await gevent.hub.sleep"]
found["attributes"] = attributes_of(span)
found["seconds"] = (span.end_time - span.start_time) / 1e9
found["status"] = span.status.status_code.name
"""
    found = run_program(body, before=before)
    line = found["attributes"].pop("code.line.number")
    assert isinstance(line, int)
    assert found["attributes"] == {
        "code.function.name": "load_order",
        "code.file.path": "<string>",
        "greenprof.bridge": "gevent",
        "greenprof.task": "order 17",
        "greenprof.outcome": "returned",
    }
    assert 0.019 <= found["seconds"] < 2
    assert found["status"] == "UNSET"


@each_kind
def test_fifty_greenlets_at_once_do_not_mix(kind: str) -> None:
    body = """
import gevent
def request(number):
    with spans.span(f"request {number}"):
        for at in range(3):
            with spans.span(f"step {number}.{at}"):
                gevent.sleep(number % 7 / 1000)
            assert current_name() == f"request {number}"
        gevent.spawn(helper, number).join()

def helper(number):
    with spans.span(f"helper {number}"):
        gevent.sleep(0)

with spans.trace():
    gevent.joinall([gevent.spawn(request, number) for number in range(50)], raise_error=True)
"""
    found = run_program(body, kind=kind)
    requests = [tree for tree in found["trees"] if tree[0].startswith("request")]
    assert len(requests) == 50
    for tree in requests:
        number = tree[0].partition(" ")[2]
        expected = []
        for at in range(3):
            expected += [f"  step {number}.{at}", "    await gevent.hub.sleep"]
        assert tree[1:7] == tuple(expected)
        assert sorted(tree[7:]) == sorted(
            (
                f"  helper {number}",
                "    await gevent.hub.sleep",
                "  await join",
            )
        )


def test_how_gevents_waits_end() -> None:
    """Timeouts are raised, a kill is a cancellation, what another greenlet throws is an error."""
    body = """
import gevent
class OrderError(Exception):
    pass

def killed():
    gevent.sleep(60)

def thrown():
    try:
        gevent.sleep(61)
    except OrderError:
        pass

def timed_out():
    try:
        with gevent.Timeout(0.01):
            gevent.sleep(62)
    except gevent.Timeout:
        pass

with spans.trace():
    first, second, third = map(gevent.spawn, (killed, thrown, timed_out))
    gevent.sleep(0)
    first.kill()
    second.kill(OrderError)
    third.join()
found["said"] = {
    attributes_of(one)["code.function.name"]: [
        one.status.status_code.name,
        attributes_of(one)["greenprof.outcome"],
        attributes_of(one).get("error.type"),
    ]
    for one in spans.awaits()
    if attributes_of(one)["code.function.name"] in ("killed", "thrown", "timed_out")
}
"""
    found = run_program(body)
    assert found["said"] == {
        "killed": ["UNSET", "cancelled", None],
        "thrown": ["ERROR", "raised", "_OTHER"],  # it has no place where it could be seen
        "timed_out": ["ERROR", "raised", "gevent.timeout.Timeout"],
    }


def test_patched_sockets_and_locks() -> None:
    """What the standard library waits for is a wait in the hub, at the program's own line."""
    body = """
import socket, threading
ours, theirs = socket.socketpair()

def reads():
    with spans.span("reads"):
        found["read"] = ours.recv(1).decode()

def answers():
    with spans.span("answers"):
        time.sleep(0.01)
        theirs.send(b"x")

with spans.trace():
    threads = [threading.Thread(target=one) for one in (reads, answers)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
found["sites"] = sorted(
    attributes_of(one)["code.function.name"] + " " + attributes_of(one)["greenprof.bridge"]
    for one in spans.awaits()
)
ours.close()
theirs.close()
"""
    found = run_program(body, before=PATCHED)
    assert found["read"] == "x"
    assert "reads gevent" in found["sites"]
    assert "answers gevent" in found["sites"]
    reads = next(tree for tree in found["trees"] if tree[0] == "reads")
    assert len(reads) == 2
    assert reads[1] == "  await gevent._socketcommon.SocketMixin.recv"
    answers = next(tree for tree in found["trees"] if tree[0] == "answers")
    assert answers == ("answers", "  await gevent.hub.sleep")


@each_patch
def test_a_request_under_gevents_wsgi_server(before: str) -> None:
    """Twenty at once, each below the span that its own handler opened."""
    body = """
import gevent
from gevent import socket
from gevent.pywsgi import WSGIServer

def app(environ, start_response):
    with spans.span("GET " + environ["PATH_INFO"]):
        work(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [b"x"]

def work(path):
    with spans.span("work " + path):
        gevent.sleep(0.005)

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()

def client(number):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(b"GET /%d HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n" % number)
        while connection.recv(1000):
            pass

with spans.trace():
    gevent.joinall([gevent.spawn(client, number) for number in range(20)], raise_error=True)
    server.stop()
"""
    found = run_program(body, before=before)
    requests = [tree for tree in found["trees"] if tree[0].startswith("GET")]
    assert sorted(requests) == sorted(
        (f"GET /{number}", f"  work /{number}", "    await gevent.hub.sleep")
        for number in range(20)
    )


def test_gevents_own_threads() -> None:
    """Work in gevent's thread pool is awaited by a greenlet; the threads have nothing to do with it."""
    body = """
import gevent
def blocking():
    time.sleep(0.01)
    return 17
def request():
    with spans.span("request"):
        pool = gevent.get_hub().threadpool
        found["result"] = pool.apply(blocking)
with spans.trace():
    gevent.spawn(request).join()
gevent.get_hub().threadpool.kill()
"""
    found = run_program(body)
    assert found["result"] == 17
    (tree,) = [tree for tree in found["trees"] if tree[0] == "request"]
    assert len(tree) >= 2
    assert all(line.startswith("  await gevent.") for line in tree[1:])


def test_short_waits_make_no_span_unless_somebody_is_its_child() -> None:
    body = """
import gevent
def request():
    with spans.span("request"):
        gevent.sleep(0)
        gevent.sleep(0.3)
with spans.trace(min_duration=0.25) as tracing:
    gevent.spawn(request).join()
"""
    trees = run_program(body)["trees"]
    (tree,) = [tree for tree in trees if tree[0] == "request"]
    assert tree == ("request", "  await gevent.hub.sleep")


def test_the_main_greenlets_waits() -> None:
    """A program's main greenlet waits in the hub as well."""
    body = """
import gevent
with spans.trace():
    with spans.span("main"):
        gevent.sleep(0.001)
        gevent.sleep(0)
    found["current"] = current_name()
"""
    found = run_program(body)
    assert found["trees"] == [("main", "  await gevent.hub.sleep", "  await gevent.hub.sleep")]
    assert found["current"] == ""


def test_gevent_that_is_imported_after_tracing_began() -> None:
    body = """
tracing = spans.trace().start()
import gevent
def child():
    with spans.span("child"):
        gevent.sleep(0)
def request():
    with spans.span("request"):
        gevent.spawn(child).join()
gevent.spawn(request).join()
tracing.stop()
"""
    trees = run_program(body)["trees"]
    (tree,) = [tree for tree in trees if tree[0] == "request"]
    assert "  child" in tree
    assert "    await gevent.hub.sleep" in tree


EVENTLETS = """
import eventlet
def leaf():
    with spans.span("leaf"):
        eventlet.sleep(0.001)
        with spans.span("after"):
            pass

def child():
    with spans.span("child"):
        leaf()
        eventlet.sleep(0)

def request(number):
    with spans.span(f"request {number}"):
        thread = eventlet.spawn(child)
        thread.wait()
        found.setdefault("current", []).append(current_name() == f"request {number}")
    found["current"].append(current_name() == "")

with spans.trace():
    for thread in [eventlet.spawn(request, number) for number in range(10)]:
        thread.wait()
"""


@pytest.mark.parametrize("hub", ["selects", "poll", "asyncio"])
def test_eventlets_greenlets(hub: str) -> None:
    """Ten at once, on hubs of its own and on asyncio's loop as one."""
    before = f"{EVENTLET}import eventlet.hubs; eventlet.hubs.use_hub({hub!r})\n"
    check_eventlets_trees(run_program(EVENTLETS, before=before))


@each_kind
def test_eventlet_patched(kind: str) -> None:
    before = f"{EVENTLET}import eventlet; eventlet.monkey_patch()\n"
    check_eventlets_trees(run_program(EVENTLETS, before=before, kind=kind))


def check_eventlets_trees(found: dict[str, Any]) -> None:
    requests = [tree for tree in found["trees"] if tree[0].startswith("request")]
    assert len(requests) == 10
    waits, sleeps = (
        "  await eventlet.greenthread.GreenThread.wait",
        "await eventlet.greenthread.sleep",
    )
    child = ("  child", "    leaf", f"      {sleeps}", "      after", f"    {sleeps}")
    for tree in requests:
        assert tree[1:] in ((waits, *child), (*child, waits))
    assert found["current"] == [True] * 20


def test_how_eventlets_waits_end() -> None:
    body = """
import eventlet
def timed_out():
    try:
        with eventlet.Timeout(0.01):
            eventlet.sleep(60)
    except eventlet.Timeout:
        pass
def killed():
    eventlet.sleep(60)
with spans.trace():
    eventlet.spawn(timed_out).wait()
    thread = eventlet.spawn(killed)
    eventlet.sleep(0)
    thread.kill()
found["said"] = {
    attributes_of(one)["code.function.name"]: [
        one.status.status_code.name,
        attributes_of(one)["greenprof.outcome"],
        attributes_of(one).get("error.type"),
    ]
    for one in spans.awaits()
    if attributes_of(one)["code.function.name"] in ("killed", "timed_out")
}
"""
    assert run_program(body, before=EVENTLET)["said"] == {
        "killed": ["UNSET", "cancelled", None],
        "timed_out": ["ERROR", "raised", "eventlet.timeout.Timeout"],
    }
