"""`--subprocesses`: whichever way a child starts and ends, its work is in the run's profile, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.children import cpu_s, is_near, leavings, run_family

pytestmark = pytest.mark.flaky(reruns=3)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import multiprocessing, sys, work
        from concurrent.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with context.Pool(2) as pool:
                print(pool.map(work.one, [0.15] * 4, 1))
                pool.close()
                pool.join()
            process = context.Process(target=work.two, args=(0.2,))
            process.start()
            process.join()
            with ProcessPoolExecutor(2, mp_context=context) as executor:
                print(*executor.map(work.three, [0.2, 0.1]))
            work.two(0.2)
            sys.exit(process.exitcode + 5)
        """,
        method,
        expect=5,
    )
    assert finished.stdout == "['one', 'one', 'one', 'one']\nthree three\n"
    one, two, three = cpu_s(profile, "one", "two", "three")
    assert is_near(one, 0.6), one
    assert is_near(two, 0.4), two
    assert is_near(three, 0.3), three
    # An executor may start its second process late, or never. Trackers and servers are no workers.
    assert len(profile.info.pids) in (5, 6), finished
    assert len(profile.info.pids) == len(set(profile.info.pids))
    assert not profile.info.warnings
    assert not leavings(tmp_path)


def test_pool_workers_that_are_terminated(tmp_path: Path) -> None:
    """`with Pool()` ends its workers by SIGTERM."""
    profile, finished = run_family(
        tmp_path,
        """
        import multiprocessing, work
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                pool.map(work.one, [0.2] * 2, 1)
        """,
    )
    assert is_near(cpu_s(profile, "one")[0], 0.4), finished
    assert not profile.info.warnings


@pytest.mark.parametrize(
    "ending", ["pass", "sys.exit(4)", "os._exit(4)", "os.kill(os.getpid(), signal.SIGTERM)"]
)
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_fork(tmp_path: Path, ending: str, where: str) -> None:
    profile, finished = run_family(
        tmp_path,
        f"""
        import os, signal, sys, threading, time, work
        def fork():
            pid = os.fork()
            if pid == 0:
                work.one(0.2)
                {ending}
            else:
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                work.two(0.2)
        work.two(0.1)
        if sys.argv[1] == "main":
            fork()
        else:
            thread = threading.Thread(target=fork)
            thread.start()
            while thread.is_alive():
                time.sleep(0.01)
        """,
        where,
    )
    code = "0" if "pass" in ending else "-15" if "SIGTERM" in ending else "4"
    if where == "thread" and ending == "sys.exit(4)":
        code = "0"  # it ends the thread
    assert finished.stdout.strip() == code
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, 0.2), one
    assert is_near(two, 0.3), two
    assert len(profile.info.pids) == 2
    assert not leavings(tmp_path)


@pytest.mark.parametrize("shell", [False, True])
def test_a_new_python(tmp_path: Path, shell: bool) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import subprocess, sys, work
        command = f'"{sys.executable}" -c "import sys, work; work.one(0.2); sys.exit(7)"'
        words = ["sh", "-c", command] if len(sys.argv) > 1 else [
            sys.executable, "-c", "import sys, work; work.one(0.2); sys.exit(7)"
        ]
        print(subprocess.run(words).returncode)
        print(subprocess.run(words, preexec_fn=lambda: work.two(0.1)).returncode)
        work.three(0.2)
        """,
        *["sh"] * shell,
    )
    assert finished.stdout == "7\n7\n"
    one, three = cpu_s(profile, "one", "three")
    assert is_near(one, 0.4), one
    assert is_near(three, 0.2), three
    assert len(profile.info.pids) == 3
    assert not profile.info.warnings


def test_grandchildren(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, subprocess, sys, work
        left = int(sys.argv[1])
        work.one(0.1)
        if left:
            subprocess.run([sys.executable, __file__, str(left - 1)], check=True)
            if not os.fork():
                work.two(0.1)
                if left == 1 and not os.fork():
                    work.three(0.2)
                    os._exit(0)
                left == 1 and os.wait()
                os._exit(0)
            os.wait()
        """,
        "2",
    )
    one, two, three = cpu_s(profile, "one", "two", "three")
    assert is_near(one, 0.3), finished
    assert is_near(two, 0.2), finished
    assert is_near(three, 0.2), finished
    assert len(profile.info.pids) == 6


def test_thirty_short_children(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, work
        for _ in range(30):
            if not os.fork():
                work.one(0.02)
                os._exit(0)
        for _ in range(30):
            assert os.wait()[1] == 0
        """,
    )
    assert len(profile.info.pids) == 31, finished
    assert is_near(cpu_s(profile, "one")[0], 0.6), cpu_s(profile, "one")
    assert not profile.info.warnings
    assert not leavings(tmp_path)
