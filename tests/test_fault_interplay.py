"""Programs that use what greenprof uses: the program's own result is that without greenprof.

Alarms, lost signals and other tools' profile functions are in test_sampler_signals.py and
test_sampler_processes.py, the tracer's slot by itself in test_switches.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from greenprof.profiles import Profile
from tests.running import BURN, Finished, run_greenprof, run_python

PRELUDE = f"import os, random, signal, sys, threading, time\n{BURN}"
LIMIT_S = 30.0


def profiled(
    tmp_path: Path, program: str, *python: str | Path, expect: int = 0, ticks: int = 5
) -> tuple[Finished, Profile]:
    """Runs a program without greenprof and with it: both end and print the same."""
    script = tmp_path / "program.py"
    script.write_text(PRELUDE + program, encoding="utf-8")
    plain = run_python(*python, script, expect=expect, limit_s=LIMIT_S)
    output = tmp_path / "program.gprof"
    found = run_python(
        *python,
        *("-m", "greenprof", "run", "-q", "--rate", "500", "-o"),
        output,
        script,
        expect=expect,
        limit_s=LIMIT_S,
    )
    assert found.stdout == plain.stdout, str(found)
    assert "Traceback" not in found.stderr.replace(plain.stderr, ""), str(found)
    profile = Profile.load(output)
    assert profile.info.ticks >= ticks, profile.info
    assert len(profile.info.warnings) <= 1, profile.info.warnings
    return found, profile


SWITCHING = """
import greenlet
def child():
    while True:
        burn(0.01)
        main.switch()
main = greenlet.getcurrent()
one = greenlet.greenlet(child)
def switch_for(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        one.switch()
"""


@pytest.mark.parametrize(
    "how",
    [
        # Taken and never given back; given back wrongly; emptied; taken by one that fails.
        "greenlet.settrace(lambda event, args: None); switch_for(0.3)",
        "old = greenlet.settrace(print_nothing); switch_for(0.2); greenlet.settrace(None);"
        " switch_for(0.2); greenlet.settrace(old); switch_for(0.1)",
        "greenlet.settrace(None); switch_for(0.3)",
        "greenlet.settrace(fails)\ntry:\n    switch_for(0.1)\nexcept ValueError:\n    pass\n"
        "one = greenlet.greenlet(child)\nswitch_for(0.2)",
    ],
)
def test_the_tracer_is_the_programs_to_take(tmp_path: Path, how: str) -> None:
    program = (
        SWITCHING
        + "def print_nothing(event, args): pass\ndef fails(event, args): raise ValueError\n"
    )
    _, profile = profiled(tmp_path, program + how + "\nprint('done')\n", ticks=20)
    names = {frame.name for frame in profile.frames}
    assert {"child", "burn"} <= names


def test_a_handler_in_the_place_of_ours_is_called_by_nobody_but_the_program(tmp_path: Path) -> None:
    """Real-time signals in a program that takes all of them: it gets what it sends, and one warning says so."""
    program = """
got = []
numbers = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
for number in numbers:
    signal.signal(number, lambda number, frame: got.append(number))
burn(0.3)
sent = [number for number in numbers for _ in range(3)]
del got[:]
for number in sent:
    signal.raise_signal(number)
burn(0.3)
print(got == sent)
"""
    finished, profile = profiled(tmp_path, program)
    assert finished.stdout == "True\n"
    assert len(profile.info.warnings) == 1


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_patched_before_or_after(tmp_path: Path, library: str, when: str) -> None:
    patch = (
        f"from {library} import monkey; monkey.patch_all()"
        if library == "gevent"
        else (
            "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()"
        )
    )
    start = "import greenprof; profiler = greenprof.Profiler(500); profiler.start()"
    first, second = (patch, start) if when == "before" else (start, patch)
    script = tmp_path / "program.py"
    script.write_text(
        f"{first}\n{second}\n{PRELUDE}"
        """
import queue
done = queue.Queue()
def work(number):
    for _ in range(5):
        burn(0.01)
        time.sleep(0.01)
    done.put(number)
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(done.get() for _ in threads) == [0, 1, 2, 3]
profiler.stop()
names = {frame.name for frame in profiler.profile.frames}
assert {"work", "burn"} <= names, names
print("done")
""",
        encoding="utf-8",
    )
    assert run_python(script, limit_s=LIMIT_S).stdout == "done\n"


def test_switch_intervals_of_both_extremes(tmp_path: Path) -> None:
    program = """
threads = [threading.Thread(target=burn, args=(0.4,)) for _ in range(3)]
for thread in threads:
    thread.start()
for interval in (1e-6, 5.0):
    sys.setswitchinterval(interval)
    burn(0.2)
sys.setswitchinterval(0.005)
for thread in threads:
    thread.join()
print("done")
"""
    profiled(tmp_path, program)


def test_the_end_with_suspended_greenlets_tasks_and_threads(tmp_path: Path) -> None:
    program = """
import asyncio, greenlet
class Loud(greenlet.greenlet):
    pass
def suspended():
    try:
        main.switch()
    finally:
        burn(0.0)
main = greenlet.getcurrent()
kept = [Loud(suspended) for _ in range(50)]
for one in kept:
    one.switch()
loop = asyncio.new_event_loop()
async def waits():
    await asyncio.Event().wait()
tasks = [loop.create_task(waits()) for _ in range(20)]
loop.run_until_complete(asyncio.sleep(0.1))
threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
threading.Thread(target=burn, args=(100,), daemon=True).start()
burn(0.1)
print("done")
for task in tasks:
    task._log_destroy_pending = False
"""
    profiled(tmp_path, program)


def test_sys_exit_in_a_greenlet_is_the_exit_code(tmp_path: Path) -> None:
    program = """
import greenlet
def leaves():
    burn(0.2)
    sys.exit(7)
greenlet.greenlet(leaves).switch()
print("not reached")
"""
    profiled(tmp_path, program, expect=7)


def test_abort_is_the_same_end() -> None:
    finished = run_greenprof(
        "run", "-q", "-o", "-", "--format", "collapsed", "-c", "import os; os.abort()", expect=None
    )
    assert finished.returncode == -6, str(finished)


def test_the_recursion_limit_is_reached_at_the_same_depth_in_greenlets(tmp_path: Path) -> None:
    program = """
import greenlet
def down(number=0):
    try:
        return down(number + 1)
    except RecursionError:
        return number
sys.setrecursionlimit(500)
def many():
    until = time.monotonic() + 0.3
    depths = set()
    while time.monotonic() < until:
        depths.add(down())
    # A handler that is called in the innermost frame of all is one call too many itself.
    return max(depths) - min(depths) <= 1
print(greenlet.greenlet(many).switch())
"""
    finished, _ = profiled(tmp_path, program)
    assert finished.stdout == "True\n"


@pytest.mark.parametrize("option", [("-O",), ("-OO",), ("-X", "importtime"), ("-X", "dev")])
def test_options_of_python(tmp_path: Path, option: tuple[str, ...]) -> None:
    profiled(tmp_path, SWITCHING + "switch_for(0.2)\nprint(__debug__)\n", *option)


@pytest.mark.parametrize("own_lock", [False, True])
def test_subinterpreters_run_along(tmp_path: Path, own_lock: bool) -> None:
    """Where they have locks of their own, CPython's sys._current_frames() must not be called."""
    if own_lock and sys.version_info < (3, 12):
        pytest.skip("needs Python 3.12 for interpreters with locks of their own")
    program = f"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = "number = 0\\nfor one in range(300000):\\n    number += one"
def run():
    for _ in range(3):
        if sys.version_info >= (3, 13):
            ident = interpreters.create("isolated" if {own_lock} else "legacy")
        else:
            ident = interpreters.create(isolated={own_lock})
        interpreters.run_string(ident, code)
        interpreters.destroy(ident)
thread = threading.Thread(target=run)
thread.start()
run()
thread.join()
burn(0.2)
print("done")
"""
    profiled(tmp_path, program)


def test_all_signals_blocked_and_a_wake_up_descriptor(tmp_path: Path) -> None:
    program = """
read, write = os.pipe()
os.set_blocking(read, False)
os.set_blocking(write, False)
assert signal.set_wakeup_fd(write, warn_on_full_buffer=True) == -1
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.raise_signal(signal.SIGUSR1)
assert bytes([signal.SIGUSR1]) in os.read(read, 100000)
assert signal.set_wakeup_fd(-1) == write
old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
burn(0.3)
assert signal.pthread_sigmask(signal.SIG_SETMASK, old) == signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP}
burn(0.1)
print("done")
"""
    profiled(tmp_path, program)
