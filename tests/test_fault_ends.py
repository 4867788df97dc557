"""However a program ends, what was recorded of it is there, and it ends as without greenprof."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from greenprof.cli.autosave import SUFFIX
from greenprof.profiles import Profile
from tests.cli_programs import contents, run_both, write_program
from tests.running import BURN, run_greenprof
from tests.test_cli_signals import LIMIT_S, started

RUN = ("-m", "greenprof", "run", "-q", "-o", "out.gprof")
# Saves as often as it is told to, whatever that costs.
EAGER = (
    "-c",
    "import sys, greenprof.cli.autosave as autosave; autosave.SHARE = 1.0\n"
    "from greenprof.cli.main import main; sys.exit(main())",
    *RUN[2:],
)
BUSY = f"""\
import os, sys, threading, time
{BURN}
def order():
    burn(0.02)
    time.sleep(0.005)

"""
SERVES = f"""{BUSY}
print("ready", flush=True)
while True:
    order()
"""


def wait_for_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.stderr and process.stderr.read()


def autosaved(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{SUFFIX}"))


def wait_for_autosave(folder: Path) -> Path:
    until = time.monotonic() + LIMIT_S
    while not autosaved(folder):
        assert time.monotonic() < until, contents(folder)
        time.sleep(0.02)
    (path,) = autosaved(folder)
    return path


def names(profile: Profile) -> set[str]:
    return {frame.name for frame in profile.frames}


def left_over(folder: Path) -> list[str]:
    """What nobody asked for: temporary files, and saves of programs that were not killed."""
    return [
        path.name for path in folder.iterdir() if ".greenprof-" in path.name or SUFFIX in path.name
    ]


@pytest.mark.flaky(reruns=3)  # it looks at the time
def test_a_killed_program_leaves_what_was_recorded(tmp_path: Path) -> None:
    """Up to the last saves, every 0.2 s here; a second run beside it changes nothing of it."""
    program = write_program(tmp_path, "app.py", SERVES)
    began = time.monotonic()
    with started(*EAGER, "--autosave", "200ms", program, cwd=tmp_path) as process:
        wait_for_ready(process)
        path = wait_for_autosave(tmp_path)
        first = path.stat().st_ino
        until = time.monotonic() + LIMIT_S
        while path.stat().st_ino == first:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
    lasted_s = time.monotonic() - began
    run_greenprof("run", "-q", "-o", "other.gprof", "-c", "pass", cwd=tmp_path)
    assert autosaved(tmp_path) == [path]
    assert path.name.startswith("app-")
    profile = Profile.load(path)
    assert {"order", "burn"} <= names(profile)
    # Starting and ending took their time too, on a busy machine; a whole run is not what is missing.
    assert lasted_s - profile.info.duration_ns / 1e9 < 5
    assert profile.info.duration_ns > 0.5e9
    assert not (tmp_path / "out.gprof").exists()
    shown = run_greenprof("show", path)
    assert "burn" in shown.stdout
    run_greenprof("merge", path, "other.gprof", "-o", "two.gprof", "-q", cwd=tmp_path)
    run_greenprof("diff", path, "two.gprof", cwd=tmp_path)


BRIDGED = """\
import asyncio, time
from greenprof import greenhack

def burn(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        len(str(seconds))

@greenhack.as_async
def sync():
    burn(0.012)
    greenhack.await_(asyncio.sleep(0.002))

async def main():
    for _ in range(100_000):
        await sync()

print("ready", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "options",
    [("--engine", "exact"), ("--timeline", "all", "--block-limit", "10ms", "--awaits")],
    ids=["exact", "everything"],
)
def test_every_save_is_whole(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Whoever looks at any moment finds a profile, with all that is recorded beside samples."""
    program = write_program(tmp_path, "app.py", BRIDGED)
    with started(*EAGER, *options, "--autosave", "10ms", program, cwd=tmp_path) as process:
        wait_for_ready(process)
        path = wait_for_autosave(tmp_path)
        until = time.monotonic() + LIMIT_S
        looks: set[int] = set()
        while len(looks) < 4:
            assert time.monotonic() < until
            looks.add(Profile.load(path).info.duration_ns)
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
    last = Profile.load(path)
    assert {"burn", "sync"} <= names(last)
    # The thread that saves is none of the program's.
    assert not names(last) & {"_tick", "snapshot_at_leisure", "_json_of"}
    if "--timeline" in options:
        assert last.awaits
        assert last.blocks
        assert last.slices
    else:
        assert sum(one.count for one in last.samples) > 100


def test_a_program_that_ends_leaves_the_profile_alone(tmp_path: Path) -> None:
    program = write_program(tmp_path, "app.py", f"{BUSY}\nfor _ in range(30): order()\nsys.exit(3)")
    run_greenprof(
        "run", "-q", "-o", "out.gprof", "--autosave", "50ms", program, cwd=tmp_path, expect=3
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py", "out.gprof"]


def test_a_kill_while_the_profile_is_written(tmp_path: Path) -> None:
    """Nobody reads the second output, so that its writing lasts."""
    os.mkfifo(tmp_path / "pipe.txt")
    program = write_program(tmp_path, "app.py", f"{BUSY}\nfor _ in range(20): order()")
    command = (*EAGER, "-o", "pipe.txt", "--autosave", "50ms", program)
    with started(*command, cwd=tmp_path) as process:
        until = time.monotonic() + LIMIT_S
        while not (tmp_path / "out.gprof").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
    assert "order" in names(Profile.load(tmp_path / "out.gprof"))
    assert "order" in names(Profile.load(*autosaved(tmp_path)))


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("sys.stdout.write('lost'); os._exit(5)", 5),
        ("os._exit(status=6)", 6),
        ("threading.Thread(target=os._exit, args=(7,)).start(); time.sleep(20)", 7),
        (
            "import signal; signal.signal(14, lambda *_: os._exit(8)); signal.setitimer(0, 0.1); time.sleep(20)",
            8,
        ),
        ("import atexit; atexit.register(os._exit, 9)", 9),
        ("import pickle; pickle.loads(pickle.dumps(os._exit))(10)", 10),
    ],
)
def test_os_exit(tmp_path: Path, source: str, code: int) -> None:
    """What the program's buffers hold is lost as it always is."""
    source = f"{BUSY}\norder()\nprint('flushed', flush=True)\n{source}"
    write_program(tmp_path, "app.py", source)
    finished = run_both("app.py", cwd=tmp_path, env={"PYTHONUNBUFFERED": ""})
    assert finished.returncode == code
    assert finished.stdout == "flushed\n"
    assert left_over(tmp_path) == []


def test_os_exit_of_a_child_and_what_is_no_exit(tmp_path: Path) -> None:
    source = f"""{BUSY}
order()
if not os.fork():
    os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    os._exit("no number")
except TypeError:
    print("refused")
def later():
    burn(0.05)
later()
"""
    write_program(tmp_path, "app.py", source)
    finished = run_greenprof("run", "-q", "-o", "out.gprof", "app.py", cwd=tmp_path)
    assert finished.stdout == "3\nrefused\n"
    profile = Profile.load(tmp_path / "out.gprof")
    assert "later" in names(profile)


@pytest.mark.parametrize(
    "call",
    [
        "os.execv(sys.executable, [sys.executable, '-c', NEW])",
        "os.execve(sys.executable, argv=[sys.executable, '-c', NEW], env=dict(os.environ))",
        "os.execlp(sys.executable, sys.executable, '-c', NEW)",
        "os.execvpe(sys.executable, [sys.executable, '-c', NEW], os.environ)",
    ],
)
def test_a_program_that_becomes_another_one(tmp_path: Path, call: str) -> None:
    source = f"{BUSY}\norder()\nNEW = 'print(\"new\"); raise SystemExit(4)'\n{call}"
    write_program(tmp_path, "app.py", source)
    finished = run_both("app.py", cwd=tmp_path)
    assert finished.returncode == 4
    assert finished.stdout == "new\n"
    assert left_over(tmp_path) == []


def test_a_program_that_fails_to_become_another_one(tmp_path: Path) -> None:
    """It is recorded to its end, whether there was no such file or one that is no program."""
    (tmp_path / "no-program").write_text("")
    (tmp_path / "no-program").chmod(0o755)
    source = f"""{BUSY}
order()
for name in ("nothing-of-that-name", "./no-program"):
    try:
        os.execvp(name, [name])
    except OSError as error:
        print(type(error).__name__)
def later():
    burn(0.1)
later()
"""
    write_program(tmp_path, "app.py", source)
    for options, pattern in ((("-o", "out.gprof"), "out.gprof"), ((), "app-*.gprof")):
        finished = run_greenprof("run", "-q", *options, "app.py", cwd=tmp_path)
        assert finished.stdout == "FileNotFoundError\nOSError\n"
        assert finished.stderr == ""
        (path,) = tmp_path.glob(pattern)
        assert "later" in names(Profile.load(path))
    assert left_over(tmp_path) == []


def test_forks_between_saves(tmp_path: Path) -> None:
    """No thread of ours is there when Python looks for one, and saves go on."""
    source = f"""{BUSY}
print("ready", flush=True)
while True:
    order()
    if not os.fork():
        os._exit(0)
    os.wait()
"""
    write_program(tmp_path, "app.py", source)
    words = ("-W", "error", *EAGER, "--autosave", "300ms", "app.py")
    with started(*words, cwd=tmp_path) as process:
        wait_for_ready(process)
        path = wait_for_autosave(tmp_path)
        before = Profile.load(path).info.duration_ns
        until = time.monotonic() + LIMIT_S
        while Profile.load(path).info.duration_ns <= before:
            assert time.monotonic() < until
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
    assert err == ""
    assert process.returncode == -signal.SIGTERM
    assert left_over(tmp_path) == []
    assert "order" in names(Profile.load(tmp_path / "out.gprof"))


LIVING = """\
    import asyncio, gevent, greenlet, sys, threading, time
    sys.stdout.reconfigure(line_buffering=True)

    def forever():
        while True:
            time.sleep(0.001)

    def leaves():
        sys.exit(3)

    def suspended():
        try:
            main.switch()
        finally:
            print("unwound", flush=True) if sys is not None else None

    main = greenlet.getcurrent()
    kept = greenlet.greenlet(suspended)
    kept.switch()
    threading.Thread(target=forever, daemon=True).start()
    thread = threading.Thread(target=leaves)
    thread.start()
    thread.join()
    hub_task = gevent.spawn(gevent.sleep, 1000)
    gevent.sleep(0.01)
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(1000))
    loop.run_until_complete(asyncio.sleep(0.05))
    task._log_destroy_pending = False
    sys.exit(5)
"""


def test_what_still_lives_at_the_end(tmp_path: Path) -> None:
    """Daemon threads, suspended greenlets and tasks, and a loop that nobody closed."""
    write_program(tmp_path, "app.py", LIVING)
    finished = run_both("app.py", cwd=tmp_path, env={"PYTHONWARNINGS": "ignore"})
    assert finished.returncode == 5


def test_spans_handed_over_survive_a_kill(tmp_path: Path) -> None:
    source = """\
        import asyncio, sqlalchemy.util
        def sync():
            sqlalchemy.util.await_only(asyncio.sleep(0.002))

        async def main():
            for _ in range(20):
                await sqlalchemy.util.greenlet_spawn(sync)
            print("ready", flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    write_program(tmp_path, "app.py", source)
    with started(*RUN, "--spans", "spans.jsonl", "app.py", cwd=tmp_path) as process:
        wait_for_ready(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
    until = time.monotonic() + LIMIT_S
    path = tmp_path / "spans.jsonl"
    while not (path.exists() and path.read_text().count('"spanId"') == 20):
        assert time.monotonic() < until, path.exists() and path.read_text()
        time.sleep(0.05)


def test_no_autosave_where_none_is_wanted(tmp_path: Path) -> None:
    write_program(tmp_path, "app.py", SERVES)
    with started(*RUN, "--autosave", "off", "app.py", cwd=tmp_path) as process:
        wait_for_ready(process)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(LIMIT_S)
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]
