# ruff: noqa: INP001  # not a package: a folder for PYTHONPATH
"""Python imports this at its start where PYTHONPATH names this folder: it profiles a child of `greenprof run`.

It is nobody's `sitecustomize` after that: it takes itself away, and the program's own one, if there is
any, is imported in its place. Nothing in here may fail, or be newer than the Pythons that may come by.
"""

import os
import sys

VARIABLE = "GREENPROF_CHILDREN"


def _leave_path() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    sys.path_importer_cache.pop(here, None)


def _package_folder() -> str:
    folder = os.path.abspath(__file__)
    for _ in range(5):  # greenprof/cli/children/hook/sitecustomize.py
        folder = os.path.dirname(folder)
    return folder


def _begin(folder: str) -> None:
    before = list(sys.path)
    try:
        try:
            import greenprof
        except ImportError:
            # The run's greenprof may lie in a folder that only its own command line named.
            sys.path.append(_package_folder())
            import greenprof  # noqa: F401
        from greenprof.cli.children.begin import begin

        begin(folder)
    finally:
        sys.path[:] = before


def _note_failure(folder: str, error: Exception) -> None:
    # The run tells, once for all; this process's own standard error is the program's.
    name = os.path.join(folder, str(os.getpid()) + ".failed")
    with open(name, "x") as file:
        file.write(type(error).__name__ + ": " + str(error))


def _import_own() -> None:
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        # What `site` expects where there is none.
        raise ImportError("No module named 'sitecustomize'", name="sitecustomize")
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_leave_path()
_folder = os.environ.get(VARIABLE)
if _folder:
    try:
        if sys.version_info < (3, 11):  # noqa: UP036  # any Python may be started with this path
            raise RuntimeError("Python " + sys.version.split()[0] + " is not supported")
        _begin(_folder)
    except Exception as _error:
        try:
            _note_failure(_folder, _error)
        except Exception:
            pass
_import_own()
