"""Opens a file in the user's browser, where there is one with a screen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["open_in_browser"]

# These draw in the terminal that greenprof is called from, and run no scripts.
TEXT_BROWSERS = frozenset({"elinks", "links", "links2", "lynx", "w3m", "www-browser"})
# Where there is no browser, that is known at once. One that is there may stay until it is closed.
PATIENCE_S = 2.0
# TERM is what the module looks for text-mode browsers by; a browser that is started gets it back.
OPEN = """\
import os, sys, webbrowser
terminal = os.environ.pop("TERM", None)
webbrowser.get()
if terminal is not None:
    os.environ["TERM"] = terminal
sys.exit(not webbrowser.open(sys.argv[1]))
"""


def open_in_browser(path: Path) -> bool:
    """Shows a file in the browser that BROWSER names, or else in the desktop's; False if there is none.

    Returns without waiting for the browser to be closed.
    """
    # In a process of its own: the module waits for some browsers, and lets them write to our output,
    # which would keep a shell's $(greenprof view ...) from ending before they do.
    try:
        process = subprocess.Popen(  # noqa: S603  # this very Python, and a URL as an argument
            [sys.executable, "-I", "-c", OPEN, path.absolute().as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        return process.wait(PATIENCE_S) == 0
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        # Ctrl-C ends the waiting; the browser is in a session of its own.
        return True
    except OSError:
        return False


def _environment() -> dict[str, str]:
    wanted = os.environ.get("BROWSER", "").split(os.pathsep)
    with_screen = [browser for browser in wanted if browser.strip() and not _is_text(browser)]
    env = {name: value for name, value in os.environ.items() if name != "BROWSER"}
    return {**env, "BROWSER": os.pathsep.join(with_screen)} if with_screen else env


def _is_text(browser: str) -> bool:
    return os.path.basename(browser.split(maxsplit=1)[0]) in TEXT_BROWSERS
