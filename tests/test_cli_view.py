"""`greenprof view`: a report in the browser, or its path where there is none."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.cli_programs import contents, one_line_error
from tests.profiles import orders_profile
from tests.running import Finished, run_greenprof, run_python

# No desktop, no terminal, no program that could be a browser.
NO_BROWSER = {
    "BROWSER": "",
    "DISPLAY": "",
    "WAYLAND_DISPLAY": "",
    "PATH": "/nonexistent",
    "TERM": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A profile to look at, and a place for temporary files that a test can look into."""
    orders_profile().save(tmp_path / "orders.gprof")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def view(folder: Path, *arguments: str | Path, browser: str | None = None, **env: str) -> Finished:
    chosen = {} if browser is None else {"BROWSER": browser}
    temporary = {"TMPDIR": str(folder / "tmp")}
    return run_greenprof(
        "view", *arguments, cwd=folder, env={**NO_BROWSER, **temporary, **chosen, **env}
    )


def program(folder: Path, name: str, source: str) -> str:
    """An executable that can stand for a browser."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{source}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def recorder(folder: Path, name: str = "recorder", then: str = "") -> str:
    target = str(folder / f"{name}.url")
    return program(folder, name, f"open({target!r}, 'a').write(sys.argv[-1] + '\\n')\n{then}")


def opened(folder: Path, name: str = "recorder") -> list[Path]:
    """The files that a recording browser was told to open."""
    deadline = time.monotonic() + 10
    urls = folder / f"{name}.url"
    while not urls.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    found = urls.read_text(encoding="utf-8").split()
    assert all(url.startswith("file:///") for url in found)
    return [Path(unquote(urlsplit(url).path, errors="surrogateescape")) for url in found]


def is_report(path: Path) -> bool:
    page = path.read_text(encoding="utf-8")
    return page.startswith("<!doctype html>") and "get_order" in page


def left_over(folder: Path) -> list[Path]:
    return list((folder / "tmp").iterdir())


class TestWithABrowser:
    def test_it_gets_a_report_in_a_private_folder(self, folder: Path) -> None:
        finished = view(folder, "orders.gprof", browser=recorder(folder))
        (report,) = opened(folder)
        assert is_report(report)
        assert report.name == "orders.html"
        assert report.parent.parent == folder / "tmp"
        assert report.parent.stat().st_mode & 0o777 == 0o700
        assert finished.stdout == ""
        assert finished.stderr == f"greenprof: opened {report} in the browser\n"

    def test_each_call_makes_a_report_of_its_own(self, folder: Path) -> None:
        for _ in range(2):
            view(folder, "orders.gprof", browser=recorder(folder))
        assert len(set(opened(folder))) == 2

    def test_a_file_of_ones_own_is_opened_from_there(self, folder: Path) -> None:
        view(folder, "orders.gprof", "-o", "my report #1?.html", browser=recorder(folder))
        assert opened(folder) == [folder / "my report #1?.html"]
        assert is_report(folder / "my report #1?.html")
        assert not left_over(folder)

    def test_the_clock_is_the_one_asked_for(self, folder: Path) -> None:
        for clock in ("wall", "cpu", "await"):
            view(folder, "orders.gprof", "--clock", clock, "-o", f"{clock}.html")
            page = (folder / f"{clock}.html").read_text(encoding="utf-8")
            assert f'"clock":"{clock}"' in page

    def test_several_profiles_are_one_report(self, folder: Path) -> None:
        view(folder, "orders.gprof", "orders.gprof", "-o", "both.html")
        view(folder, "orders.gprof", "-o", "one.html")
        seen = {
            name: re.search(r'\["samples","(\d+) at', (folder / name).read_text(encoding="utf-8"))
            for name in ("one.html", "both.html")
        }
        assert {name: found and found[1] for name, found in seen.items()} == {
            "one.html": "290",
            "both.html": "580",
        }

    def test_nobody_waits_for_it_to_be_closed(self, folder: Path) -> None:
        ids = folder / "pid"
        then = f"open({str(ids)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
        begun = time.monotonic()
        # A pipe of the caller's that the browser kept open would hold up a shell's $(...) as well.
        finished = view(folder, "orders.gprof", browser=recorder(folder, then=then))
        assert time.monotonic() - begun < 30
        assert "opened" in finished.stderr
        os.kill(int(ids.read_text()), signal.SIGTERM)

    def test_its_words_stay_out_of_ours(self, folder: Path) -> None:
        noisy = recorder(folder, then="print('hello'); print('noise', file=sys.stderr)")
        finished = view(folder, "orders.gprof", browser=noisy)
        assert finished.stdout == ""
        assert "noise" not in finished.stderr

    def test_the_next_one_is_tried_if_it_fails(self, folder: Path) -> None:
        failing = program(folder, "failing", "sys.exit(1)")
        browsers = f"{folder / 'missing'}:{failing}:{recorder(folder)}"
        finished = view(folder, "orders.gprof", browser=browsers)
        assert "opened" in finished.stderr
        assert len(opened(folder)) == 1

    def test_a_command_line_with_a_place_for_the_address(self, folder: Path) -> None:
        finished = view(folder, "orders.gprof", browser=f"{recorder(folder)} --app %s")
        assert "opened" in finished.stderr
        assert is_report(opened(folder)[0])

    def test_quiet(self, folder: Path) -> None:
        finished = view(folder, "-q", "orders.gprof", browser=recorder(folder))
        assert (finished.stdout, finished.stderr) == ("", "")
        assert opened(folder)

    def test_a_desktop_without_browser_variable(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        recorder(folder / "bin", "xdg-open")
        view(folder, "orders.gprof", PATH=str(folder / "bin"), DISPLAY=":99")
        assert is_report(opened(folder / "bin", "xdg-open")[0])


class TestWithout:
    def assert_printed(self, finished: Finished, folder: Path) -> None:
        report = Path(finished.stdout.removesuffix("\n"))
        assert is_report(report)
        assert report.parent.parent == folder / "tmp"
        assert finished.stdout.count("\n") == 1

    def test_the_path_is_printed(self, folder: Path) -> None:
        finished = view(folder, "orders.gprof")
        self.assert_printed(finished, folder)
        assert finished.stderr.startswith("greenprof: found no browser")
        assert finished.stderr.count("\n") == 1

    def test_when_none_is_wanted(self, folder: Path) -> None:
        finished = view(folder, "--no-browser", "orders.gprof", browser=recorder(folder))
        self.assert_printed(finished, folder)
        assert finished.stderr == ""
        assert not (folder / "recorder.url").exists()

    @pytest.mark.parametrize("name", ["lynx", "w3m", "links", "elinks", "www-browser"])
    @pytest.mark.parametrize("named", [True, False], ids=["in BROWSER", "on the path"])
    def test_text_mode_browsers_are_none(self, folder: Path, name: str, *, named: bool) -> None:
        (folder / "bin").mkdir()
        path = recorder(folder / "bin", name)
        finished = view(
            folder,
            "orders.gprof",
            browser=f"{path} %s" if named else "",
            PATH=str(folder / "bin"),
            TERM="xterm",
        )
        self.assert_printed(finished, folder)
        assert not (folder / "bin" / f"{name}.url").exists()

    @pytest.mark.parametrize("browser", [" ", ":", "%s", "/nonexistent/browser", "/", "a'b"])
    def test_a_browser_that_is_none(self, folder: Path, browser: str) -> None:
        self.assert_printed(view(folder, "orders.gprof", browser=browser), folder)

    def test_the_path_is_relative_to_nothing(self, folder: Path) -> None:
        finished = view(folder, "orders.gprof", "-o", "out.htm")
        assert finished.stdout == f"{folder / 'out.htm'}\n"

    @pytest.mark.parametrize(
        "name",
        ["a b", "$(touch x)", "-rf", "a\nb", "\x1b[2J", "<script>", "\udcff", "名" * 60, "."],
    )
    def test_names_of_profiles(self, folder: Path, name: str) -> None:
        (folder / f"{name}.gprof").write_bytes((folder / "orders.gprof").read_bytes())
        finished = view(folder, "--", f"{name}.gprof")
        self.assert_printed(finished, folder)
        assert finished.stdout.rstrip("\n").isprintable()
        assert shlex.split(finished.stdout.rstrip("\n")) == [finished.stdout.rstrip("\n")]

    def test_names_of_reports(self, folder: Path) -> None:
        for name in ("a\nb.html", "\udcff \x1b[2J.html"):
            finished = run_python(
                "-c",
                "import os, subprocess, sys;"
                "done = subprocess.run([sys.executable, '-m', 'greenprof', 'view', 'orders.gprof',"
                " '--no-browser', '-o', sys.argv[1]], stdout=subprocess.PIPE);"
                "assert os.fsdecode(done.stdout) == os.path.join(os.getcwd(), sys.argv[1]) + '\\n'",
                name,
                cwd=folder,
            )
            assert finished.stderr == ""
            assert is_report(folder / name)


class TestBadInput:
    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            ("", "no profile given"),
            ("nosuch.gprof", "no profile 'nosuch.gprof'"),
            ("orders.gprof nosuch.gprof", "no profile 'nosuch.gprof'"),
            ("bad.gprof", "not a greenprof profile"),
            ("bad.gprof -o new.html", "not a greenprof profile"),
            ("tmp", "is a directory"),
            ("orders.gprof -o taken.html", "--force"),
            ("orders.gprof -o tmp.html/x.html", "no directory"),
            ("orders.gprof -o folder.html", "is a directory"),
            ("orders.gprof -o -", "export -o -"),
            ("orders.gprof -o out.txt", "end its name with .html"),
            ("orders.gprof -o", "-o"),
            ("orders.gprof --clock sun", "'sun' is not one of"),
            ("orders.gprof --tree", "--tree"),
        ],
    )
    def test_one_line_and_nothing_made(self, folder: Path, typed: str, said: str) -> None:
        (folder / "taken.html").write_text("precious")
        (folder / "folder.html").mkdir()
        (folder / "bad.gprof").write_text("no profile")
        env = {**NO_BROWSER, "BROWSER": recorder(folder), "TMPDIR": str(folder / "tmp")}
        line = one_line_error("view", *typed.split(), cwd=folder, env=env)
        assert said in line
        assert line.startswith("greenprof view: ")

    def test_force_replaces(self, folder: Path) -> None:
        (folder / "taken.html").write_text("precious")
        view(folder, "orders.gprof", "-f", "-o", "taken.html")
        assert is_report(folder / "taken.html")

    def test_no_place_for_temporary_files(self, folder: Path) -> None:
        """As where TMPDIR, /tmp and the folder itself cannot be written to."""
        before = contents(folder)
        patched = (
            "import sys, tempfile\n"
            "def mkdtemp(**_): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
            "tempfile.mkdtemp = mkdtemp\n"
            "from greenprof.cli import main\n"
            "sys.exit(main(['view', 'orders.gprof']))"
        )
        finished = run_python("-c", patched, cwd=folder, expect=2)
        assert finished.stderr == (
            "greenprof view: cannot make a temporary folder for the report: "
            "no usable temporary directory found; name a file with -o\n"
        )
        assert contents(folder) == before

    def test_a_report_that_cannot_be_written_leaves_no_folder(self, folder: Path) -> None:
        patched = (
            "import sys\n"
            "from greenprof import errors\n"
            "from greenprof.cli import main, view\n"
            "def write_output(*_, **__): raise errors.OutputError('cannot write: disk full')\n"
            "view.write_output = write_output\n"
            "sys.exit(main(['view', 'orders.gprof']))"
        )
        env = {"TMPDIR": str(folder / "tmp")}
        finished = run_python("-c", patched, cwd=folder, expect=2, env=env)
        assert finished.stderr == "greenprof view: cannot write: disk full\n"
        assert not left_over(folder)


def test_run_and_export_write_reports(folder: Path) -> None:
    run_greenprof("export", "orders.gprof", "-o", "exported.html", cwd=folder)
    assert is_report(folder / "exported.html")
    run_greenprof("run", "-o", "ran.html", "-c", "sum(range(10**7))", cwd=folder)
    page = (folder / "ran.html").read_text(encoding="utf-8")
    assert "sum(range(10**7))" in page
