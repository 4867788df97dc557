"""Routes in gevent's greenlets: CPU, sleeps and a server on loopback; --patched: by the patched stdlib."""

from __future__ import annotations

from truth import Kind, Truth, Visit, arguments, for_routes, visits, write

options = arguments(each=2, patched=False)
if options.patched:
    from gevent import monkey

    monkey.patch_all()

import socket
import time

import gevent
import gevent.socket
from gevent.server import StreamServer

SERVED = ("endpoint", "service")
KINDS = {
    "life": Kind("the greenlet's life", "endpoint", (), "wall"),
    "burn": Kind("CPU in a greenlet", "burn", SERVED, "cpu"),
    "sleep": Kind("sleep in a greenlet", "sleep", SERVED, "wall"),
    "ask": Kind("waiting for a socket in a greenlet", "ask", SERVED, "wall"),
}
REQUEST_BYTES = 8


def answer_later(connection: gevent.socket.socket, _address: object) -> None:
    """The server: answers each request after the microseconds that it names."""
    with connection:
        while request := connection.recv(REQUEST_BYTES):
            gevent.sleep(int.from_bytes(request, "big") / 1e6)
            connection.sendall(request)


def connect(port: int) -> socket.socket:
    if options.patched:
        return socket.create_connection(("127.0.0.1", port))
    connected: socket.socket = gevent.socket.create_connection(("127.0.0.1", port))
    return connected


@for_routes
def burn(visit: Visit) -> None:
    visit.burn("burn", 12)


@for_routes
def sleep(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    if options.patched:
        time.sleep(visit.wait_s(20))
    else:
        gevent.sleep(visit.wait_s(20))
    visit.waited("sleep", started_ns)


@for_routes
def ask(visit: Visit, connection: socket.socket) -> None:
    started_ns = time.monotonic_ns()
    connection.sendall(int(visit.wait_s(20) * 1e6).to_bytes(REQUEST_BYTES, "big"))
    connection.recv(REQUEST_BYTES)
    visit.waited("ask", started_ns)


@for_routes
def service(visit: Visit, connection: socket.socket) -> None:
    burn[visit.route](visit)
    sleep[visit.route](visit)
    ask[visit.route](visit, connection)


@for_routes
def endpoint(visit: Visit, port: int) -> None:
    started_ns = time.monotonic_ns()
    with connect(port) as connection:
        while visit.goes_on():
            service[visit.route](visit, connection)
    visit.waited("life", started_ns)


def main() -> Truth:
    server = StreamServer(("127.0.0.1", 0), answer_later)
    server.start()
    port = server.server_port
    assert port is not None
    truth = Truth(KINDS)
    greenlets = [
        gevent.spawn(endpoint[visit.route], visit, port)
        for visit in visits(truth, options.seconds, options.each)
    ]
    gevent.joinall(greenlets, raise_error=True)
    server.stop()
    return truth


if __name__ == "__main__":
    write(main(), options.truth)
