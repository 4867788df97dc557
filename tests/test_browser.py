"""The tests' browser: how it is found and installed, and that a page which misbehaves fails its test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import browser as chromium
from tests.report_pages import Reports
from tests.running import REPOSITORY, run_python

PAGE = "<!doctype html><meta charset=utf-8><title>x</title>{}<script>window.greenprofReport = {{ready: true}}</script>"


def executable(path: Path, script: str = "exit 0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any browser: an empty PATH and an empty home."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(chromium.NAMED_BY, raising=False)
    monkeypatch.delenv("PLAYWRIGHT_BROWSERS_PATH", raising=False)
    monkeypatch.setattr(chromium, "APPLICATIONS", ())
    monkeypatch.setattr(chromium, "chromium_path", chromium.chromium_path.__wrapped__)
    monkeypatch.setattr(chromium, "found_anew", chromium.chromium_path)
    return tmp_path


class Machine:
    """Stands for apt-get, sudo and Playwright's download: says which commands work, and what they bring."""

    def __init__(self, works: dict[str, str | None]) -> None:
        self.works = works
        self.commands: list[str] = []

    def __call__(self, command: Sequence[str], limit_s: float) -> bool:
        assert limit_s > 0
        line = " ".join(command)
        self.commands.append(line)
        for part, brings in self.works.items():
            if part in line:
                if brings is not None:
                    executable(Path(brings))
                return True
        return False


def test_the_browser_that_is_named_is_the_only_one(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "bin" / "chromium")
    named = executable(bare / "mine" / "my-chromium")
    monkeypatch.setenv(chromium.NAMED_BY, named)
    assert chromium.chromium_path() == named
    monkeypatch.setenv(chromium.NAMED_BY, "/nowhere/chromium")
    assert chromium.chromium_path() is None


def test_commands_come_before_what_playwright_downloaded(bare: Path) -> None:
    cache = (
        bare
        / "home"
        / ("Library/Caches" if sys.platform == "darwin" else ".cache")
        / "ms-playwright"
    )
    assert chromium.chromium_path() is None
    old = executable(cache / "chromium-999" / "chrome-linux" / "chrome")
    assert chromium.chromium_path() == old
    newer = executable(cache / "chromium_headless_shell-1255" / "chrome-linux64" / "headless_shell")
    assert chromium.chromium_path() == newer
    chrome = executable(bare / "bin" / "google-chrome")
    assert chromium.chromium_path() == chrome
    debian = executable(bare / "bin" / "chromium")
    assert chromium.chromium_path() == debian


def test_a_command_that_is_no_browser_is_passed_over(bare: Path) -> None:
    executable(bare / "bin" / "chromium-browser", "echo 'needs a snap' >&2; exit 1")
    chrome = executable(bare / "bin" / "google-chrome")
    assert chromium.chromium_path() == chrome


def test_root_installs_it_with_apt_and_fetches_the_lists_only_if_it_must(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "bin" / "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    brings = str(bare / "bin" / "chromium")
    machine = Machine({"install": brings})
    assert chromium.install(machine) == brings
    [only] = machine.commands
    assert only.endswith("install -y --no-install-recommends chromium")

    (bare / "bin" / "chromium").unlink()
    stale = Machine({"update": None})
    assert chromium.install(stale) is None
    assert [" update" in line for line in stale.commands[:3]] == [False, True, False]


def test_others_need_sudo_without_a_password(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(bare / "bin" / "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    brings = str(bare / "bin" / "chromium")
    machine = Machine({"sudo -n true": None, "apt-get": brings})
    assert chromium.install(machine) == brings
    assert machine.commands[1].startswith("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get")


def test_without_rights_playwright_downloads_one(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "bin" / "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(bare / "browsers"))
    brings = str(bare / "browsers" / "chromium-1255" / "chrome-linux64" / "chrome")
    machine = Machine({"playwright install chromium": brings})
    assert chromium.install(machine) == brings
    assert not any("apt-get" in line or "--with-deps" in line for line in machine.commands)


def test_what_was_installed_and_does_not_run_does_not_count(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(bare / "bin" / "apt-get")
    executable(bare / "bin" / "chromium", "exit 127")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert chromium.install(Machine({"install": None})) is None


def test_where_nothing_works_one_line_says_what_to_do(bare: Path) -> None:
    """With a PATH that has no apt-get and a download from nowhere, for real."""
    script = "from tests import browser; browser.APPLICATIONS = (); raise SystemExit(browser.main(['--install']))"
    done = run_python(
        *("-c", script),
        env={
            "PATH": str(bare / "bin"),
            "HOME": str(bare / "home"),
            "PLAYWRIGHT_BROWSERS_PATH": str(bare / "browsers"),
            "PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9",
        },
        cwd=REPOSITORY,
    )
    [line] = done.stderr.splitlines()
    assert "apt-get install chromium" in line
    assert "skipped" in line


def test_one_that_is_named_and_missing_is_not_replaced_by_another(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(chromium.NAMED_BY, "/nowhere/chromium")
    monkeypatch.setattr(chromium, "install", lambda: pytest.fail("installed something"))
    assert chromium.main(["--install"]) == 0
    assert "'/nowhere/chromium'" in capsys.readouterr().err


def test_nothing_is_done_where_there_is_one(bare: Path) -> None:
    found = executable(bare / "bin" / "chromium")
    environment = {"PATH": str(bare / "bin")}
    done = run_python("-m", "tests.browser", "--install", env=environment, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("", "")
    assert (
        run_python("-m", "tests.browser", env=environment, cwd=REPOSITORY).stdout.strip() == found
    )


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = executable(tmp_path / "slow", f"sleep 60 & echo $! > '{tmp_path}/pid'; wait")
    assert not chromium.run_quietly([script], 1.0)
    child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 30
    while is_running(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether it has not ended: who inherited a zombie has yet to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_page_that_does_nothing_wrong_has_no_problems(report: Reports) -> None:
    page = report(
        PAGE.format("<script>console.log('said')</script>"), "zoom=1", width=400, dark=True
    )
    assert page.evaluate("() => [location.hash, innerWidth]") == ["#zoom=1", 400]
    assert page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
    assert report.problems == []


@pytest.mark.parametrize(
    ("markup", "problem"),
    [
        ("<script>console.error('oh')</script>", "console error: oh"),
        ("<script>console.warn('oh')</script>", "console warning: oh"),
        ("<script>setTimeout(() => { throw Error('oh') })</script>", "page error: oh"),
        ("<script>Promise.reject(Error('oh'))</script>", "page error: oh"),
        ("<script>alert('oh')</script>", "dialog: alert 'oh'"),
        ("<img src=http://127.0.0.1:9/x.png>", "request: GET http://127.0.0.1:9/x.png"),
        ("<img src=other.png>", "other.png"),
    ],
)
def test_a_page_that_misbehaves_is_found_out(report: Reports, markup: str, problem: str) -> None:
    report(PAGE.format(markup))
    found = report.close()
    assert any(problem in line for line in found), found
    report.problems.clear()
