"""A program under `greenprof run` sees, prints and returns what it does under plain python."""

from __future__ import annotations

import shutil
import sysconfig
import zipfile
from pathlib import Path

import pytest

from greenprof.profiles import Profile
from tests.cli_programs import run_both, write_program
from tests.running import run_greenprof, run_python

SEES = """\
    '''A docstring.'''
    import sys
    def plain(value):
        return value if isinstance(value, (str, type(None))) else type(value).__name__
    main = sys.modules["__main__"]
    assert main.__dict__ is globals()
    print(sys.argv, sys.path, sep="\\n")
    for name, value in sorted(globals().items()):
        print(name, plain(value))
    if __spec__ is not None:
        print(__spec__.name, __spec__.origin, __spec__.parent)
    print(sys.flags)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scripts, a package, a folder and a zip file that all print what they see."""
    for name in ("app.py", "sub/app.py", "package/__init__.py", "package/tool.py"):
        write_program(tmp_path, name, SEES if name != "package/__init__.py" else "")
    write_program(tmp_path, "package/__main__.py", SEES)
    write_program(tmp_path, "box/__main__.py", SEES)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "app.py", "__main__.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "sub" / "app.py")
    return tmp_path


@pytest.mark.parametrize(
    "program",
    [
        ("app.py",),
        ("./app.py", "--rate", "5", "-m", "x", "--help", "--", "-o"),
        ("sub/../sub/app.py",),
        ("link.py",),
        ("-m", "app", "-c", "-q"),
        ("-m", "package.tool", "--version"),
        ("-mpackage", "a b"),
        ("box", "x"),
        ("box/", "x"),
        ("app.zip", "x"),
        (
            "-c",
            "import sys; print(sys.argv, sys.path, sorted(globals()), __name__, __spec__)",
            "-o",
        ),
        ("-cprint(__name__)",),
    ],
    ids=" ".join,
)
def test_argv_path_and_main_module(folder: Path, program: tuple[str, ...]) -> None:
    assert run_both(*program, cwd=folder).stdout


@pytest.mark.parametrize("option", ["-P", "-O", "-Wignore", "-Xdev"])
def test_interpreter_options_reach_the_program(folder: Path, option: str) -> None:
    run_both("app.py", cwd=folder, python_options=[option])


def test_the_compiled_form_of_a_script_runs(folder: Path) -> None:
    run_python("-c", "import py_compile; py_compile.compile('app.py', 'app.pyc')", cwd=folder)
    run_both("app.pyc", cwd=folder)


def test_a_program_on_standard_input_runs(tmp_path: Path) -> None:
    options = ("run", "-q", "-o", tmp_path / "out.gprof", "-", "argument")
    finished = run_python("-m", "greenprof", *options, stdin="import sys; print(sys.argv)")
    assert finished.stdout == "['-', 'argument']\n"


SECOND = """\
    import dataclasses, inspect, multiprocessing, pickle, sys, typing

    @dataclasses.dataclass
    class Point:
        x: "int"

    def moved(point):
        return Point(point.x + 1)

    if __name__ == "__main__":
        assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
        assert typing.get_type_hints(Point) == {"x": int}
        print(inspect.getsource(moved))
        for method in sys.argv[1:]:
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(method, pool.map(moved, [Point(1), Point(2)]))
"""


@pytest.mark.parametrize("program", [("app.py",), ("-m", "app"), ("-m", "package")], ids=" ".join)
def test_pickle_inspect_and_multiprocessing_find_main(
    tmp_path: Path, program: tuple[str, ...]
) -> None:
    write_program(tmp_path, "app.py", SECOND)
    write_program(tmp_path, "package/__init__.py", "")
    write_program(tmp_path, "package/__main__.py", SECOND)
    methods = ["spawn", "fork"] if program != ("-m", "package") else ["fork"]
    finished = run_both(*program, *methods, cwd=tmp_path)
    assert "Point(x=3)" in finished.stdout


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit", 0),
        ("raise SystemExit(None)", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit(True)", 1),
        ("raise SystemExit('no such order')", 1),
        ("raise SystemExit((1, 2))", 1),
        ("class Mine(SystemExit): pass\nraise Mine(4)", 4),
        ("import sys\nclass Lying(int): pass\nsys.exit(Lying(5))", 5),
        ("1 / 0", 1),
        ("raise BaseException('base')", 1),
        ("raise BaseExceptionGroup('several', [KeyError(1), OSError(2)])", 1),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError from error", 1),
        ("def deep(n):\n    deep(n)\ntry:\n    deep(0)\nexcept RecursionError:\n    exit(6)", 6),
        ("import sys\nsys.excepthook = lambda *a: print('hook', a[1], sys.exc_info())\n1 / 0", 1),
        ("import sys\nsys.excepthook = lambda *a: sys.exit(9)\n1 / 0", 9),
        ("import sys\nsys.excepthook = lambda *a: {}[a]\n1 / 0", 1),
        ("import sys\ndel sys.excepthook\n1 / 0", 1),
        ("import sys\nsys.stderr = None\n1 / 0", 1),
        ("import atexit, sys\natexit.register(lambda: print(sys.last_value))\n1 / 0", 1),
        ("import greenprof.errors\nraise greenprof.errors.OutputError('the program raised it')", 1),
        ("import sys\nsys.stdout.close()", 0),
    ],
)
@pytest.mark.parametrize("form", ["script", "module", "code"])
def test_how_programs_end(tmp_path: Path, form: str, source: str, code: int) -> None:
    write_program(tmp_path, "app.py", source)
    program = {"script": ["app.py"], "module": ["-m", "app"], "code": ["-c", source]}[form]
    assert run_both(*program, cwd=tmp_path).returncode == code


@pytest.mark.parametrize("program", [("bad.py",), ("-m", "bad"), ("-c", "x = (")], ids=" ".join)
def test_a_syntax_error_is_the_programs_own(tmp_path: Path, program: tuple[str, ...]) -> None:
    write_program(tmp_path, "bad.py", "def broken(:\n    pass\n")
    finished = run_both(*program, cwd=tmp_path, recorded=False)
    assert "SyntaxError" in finished.stderr
    assert finished.returncode == 1


def test_an_import_that_fails_inside_the_program_is_its_own(tmp_path: Path) -> None:
    write_program(tmp_path, "package/__init__.py", "import nosuchmodule")
    write_program(tmp_path, "package/tool.py", "")
    finished = run_greenprof("run", "-m", "package.tool", cwd=tmp_path, expect=1)
    assert "ModuleNotFoundError: No module named 'nosuchmodule'" in finished.stderr
    assert "greenprof" not in finished.stderr
    assert not list(tmp_path.glob("*.gprof"))


def test_threads_and_exit_handlers_end_before_the_profile_is_written(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        "app.py",
        """\
        import atexit, glob, threading, time
        def profiles(moment):
            print(moment, glob.glob("*.gprof"))
        atexit.register(profiles, "at exit")
        threading.Thread(target=lambda: (time.sleep(0.3), profiles("thread"))).start()
        raise SystemExit(5)
        """,
    )
    finished = run_both("app.py", cwd=tmp_path)
    assert finished.stdout == "thread []\nat exit []\n"


def test_forked_children_leave_the_profile_alone(tmp_path: Path) -> None:
    write_program(
        tmp_path,
        "app.py",
        """\
        import os, sys
        def child(ending):
            pid = os.fork()
            if not pid:
                ending()
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.listdir(), flush=True)
        child(lambda: sys.exit(4))
        child(lambda: os._exit(5))
        child(lambda: os.kill(os.getpid(), 15))
        child(lambda: 1 / 0)
        """,
    )
    finished = run_both("app.py", cwd=tmp_path)
    assert [line.split()[0] for line in finished.stdout.splitlines()] == ["4", "5", "-15", "1"]


def test_modules_of_the_program_win_over_those_that_greenprof_imported(tmp_path: Path) -> None:
    names = ["secrets", "calendar", "signal", "click", "rich", "random", "typing_extensions"]
    for name in names:
        write_program(tmp_path, f"{name}.py", "mine = True")
    checks = "\n".join(f"import {name}; print({name}.mine)" for name in names)
    write_program(tmp_path, "app.py", f"{checks}\nimport email; print(email.__file__)")
    (tmp_path / "email").mkdir()  # no package: python prefers its own
    script = Path(sysconfig.get_path("scripts")) / "greenprof"
    plain = run_python("app.py", cwd=tmp_path)
    finished = run_python(script, "run", "app.py", cwd=tmp_path)
    assert finished.stdout == plain.stdout
    # The summary is drawn by the real rich.
    assert "greenprof: saved app-" in finished.stderr
    assert "could not" not in finished.stderr


def test_installed_commands_run_by_their_names(tmp_path: Path) -> None:
    finished = run_greenprof("run", "-q", "--", "uvicorn", "--version", cwd=tmp_path)
    plain = run_python(Path(sysconfig.get_path("scripts")) / "uvicorn", "--version")
    assert finished.stdout == plain.stdout
    assert [path.name.partition("-")[0] for path in tmp_path.glob("*.gprof")] == ["uvicorn"]


def test_python_scripts_on_path_run_by_their_names(tmp_path: Path) -> None:
    script = write_program(
        tmp_path, "bin/mytool", "#!/usr/bin/env python3\nimport sys; print(sys.argv)"
    )
    script.chmod(0o755)
    env = {"PATH": str(script.parent)}
    finished = run_greenprof("run", "-q", "--", "mytool", "-x", cwd=tmp_path, env=env)
    assert finished.stdout == f"[{str(script)!r}, '-x']\n"


def test_commands_installed_without_a_script_run_too(tmp_path: Path) -> None:
    write_program(
        tmp_path, "tool.py", "import sys\ndef main():\n    print(sys.argv[1:])\n    return 3"
    )
    write_program(tmp_path, "tool-1.0.dist-info/METADATA", "Name: tool\nVersion: 1.0\n")
    write_program(
        tmp_path, "tool-1.0.dist-info/entry_points.txt", "[console_scripts]\nmytool = tool:main\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    finished = run_greenprof("run", "-q", "--", "mytool", "-x", cwd=tmp_path, env=env, expect=3)
    assert finished.stdout == "['-x']\n"


def test_a_script_is_run_after_two_dashes_too(folder: Path) -> None:
    finished = run_greenprof("run", "-q", "--", "app.py", cwd=folder)
    assert finished.stdout.startswith("['app.py']\n")
    shutil.copy(folder / "app.py", folder / "nothing-installed")
    assert run_greenprof("run", "-q", "--", "nothing-installed", cwd=folder).stdout


def test_stacks_of_greenlets_begin_with_the_program(tmp_path: Path) -> None:
    """gevent keeps the stack that spawned a greenlet, and greenprof's own frames are at its root."""
    write_program(
        tmp_path,
        "app.py",
        """\
        import gevent
        def work():
            gevent.sleep(0.3)
        gevent.spawn(work).join()
        """,
    )
    run_greenprof("run", "-q", "-o", "app.gprof", "app.py", cwd=tmp_path)
    profile = Profile.load(tmp_path / "app.gprof")
    stacks = [[frame.name for frame in profile.stack(s.stack)] for s in profile.samples]
    waiting = [stack for stack in stacks if "work" in stack]
    assert waiting
    assert all(stack[:2] == ["<module>", "work"] for stack in waiting), waiting
