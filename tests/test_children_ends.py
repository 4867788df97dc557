"""`--subprocesses`: children that are killed, become other programs, outlive the run, or cannot be profiled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from greenprof.profiles import Profile
from tests.children import cpu_s, is_near, leavings, run_family, write_work
from tests.cli_programs import write_program
from tests.running import run_greenprof, run_python

pytestmark = pytest.mark.flaky(reruns=3)


def test_a_killed_child_loses_seconds_at_most(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, signal, time, work
        pid = os.fork()
        if pid == 0:
            work.one(0.3)
            time.sleep(60)
        time.sleep(2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        work.two(0.2)
        """,
        options=("--autosave", "300ms"),
    )
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, 0.3), finished
    assert is_near(two, 0.2), finished
    killed, lost = profile.info.warnings
    assert re.match(r"1 of 3 processes was killed: what was saved last is in", killed)
    assert re.match(r"1 of 3 processes was killed before anything was saved", lost)
    assert f"greenprof: {killed}\ngreenprof: {lost}\n" in finished.stderr
    assert not leavings(tmp_path)


@pytest.mark.parametrize("kind", ["run", "child"])
def test_a_process_that_becomes_another_python(tmp_path: Path, kind: str) -> None:
    """What it did before the exec and after it are both there, and once."""
    profile, finished = run_family(
        tmp_path,
        """
        import os, sys, work
        kind, left = sys.argv[1], int(sys.argv[2])
        if kind == "child" and left == 2:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                work.three(0.2)
                sys.exit(0)
        if left == 2 and not os.fork():
            work.three(0.2 if kind == "run" else 0)
            os._exit(0)
        left == 2 and os.wait()
        work.one(0.2)
        try:
            os.execv(__file__, [__file__])  # not executable, nor is the other
        except OSError:
            pass
        try:
            os.execv("/bin/true" if left < 0 else ".", ["true"])
        except OSError:
            work.two(0.1)
        if left:
            os.execv(sys.executable, [sys.executable, __file__, kind, str(left - 1)])
        sys.exit(0)
        """,
        kind,
        "2",
    )
    one, two, three = cpu_s(profile, "one", "two", "three")
    assert is_near(one, 0.6), (one, finished)
    assert is_near(two, 0.3), (two, finished)
    assert is_near(three, 0.2), (three, finished)
    assert len(profile.info.pids) == (2 if kind == "run" else 3)
    assert not profile.info.warnings
    assert not leavings(tmp_path)


def test_a_run_that_becomes_a_program_of_another_kind(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, work
        if not os.fork():
            work.one(0.2)
            os._exit(0)
        os.wait()
        work.two(0.2)
        os.execvp("echo", ["echo", "done"])
        """,
    )
    assert finished.stdout == "done\n"
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, 0.2), one
    assert is_near(two, 0.2), two


def test_a_child_that_outlives_the_run_is_left_readable(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, time, work
        if not os.fork():
            os.setsid()
            os.closerange(0, 3)
            work.one(0.2)
            time.sleep(2.5)
            os._exit(0)
        work.two(0.2)
        """,
    )
    one, two = cpu_s(profile, "one", "two")
    assert one == 0
    assert is_near(two, 0.2), two
    (said,) = profile.info.warnings
    found = re.fullmatch(
        r"still running and not in the profile: process \d+; when .* in (.*)", said
    )
    assert found is not None, said
    assert said in finished.stderr
    until = time.monotonic() + 20
    while not (
        files := [path for path in Path(found[1]).glob("*.gprof") if "saved" not in path.name]
    ):
        assert time.monotonic() < until, os.listdir(found[1])
        time.sleep(0.1)
    assert is_near(cpu_s(Profile.load(files[0]), "one")[0], 0.2)
    run_greenprof("merge", "-q", files[0], "app.gprof", "-o", "all.gprof", cwd=tmp_path)


def test_ctrl_c_of_the_whole_group(tmp_path: Path) -> None:
    """The run and its children get it at once; nothing is lost, and all end as without greenprof."""
    (tmp_path / "tmp").mkdir()
    write_work(tmp_path)
    write_program(
        tmp_path,
        "app.py",
        """
        import os, time, work
        pid = os.fork()
        if pid == 0:
            work.one(0.2)
        else:
            work.two(0.2)
            print("ready", flush=True)
        time.sleep(30)
        """,
    )
    command = [sys.executable, "-m", "greenprof", "run", "--subprocesses", "--rate", "400"]
    with subprocess.Popen(
        [*command, "-o", "app.gprof", "app.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, stderr
    assert stderr.count("KeyboardInterrupt") == 2, stderr
    profile = Profile.load(tmp_path / "app.gprof")
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, 0.2), (one, stderr)
    assert is_near(two, 0.2), (two, stderr)
    assert not leavings(tmp_path)


SEEN = """
import json, os, subprocess, sys
code = '''
import json, os, signal, sys, threading, warnings
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "main": sorted(vars(sys.modules["__main__"])),
    "threads": [thread.name for thread in threading.enumerate()],
    "customize": repr(sys.modules.get("sitecustomize")),
    "click": "click" in sys.modules, "rich": "rich" in sys.modules,
    "filters": len(warnings.filters), "hook": [name for name in sys.path_importer_cache if name.endswith("hook")],
    "hooks": [repr(sys.excepthook), repr(sys.displayhook)],
    "own": __import__("secrets").__file__,
}))
'''
open("seen.py", "w").write(code)
open("secrets.py", "w").close()
for words in (["-c", code, "a"], ["seen.py", "b"], ["-m", "seen", "c"], ["-I", "-c", code]):
    finished = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    print(finished.stdout, finished.stderr, finished.returncode)
"""


@pytest.mark.parametrize("own", [False, True])
def test_a_child_sees_of_itself_what_it_sees_without(tmp_path: Path, own: bool) -> None:
    env = {}
    if own:
        write_program(tmp_path, "custom/sitecustomize.py", "import sys; print('mine', __name__)")
        env["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(tmp_path / "custom"), os.environ.get("PYTHONPATH")))
        )
    program = write_program(tmp_path, "app.py", SEEN)
    plain = run_python(program, cwd=tmp_path, env=env)
    assert ("mine sitecustomize" in plain.stdout) is own
    (tmp_path / "secrets.py").unlink()
    _, profiled = run_family(tmp_path, SEEN, env=env)
    assert profiled.stdout == plain.stdout, f"{plain}\n{profiled}"


def test_a_child_that_cannot_be_profiled_runs_all_the_same(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import glob, json, os, subprocess, sys
        (path,) = glob.glob(os.environ["GREENPROF_CHILDREN"] + "/settings.json")
        settings = json.load(open(path))
        json.dump({**settings, "greenprof": "0.0"}, open(path, "w"))
        print(subprocess.run([sys.executable, "-c", "print('ran')"]).returncode)
        os.environ["GREENPROF_CHILDREN"] = "/nowhere"
        print(subprocess.run([sys.executable, "-c", "print('ran')"]).returncode)
        """,
    )
    assert finished.stdout == "ran\n0\nran\n0\n"
    (said,) = profile.info.warnings
    assert re.fullmatch(r"not profiled: process \d+: RuntimeError: it has greenprof .*0\.0", said)
    assert finished.stderr.count("\n") == 2, finished.stderr


def test_without_the_option_children_are_left_alone(tmp_path: Path) -> None:
    write_work(tmp_path)
    write_program(
        tmp_path,
        "app.py",
        """
        import os, subprocess, sys, work
        if not os.fork():
            work.one(0.1)
            os._exit(0)
        os.wait()
        subprocess.run([sys.executable, "-c", "import work; work.one(0.1)"], check=True)
        print([name for name in os.environ if "GREENPROF" in name])
        """,
    )
    finished = run_greenprof("run", "-q", "-o", "app.gprof", "app.py", cwd=tmp_path)
    assert finished.stdout == "[]\n"
    profile = Profile.load(tmp_path / "app.gprof")
    assert cpu_s(profile, "one") == [0]
    assert len(profile.info.pids) == 1
