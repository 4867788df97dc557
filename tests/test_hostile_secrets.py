"""What a report must not tell: secrets of the program that was profiled, in all of its outputs."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof.exporters import exporters
from greenprof.redacting import HIDDEN, without_secrets
from tests.running import run_python

SECRET = "hunter2"

# The secret is in each place that a profiler comes by: variables, arguments, source, SQL, errors, the
# environment, what is awaited. In functions' and tasks' names it is not: those are what reports show.
PROGRAM = '''\
"""The module's text: hunter2."""
import asyncio, os, signal, sys, threading, time
import greenprof
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only, greenlet_spawn

PASSWORD = "hunter2"

class Token:
    def __repr__(self): return "hunter2"
    __str__ = __repr__

class Refused(Exception):
    """hunter2"""

def burn(secret, *more, key="hunter2"):
    local = {"hunter2": secret, "env": dict(os.environ)}
    until = time.perf_counter() + 0.15  # hunter2
    while time.perf_counter() < until:
        pass
    return local

async def refuse(secret):
    await asyncio.sleep(0.01)
    raise Refused("hunter2 " + secret)

async def pause(secret):
    await asyncio.sleep(0.05)
    return secret

def handle(secret):
    burn(secret, Token(), key=secret)
    await_only(pause(secret))
    try:
        await_only(refuse(secret))
    except Refused:
        pass

async def query():
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    async with engine.connect() as connection:
        for _ in range(3):
            await connection.execute(text("select :p, 'hunter2'"), {"p": PASSWORD})
    await engine.dispose()

async def main():
    if "--dump" in sys.argv:
        greenprof.dump_on_signal(signal.SIGUSR2)
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR2]).start()
    task = asyncio.create_task(greenlet_spawn(handle, PASSWORD), name="worker")
    await asyncio.sleep(0)
    if "--dump" in sys.argv:
        greenprof.print_stack(task)
    await task
    await query()

asyncio.run(main())
'''

MODES = {
    "sampling": ["--timeline", "all", "--block-limit", "50ms", "--awaits", "--rate", "500"],
    "exact": ["--engine", "exact", "--autosave", "off"],
    "spans": ["--spans", "spans.jsonl", "--span-stack", "always"],
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_no_output_has_a_secret_of_the_program(tmp_path: Path, mode: list[str]) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    names = [f"out{exporter.suffixes[0]}" for exporter in exporters()]
    outputs = [word for name in names for word in ("-o", name)]
    arguments = ["--db-password", SECRET, f"postgresql://user:{SECRET}@db/x", f"API_KEY={SECRET}"]
    if "exact" not in mode:  # it counts the calls that a dump makes, which are millions
        arguments.append("--dump")
    finished = run_python(
        "-m", "greenprof", "run", *mode, *outputs, "app.py", *arguments,
        cwd=tmp_path, env={**os.environ, "APP_PASSWORD": SECRET},
    )  # fmt: skip
    printed = finished.stdout + finished.stderr
    assert ("burn" in printed) == ("--dump" in arguments)
    assert SECRET not in printed
    written = [path for path in tmp_path.iterdir() if path.is_file() and path.name != "app.py"]
    assert len(written) >= len(names)
    for path in written:
        data = inflated(path.read_bytes())
        assert b"handle" in data, path.name
        assert SECRET.encode() not in data, path.name
        assert HIDDEN.encode() in data or path.suffix in {".jsonl", ".collapsed", ".pstats"}
    shown = run_python("-m", "greenprof", "show", "--tree", "out.gprof", cwd=tmp_path)
    assert SECRET not in shown.stdout


def inflated(data: bytes) -> bytes:
    """What is in a file, compressed or not."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return zlib.decompress(data[12:]) if data.startswith(b"\x89GPROF") else data


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["app.py", "--password", "x", "-v"], ["app.py", "--password", HIDDEN, "-v"]),
        (["--db-password=x y; z"], [f"--db-password={HIDDEN}"]),
        (["-Dapi.key=1", "--api_key", "2"], ["-Dapi.key=1", "--api_key", HIDDEN]),
        (["DB_PASSWORD=x"], [f"DB_PASSWORD={HIDDEN}"]),
        (["redis://:x@h:1/0"], [f"redis://:{HIDDEN}@h:1/0"]),
        (["--url=amqp://u:x@y@h/db"], [f"--url=amqp://u:{HIDDEN}@h/db"]),
        (["host=h password='a b' user=u"], [f"host=h password={HIDDEN} user=u"]),
        (["https://h/?access_token=x&page=2"], [f"https://h/?access_token={HIDDEN}&page=2"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["--port", "80", "https://h:80/a@b"], ["--port", "80", "https://h:80/a@b"]),
        ([], []),
    ],
)
def test_what_looks_like_a_password_is_hidden(words: list[str], shown: list[str]) -> None:
    assert without_secrets(words) == shown


@given(st.lists(st.text(max_size=20)))
def test_a_command_line_keeps_its_words(words: list[str]) -> None:
    assert len(without_secrets(words)) == len(words)


COMMANDS = [
    ["run", "-q", "-o", "a.gprof", "-o", "a.html", "app.py"],
    ["run", "-q", "--engine", "exact", "--spans", "spans.jsonl", "-o", "b.gprof", "app.py"],
    ["show", "old.gprof"],
    ["show", "--tree", "old.gprof"],
    ["view", "--no-browser", "old.gprof"],
    ["export", "old.gprof", "-o", "c.pb.gz", "-o", "c.html"],
    ["diff", "old.gprof", "old.gprof", "-o", "d.html"],
    ["merge", "old.gprof", "new.gprof", "-o", "e.gprof"],
]
# Audit events are raised by C code as well; there is no way round them from Python.
WATCHED = """\
import sys
def hook(event, args):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"):
        family = getattr(args[0], "family", None) if args else None
        sys.__stderr__.write(f"NETWORK {event} {family} {args[1:]}\\n")
sys.addaudithook(hook)
from greenprof.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_listens_or_connects(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "app.py").write_text("import time\ntime.sleep(0.1)\n")
    data = (Path(__file__).parent / "data" / "format-1.1.gprof").read_bytes()
    for name in ("old.gprof", "new.gprof"):
        (tmp_path / name).write_bytes(data)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    finished = subprocess.run(
        [sys.executable, "-c", WATCHED, *words],
        cwd=tmp_path, env={**clean, "TMPDIR": str(tmp_path)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "NETWORK" not in finished.stderr
