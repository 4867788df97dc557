"""gevent and eventlet: the hub is nobody's caller, and a greenlet's stack goes on where it was spawned.

In processes of their own: a hub stays with its thread, and patching stays with its process.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.running import REPOSITORY, run_python

HEAD = """
import json, sys, threading
sys.path.insert(0, {repository!r})
import greenprof
from greenprof import switches
from tests.shapes import shape
found = {{}}
if {follow}:
    switches.follow()
def everything():
    return [(s.kind, s.task, s.state, shape(s)) for s in greenprof.capture_all()]
"""
TAIL = """
if {follow}:
    switches.unfollow()
print(json.dumps(found))
"""


def run_program(body: str, *, before: str = "", follow: bool = False) -> dict[str, Any]:
    """What the program put into `found`."""
    values = {"repository": str(REPOSITORY), "follow": follow}
    finished = run_python("-c", before + HEAD.format(**values) + body + TAIL.format(**values))
    assert finished.stderr == "", str(finished)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


both = pytest.mark.parametrize("follow", [False, True], ids=["unfollowed", "followed"])

GEVENT = """
import gevent, greenlet
from gevent.pool import Pool

def leaf():
    found["running"] = shape()
    gevent.sleep(0.02)

def work():
    leaf()

def spawn():
    return gevent.spawn(work)

def outer():
    inner = spawn()
    gevent.sleep(0.005)
    found["suspended"] = shape(inner)
    found["main"] = shape(main_greenlet)
    found["all"] = everything()
    gevent.joinall([inner])

def start():
    gevent.joinall([gevent.spawn(outer)])

main_greenlet = greenlet.getcurrent()
start()
found["hub"] = shape(gevent.get_hub())
Pool(1).map(lambda _: found.update(pool=shape()), [1])
raw = greenlet.greenlet(lambda: found.update(raw=shape()))
raw.switch()
late = gevent.spawn_later(0.001, lambda: found.update(late=shape()))
late.join()
found["dead"] = shape(late)
"""


@both
def test_gevents_greenlets(follow: bool) -> None:
    """Spawned from another greenlet, from a pool, later; raw ones; and the main greenlet's wait."""
    found = run_program(GEVENT, follow=follow)
    spawned = ["<module>", "start", "|outer", "spawn", "|work", "leaf"]
    assert found["running"] == spawned
    assert found["suspended"] == [*spawned, "sleep"]
    assert found["main"][:2] == ["<module>", "start"]
    assert found["hub"] == ["~Hub.run"]
    assert found["pool"][:2] == ["<module>", "GroupMappingMixin.map"]
    assert found["pool"][-1] == "|<lambda>"
    assert found["raw"] == ["<module>", "|<lambda>"]
    assert found["late"] == ["<module>", "|<lambda>"]
    assert found["dead"] == []
    assert sorted(found["all"]) == [
        ["greenlet", "outer", "on-cpu", ["<module>", "start", "|outer", "everything"]],
        ["greenlet", "work", "awaiting", [*spawned, "sleep"]],
        ["thread", "MainThread", "awaiting", found["main"]],
    ]


def test_gevent_patched_before_and_after() -> None:
    """Patched standard library: waits in it are waits; its "threads" are greenlets of this thread."""
    body = """
import time, queue
def worker():
    found["running"] = shape()
    time.sleep(0.02)
def start():
    thread = threading.Thread(target=worker)
    thread.start()
    time.sleep(0.005)
    found["all"] = everything()
    thread.join()
start()
"""
    patch = "from gevent import monkey; monkey.patch_all()\n"
    for before, late in ((patch, ""), ("import gevent\n", patch)):
        found = run_program(late + body, before=before, follow=True)
        bootstrap = ["Thread._bootstrap", "Thread._bootstrap_inner", "Thread.run", "worker"]
        assert found["running"][-4:][1:] == bootstrap[1:]
        states = sorted((kind, state) for kind, _, state, _ in found["all"])
        assert states == [("greenlet", "awaiting"), ("thread", "on-cpu")]


PYWSGI = """
import gevent
from gevent import socket
from gevent.pywsgi import WSGIServer

def app(environ, start_response):
    found["running"] = shape()
    found["route"] = greenprof.capture_stack().task
    gevent.sleep(0.02)
    start_response("200 OK", [])
    return [b"x"]

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()

def client():
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        request = b"GET /orders/17/items/3f2504e0-4f89-11d3-9a0c-0305e82c3301?x=1 HTTP/1.1"
        connection.sendall(request + b"\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        while connection.recv(1000):
            pass

asking = gevent.spawn(client)
gevent.sleep(0.01)
found["all"] = everything()
asking.join()
server.stop()
"""


@both
def test_a_request_under_gevents_wsgi_server(follow: bool) -> None:
    """Named by its route; the hub's callback that accepted the connection is nobody's caller."""
    found = run_program(PYWSGI, follow=follow)
    assert found["route"] == "GET /orders/{}/items/{}"
    assert found["running"][0] == "_handle_and_close_when_done"
    assert found["running"][-1] == "app"
    requests = [one for one in found["all"] if one[1] == "GET /orders/{}/items/{}"]
    assert [(kind, state) for kind, _, state, _ in requests] == [("greenlet", "awaiting")]
    assert requests[0][3] == [*found["running"], "sleep"]
    assert all("~Hub.run" not in names for _, _, _, names in found["all"])
    pool = [one for one in found["all"] if "_WorkerGreenlet.run" in one[3]]
    assert [state for _, _, state, _ in pool] in ([], ["idle"])


EVENTLET = """
import eventlet, greenlet, eventlet.hubs
def leaf():
    found["running"] = shape()
    eventlet.sleep(0.02)
def work():
    leaf()
def start():
    thread = eventlet.spawn(work)
    eventlet.sleep(0.005)
    found["suspended"] = shape(thread)
    found["all"] = everything()
    thread.wait()
main_greenlet = greenlet.getcurrent()
start()
found["hub"] = shape(eventlet.hubs.get_hub().greenlet)
"""


@both
@pytest.mark.parametrize("hub", ["selects", "poll", "asyncio"])
def test_eventlets_greenlets(follow: bool, hub: str) -> None:
    """It keeps no record of where they were spawned; hubs of its own, and asyncio's loop as one."""
    before = (
        "import warnings; warnings.simplefilter('ignore')\n"
        f"import eventlet.hubs; eventlet.hubs.use_hub({hub!r})\n"
    )
    found = run_program(EVENTLET, before=before, follow=follow)
    assert found["running"] == ["~GreenThread.main", "work", "leaf"]
    assert found["suspended"][:3] == ["~GreenThread.main", "work", "leaf"]
    assert found["suspended"][-2:] == ["sleep", "~BaseHub.switch"]
    everything = [(kind, task, state) for kind, task, state, _ in found["all"]]
    assert sorted(map(tuple, everything)) == [
        ("greenlet", "work", "awaiting"),
        ("thread", "MainThread", "on-cpu"),
    ]
    assert found["hub"][0] in ("~BaseHub.run", "~Hub.run")


def test_eventlet_patched() -> None:
    body = """
import time
def worker():
    found["running"] = shape()
    time.sleep(0.01)
thread = threading.Thread(target=worker)
thread.start()
thread.join()
"""
    before = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import eventlet; eventlet.monkey_patch()\n"
    )
    found = run_program(body, before=before, follow=True)
    # Python 3.13 starts threads by another function.
    assert found["running"][0] in ("~__thread_body", "~GreenThread.main")
    assert found["running"][-1] == "worker"


def test_a_hub_that_runs_is_the_threads_own() -> None:
    """From another thread, while all greenlets wait: the thread has nothing to do."""
    body = """
import gevent, time
from greenprof._native import get_ident
ident = get_ident()
def look():
    time.sleep(0.05)
    stack = greenprof.capture_stack(ident)
    found["stack"] = (stack.kind, stack.task, stack.state, shape(stack))
    found["all"] = everything()
def waits():
    gevent.sleep(0.2)
thread = threading.Thread(target=look)
thread.start()
gevent.joinall([gevent.spawn(waits)])
thread.join()
"""
    found = run_program(body, follow=True)
    assert found["stack"] == ["thread", "MainThread", "idle", ["~Hub.run"]]
    everything = [(kind, task, state) for kind, task, state, _ in found["all"]]
    assert sorted(everything) == [
        ("greenlet", "waits", "awaiting"),
        ("thread", "MainThread", "awaiting"),
        ("thread", "MainThread", "idle"),
        ("thread", "Thread-{} (look)", "on-cpu"),
    ]
