"""The one door: reads the command line, catches what is wrong with it, and starts what it asks for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from greenprof._version import __version__
from greenprof.cli.terminal import complain
from greenprof.errors import GreenprofError

__all__ = ["main"]

COMMANDS = ("run", "view", "show", "export", "diff", "merge")

EPILOG = """\b
Examples:
  greenprof run app.py                     profile a script
  greenprof run -m package.module          ... a module
  greenprof run -- uvicorn app:app         ... an installed command
  greenprof run -o report.html app.py      ... and write a report for the browser
  greenprof view app-20260131-120000.gprof
  greenprof show app-20260131-120000.gprof
  greenprof export app.gprof -o app.speedscope.json
  greenprof diff before.gprof after.gprof
  greenprof merge worker1.gprof worker2.gprof -o all.gprof
"""


class Commands(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"greenprof.cli.{cmd_name}").command
        return command


@click.command(
    cls=Commands,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", message="greenprof %(version)s")
@click.pass_context
def greenprof(ctx: click.Context, /) -> None:
    """Profiles Python programs whose stack is split between greenlets.

    One stack per task, from the event loop to the awaited coroutine, with the CPU time and the
    waiting of each.
    """
    if ctx.invoked_subcommand is None:
        raise click.UsageError("no command given: type greenprof run app.py to profile app.py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    `arguments` are those after the program's name, `sys.argv`'s by default. A profiled program ends
    as it would without greenprof: its SystemExit, or what else python makes of its end, comes through.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = " ".join(["greenprof", *[word for word in words[:1] if word in COMMANDS]])
    try:
        job = greenprof.main(words, prog_name="greenprof", standalone_mode=False)
        # Work is done here, outside of click's frames: it handles some errors in its own way.
        code = job() if callable(job) else job
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        complain(f"{_sentence(error.format_message())}; see {command} --help", command)
        return 2
    except GreenprofError as error:
        complain(str(error), command)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        return _reader_left()
    return code if isinstance(code, int) else 0


def _sentence(message: str) -> str:
    return " ".join(message.split()).removesuffix(".")


def _reader_left() -> int:
    """Keeps the interpreter from complaining at its last flush, and exits as SIGPIPE would have."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141
