"""Signals end a profiled program as they would end it without greenprof, and the profile is written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from greenprof.profiles import Profile
from tests.cli_programs import write_program

LIMIT_S = 30.0
DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z")

LOOP = """\
    import asyncio, signal, sys, time
    {setup}
    print("ready", flush=True)
    {wait}
"""
# Each waits longer than a test may take: a signal that had to wait for the end would be too late.
WAITS = {
    "sleep": ("", "time.sleep(60)"),
    "busy": ("", "while time.process_time() < 60: pass"),
    "asyncio": ("", "asyncio.run(asyncio.sleep(60))"),
    "uvloop": ("import uvloop", "uvloop.run(asyncio.sleep(60))"),
    "gevent": ("import gevent", "gevent.sleep(60)"),
    "lock": ("import threading", "threading.Event().wait(60)"),
    "thread": ("import threading", "threading.Thread(target=time.sleep, args=(60,)).start()"),
    "exit handler": ("import atexit", "atexit.register(time.sleep, 60)"),
}


@contextmanager
def started(
    *command: str | Path, cwd: Path, ignore: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Runs python until the block ends; children and all end with it."""
    before = None if ignore is None else signal.signal(ignore, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    finally:
        if ignore is not None:
            signal.signal(ignore, before)
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    """Waits for the program's "ready", sends the signal, and returns how the program ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + process.stderr.read() if process.stderr else line
    time.sleep(0.2)  # so that it is in its wait
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_ends_the_program_as_without_greenprof(
    tmp_path: Path, wait: str, name: str
) -> None:
    number = signal.Signals[name]
    setup, line = WAITS[wait]
    program = write_program(tmp_path, "app.py", LOOP.format(setup=setup, wait=line))
    with started(program, cwd=tmp_path) as process:
        plain = end(process, number)
    with started(
        "-m", "greenprof", "run", "-q", "-o", "out.gprof", program, cwd=tmp_path
    ) as process:
        profiled = end(process, number)
    # gevent says when it was interrupted.
    # gevent prints the time of an interruption.
    assert [DATE.sub("", str(each)) for each in profiled] == [
        DATE.sub("", str(each)) for each in plain
    ]
    assert Profile.load(tmp_path / "out.gprof").info.duration_ns > 0.1e9


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        ("signal.signal(signal.SIGTERM, lambda *a: sys.exit(7))", 7),
        (
            "signal.signal(signal.SIGTERM, lambda *a: print('mine') or time.sleep(0.1) or sys.exit(0))",
            0,
        ),
        ("def ask(*a): raise KeyError('term')\n    signal.signal(signal.SIGTERM, ask)", 1),
        # The handler it finds is what it calls, or puts back, when it has tidied up.
        (
            "old = signal.signal(signal.SIGTERM, lambda *a: (signal.signal(15, old), signal.raise_signal(15)))",
            -15,
        ),
    ],
)
def test_the_programs_own_handler_rules(tmp_path: Path, setup: str, code: int) -> None:
    program = write_program(tmp_path, "app.py", LOOP.format(setup=setup, wait="time.sleep(20)"))
    with started(
        "-m", "greenprof", "run", "-q", "-o", "out.gprof", program, cwd=tmp_path
    ) as process:
        returncode, _, err = end(process, signal.SIGTERM)
    assert returncode == code, err
    assert Profile.load(tmp_path / "out.gprof").samples


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ignored_signals_stay_ignored(tmp_path: Path, number: signal.Signals) -> None:
    wait = "time.sleep(0.7); print('went on')"
    program = write_program(tmp_path, "app.py", LOOP.format(setup="", wait=wait))
    command = ("-m", "greenprof", "run", "-q", "-o", "out.gprof", program)
    with started(*command, cwd=tmp_path, ignore=number) as process:
        assert end(process, number) == (0, "went on\n", "")


def test_a_second_signal_right_after_the_first_does_not_lose_the_profile(tmp_path: Path) -> None:
    program = write_program(tmp_path, "app.py", LOOP.format(setup="", wait="time.sleep(20)"))
    with started("-m", "greenprof", "run", "-o", "out.gprof", program, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(3):
            os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGTERM
    assert err == "greenprof: wrote out.gprof\n"
    Profile.load(tmp_path / "out.gprof")


def test_an_impatient_ctrl_c_does_not_lose_the_profile(tmp_path: Path) -> None:
    """SIGINT again and again, from the program's first wait until its process is gone."""
    program = write_program(tmp_path, "app.py", LOOP.format(setup="", wait="time.sleep(20)"))
    with started("-m", "greenprof", "run", "app.py", cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        deadline = time.monotonic() + LIMIT_S
        # Before its exit handlers run, python itself lets a second SIGINT through to whatever it does.
        time.sleep(0.05)
        while process.poll() is None and time.monotonic() < deadline:
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.01)
    assert program.exists()
    assert process.returncode == -signal.SIGINT
    assert len(list(tmp_path.glob("app-*.gprof"))) == 1


SERVICE = """\
    import asyncio, time
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shut down", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_shuts_down_as_without_greenprof(tmp_path: Path, name: str, loop: str) -> None:
    write_program(tmp_path, "service.py", SERVICE)
    words = ("uvicorn", "service:app", "--port", "0", "--loop", loop, "--no-access-log")
    endings = []
    for prefix in (("-m",), ("-m", "greenprof", "run", "-q", "-o", "out.gprof", "--")):
        with started(*prefix, *words, cwd=tmp_path) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if "running on" in line:
                    break
            url = line.split(" on ")[1].split()[0]
            assert httpx.get(url, timeout=LIMIT_S).text == "served"
            os.kill(process.pid, signal.Signals[name])
            out, err = process.communicate(timeout=LIMIT_S)
        endings.append((process.returncode, out, err.replace(str(process.pid), "PID")))
    assert endings[1] == endings[0]
    assert "shut down" in endings[1][1]
    profile = Profile.load(tmp_path / "out.gprof")
    assert any(frame.name == "app" for frame in profile.frames)
