"""Finds the program that a command line names, the way `python` finds it, and says what is wrong with it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pkgutil
import re
import sys
import textwrap
import warnings
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType

from greenprof.cli.program import Loaded, Program, path_unless_safe
from greenprof.errors import ProgramError

__all__ = ["find_code", "find_module", "find_script"]

MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def find_script(path: str, arguments: list[str]) -> Program:
    """A script, a `.pyc`, a folder or zip file with a `__main__.py`, or `-` for standard input.

    Raises `ProgramError` where there is nothing to run and `SyntaxError` where it does not compile.
    """
    if path == "-":
        return _standard_input(arguments)
    # Not normalised, as pathlib would: programs see it in __file__, as python makes it.
    absolute = os.path.join(os.getcwd(), path)
    if not Path(path).exists():
        raise ProgramError(f"no such script: {path!r}{_instead_of_script(path)}")
    label = Path(path).absolute().stem
    container = _container_spec(path, absolute)
    if container is not None:
        loaded = Loaded(_code_of(container), _names_of_spec(container))
        return Program(label, [path, *arguments], absolute, lambda: loaded)
    loaded = _script(path, absolute)
    folder = str(Path(absolute).resolve().parent)
    return Program(label, [path, *arguments], path_unless_safe(folder), lambda: loaded)


def find_module(name: str, arguments: list[str]) -> Program:
    """`-m name`: a module, or a package's `__main__`. It is looked up when the program is loaded."""
    file = name.removesuffix(".py")
    if file != name and Path(file.replace(".", os.sep) + ".py").exists():
        raise ProgramError(
            f"-m takes a module's name, not a file's: type -m {file}, or greenprof run {name}"
        )

    def load() -> Loaded:
        spec, code = _module_spec(name)
        return Loaded(code, _names_of_spec(spec), spec.origin)

    return Program(name or "module", ["-m", *arguments], path_unless_safe(str(Path.cwd())), load)


def find_code(source: str, arguments: list[str]) -> Program:
    """`-c source`. Raises `SyntaxError` where it does not compile."""
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    code = compile(source, "<string>", "exec", dont_inherit=True)
    _show_source_in_tracebacks(code, source)
    names: dict[str, object] = {"__loader__": importlib.machinery.BuiltinImporter}
    return Program("code", ["-c", *arguments], path_unless_safe(""), lambda: Loaded(code, names))


def _show_source_in_tracebacks(code: CodeType, source: str) -> None:
    """Python 3.13 shows lines of `-c` code in tracebacks; linecache has no public door to it."""
    import linecache

    register = getattr(linecache, "_register_code", None)
    if register is None:
        return
    # Its first releases found the lines by the file's name, later ones by the code.
    by_code = hasattr(linecache, "_interactive_cache")
    try:
        register(code if by_code else "<string>", source, "<string>")
    except TypeError:  # a Python that keeps them in another way: tracebacks without source lines
        return


def _instead_of_script(path: str) -> str:
    """The rest of "no such script": what else the word may have been meant to be."""
    if os.path.lexists(path):
        return " (a link to nothing)"
    if path.endswith(".py") or not MODULE_NAME.fullmatch(path):
        return ": check the path; an installed command goes after --, a module after -m"
    from importlib.metadata import entry_points

    if entry_points(group="console_scripts", name=path):
        return f": for the installed command type greenprof run -- {path}"
    return f": for a module type greenprof run -m {path}, for an installed command greenprof run -- {path}"


def _container_spec(path: str, absolute: str) -> ModuleSpec | None:
    """The spec of `__main__` in a folder or zip file; None for a plain file."""
    if pkgutil.get_importer(absolute) is None:
        if Path(path).is_dir():
            raise ProgramError(f"cannot read folder {path!r}: check its permissions")
        return None
    spec = importlib.machinery.PathFinder.find_spec("__main__", [absolute])
    if spec is None or spec.loader is None:
        kind = "a folder" if Path(path).is_dir() else "an archive"
        raise ProgramError(f"{path!r} is {kind} without a __main__.py: name the script to run")
    return spec


def _script(path: str, absolute: str) -> Loaded:
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise ProgramError(f"cannot read script {path!r}: {error.strerror}") from None
    loader: SourceFileLoader | SourcelessFileLoader
    compiled = absolute.endswith(".pyc") or source.startswith(importlib.util.MAGIC_NUMBER)
    if compiled:
        loader = SourcelessFileLoader("__main__", absolute)
        try:
            code = loader.get_code("__main__")
        except (ImportError, EOFError, ValueError) as error:
            raise ProgramError(f"cannot run {path!r}: {error}") from None
        if code is None:
            raise ProgramError(f"cannot run {path!r}: it holds no code")
    elif b"\0" in source:
        raise ProgramError(f"cannot run {path!r}: it is not a Python script, it has null bytes")
    else:
        loader = SourceFileLoader("__main__", absolute)
        code = compile(source, absolute, "exec", dont_inherit=True)
    names: dict[str, object] = {"__file__": absolute, "__loader__": loader, "__cached__": None}
    return Loaded(code, _known_here(names))


def _standard_input(arguments: list[str]) -> Program:
    if sys.stdin is None:
        raise ProgramError("cannot read a program from standard input: it is closed")
    source = sys.stdin.buffer.read()
    code = compile(source, "<stdin>", "exec", dont_inherit=True)
    names: dict[str, object] = {"__loader__": importlib.machinery.BuiltinImporter}
    return Program("stdin", ["-", *arguments], path_unless_safe(""), lambda: Loaded(code, names))


def _module_spec(name: str) -> tuple[ModuleSpec, CodeType]:
    """Finds a module as `python -m` does, which imports the packages above it."""
    parent = name.rpartition(".")[0]
    if parent:
        try:
            __import__(parent)
        except ModuleNotFoundError as error:
            # Any other name is an import that fails inside the package: the program's own error.
            if error.name is None or not f"{parent}.".startswith(f"{error.name}."):
                raise
            raise ProgramError(_no_module(name)) from None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, TypeError, ValueError):
        spec = None
    if spec is None:
        raise ProgramError(_no_module(name))
    if parent and name in sys.modules:
        warnings.warn(
            f"{name!r} was imported by its package {parent!r} before it runs as __main__:"
            " what it defines exists twice",
            RuntimeWarning,
            stacklevel=2,
        )
    if spec.submodule_search_locations is not None:
        if not name.endswith(".__main__"):
            return _package_main(name)
        raise ProgramError(f"cannot run {name!r}: a package cannot be a __main__ module")
    return spec, _code_of(spec)


def _package_main(name: str) -> tuple[ModuleSpec, CodeType]:
    try:
        return _module_spec(f"{name}.__main__")
    except ProgramError as error:
        if f"{name}.__main__" not in str(error):
            raise
        raise ProgramError(
            f"{name!r} is a package without a __main__.py: name one of its modules to run"
        ) from None


def _no_module(name: str) -> str:
    return f"no module named {name!r}: check the name; a file is run without -m, an installed command after --"


def _code_of(spec: ModuleSpec) -> CodeType:
    get_code = getattr(spec.loader, "get_code", None)
    try:
        code = get_code(spec.name) if get_code is not None else None
    except (ImportError, OSError) as error:
        raise ProgramError(f"cannot read {spec.origin or spec.name!r}: {error}") from None
    if not isinstance(code, CodeType):
        raise ProgramError(f"cannot run {spec.name!r}: it is not written in Python")
    return code


def _names_of_spec(spec: ModuleSpec) -> dict[str, object]:
    names: dict[str, object] = {
        "__file__": spec.origin,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
        "__cached__": spec.cached,
    }
    return _known_here(names)


def _known_here(names: dict[str, object]) -> dict[str, object]:
    """Without `__cached__`, where this python gives its main modules none any more."""
    if "__cached__" not in _started_with:
        names.pop("__cached__", None)
    return names


_started_with = frozenset(vars(sys.modules["__main__"]))
