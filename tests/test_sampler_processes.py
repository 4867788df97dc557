"""Forks, new programs, ends: children know nothing of the profiler, and nothing of it outlives the process."""

from __future__ import annotations

import os
import textwrap

import pytest

from tests.running import BURN, REPOSITORY, Finished, run_python

PRELUDE = """
import asyncio, gc, multiprocessing, os, random, signal, subprocess, sys, threading, time, warnings
import greenprof
from tests.process_state import ProcessState
"""


def run(source: str, *arguments: str, expect: int = 0, warn: str = "always") -> Finished:
    """Runs a program that writes nothing to stderr, no warning either.

    `-W error` would not do: Python 3.13 keeps silent of a fork's warning that was made an error.
    """
    finished = run_python(
        "-W",
        warn,
        "-c",
        PRELUDE + BURN + textwrap.dedent(source),
        *arguments,
        expect=expect,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    assert not finished.stderr, str(finished)
    return finished


IN_CHILD = """
    before = ProcessState.read()
    def in_child():
        found = ProcessState.read().differences(before)
        assert not found, found
        with greenprof.profile(1000) as own:
            burn(0.1)
        assert own.profile.info.pids == [os.getpid()]
        assert sum(sample.wall_ns for sample in own.profile.samples) > 0.05e9
    def forked(function):
        pid = os.fork()
        if pid == 0:
            try:
                function()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_child_has_no_profiler_and_can_have_its_own() -> None:
    """Python >= 3.12 warns of forks with several threads, which fails the test: the sampler's is gone."""
    run(
        IN_CHILD
        + """
    with greenprof.profile(1000) as p:
        burn(0.05)
        forked(in_child)
        for _ in range(50):
            forked(lambda: None)
        process = multiprocessing.get_context("fork").Process(target=in_child)
        process.start()
        process.join()
        assert process.exitcode == 0
        ticks = p.snapshot().info.ticks
        burn(0.2)
    assert p.profile.info.pids == [os.getpid()]
    assert p.profile.info.ticks > ticks + 50
    assert not p.profile.info.warnings
    assert not ProcessState.read().differences(before)
    """
    )


def test_a_fork_warns_of_nothing_after_late_imports() -> None:
    """asyncio imports logging, whose hook for forks runs Python code after ours if it comes later."""
    finished = run_python(
        "-m",
        "greenprof",
        "run",
        "-q",
        "-o",
        os.devnull,
        "-f",
        "--format",
        "text",
        "-c",
        "import asyncio, os; os.fork() or os._exit(0); os.wait()",
    )
    assert not finished.stderr, str(finished)


def test_a_child_that_leaves_the_block_and_ends_writes_nothing() -> None:
    run("""
    with greenprof.profile(1000) as p:
        pid = os.fork()
        if pid == 0:
            burn(0.01)
            assert not p.running
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        burn(0.05)
    assert p.profile.info.ticks > 5
    """)


@pytest.mark.parametrize("where", ["main", "thread"])
def test_threads_are_sampled_again_after_a_fork(where: str) -> None:
    run(
        IN_CHILD
        + f"""
    def worker(seconds):
        burn(seconds)
    with greenprof.profile(200) as p:
        forked(lambda: None)
        if {where!r} == "thread":
            threads = [threading.Thread(target=forked, args=(lambda: None,)) for _ in range(3)]
            for thread in threads:
                thread.start()
                thread.join()
        thread = threading.Thread(target=worker, args=(0.5,))
        thread.start()
        thread.join()
    profile = p.profile
    seen = sum(
        sample.cpu_ns for sample in profile.samples
        if any(frame.name == "worker" for frame in profile.stack(sample.stack))
    )
    assert seen > 0.2e9, seen
    """,
        warn="ignore",
    )


def test_a_fork_in_a_thread() -> None:
    run(
        IN_CHILD
        + """
    def in_child_of_thread():
        with greenprof.profile(1000) as own:
            burn(0.1)
        assert sum(sample.wall_ns for sample in own.profile.samples) > 0.05e9
        handlers = [n for n in range(signal.SIGRTMIN, signal.SIGRTMAX) if signal.getsignal(n) != signal.SIG_DFL]
        assert not handlers
    with greenprof.profile(1000) as p:
        for _ in range(5):
            thread = threading.Thread(target=forked, args=(in_child_of_thread,))
            thread.start()
            thread.join()
    """,
        warn="ignore",  # of the fork in a process with a thread of its own
    )


def test_forks_while_profilers_start_and_stop_in_another_thread() -> None:
    run(
        IN_CHILD
        + """
    with greenprof.profile():
        pass  # a fork in the middle of another thread's import leaves the child waiting for ever
    done = threading.Event()
    def start_and_stop():
        while not done.is_set():
            with greenprof.profile(5000):
                time.sleep(0.001)
    thread = threading.Thread(target=start_and_stop)
    thread.start()
    for _ in range(100):
        forked(lambda: greenprof.profile(100).start().stop())
    done.set()
    thread.join()
    """,
        warn="ignore",
    )


def test_new_programs_inherit_no_signal_state() -> None:
    run("""
    def state(**options):
        command = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
        return subprocess.run(command, capture_output=True, check=True, **options).stdout
    def spawned():
        reader, writer = os.pipe()
        pid = os.posix_spawn("/bin/grep", ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"],
                             os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
        os.waitpid(pid, 0)
        return os.read(reader, 10_000)
    plain, plainly_spawned = state(), spawned()
    found = []
    with greenprof.profile(5000) as p:
        for _ in range(10):
            assert state() == plain
            assert state(preexec_fn=lambda: None) == plain
            assert spawned() == plainly_spawned
        thread = threading.Thread(target=lambda: found.append(state()))
        thread.start()
        thread.join()
        context = multiprocessing.get_context("spawn")
    assert found == [plain]
    """)


@pytest.mark.parametrize("where", ["main", "worker"])
def test_a_process_that_becomes_another_program(where: str) -> None:
    """A timer's signal that comes a moment later would end it."""
    run(
        """
    left = int(sys.argv[2])
    if not left:
        sys.exit(4)
    greenprof.Profiler(10_000).start()
    burn(0.003 * (left % 5))
    def become():
        os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[sys.orig_argv.index("-c") + 1], sys.argv[1], str(left - 1)])
    if sys.argv[1] == "main":
        become()
    else:
        threading.Thread(target=become).start()
    """,
        where,
        "12",
        expect=4,
    )


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "raise SystemExit(0)",
        "os._exit(0)",
        "threading.Thread(target=time.sleep, args=(0.2,)).start()",
        "threading.Thread(target=burn, args=(60,), daemon=True).start()",
    ],
)
@pytest.mark.parametrize("kind", ["plain", "greenlets", "outermost"])
def test_the_program_ends_with_the_profiler_running(ending: str, kind: str) -> None:
    """No signal of ours may come when Python has taken its handlers down."""
    run(
        """
    if sys.argv[1] == "greenlets":
        import greenlet
        def forever():
            try:
                while True:
                    greenlet.getcurrent().parent.switch()
            finally:
                burn(0.001)
        kept = [greenlet.greenlet(forever) for _ in range(20)]
    p = greenprof.Profiler(10_000, outermost=sys.argv[1] == "outermost").start()
    if sys.argv[1] == "greenlets":
        for one in kept:
            one.switch()
    class Slow:
        def __del__(self):
            sum(range(1_000_000))
    slow = Slow()
    slow.slow = slow  # until the last collection
    burn(0.02)
    """
        + ending,
        kind,
    )


def test_a_block_left_by_sys_exit() -> None:
    run(
        """
    with greenprof.profile(1000):
        burn(0.02)
        sys.exit(5)
    """,
        expect=5,
    )


def test_stopping_at_exit_and_after_it() -> None:
    run("""
    import atexit
    from greenprof.errors import ProfilerStateError
    p = greenprof.Profiler(1000).start()
    class Last:
        def __del__(self):
            try:
                p.stop()
            except ProfilerStateError:
                pass
    last = Last()
    last.last = last
    atexit.register(lambda: print(p.snapshot().info.ticks > 0))
    burn(0.05)
    """)


def test_daemon_threads_that_use_the_profiler_at_the_end() -> None:
    run("""
    def start_and_stop():
        while True:
            with greenprof.profile(5000):
                time.sleep(0.0005)
    threading.Thread(target=start_and_stop, daemon=True).start()
    burn(0.2)
    """)


def test_what_the_program_sees_of_itself_is_unchanged() -> None:
    run("""
    def seen():
        async def tasks():
            return len(asyncio.all_tasks())
        return {
            "threads": [thread.name for thread in threading.enumerate()],
            "active": threading.active_count(),
            "tasks": asyncio.run(tasks()),
            "switch interval": sys.getswitchinterval(),
            "recursion limit": sys.getrecursionlimit(),
            "collector": gc.isenabled(),
            "thresholds": gc.get_threshold(),
            "debug": gc.get_debug(),
            "filters": list(warnings.filters),
            "profile": sys.getprofile(),
            "trace": sys.gettrace(),
            "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
            "wakeup": signal.set_wakeup_fd(-1),
            "random": random.random(),
            "cwd": os.getcwd(),
        }
    random.seed(5)
    before = seen()
    for collector in (gc.enable, gc.disable):
        collector()
        before["collector"] = gc.isenabled()
        with greenprof.profile(2000) as p:
            burn(0.2)
            random.seed(5)
            assert seen() == before
            burn(0.2)
        random.seed(5)
        assert seen() == before
    """)


@pytest.mark.parametrize("tool", ["settrace", "setprofile", "cProfile", "monitoring"])
def test_other_tools_run_along(tool: str) -> None:
    run(
        """
    calls = []
    def work(number):
        return number + 1
    def trace(frame, event, arg):
        if frame.f_code is work.__code__ and event == "call":
            calls.append(event)
        return trace
    def many():
        until = time.monotonic() + 0.5
        number = 0
        while time.monotonic() < until:
            number = work(number)
        return number
    tool = sys.argv[1]
    with greenprof.profile(1000) as p:
        if tool == "settrace":
            sys.settrace(trace)
            number = many()
            assert sys.gettrace() is trace
            sys.settrace(None)
            assert len(calls) == number
        elif tool == "setprofile":
            sys.setprofile(trace)
            number = many()
            assert sys.getprofile() is trace
            sys.setprofile(None)
            assert len(calls) == number
        elif tool == "cProfile":
            import cProfile, pstats
            profiler = cProfile.Profile()
            number = profiler.runcall(many)
            stats = pstats.Stats(profiler).stats
            assert stats[("<string>", work.__code__.co_firstlineno, "work")][1] == number
        elif hasattr(sys, "monitoring"):
            monitoring = sys.monitoring
            monitoring.use_tool_id(2, "test")
            monitoring.register_callback(
                2, monitoring.events.PY_START,
                lambda code, offset: calls.append(1) if code is work.__code__ else None)
            monitoring.set_events(2, monitoring.events.PY_START)
            number = many()
            monitoring.set_events(2, 0)
            monitoring.free_tool_id(2)
            assert len(calls) == number
        else:
            burn(0.3)
    assert p.profile.info.ticks > 20
    assert not p.profile.info.warnings, p.profile.info.warnings
    """,
        tool,
    )


def test_recursion_to_the_limit_is_the_programs_own() -> None:
    """A handler at full depth has no room to look, and says nothing."""
    run("""
    def depth(number=0):
        try:
            return depth(number + 1)
        except RecursionError:
            return number
    sys.setrecursionlimit(400)
    plain = depth()
    found = set()
    with greenprof.profile(3000) as p:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            found.add(depth())
    # A handler that is called in the innermost frame of all is one call too many itself.
    assert found <= {plain, plain - 1}, (plain, found)
    assert p.profile.info.ticks > 200
    assert not p.profile.info.warnings, p.profile.info.warnings
    """)


def test_nothing_is_kept_alive_by_samples() -> None:
    run("""
    import weakref
    import greenlet
    class Big:
        pass
    gone = 0
    def local():
        value = Big()
        number = sum(range(200))
        return weakref.ref(value)
    async def holder(value, end):
        await end
    async def tasks():
        end = asyncio.get_running_loop().create_future()
        value = Big()
        coroutine = holder(value, end)
        task = asyncio.create_task(coroutine)
        found = [weakref.ref(value), weakref.ref(task), weakref.ref(coroutine)]
        await asyncio.sleep(0.002)
        end.set_result(None)
        await task
        del value, task, coroutine
        await asyncio.sleep(0)
        return [one() for one in found]
    def child():
        value = Big()
        greenlet.getcurrent().parent.switch(weakref.ref(value))
    def greenlets():
        one = greenlet.greenlet(child)
        value = one.switch()
        sum(range(2000))
        found = weakref.ref(one)
        one.switch()
        del one
        return [value(), found()]
    gc.disable()
    with greenprof.profile(3000) as p:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert local()() is None
            assert greenlets() == [None, None]
        for _ in range(100):
            assert asyncio.run(tasks()) == [None, None, None]
    assert p.profile.info.ticks > 200
    """)
