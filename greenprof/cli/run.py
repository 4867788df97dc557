"""`greenprof run`: runs a program and profiles it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from greenprof.cli import options, recordoptions, spanoptions
from greenprof.cli.imports import OwnImports
from greenprof.cli.program import Program, leave, report_uncaught, run_as_main
from greenprof.cli.session import Session
from greenprof.errors import GreenprofError
from greenprof.redacting import without_secrets

if TYPE_CHECKING:
    from greenprof.cli.children.gather import Family
    from greenprof.cli.delivery import Delivery
    from greenprof.profiles import Profile

__all__ = ["command"]

TARGET = "greenprof.target"
# What compile() raises for a program: the program's own error, as python reports it.
NOT_COMPILED = (SyntaxError, RecursionError, MemoryError, OverflowError)
PROGRAM_OPTIONS = {"m": "module", "c": "code"}

EPILOG = """\b
Examples:
  greenprof run app.py --port 8000         what follows the program is the program's
  greenprof run -m package.module
  greenprof run -c "import app; app.main()"
  greenprof run -- uvicorn app:app         an installed command, by its name
  greenprof run -o report.html app.py      a report to open in a browser
  greenprof run -o out.speedscope.json -o out.gprof app.py
  greenprof run -o - --format collapsed app.py | flamegraph.pl > out.svg
  greenprof run --block-limit 100ms app.py ... and what keeps the event loop for longer
  greenprof run -o app.trace.json app.py   what happened when, for Perfetto
  greenprof run --engine exact app.py      every call counted and timed
  greenprof run --subprocesses -- gunicorn -w 2 app:app    and its workers
  greenprof run --otlp host:4317 app.py    spans of its awaits to an OpenTelemetry collector
  greenprof run --spans app.jsonl app.py   ... or into a file

\b
The program's exit code stays, and so does its output: greenprof's own words go to standard error.
What is recorded so far is saved now and then, as app-...autosave.gprof: that is what remains of a
program that is killed (kill -9). It is removed once the profile is written.
"""


class Target(NamedTuple):
    """The program's part of the command line."""

    kind: str
    """"script", "module", "code" or "command"."""
    name: str
    arguments: list[str]

    def find(self) -> Program:
        """Raises ProgramError where it is not there, SyntaxError where it does not compile."""
        from greenprof.cli import find

        if self.kind == "command":
            from greenprof.cli.installed import find_command

            return find_command(self.name, self.arguments)
        finders: dict[str, Callable[[str, list[str]], Program]] = {
            "script": find.find_script,
            "module": find.find_module,
            "code": find.find_code,
        }
        return finders[self.kind](self.name, self.arguments)

    def __str__(self) -> str:
        option = {"module": ["-m"], "code": ["-c"]}.get(self.kind, [])
        return shlex.join(without_secrets([*option, self.name, *self.arguments]))


class RunCommand(click.Command):
    """Cuts the command line where the program's part begins, so that click sees greenprof's only."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name: not param.is_flag
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in param.opts
        }
        options, target = split(args, takes_value)
        ctx.meta[TARGET] = target
        return super().parse_args(ctx, options)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(
            ctx.command_path, "[OPTIONS] (SCRIPT | -m MODULE | -c CODE | -- COMMAND) [ARGS]..."
        )


def split(args: list[str], takes_value: dict[str, bool]) -> tuple[list[str], Target | None]:
    """Returns greenprof's options and the program; None where the command line names none.

    The program begins at the first word that is no option and no option's value. As with python
    itself, `-m` and `-c` end the options too, alone or in one word with their value. `--otlp` and its
    value, which it need not have, become one word.
    """
    args = list(args)
    index = 0
    while index < len(args):
        word, rest = args[index], args[index + 1 :]
        if word == "--":
            return args[:index], Target("command", rest[0], rest[1:]) if rest else None
        if word == "-" or not word.startswith("-"):
            return args[:index], Target("script", word, rest)
        index += 1
        if word == spanoptions.OTLP:
            from greenprof.cli.otlp import is_endpoint

            valued = bool(rest) and is_endpoint(rest[0])
            args[index - 1 : index + valued] = [f"{word}={rest[0] if valued else ''}"]
            continue
        if word.startswith("--"):
            index += takes_value.get(word, False)  # none where it is --name=value
            continue
        for position, letter in enumerate(word[1:], start=1):
            attached = word[position + 1 :]
            if letter in PROGRAM_OPTIONS:
                flags = [word[:position]] if position > 1 else []
                words = [attached, *rest] if attached else rest
                if not words:
                    raise click.UsageError(
                        f"-{letter} needs a value: the {PROGRAM_OPTIONS[letter]}"
                    )
                target = Target(PROGRAM_OPTIONS[letter], words[0], words[1:])
                return [*args[: index - 1], *flags], target
            if takes_value.get(f"-{letter}"):
                index += not attached
                break
    return args, None


@click.command(cls=RunCommand, epilog=EPILOG)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does.")
@click.option("-c", "code", metavar="CODE", help="Run code, as python -c does.")
@options.outputs(
    "Write the profile there, in the format of the suffix; - is standard output. May be repeated."
    "  [default: a summary, and a new .gprof file]"
)
@options.format_name
@recordoptions.recorded
@options.clock
@click.option(
    "--subprocesses",
    is_flag=True,
    help="Profile the program's Python children too, forked or started anew, and put all into one"
    " profile.",
)
@spanoptions.otlp
@spanoptions.spans
@spanoptions.minimum
@spanoptions.stack
@options.force
@options.quiet
@click.pass_context
def command(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    format_name: str | None,
    clock: str,
    otlp: str | None,
    spans: str | None,
    span_min: float | None,
    span_stack: tuple[str, float] | None,
    *,
    subprocesses: bool,
    force: bool,
    quiet: bool,
    **others: Any,
) -> Callable[[], int]:
    """Run a program and profile it.

    Everything after the script, module or code belongs to the program.
    """
    target: Target | None = ctx.meta[TARGET]
    if target is None:
        raise click.UsageError("no program given: name a script, -m MODULE, -c CODE or -- COMMAND")
    from greenprof.cli.autosave import saving_beside
    from greenprof.cli.delivery import Delivery
    from greenprof.cli.outputs import plan_outputs

    outputs = plan_outputs(paths, format_name, force=force)
    recorded = recordoptions.profiler_options(ctx, others, outputs)
    planned = spanoptions.plan(otlp, spans, span_min, span_stack, force=force, outputs=outputs)
    try:
        program = target.find()
    except NOT_COMPILED as error:
        not_compiled = error.with_traceback(None)
        return lambda: _not_compiled(not_compiled)
    called = "python -m greenprof" if Path(sys.argv[0]).name == "__main__.py" else "greenprof"
    delivery = Delivery(
        program.label, outputs, clock=clock, force=force, quiet=quiet, called=called
    )
    delivery.check()

    def job() -> int:
        imports = OwnImports()
        family = _family(recorded, others["autosave"], delivery) if subprocesses else None

        def deliver(profile: Profile) -> bool:
            with imports.restored():
                if family is None:
                    return delivery(profile)
                return family.deliver(profile, goes_on=session.recording)

        spans = spanoptions.recording(planned, program.label, quiet=quiet)
        saving = saving_beside(outputs, program.label, delivery.folder, others["autosave"])
        forked = None if family is None else family.child(imports, str(target)).forked
        session = Session(deliver, spans, forked, saving)
        return _profile(program, session, imports, recorded, family, shown=str(target))

    return job


def _profile(
    program: Program,
    session: Session,
    imports: OwnImports,
    recorded: dict[str, Any],
    family: Family | None,
    *,
    shown: str,
) -> int:
    begun = False

    def begins() -> None:
        nonlocal begun
        begun = True

    from greenprof.stacks import leave_out_above

    leave_out_above(run_as_main.__code__)
    try:
        session.start(recorded, command=shown)
        imports.hide(program.path0)
        if family is not None:
            family.follow()
        error = run_as_main(program, begins)
    except GreenprofError:
        _discard(session, family)
        raise
    if not begun:
        _discard(session, family)
    leave(error)
    return 0


def _discard(session: Session, family: Family | None) -> None:
    session.discard()
    if family is not None:
        family.folder.remove()


def _family(recorded: dict[str, Any], autosave_s: float | None, delivery: Delivery) -> Family:
    from greenprof.cli.children.gather import Family

    return Family.found(recorded, autosave_s, delivery)


def _not_compiled(error: BaseException) -> int:
    report_uncaught(error)
    return 1
