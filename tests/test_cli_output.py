"""What `greenprof run`, `show` and `export` write, where, and in whose words."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from greenprof import __version__
from greenprof.cli.main import COMMANDS
from greenprof.profiles import Profile
from tests.cli_programs import saved_profile, write_program
from tests.running import run_greenprof, run_python

PROGRAM = """\
    import asyncio, sys, time
    def burn():
        until = time.process_time() + 0.15
        while time.process_time() < until:
            pass
    async def order():
        burn()
        await asyncio.sleep(0.2)
    async def serve():
        await asyncio.gather(*(asyncio.create_task(order(), name="order") for _ in range(2)))
    asyncio.run(serve())
    print("the program's own output")
    print("and its complaint", file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_program(tmp_path, "app.py", PROGRAM)
    return tmp_path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of the program, for commands that only read it."""
    folder = tmp_path_factory.mktemp("recorded")
    write_program(folder, "app.py", PROGRAM)
    run_greenprof("run", "-q", "-o", "app.gprof", "app.py", cwd=folder, expect=3)
    return folder / "app.gprof"


def test_greenprof_is_nobody_s_caller(tmp_path: Path) -> None:
    """The program's module is the root: in the profile, in a nested one, and in what it captures."""
    write_program(
        tmp_path,
        "app.py",
        """\
        import greenprof, sys, time
        def burn():
            until = time.process_time() + 0.3
            while time.process_time() < until:
                pass
        print([frame.name for frame in greenprof.capture_stack().frames])
        with greenprof.profile() as p:
            burn()
        p.profile.save("nested.gprof")
        """,
    )
    finished = run_greenprof("run", "-q", "-o", "app.gprof", "app.py", cwd=tmp_path)
    assert finished.stdout == "['<module>']\n"
    for name in ("app.gprof", "nested.gprof"):
        profile = Profile.load(tmp_path / name)
        stacks = [profile.stack(sample.stack) for sample in profile.samples if sample.cpu_ns]
        burning = [stack for stack in stacks if any(frame.name == "burn" for frame in stack)]
        assert burning
        assert {stack[0].name for stack in burning} == {"<module>"}


def test_a_run_without_output_says_what_to_type_next(folder: Path) -> None:
    finished = run_greenprof("run", "app.py", cwd=folder, expect=3)
    assert finished.stdout == "the program's own output\n"
    assert finished.stderr.startswith("and its complaint\n\napp.py, ")
    saved = saved_profile(folder)
    assert re.fullmatch(r"app-\d{8}-\d{6}-\d+\.gprof", saved.name)
    said, *commands = finished.stderr.splitlines()[-3:]
    assert said == f"greenprof: saved {saved.name}; in the browser, or its whole stacks here:"
    view, show = map(shlex.split, commands)
    assert view[:3] == show[:3] == ["python", "-m", "greenprof"]
    assert view[3:] == ["view", saved.name]
    report = run_greenprof(*view[3:], "--no-browser", cwd=folder, env={"TMPDIR": str(folder)})
    assert "burn" in Path(report.stdout.rstrip("\n")).read_text(encoding="utf-8")
    tree = run_greenprof(*show[3:], cwd=folder)
    assert "burn" in tree.stdout
    assert len(finished.stderr.splitlines()) <= 50


def test_the_next_command_is_that_of_the_installed_script(folder: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "greenprof"
    finished = run_python(script, "run", "app.py", cwd=folder, expect=3)
    assert finished.stderr.splitlines()[-1].startswith("  greenprof show --tree app-")


def test_the_summary_answers_the_questions(folder: Path) -> None:
    summary = run_greenprof("run", "app.py", cwd=folder, expect=3).stderr
    for word in ("order", "burn", "app.py:8", "asyncio.tasks.sleep", "100 Hz"):
        assert word in summary
    assert "\x1b" not in summary
    # greenprof's own frames stand above the program's: no reader wants them.
    assert "run_as_main" not in summary
    profile = Profile.load(saved_profile(folder))
    roots = {profile.frames[frame].name for parent, frame in profile.nodes if parent < 0}
    assert "<module>" in roots
    assert "main" not in roots
    assert profile.info.command == "app.py"


def test_outputs_of_several_formats(folder: Path) -> None:
    outputs = ["a.gprof", "b.txt", "c.collapsed", "d.speedscope.json", "e.any"]
    options = [word for name in outputs[:4] for word in ("-o", name)]
    finished = run_greenprof("run", "--rate", "500", *options, "app.py", cwd=folder, expect=3)
    wrote = "".join(f"greenprof: wrote {name}\n" for name in outputs[:4])
    assert finished.stderr == f"and its complaint\n{wrote}"
    assert Profile.load(folder / "a.gprof").info.rate_hz == 500
    assert "burn" in (folder / "b.txt").read_text(encoding="utf-8")
    assert "burn (" in (folder / "c.collapsed").read_text(encoding="utf-8")
    assert json.loads((folder / "d.speedscope.json").read_text(encoding="utf-8"))["profiles"]
    run_greenprof(
        "run",
        "-q",
        "-oe.any",
        "--format=collapsed",
        "--clock",
        "cpu",
        "app.py",
        cwd=folder,
        expect=3,
    )
    collapsed = (folder / "e.any").read_text(encoding="utf-8")
    assert "burn (" in collapsed
    assert "[await]" not in collapsed
    assert sorted(path.name for path in folder.iterdir()) == [*outputs[:1], "app.py", *outputs[1:]]


def test_standard_output_gets_the_profile_after_the_programs_own(folder: Path) -> None:
    write_program(folder, "app.py", PROGRAM.replace("sys.exit(3)", "sys.stdout = None"))
    finished = run_greenprof("run", "-o", "-", "--format", "collapsed", "app.py", cwd=folder)
    own, *lines = finished.stdout.splitlines()
    assert own == "the program's own output"
    assert lines
    assert all(re.fullmatch(r".+ \d+", line) for line in lines)
    assert finished.stderr == "and its complaint\n"


def test_quiet_says_nothing(folder: Path) -> None:
    finished = run_greenprof("run", "--quiet", "app.py", cwd=folder, expect=3)
    assert finished.stderr == "and its complaint\n"
    assert Profile.load(saved_profile(folder)).samples


def test_existing_output_is_replaced_only_by_force(folder: Path) -> None:
    (folder / "out.txt").write_text("precious")
    run_greenprof("run", "-o", "out.txt", "app.py", cwd=folder, expect=2)
    assert (folder / "out.txt").read_text() == "precious"
    run_greenprof("run", "--force", "-o", "out.txt", "app.py", cwd=folder, expect=3)
    assert "burn" in (folder / "out.txt").read_text(encoding="utf-8")


def test_output_made_while_the_program_ran_is_kept(folder: Path) -> None:
    write_program(folder, "app.py", "open('out.txt', 'w').write('precious'); exit(4)")
    finished = run_greenprof("run", "-o", "out.txt", "-o", "b.txt", "app.py", cwd=folder, expect=4)
    assert (folder / "out.txt").read_text() == "precious"
    assert finished.stderr.count("\n") == 2
    assert "exists" in finished.stderr
    assert "greenprof: wrote b.txt\n" in finished.stderr


def test_outputs_are_where_they_were_named_though_the_program_goes_elsewhere(folder: Path) -> None:
    write_program(folder, "app.py", "import os; os.mkdir('away'); os.chdir('away')")
    run_greenprof("run", "-q", "-o", "out.txt", "app.py", cwd=folder)
    assert (folder / "out.txt").exists()
    (folder / "away").rmdir()
    run_greenprof("run", "-q", "app.py", cwd=folder)
    assert saved_profile(folder).exists()


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (("-m", "package.tool"), "package.tool-"),
        (("-c", "pass"), "code-"),
        (("odd name$.py",), "odd_name-"),
        (("package",), "package-"),
    ],
)
def test_saved_profiles_are_named_after_the_program(
    folder: Path, program: tuple[str, ...], name: str
) -> None:
    for path in ("package/__init__.py", "package/tool.py", "package/__main__.py", "odd name$.py"):
        write_program(folder, path, "")
    run_greenprof("run", "-q", *program, cwd=folder)
    assert saved_profile(folder).name.startswith(name)


CLOSED = """\
    import os, subprocess, sys
    where, *command = sys.argv[1:]
    def close():
        for fd in map(int, where):
            os.close(fd)
    sys.exit(subprocess.run(command, preexec_fn=close).returncode)
"""


@pytest.mark.parametrize("closed", ["2", "1", "12", "012"])
@pytest.mark.parametrize("options", [[], ["-o", "out.txt"]], ids=["summary", "output"])
def test_closed_streams_change_nothing(folder: Path, closed: str, options: list[str]) -> None:
    """The program's own files may then have the numbers of the streams."""
    write_program(folder, "close.py", CLOSED)
    write_program(folder, "app.py", "file = open('own.txt', 'w'); file.write('own'); exit(3)")
    command = (sys.executable, "-m", "greenprof", "run", *options, "app.py")
    run_python("close.py", closed, *command, cwd=folder, expect=3)
    assert (folder / "own.txt").read_text() == "own"
    assert (folder / "out.txt").exists() if options else saved_profile(folder)


def test_a_reader_that_went_away_changes_nothing(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    write_program(folder, "app.py", "exit(3)")
    command = [sys.executable, "-m", "greenprof", "run"]
    with os.fdopen(write):
        for options in ([], ["-o", "-", "--format", "text"]):
            finished = subprocess.run(
                [*command, *options, "app.py"],
                cwd=folder,
                stdout=write,
                stderr=write,
                timeout=60,
                check=False,
            )
            assert finished.returncode == 3
    Profile.load(saved_profile(folder))


@pytest.mark.parametrize("command", ["show", "show --tree", "export -o - --format text"])
def test_a_reader_that_has_seen_enough(recorded: Path, command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "greenprof", *command.split(), str(recorded)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_show_and_export_say_what_the_run_said(recorded: Path) -> None:
    shown = run_greenprof("show", recorded)
    for word in ("order", "burn", "asyncio.tasks.sleep"):
        assert word in shown.stdout
    assert shown.stderr == ""
    assert run_greenprof("show", "--clock", "cpu", recorded).stdout != shown.stdout
    tree = run_greenprof("show", "--tree", recorded).stdout
    assert tree.index("order") < tree.index("burn")
    folder = recorded.parent
    exported = run_greenprof("export", recorded, "-o", "new.speedscope.json", cwd=folder)
    assert exported.stdout == ""
    assert exported.stderr == "greenprof: wrote new.speedscope.json\n"
    assert json.loads((folder / "new.speedscope.json").read_text(encoding="utf-8"))["profiles"]
    copied = run_python(
        "-c",
        "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-m', 'greenprof', 'export',"
        f" {str(recorded)!r}, '-o', '-', '--format', 'gprof'], stdout=open('copy.gprof', 'wb')).returncode)",
        cwd=folder,
    )
    assert copied.stderr == ""
    assert (folder / "copy.gprof").read_bytes() == recorded.read_bytes()


def test_several_profiles_become_one(recorded: Path) -> None:
    folder = recorded.parent
    run_greenprof("export", "-q", recorded, recorded, "-o", "both.gprof", cwd=folder)
    one, both = Profile.load(recorded), Profile.load(folder / "both.gprof")
    assert both.info.process_cpu_ns == 2 * one.info.process_cpu_ns


def test_a_terminal_gets_colours_and_its_width(recorded: Path) -> None:
    """In a pseudo-terminal of 72 columns; NO_COLOR and a pipe get none."""

    def drawn(**env: str) -> str:
        controller, terminal = pty.openpty()
        os.set_blocking(controller, True)
        import fcntl
        import struct
        import termios

        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 72, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "greenprof", "show", str(recorded)],
            stdout=terminal,
            env={**os.environ, "TERM": "xterm", **env},
        )
        os.close(terminal)
        data = b""
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # the other end is closed: a terminal says so
                break
            if not part:
                break
            data += part
        os.close(controller)
        assert process.wait(60) == 0
        return data.decode()

    coloured = drawn()
    assert "\x1b[" in coloured
    assert "burn" in coloured
    plain = drawn(NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in plain.splitlines()) <= 72


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(recorded: Path, encoding: str) -> None:
    finished = run_greenprof("show", "--tree", recorded, env={"PYTHONIOENCODING": encoding})
    assert "burn" in finished.stdout


@pytest.mark.parametrize(
    "words",
    ["--help", "-h", "run --help", "view -h", "show -h", "export --help", "diff -h", "merge -h"],
)
def test_help_has_examples(words: str) -> None:
    finished = run_greenprof(*words.split())
    assert "Examples:" in finished.stdout
    assert finished.stderr == ""
    for example in re.findall(r"^  +(greenprof .*?)(?:  .*)?$", finished.stdout, re.MULTILINE):
        assert example.split()[1] in COMMANDS


def test_version() -> None:
    for option in ("--version", "-V"):
        assert run_greenprof(option).stdout == f"greenprof {__version__}\n"
