"""The command line: one module per command; `main` is what the `greenprof` script calls."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; see `greenprof.cli.main.main`.

    Imported when it is called: profiled children import from this package, and should not wait for
    click.
    """
    from greenprof.cli.main import main as run

    # The import has put the module in this function's place.
    globals()["main"] = run
    return run(arguments)
