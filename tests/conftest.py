"""Fixtures of the whole suite, the guard round every test, and the rule about skipped tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import greenlet
import pytest
from playwright.sync_api import Browser, sync_playwright

from greenprof import switches
from tests import browser as chromium
from tests import collector
from tests.postgres import Postgres, running_postgres
from tests.process_state import ProcessState, settled_differences
from tests.report_pages import Reports

# A skip is for a capability that a machine may lack, and its reason starts with one of these. In CI any
# other one fails the run: a suite that skips what it should show is green for nothing. `make test` installs
# a browser on Linux, so there it has to be one that cannot be had.
EXPECTED_SKIPS = (
    "needs Python 3.",
    "needs Valgrind",
    *(() if sys.platform == "linux" else ("needs a browser",)),
    *(() if collector.expected() else (collector.SKIP_REASON,)),
)


# A shell starts what runs in the background with Ctrl-C ignored, and programs that tests start would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What these measure depends on when they get the processor: on a machine that has more to do than cores, a
# sample of a few seconds may be off by more than sampling is. Each may try again, and a fault fails each time.
MEASURING = (
    "test_accuracy",
    "test_awaits_",
    "test_blocks",
    "test_capture",
    "test_cli_",
    "test_collector",
    "test_exact_",
    "test_orders_example",
    "test_profiler",
    "test_sampler_signals",
    "test_sampler_states",
    "test_span_metrics",
    "test_span_samples",
    "test_spans_edges",
    "test_spans_leaks",
    "test_spans_losses",
    "test_spans_processes",
    "test_stacks_",
    "test_timeline",
    "test_timers",
    "test_traced_example",
    "test_watch",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.startswith(MEASURING):
            item.add_marker(pytest.mark.flaky(reruns=3))
        if "report" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.page)
            # A browser is several processes that tell each other things when they get to it.
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(autouse=True)
def process_state_unchanged() -> Iterator[None]:
    """Fails the test that leaves a tracer, a hook, a signal handler, a timer or a thread behind."""
    before = ProcessState.read()
    yield
    left = settled_differences(before)
    # Otherwise every test after this one would be blamed as well.
    greenlet.settrace(before.greenlet_tracer)
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture
def followed() -> Iterator[switches.Switches]:
    """This thread, followed for the length of a test."""
    switches.follow()
    try:
        state = switches.of_thread(threading.get_ident())
        assert state is not None
        yield state
    finally:
        switches.unfollow()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL on loopback; where none starts, the tests that need it fail."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; tests that need one are skipped where there is none.

    Of the module, not the session: until Playwright is closed its event loop counts as running in this
    thread, and `asyncio.run` in other modules' tests would fail.
    """
    if chromium.chromium_path() is None:
        pytest.skip(chromium.SKIP_REASON)
    with sync_playwright() as playwright:
        launched = chromium.launch(playwright)
        try:
            yield launched
        finally:
            launched.close()


@pytest.fixture
def report(browser: Browser, tmp_path: Path) -> Iterator[Reports]:
    """Opens reports in the browser; fails the test whose page warns, breaks or asks for anything else."""
    reports = Reports(browser, tmp_path)
    yield reports
    problems = reports.close()
    if problems:
        pytest.fail("the page: " + "\n".join(problems), pytrace=False)


def unexpected_skips(config: pytest.Config) -> list[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter is not None else []
    found = []
    for report in reports:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(EXPECTED_SKIPS):
            found.append(f"{report.nodeid}: {reason}")
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and unexpected_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI"):
        for line in unexpected_skips(terminalreporter.config):
            terminalreporter.write_line(f"UNEXPECTED SKIP, fails CI: {line}", red=True)
