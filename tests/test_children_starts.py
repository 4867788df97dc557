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


@pytest.mark.parametrize("where", ["main", "thread"])
def test_forks(tmp_path: Path, where: str) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, signal, sys, threading, time, work
        ENDINGS = {
            "function": lambda: None,
            "exit": lambda: sys.exit(4),
            "at once": lambda: os._exit(4),
            "killed": lambda: os.kill(os.getpid(), signal.SIGTERM),
        }
        def fork(ending):
            pid = os.fork()
            if pid == 0:
                work.one(0.15)
                ENDINGS[ending]()
                return True
            print(ending, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            return False
        for ending in ENDINGS:
            if sys.argv[1] == "main":
                if fork(ending):
                    sys.exit(0)
            else:
                thread = threading.Thread(target=fork, args=(ending,))
                thread.start()
                while thread.is_alive():
                    time.sleep(0.01)
        work.two(0.3)
        """,
        where,
    )
    code = {"main": 4, "thread": 0}[where]  # there it ends the thread
    assert finished.stdout == f"function 0\nexit {code}\nat once 4\nkilled -15\n"
    one, two = cpu_s(profile, "one", "two")
    assert is_near(one, 0.6), one
    assert is_near(two, 0.3), two
    assert len(profile.info.pids) == 5
    assert not profile.info.warnings
    assert not leavings(tmp_path)


def test_new_pythons(tmp_path: Path) -> None:
    profile, finished = run_family(
        tmp_path,
        """
        import os, subprocess, sys, work
        words = [sys.executable, "-c", "import sys, work; work.one(0.15); sys.exit(7)"]
        print(subprocess.run(words).returncode)
        print(subprocess.run(words, preexec_fn=lambda: None).returncode)
        print(subprocess.run(["sh", "-c", '"$0" "$@"', *words]).returncode)
        print(os.spawnv(os.P_WAIT, words[0], words))
        work.three(0.2)
        """,
    )
    assert finished.stdout == "7\n7\n7\n7\n"
    one, three = cpu_s(profile, "one", "three")
    assert is_near(one, 0.6), one
    assert is_near(three, 0.2), three
    assert len(profile.info.pids) == 5
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
