"""greenhack at prompts: a real IPython in a terminal and in a loop, and the plain REPL."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

import pytest

from tests.running import run_python

SETUP = """
import asyncio, os, signal, threading
from greenprof import greenhack

@greenhack.exempt
async def add(one, two=1):
    await asyncio.sleep(0)
    return one + two

async def loop_now():
    return id(asyncio.get_running_loop())
"""


def cells(tmp_path: Path, *typed: str, at: str) -> list[str]:
    """What IPython prints for cells, which it is given as lines at its prompt, or as a kernel is."""
    program = tmp_path / "program.py"
    if at == "kernel":
        # As ipykernel does it: cells are tasks on a loop that runs all the time.
        program.write_text(
            f"""
import asyncio
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = False

async def kernel():
    for cell in {[SETUP, *typed]!r}:
        transformed = shell.transform_cell(cell)
        if shell.should_run_async(cell, transformed_cell=transformed):
            await asyncio.ensure_future(
                shell.run_cell_async(cell, transformed_cell=transformed, store_history=False)
            )
        else:
            shell.run_cell(cell, store_history=False)

asyncio.run(kernel())
""",
            encoding="utf-8",
        )
    else:
        program.write_text(
            f"""
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(simple_prompt=True)
shell.history_manager.enabled = False
for cell in {[SETUP, *typed]!r}:
    shell.run_cell(cell, store_history=False)
""",
            encoding="utf-8",
        )
    finished = run_python(program, env={"IPYTHONDIR": str(tmp_path), "NO_COLOR": "1"})
    assert finished.stderr == "", str(finished)
    return finished.stdout.splitlines()


both = pytest.mark.parametrize("at", ["terminal", "kernel"])


@both
def test_cells_wait(tmp_path: Path, at: str) -> None:
    assert cells(
        tmp_path,
        "greenhack.ipython.enable(); greenhack.ipython.enable()",
        "print(add(add(1)))",
        "numbers = [add(number) for number in range(3)]",
        "print(numbers)",
        "def double(): return 2 * add(3)\nprint(double())",
        "print(await add.__wrapped__(4))",
        "one = greenhack.await_(loop_now())",
        "two = await loop_now()",
        "print(one == two)",
        at=at,
    ) == ["3", "[1, 2, 3]", "8", "5", "True"]


@both
def test_tasks_go_on_from_cell_to_cell(tmp_path: Path, at: str) -> None:
    assert cells(
        tmp_path,
        "greenhack.ipython.enable()",
        "async def later(): return asyncio.create_task(asyncio.sleep(0.01, 'done'))",
        "task = greenhack.await_(later())",
        "print(greenhack.await_(task))",
        "other = await later()",
        "print(await other)",
        at=at,
    ) == ["done", "done"]


@both
def test_errors_are_shown_and_the_prompt_goes_on(tmp_path: Path, at: str) -> None:
    printed = cells(
        tmp_path,
        "greenhack.ipython.enable()",
        "add(1, 'x')",
        "1 +",
        "print(add(1))",
        at=at,
    )
    assert any("unsupported operand" in line for line in printed)
    assert any("SyntaxError" in line for line in printed)
    assert printed[-1] == "2"


def test_ctrl_c_at_a_cell(tmp_path: Path) -> None:
    printed = cells(
        tmp_path,
        "greenhack.ipython.enable()",
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "greenhack.await_(asyncio.sleep(30))",
        "print(add(1))",
        at="terminal",
    )
    assert any("KeyboardInterrupt" in line for line in printed)
    assert printed[-1] == "2"


def test_asyncio_run_in_a_cell(tmp_path: Path) -> None:
    assert cells(
        tmp_path,
        "greenhack.ipython.enable()",
        "print(asyncio.run(add.__wrapped__(1)), add(2))",
        at="terminal",
    ) == ["2 3"]


@both
def test_disabled_again(tmp_path: Path, at: str) -> None:
    printed = cells(
        tmp_path,
        "greenhack.ipython.disable()",
        "greenhack.ipython.enable()",
        "print(add(1))",
        "greenhack.ipython.disable()",
        "print(greenhack.can_await())",
        "print(await add.__wrapped__(2))",
        at=at,
    )
    assert printed == ["2", "False", "3"]


def test_without_ipython() -> None:
    finished = run_python(
        "-c", "from greenprof import greenhack; greenhack.ipython.enable()", expect=1
    )
    assert finished.stderr.rstrip().endswith(
        "none runs here: call greenhack.start_loop() instead"
    ), str(finished)


def typed_at(arguments: list[str], lines: list[str], prompt: str, env: dict[str, str]) -> str:
    """What a terminal shows of a program that lines are typed at, each at a prompt."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **env})
    shown = ""
    until = time.monotonic() + 60
    try:
        for line in [*lines, "exit()"]:
            seen = len(shown)
            while prompt not in shown[seen:]:
                assert time.monotonic() < until, shown
                shown += os.read(terminal, 4096).decode(errors="replace")
            os.write(terminal, line.encode() + b"\n")
        while True:
            assert time.monotonic() < until, shown
            shown += os.read(terminal, 4096).decode(errors="replace")
    except OSError:
        pass  # it has ended
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    return shown.replace("\r", "")


ONE_LINE = (
    "from greenprof import greenhack; import asyncio; "
    "sleep = greenhack.exempt(lambda said: asyncio.sleep(0.001, said * 2))"
)


def test_typed_at_ipython(tmp_path: Path) -> None:
    shown = typed_at(
        ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"],
        [ONE_LINE, "greenhack.ipython.enable()", "sleep('ab')", "await asyncio.sleep(0, 'c' * 4)"],
        "]: ",
        {"IPYTHONDIR": str(tmp_path), "NO_COLOR": "1"},
    )
    assert "'abab'" in shown
    assert "'cccc'" in shown


def test_typed_at_the_plain_prompt() -> None:
    shown = typed_at(
        ["-q"],
        [ONE_LINE, "_ = greenhack.start_loop()", "sleep('ab')", "sleep('cd')"],
        ">>> ",
        {"PYTHON_BASIC_REPL": "1", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert "'abab'" in shown
    assert "'cdcd'" in shown
