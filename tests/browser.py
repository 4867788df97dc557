"""The Chromium that tests and screenshots use: found, installed where it is missing, launched.

python -m tests.browser              where it is
python -m tests.browser --install    installs it where it is missing and can be
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMED_BY = "GREENPROF_CHROMIUM"
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# What Playwright's own browsers are called, in a folder for each build that it downloaded.
DOWNLOADED = (
    "chrome",
    "Google Chrome for Testing",
    "Chromium",
    "headless_shell",
    "chrome-headless-shell",
)
SKIP_REASON = "needs a browser: apt-get install chromium"

# No first-run pages, and nothing fetched in the background: a test would see it as a request of the page's.
ARGUMENTS = (
    "--no-sandbox",  # Chromium refuses to run as root with it
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

ANSWER_LIMIT_S = 20.0
INSTALL_LIMIT_S = 600.0
# A machine without a network must not hold up the suite for as long as a slow download may take.
UPDATE_LIMIT_S = 120.0

Runner = Callable[[Sequence[str], float], bool]
"""Runs a command within so many seconds; true if it ended well."""


def candidates(environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yields what may be a Chromium, best first; one that is named explicitly is the only one."""
    named = environment.get(NAMED_BY)
    if named:
        yield named
        return
    for command in COMMANDS:
        found = shutil.which(command, path=environment.get("PATH"))
        if found:
            yield found
    yield from filter(os.path.exists, APPLICATIONS)
    home = Path(environment.get("HOME", "~")).expanduser()
    usual = home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ms-playwright"
    folder = Path(environment.get("PLAYWRIGHT_BROWSERS_PATH") or usual)
    for build in sorted(folder.glob("chromium*-*"), key=revision, reverse=True):
        files = (path for path in sorted(build.rglob("*")) if path.name in DOWNLOADED)
        yield from (str(path) for path in files if path.is_file())


def revision(build: Path) -> int:
    """The number of a build that Playwright downloaded: "chromium-1140" is older than "chromium-1255"."""
    number = build.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def runs(executable: str) -> bool:
    """Whether it is a browser: Ubuntu's `chromium-browser` only says that a snap would be needed."""
    return run_quietly([executable, "--version"], ANSWER_LIMIT_S)


@functools.cache
def chromium_path() -> str | None:
    """Returns the Chromium to use, None where there is none."""
    return next(filter(runs, candidates()), None)


def launch(playwright: Playwright) -> Browser:
    """Starts a headless Chromium; the caller closes it. Raises RuntimeError where there is none."""
    path = chromium_path()
    if path is None:
        raise RuntimeError(f"no Chromium was found; install one, or name it in {NAMED_BY}")
    return playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))


def run_quietly(command: Sequence[str], limit_s: float) -> bool:
    """Runs a command that asks nothing and prints nothing; its children end with it."""
    try:
        # A group of its own, so that the time limit ends what the command started, too.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            start_new_session=True,
        )
    except OSError:
        return False
    with process:
        try:
            return process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            # SIGTERM lets apt-get and dpkg leave the package database in order.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            return False


def administrator(run: Runner) -> list[str] | None:
    """What to put before a command that needs root's rights; None where nobody gives them unasked."""
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if run(["sudo", "-n", "true"], ANSWER_LIMIT_S) else None


def install(run: Runner = run_quietly) -> str | None:
    """Installs Chromium in one way or another; returns its path, None where none worked."""
    prefix = administrator(run)
    if shutil.which("apt-get") and prefix is not None:
        apt = [
            *prefix,
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=60",
        ]
        package = [*apt, "install", "-y", "--no-install-recommends", "chromium"]
        # A fresh container has no package lists, or stale ones: only then are they fetched.
        done = run(package, INSTALL_LIMIT_S) or (
            run([*apt, "update"], UPDATE_LIMIT_S) and run(package, INSTALL_LIMIT_S)
        )
        if done and (path := found_anew()):
            return path
    # macOS, other distributions, or no rights: a browser in the user's own cache. Its system libraries come
    # with it only for root, since Playwright would ask others for a password.
    playwright = [sys.executable, "-m", "playwright", "install"]
    ways = [["chromium"]]
    if prefix == [] and sys.platform == "linux":
        ways.insert(0, ["--with-deps", "chromium"])
    for way in ways:
        if run([*playwright, *way], INSTALL_LIMIT_S) and (path := found_anew()):
            return path
    return None


def found_anew() -> str | None:
    chromium_path.cache_clear()
    return chromium_path()


def main(arguments: Sequence[str]) -> int:
    wanted = "--install" in arguments
    named = os.environ.get(NAMED_BY)
    path = chromium_path()
    if path is None and wanted and not named:
        print("Installing Chromium for the browser tests; this takes a minute, once.", flush=True)
        path = install()
    if path is None:
        what = (
            f"'{named}', which {NAMED_BY} names, is no browser that runs"
            if named
            else f"No Chromium was found{' or could be installed' if wanted else ''}"
        )
        print(
            f"{what}: tests that need a browser will be skipped. "
            f"Install one (apt-get install chromium), or name it in {NAMED_BY}.",
            file=sys.stderr,
        )
        return 0 if wanted else 1
    if not wanted:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
