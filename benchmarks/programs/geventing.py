"""Servers and clients of gevent in one process, for `benchmarks.awaits`."""

from __future__ import annotations

from typing import Any

from benchmarks.programs.parsing import evaluate


class Gevent:
    """Twenty clients in greenlets, each of which asks a server on loopback again and again."""

    clients, requests = 20, 300

    def __init__(self) -> None:
        from gevent.server import StreamServer

        self._server = StreamServer(("127.0.0.1", 0), self._answer)
        self._server.start()

    @staticmethod
    def _answer(connection: Any, _address: object) -> None:
        while text := connection.recv(256):
            connection.sendall(str(evaluate(text.decode())).encode())

    def _client(self, number: int) -> None:
        from gevent import socket

        port = self._server.server_port
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for request in range(self.requests):
                connection.sendall(f"({number} + {request}) * 2 - 7 * (1 + 1)".encode())
                assert connection.recv(64) == str((number + request) * 2 - 14).encode()

    def turn(self) -> None:
        import gevent

        gevent.joinall(
            [gevent.spawn(self._client, number) for number in range(self.clients)], raise_error=True
        )

    def close(self) -> None:
        self._server.stop()
