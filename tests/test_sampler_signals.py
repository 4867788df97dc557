"""The program's signals are its own while it is sampled: nothing swallowed, nothing cut short, nothing lost.

Each program runs in a process of its own, which a mistake here would end.
"""

from __future__ import annotations

import textwrap

import pytest

from tests.running import BURN, Finished, run_python

PRELUDE = """
import asyncio, functools, os, random, select, signal, socket, subprocess, sys, threading, time
import greenprof
"""


def run(source: str, *arguments: str, expect: int = 0, stdin: str = "") -> Finished:
    """Runs a program that writes nothing to stderr."""
    finished = run_python(
        "-c", PRELUDE + BURN + textwrap.dedent(source), *arguments, expect=expect, stdin=stdin
    )
    assert not finished.stderr, str(finished)
    return finished


@pytest.mark.parametrize(
    "handler", ["function", "lambda", "varargs", "method", "partial", "callable", "careless"]
)
@pytest.mark.parametrize("where", ["plain", "tasks"])
def test_no_alarm_that_raises_is_swallowed_and_the_sampler_goes_on(
    handler: str, where: str
) -> None:
    source = """
    raised = caught = 0
    def function(signum, frame):
        global raised
        raised += 1
        raise TimeoutError(raised)
    def varargs(*arguments): function(*arguments)
    def careless(signum, frame):
        del frame
        function(signum, signum)
    class Holder:
        def method(self, signum, frame): function(signum, frame)
        def __call__(self, signum, frame): function(signum, frame)
    handlers = {
        "function": function, "lambda": lambda s, f: function(s, f), "varargs": varargs,
        "method": Holder().method, "callable": Holder(), "careless": careless,
        "partial": functools.partial(lambda more, s, f: function(s, f), 1),
    }
    signal.signal(signal.SIGALRM, handlers[sys.argv[1]])
    moments = random.Random(5)

    def work(depth):
        if depth:
            work(depth - 1)
        burn(10)

    def once():
        global caught
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0002, 0.002))
                work(30)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeoutError:
            caught += 1

    async def among_tasks():
        tasks = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(200)]
        while raised < 300:
            once()
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    with greenprof.profile(3000) as p:
        if sys.argv[2] == "tasks":
            asyncio.run(among_tasks())
        while raised < 300:
            once()
        ticks = p.snapshot().info.ticks
        burn(0.3)
    assert raised == caught >= 300, (raised, caught)
    info = p.profile.info
    assert info.ticks - ticks > 200, "the sampler is gone"
    assert not info.warnings, info.warnings
    """
    run(source, handler, where)


def test_control_c_is_not_swallowed() -> None:
    run("""
    count = 0
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
    with greenprof.profile(5000) as p:
        for _ in range(300):
            try:
                timer = threading.Timer(0.001, interrupt)
                timer.start()
                burn(5)
            except KeyboardInterrupt:
                count += 1
    assert count == 300, count
    assert p.profile.info.ticks > 300
    """)


def test_interrupted_starts_and_stops_leave_nothing() -> None:
    run("""
    with greenprof.profile():
        pass  # imports what it needs: the import system takes some errors for its own
    def alarm(*_):
        raise TimeoutError
    signal.signal(signal.SIGALRM, alarm)
    moments = random.Random(1)
    interrupted = 0
    for _ in range(400):
        p = greenprof.Profiler(5000)
        try:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.00005, 0.002))
            with p:
                burn(0.0005)
            burn(5)
        except TimeoutError:
            interrupted += 1
        if p.running:
            p.stop()
    assert interrupted == 400
    with greenprof.profile(1000) as p:
        burn(0.2)
    assert p.profile.info.ticks > 50
    assert threading.active_count() == 1
    assert len(sys._current_frames()) == 1
    used = [n for n in range(signal.SIGRTMIN, signal.SIGRTMAX) if signal.getsignal(n) != signal.SIG_DFL]
    assert not used, used
    """)


def test_the_programs_alarms_and_timers_keep_working() -> None:
    run("""
    seen = {signal.SIGALRM: 0, signal.SIGPROF: 0, signal.SIGVTALRM: 0, signal.SIGRTMIN + 3: 0}
    def count(signum, frame):
        seen[signum] += 1
    for number in seen:
        signal.signal(number, count)
    with greenprof.profile(1000) as p:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL):
            signal.setitimer(timer, 0.01, 0.01)
        for _ in range(20):
            signal.raise_signal(signal.SIGRTMIN + 3)
            burn(0.02)
        for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL):
            assert signal.getitimer(timer)[1] > 0
            signal.setitimer(timer, 0)
    assert min(seen.values()) >= 10, seen
    assert seen[signal.SIGRTMIN + 3] == 20
    assert signal.getsignal(signal.SIGALRM) is count
    assert not p.profile.info.warnings
    """)


def test_a_program_that_takes_our_signals_is_told_and_the_thread_goes_on() -> None:
    run("""
    stray = []
    with greenprof.profile(1000) as p:
        burn(0.05)
        ours = [n for n in signal.valid_signals() if n >= signal.SIGRTMIN and signal.getsignal(n) != signal.SIG_DFL]
        for number in ours:
            signal.signal(number, lambda *arguments: stray.append(arguments))
        burn(0.2)  # the sampling thread notices
        time.sleep(0.2)
        before = len(stray)
        time.sleep(0.2)
        burn(0.2)
        assert len(stray) == before, "our timers fire at the program's handlers"
    assert len(ours) == 3
    warnings = p.profile.info.warnings
    assert len(warnings) == 1 and "replaced the sampler's handler" in warnings[0]
    states = {}
    for sample in p.profile.samples:
        states[sample.state] = states.get(sample.state, 0) + sample.wall_ns
    assert sum(states.values()) > 0.8 * p.profile.info.duration_ns, states
    assert states["blocked"] > 0.2e9, states
    assert all(callable(signal.getsignal(number)) for number in ours)
    """)


def test_calls_are_not_cut_short() -> None:
    run(
        """
    reader, writer = os.pipe()
    with greenprof.profile(2000) as p:
        started = time.monotonic()
        time.sleep(0.15)
        assert time.monotonic() - started >= 0.15
        started = time.monotonic()
        assert select.select([reader], [], [], 0.15) == ([], [], [])
        assert time.monotonic() - started >= 0.149
        assert subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1)"]).wait() == 0
        threading.Timer(0.05, os.write, (writer, b"x")).start()
        assert os.read(reader, 1) == b"x"
        one, other = socket.socketpair()
        threading.Timer(0.05, other.send, (b"y",)).start()
        assert one.recv(1) == b"y"
        event = threading.Event()
        assert not event.wait(0.1)
        assert input() == "line"
        assert sys.stdin.read() == "rest"
    assert p.profile.info.ticks > 50
    """,
        stdin="line\nrest",
    )


def test_programs_that_wait_for_signals_get_theirs_and_no_others() -> None:
    """The sampling thread, in which nothing is blocked by the program, must not take them."""
    run("""
    mine = {signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1, signal.SIGRTMAX - 1}
    with greenprof.profile(1000) as p:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1})
        for _ in range(20):
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1):
                threading.Timer(0.002, os.kill, (os.getpid(), number)).start()
                time.sleep(0.004)
                assert signal.sigwait({number}) == number
        burn(0.05)
        assert not signal.sigpending() & {signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1}
    """)
    run("""
    taken = signal.SIGRTMAX - 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {taken})
    with greenprof.profile(1000) as p:
        burn(0.05)
        assert taken not in signal.sigpending()
        os.kill(os.getpid(), taken)
        assert signal.sigwait([taken]) == taken
    assert p.profile.info.ticks > 20
    """)


def test_a_program_that_blocks_all_signals_is_sampled_by_the_thread() -> None:
    run("""
    with greenprof.profile(200) as p:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        burn(0.5)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    burn(0.01)
    assert sum(sample.wall_ns for sample in p.profile.samples) > 0.4e9
    """)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_signals_reach_a_loop_that_was_hogged_for_long(loop: str) -> None:
    """Our own would fill its wake-up socket, and push those of the program out."""
    run(
        """
    got = []
    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
        for _ in range(2):
            await asyncio.sleep(0.05)
            burn(1)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.05)
        loop.remove_signal_handler(signal.SIGUSR1)

    async def trio_main():
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            for _ in range(2):
                burn(1)
                os.kill(os.getpid(), signal.SIGUSR1)
                async for signum in signals:
                    got.append(signum)
                    break

    with greenprof.profile(1000) as p:
        if sys.argv[1] == "asyncio":
            asyncio.run(main())
        elif sys.argv[1] == "uvloop":
            import uvloop
            uvloop.run(main())
        else:
            import trio
            trio.run(trio_main)
    assert len(got) == 2, got
    assert p.profile.info.ticks > 100
    hogging = sum(
        sample.wall_ns for sample in p.profile.samples
        if any(frame.name == "burn" for frame in p.profile.stack(sample.stack))
    )
    assert 1.8e9 < hogging < 2.2e9, hogging
    """,
        loop,
    )


@pytest.mark.parametrize("library", ["asyncio", "uvloop", "trio"])
def test_loops_close_their_wake_up_sockets_without_complaints(library: str) -> None:
    """asyncio and trio close them before they tell Python, which may have a signal to write."""
    run(
        """
    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        await asyncio.sleep(0.002)
    async def trio_main():
        await trio.sleep(0.002)
    with greenprof.profile(10_000) as p:
        for _ in range(150):
            if sys.argv[1] == "asyncio":
                asyncio.run(main())
            elif sys.argv[1] == "uvloop":
                import uvloop
                uvloop.run(main())
            else:
                import trio
                trio.run(trio_main)
        ticks = p.snapshot().info.ticks
        burn(0.3)
    assert p.profile.info.ticks - ticks > 100
    """,
        library,
    )


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_wake_up_descriptor_of_the_programs_own_is_never_full(kind: str) -> None:
    run(
        """
    if sys.argv[1] == "pipe":
        reader, writer = os.pipe()
    else:
        sockets = socket.socketpair()
        reader, writer = (one.fileno() for one in sockets)
    for one in (reader, writer):
        os.set_blocking(one, False)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with greenprof.profile(1000) as p:
        signal.set_wakeup_fd(writer)
        burn(1.1)  # it is looked for once a second
        os.read(reader, 65536)
        for _ in range(2):
            burn(1)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signal.SIGUSR1 in os.read(reader, 65536)
        assert signal.set_wakeup_fd(-1) == writer
    assert p.profile.info.ticks > 50
    """,
        kind,
    )


def test_the_process_is_not_ended_by_a_late_signal() -> None:
    run("""
    for number in range(300):
        profiler = greenprof.Profiler(10_000).start()
        if number % 2:
            sum(range(20_000))
            profiler.stop()
        else:
            thread = threading.Thread(target=profiler.stop)
            thread.start()
            sum(range(20_000))
            thread.join()
    burn(0.05)
    """)


def test_stopped_in_a_signal_handler() -> None:
    """Which runs in the middle of anything, and with signals of ours waiting for their turn."""
    run("""
    for _ in range(50):
        profiler = greenprof.Profiler(5000).start()
        signal.signal(signal.SIGUSR1, lambda *_: profiler.stop())
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        sum(range(1_000_000))
        while profiler.running:
            pass
    """)


def test_interval_timers_give_way_to_the_program() -> None:
    run("""
    from greenprof.samplers import timers
    timers._libc = None
    got = []
    with greenprof.profile(200) as p:
        burn(0.2)
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
        signal.signal(signal.SIGALRM, lambda *_: got.append(1))
        signal.alarm(1)
        time.sleep(0.2)
        got.clear()
        burn(1)
        assert got == [1], got
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
    assert sum(sample.wall_ns for sample in p.profile.samples) > 1e9
    [warning] = p.profile.info.warnings
    assert "replaced the sampler's handler of signal 14" in warning, warning
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with greenprof.profile(200) as p:
        burn(0.2)
    assert p.profile.info.ticks > 20
    assert not p.profile.info.warnings, p.profile.info.warnings

    signal.signal(signal.SIGALRM, lambda *_: None)
    with greenprof.profile(200) as p:
        burn(0.2)
    [warning] = p.profile.info.warnings
    assert "the program uses SIGALRM" in warning, warning
    assert sum(sample.wall_ns for sample in p.profile.samples) > 0.1e9
    """)
