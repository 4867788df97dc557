"""The food-delivery example as a server in a process of its own, for tests to use as its visitors do."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx
import psycopg

from tests.postgres import Postgres
from tests.running import REPOSITORY

FOLDER = REPOSITORY / "examples" / "food_delivery"
RUN = FOLDER / "run.py"
PASSWORD = "correct horse"
START_LIMIT_S = 30.0
END_LIMIT_S = 20.0


def new_database(postgres: Postgres) -> str:
    """An empty database on the suite's server; its URL."""
    name = f"food_{uuid4().hex}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f'create database "{name}"'.encode())
    return postgres.dsn.rpartition("/")[0] + f"/{name}"


@dataclass
class Served:
    """Where it listens."""

    address: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=20, trust_env=False)


@contextmanager
def served(database_url: str, *arguments: str) -> Iterator[Served]:
    """Serves for as long as the context lasts; ended as by Ctrl-C, it has to end well and without a word."""
    with subprocess.Popen(
        [sys.executable, RUN, "--serve", "--database-url", database_url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "FOOD_DELIVERY_ADMIN": PASSWORD},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
            line = process.stdout.readline() if ready else ""
            said = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+)/customers/1/\n", line)
            assert said is not None, f"it did not start: {line!r}, {process.poll()}"
            yield Served(said[1])
            process.send_signal(signal.SIGINT)
            last_words = process.communicate(timeout=END_LIMIT_S)
            assert (process.returncode, *last_words) == (0, "", "")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
