"""`--subprocesses`: servers with two workers give one profile, in which each route has all of its CPU time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from greenprof.profiles import Profile
from tests.children import cpu_s, is_near, leavings, write_work
from tests.cli_programs import write_program

pytestmark = pytest.mark.flaky(reruns=3)

WSGI = """
import json, os, time, work

def orders(): return work.one(0.05)
def reports(): return work.two(0.1)

def app(environ, start_response):
    before = time.thread_time()
    {"/orders": orders, "/reports": reports}.get(environ["PATH_INFO"], int)()
    answer = json.dumps([os.getpid(), time.thread_time() - before]).encode()
    start_response("200 OK", [("Content-Length", str(len(answer))), ("Connection", "close")])
    return [answer]
"""
ASGI = """
import os, time, work
from fastapi import FastAPI, Response

app = FastAPI()

def worked(function, seconds):
    before = time.thread_time()
    function(seconds)
    return [os.getpid(), time.thread_time() - before]

@app.get("/orders")
async def orders(response: Response):
    response.headers["Connection"] = "close"
    return worked(work.one, 0.05)

@app.get("/reports")
async def reports(response: Response):
    response.headers["Connection"] = "close"
    return worked(work.two, 0.1)

@app.get("/")
async def root():
    return [os.getpid(), 0]
"""
SERVERS = {
    "uvicorn": ["uvicorn", "--workers", "2", "--port", "{port}", "asgi:app"],
    "sync": ["gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "wsgi:app"],
    "gevent": ["gunicorn", "-w", "2", "-k", "gevent", "-b", "127.0.0.1:{port}", "wsgi:app"],
}
START_LIMIT_S = 40.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def served(folder: Path, server: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server under `greenprof run`, by its address; it has ended when the block is left."""
    (folder / "tmp").mkdir()
    write_work(folder)
    write_program(folder, "wsgi.py", WSGI)
    write_program(folder, "asgi.py", ASGI)
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "greenprof", "run", "--subprocesses", "--rate", "400"),
                *("-o", "app.gprof", *options, "--"),
                *[word.format(port=port) for word in SERVERS[server]],
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + START_LIMIT_S
            while not _answers(address):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.1)
            yield address, process
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/", trust_env=False, timeout=10).is_success
    except httpx.HTTPError:
        return False


def ask(address: str, route: str, truth: dict[str, dict[int, float]]) -> None:
    pid, cpu = json.loads(httpx.get(address + route, trust_env=False, timeout=20).text)
    found = truth.setdefault(route, {})
    found[pid] = found.get(pid, 0.0) + cpu


@pytest.mark.parametrize("server", SERVERS)
def test_two_workers_make_one_profile(tmp_path: Path, server: str) -> None:
    truth: dict[str, dict[int, float]] = {}
    with served(tmp_path, server) as (address, process):
        time.sleep(0.5)  # for the second worker
        for _ in range(6):
            ask(address, "/orders", truth)
            ask(address, "/reports", truth)
        process.send_signal(signal.SIGTERM)
    log = (tmp_path / "log").read_text()
    assert process.returncode == 0, log
    profile = Profile.load(tmp_path / "app.gprof")
    for route, function in (("/orders", "one"), ("/reports", "two")):
        (seen,) = cpu_s(profile, function)
        assert is_near(seen, sum(truth[route].values())), (route, seen, truth, log)
    workers = {pid for pids in truth.values() for pid in pids}
    assert workers <= set(profile.info.pids), (truth, profile.info.pids, log)
    assert len(profile.info.pids) == 3, log
    assert not profile.info.warnings, log
    for pid in workers:
        assert any(f"(process {pid})" in thread for thread in profile.threads), profile.threads
    assert "Traceback" not in log, log
    assert not leavings(tmp_path)


def test_a_worker_that_its_server_kills_keeps_what_was_saved(tmp_path: Path) -> None:
    """As gunicorn does with one that hangs: SIGABRT, then SIGKILL; another takes its place."""
    truth: dict[str, dict[int, float]] = {}
    with served(tmp_path, "sync", "--autosave", "300ms") as (address, process):
        for _ in range(4):
            ask(address, "/orders", truth)
        time.sleep(1.5)
        for pid in truth["/orders"]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        ask(address, "/reports", truth)
        process.send_signal(signal.SIGTERM)
    log = (tmp_path / "log").read_text()
    profile = Profile.load(tmp_path / "app.gprof")
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, sum(truth["/orders"].values())), (one, truth, log)
    assert is_near(two, sum(truth["/reports"].values())), (two, truth, log)
    assert any("killed" in warning for warning in profile.info.warnings), log
    assert not leavings(tmp_path)
