"""The suite's own instruments: the guard, the time limit and the database do what the tests rely on."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time

import asyncpg
import greenlet
import pytest

from tests.conftest import EXPECTED_SKIPS
from tests.postgres import Postgres
from tests.process_state import ProcessState, settled_differences
from tests.running import REPOSITORY, run_python


def test_an_unchanged_process_shows_no_difference() -> None:
    assert settled_differences(ProcessState.read()) == []


def test_a_tracer_left_behind_is_seen() -> None:
    before = ProcessState.read()
    greenlet.settrace(lambda _event, _args: None)
    try:
        assert any("greenlet_tracer" in line for line in settled_differences(before))
    finally:
        greenlet.settrace(None)


def test_a_profile_hook_left_behind_is_seen() -> None:
    before = ProcessState.read()
    threading.setprofile(lambda *_: None)
    sys.setprofile(lambda *_: None)
    try:
        hooks = [line.split()[0] for line in settled_differences(before)]
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert hooks == ["profile_hook", "threads_profile_hook"]


def test_a_signal_handler_and_a_timer_left_behind_are_seen() -> None:
    before = ProcessState.read()
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    try:
        text = " ".join(settled_differences(before))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGUSR1, previous)
    assert "SIGUSR1" in text
    assert "interval_timers" in text


def test_a_thread_left_running_is_seen_and_one_that_ends_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.process_state.THREAD_GRACE_S", 0.2)
    before = ProcessState.read()
    go_on = threading.Event()
    stays = threading.Thread(target=go_on.wait, name="stays")
    ends = threading.Thread(target=time.sleep, args=(0.02,), name="ends")
    stays.start()
    ends.start()
    try:
        [line] = settled_differences(before)
    finally:
        go_on.set()
        stays.join()
        ends.join()
    assert "['stays']" in line


def test_a_program_that_takes_too_long_is_ended_with_what_it_printed() -> None:
    started = time.monotonic()
    with pytest.raises(AssertionError, match=r"took longer than 1\.0 s(?s:.*)still here"):
        run_python("-c", "import time; print('still here'); time.sleep(60)", limit_s=1.0)
    assert time.monotonic() - started < 30


def test_an_unexpected_exit_code_shows_what_was_printed() -> None:
    with pytest.raises(AssertionError, match="no luck"):
        run_python("-c", "raise SystemExit('no luck')")


def test_only_an_expected_skip_passes_in_ci(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("skips")
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    test = "import pytest\ndef test_skipped(): pytest.skip({!r})\ndef test_passes(): pass\n"
    pytest_ini = ("-p", "no:cacheprovider", "-c", str(REPOSITORY / "pyproject.toml"))
    for reason, ended in ((f"{EXPECTED_SKIPS[0]}99", 0), ("no database today", 1)):
        (folder / "test_it.py").write_text(test.format(reason))
        done = run_python(
            *("-m", "pytest", "-q", *pytest_ini, "--rootdir", folder, folder),
            expect=ended,
            env={"CI": "true", "PYTHONPATH": str(REPOSITORY)},
            cwd=folder,
        )
        assert ("UNEXPECTED SKIP" in done.stdout) == bool(ended)


def test_postgres_answers_and_sleeps(postgres: Postgres) -> None:
    async def sleep_in_the_database() -> int:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            await connection.fetchval("select pg_sleep(0.05)")
            version = await connection.fetchval("show server_version_num")
        finally:
            await connection.close()
        return int(version)

    started_ns = time.monotonic_ns()
    assert asyncio.run(sleep_in_the_database()) >= 16_00_00
    assert time.monotonic_ns() - started_ns >= 50_000_000
