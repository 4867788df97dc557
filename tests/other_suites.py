"""Other people's test suites, run plain and under greenprof; each test has to end as it does without.

Each suite is run as it is shipped in its wheel. What may differ under a profiler is named in
`DIFFERS`, with the reason; everything else has to be the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.running import PROGRAMS, Finished, run_python

Outcomes = dict[str, str]

#: How greenprof is run, by name: its arguments; None is without it.
MODES: Mapping[str, Sequence[str] | None] = {
    "plain": None,
    "100 Hz": (),
    "1000 Hz": ("--rate", "1000"),
    "everything": (
        *("--rate", "1000", "--awaits", "--timeline", "all", "--block-limit", "10ms"),
        *("--spans", "spans.jsonl", "--span-stack", "always"),
    ),
    "spans": ("--rate", "1", "--no-awaits", "--spans", "spans.jsonl"),
    "no awaits": ("--no-awaits",),
    "exact": ("--engine", "exact"),
}

_COUNTS_LISTS = "counts the lists of the whole process before and after: a profile that grows meanwhile is made of some"
_READS_TRACEBACKS = (
    "asserts every entry of a traceback: where awaits are counted, or have spans, greenback.await_ "
    "is called through a function of ours, which is one of them"
)

_ASKS_FOR_THE_SLOT = (
    "asserts that nobody has greenlet's tracer slot once gevent's monitor has given it back"
)

#: Tests that may end differently under greenprof, with the reason. By the end of their name.
DIFFERS: Mapping[str, str] = {
    "test_leaks.TestLeaks.test_issue251_issue252_explicit_reference_not_collectable": _COUNTS_LISTS,
    "test_leaks.TestLeaks.test_issue251_issue252_need_to_collect_in_background": _COUNTS_LISTS,
    "test_leaks.TestLeaks."
    "test_issue251_issue252_need_to_collect_in_background_cleanup_disabled": _COUNTS_LISTS,
    "test_leaks.TestLeaks.test_issue251_killing_cross_thread_leaks_list": _COUNTS_LISTS,
    "test_leaks.TestLeaks.test_issue251_with_cleanup_disabled": _COUNTS_LISTS,
    **{
        f"test_impl.{name}[{library}]": _READS_TRACEBACKS
        for name in ("test_awaitable", "test_recursive_error", "test_uncleanable_traceback")
        for library in ("asyncio", "trio")
    },
    "TestPeriodicMonitoringThread.test_hub_wref": _ASKS_FOR_THE_SLOT,
    "TestPeriodicMonitoringThread.test_kill_removes_trace": _ASKS_FOR_THE_SLOT,
}

#: The same, of one mode alone.
DIFFERS_IN: Mapping[str, Mapping[str, str]] = {
    "exact": {
        "test_tracing.TestPythonTracing.test_trace_events_from_greenlet_func_sets_profiler": (
            "replaces the profile function, which is the exact engine's, and asserts each call of its own"
        ),
    },
}


@dataclass(frozen=True)
class Suite:
    """A suite, or a part of one: Python's arguments, and the files that it needs in its folder.

    `{output}` in an argument is where the outcomes are to be written, for `read`.
    """

    name: str
    arguments: Sequence[str | Path]
    read: Callable[[Path], Outcomes]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def from_json(path: Path) -> Outcomes:
    outcomes: Outcomes = json.loads(path.read_text(encoding="utf-8"))
    return outcomes


def from_junit(path: Path) -> Outcomes:
    outcomes = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        found = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "passed"
        if found:
            outcome = "skipped" if found == {"skipped"} else "failed"
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return outcomes


def unittests(name: str, *modules: str, env: Mapping[str, str] | None = None) -> Suite:
    """Modules of unittest's kind; `module!test,test` leaves tests out, by the end of their names."""
    return Suite(
        name,
        [PROGRAMS / "unittest_outcomes.py", "{output}", *modules],
        from_json,
        env=env or {},
    )


def pytests(name: str, *arguments: str, files: Mapping[str, str] | None = None) -> Suite:
    """What pytest is to run. Not by the settings of this repository: in a folder of its own."""
    return Suite(
        name,
        [
            *("-m", "pytest", "-q", "--junitxml={output}", "-o", "junit_family=xunit1"),
            *("-p", "no:cacheprovider", "-p", "no:rerunfailures", *arguments),
        ],
        from_junit,
        files=files or {},
    )


GREENLET = [
    f"greenlet.tests.test_{name}"
    for name in (
        *("contextvars", "cpp", "extension_interface", "gc", "generator", "generator_nested"),
        *("greenlet", "greenlet_trash", "interpreter_shutdown", "leaks", "stack_saved", "throw"),
        *("tracing", "version", "weakref"),
    )
]

#: Without it, greenlet's tests are each run several times, and all objects of the process counted
#: in between: the profile that grows would be taken for a leak.
NO_LEAK_CHECKS = {"GREENLET_SKIP_LEAKCHECKS": "1"}


def greenlets(*, whole: bool = True) -> Suite:
    """greenlet's own suite; without its slow tests if not `whole`."""
    if whole:
        return unittests("greenlet", *GREENLET, env=NO_LEAK_CHECKS)
    slow = "test_switching_many_threads,test_throw_to_dead_thread_doesnt_crash_wait"
    quick = [
        f"{name}!{slow}" if name.endswith(".test_greenlet") else name
        for name in GREENLET
        if not name.endswith(("_leaks", "_interpreter_shutdown"))
    ]
    return unittests("greenlet", *quick, env=NO_LEAK_CHECKS)


def greenbacks() -> Suite:
    return pytests("greenback", "--pyargs", "greenback._tests")


_CONFTEST = """
import pytest
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")
from sqlalchemy.testing.plugin.pytestplugin import *
import sqlalchemy.dialects.postgresql.provision  # has its say before
from sqlalchemy.testing.provision import post_configure_engine

@post_configure_engine.for_db("postgresql")
def create_no_extensions(url, engine, follower_ident):
    "The server that comes in a wheel has none."
"""
_REQUIREMENTS = """
from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

class Requirements(SuiteRequirements):
    schemas = exclusions.closed()  # they would have to be made first
"""


def sqlalchemys(url: str = "sqlite+aiosqlite:///suite.db", *modules: str) -> Suite:
    """SQLAlchemy's suite for dialects, on an async one; all of its modules if none is named."""
    driver = url.partition("://")[0].partition("+")[2]
    imports = "".join(f"from sqlalchemy.testing.suite.{name} import *\n" for name in modules) or (
        "from sqlalchemy.testing.suite import *\n"
    )
    return pytests(
        f"SQLAlchemy, {driver}",
        *("--db", "suite", "-W", "ignore", "test_suite.py"),
        files={
            "conftest.py": _CONFTEST,
            "requirements.py": _REQUIREMENTS,
            "test_suite.py": imports,
            "setup.cfg": "[sqla_testing]\nrequirement_cls=requirements:Requirements\n"
            f"profile_file=profiles.txt\n[db]\nsuite={url}\n",
        },
    )


def gevents(module: str) -> Suite:
    return unittests(f"gevent, {module}", f"gevent.tests.{module}")


def run(suite: Suite, mode: str, folder: Path, *, limit_s: float = 600.0) -> Outcomes:
    """How each test of a suite ended. Raises AssertionError where the process did not end well."""
    folder.mkdir(parents=True)
    for name, text in suite.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    output = folder / "outcomes"
    options = MODES[mode]
    profiled: list[str | Path] = (
        []
        if options is None
        else ["-m", "greenprof", "run", "-q", "-o", folder / "suite.gprof", *options]
    )
    arguments = [str(one).replace("{output}", str(output)) for one in suite.arguments]
    finished = run_python(
        *profiled, *arguments, expect=None, limit_s=limit_s, env=suite.env, cwd=folder
    )
    assert output.exists(), str(finished)
    outcomes = suite.read(output)
    assert outcomes, str(finished)
    _check_end(finished, outcomes)
    if options is not None:
        assert "greenprof: could not" not in finished.stderr, str(finished)
        assert (folder / "suite.gprof").stat().st_size > 0, str(finished)
    return outcomes


def _check_end(finished: Finished, outcomes: Outcomes) -> None:
    """The exit code is that of a suite that ran to its end, with failures or without."""
    assert finished.returncode == int("failed" in outcomes.values()), str(finished)


def differences(plain: Outcomes, profiled: Outcomes, mode: str = "") -> dict[str, str]:
    """The tests that pass, or are skipped, without greenprof and not with it, and how they ended."""
    may_differ = tuple(DIFFERS) + tuple(DIFFERS_IN.get(mode, ()))
    return {
        name: profiled.get(name, "did not run")
        for name, outcome in plain.items()
        if outcome != "failed" and profiled.get(name) != outcome and not name.endswith(may_differ)
    }


def compared(
    suite: Suite, modes: Sequence[str], folder: Path, *, attempts: int = 3
) -> dict[str, tuple[Outcomes, dict[str, str]]]:
    """By mode, how the tests of a suite ended, and what differs from a plain run.

    A suite may have tests that depend on when they get the processor: what differs is what
    differs in each of so many attempts.
    """
    plain = run(suite, "plain", folder / "plain")
    found: dict[str, tuple[Outcomes, dict[str, str]]] = {"plain": (plain, {})}
    for number, mode in enumerate(modes):
        outcomes = run(suite, mode, folder / f"{number}-0")
        differing = differences(plain, outcomes, mode)
        for attempt in range(1, attempts):
            if not differing:
                break
            print(f"{suite.name}, {mode}: again, for {differing}", file=sys.stderr)
            again = run(suite, mode, folder / f"{number}-{attempt}")
            still = differences(plain, again, mode)
            differing = {name: still[name] for name in differing if name in still}
        found[mode] = outcomes, differing
    return found
