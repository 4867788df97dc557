"""Alternates 1 ms of CPU with a tiny socket write: where a sampler that waits for the GIL sees only writes."""

from __future__ import annotations

import socket
import time

from truth import Kind, Truth, Visit, arguments, burn, for_routes, visits, write

KINDS = {
    "burn": Kind("CPU between socket writes", "burn_between_writes", ("serve",), "cpu"),
    "write": Kind("tiny socket writes", "write_a_little", ("serve",), "wall"),
}
BURST_NS = 1_000_000
MESSAGE = b"x" * 64


@for_routes
def burn_between_writes(visit: Visit) -> None:
    visit.truth.add("burn", visit.route, burn(BURST_NS))


@for_routes
def write_a_little(visit: Visit, sender: socket.socket, receiver: socket.socket) -> None:
    started_ns = time.monotonic_ns()
    sender.sendall(MESSAGE)
    receiver.recv(len(MESSAGE))
    visit.waited("write", started_ns)


@for_routes
def serve(visit: Visit) -> None:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        while visit.goes_on():
            burn_between_writes[visit.route](visit)
            write_a_little[visit.route](visit, sender, receiver)


if __name__ == "__main__":
    options = arguments()
    truth = Truth(KINDS)
    only = visits(truth, options.seconds, 1)[0]
    serve[only.route](only)
    write(truth, options.truth)
