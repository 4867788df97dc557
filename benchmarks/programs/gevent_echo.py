"""A server of gevent that sends each line back; its clients are in another process."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.server import StreamServer

from benchmarks.programs.load import PAUSE_S, Load
from benchmarks.programs.parsing import evaluate
from benchmarks.programs.steady import WARM_UP_S, Window, arguments

served = 0


def answer(connection: Any, _address: object) -> None:
    global served
    while line := connection.recv(256):
        evaluate(line.decode())
        connection.sendall(line)
        served += 1


def main() -> None:
    given = arguments()
    server = StreamServer(("127.0.0.1", 0), answer)
    server.start()
    with Load("echo", int(server.server_port or 0)) as load:
        gevent.sleep(0.2 + WARM_UP_S)
        load.pause()
        gevent.sleep(PAUSE_S)
        # Whoever waits for a slice blocks the thread: nobody asks meanwhile.
        for _ in given.slices():
            load.begin()
            before = served
            with Window(given.above) as window:
                gevent.sleep(given.seconds)
            units = served - before
            load.pause()
            gevent.sleep(PAUSE_S)
            given.tell(window.per(units))
        given.tell(load.end())
    server.stop()


if __name__ == "__main__":
    main()
