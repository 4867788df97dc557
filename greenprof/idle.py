"""Whether a thread that uses no CPU waits for work, or is held up in the middle of some.

Both look alike to the operating system. What tells them apart is who waits: the machinery that
hands out work (an event loop, a pool's worker, a thread's own outermost function), or code that
was handed work and waits for something else.
"""

from __future__ import annotations

import dis
from collections.abc import Sequence
from types import CodeType
from typing import Any

from greenprof import bridges
from greenprof.bridges import Part

# Functions that do nothing but look for events; whoever is below them when they find one.
_LOOPS = frozenset(
    {
        ("asyncio.base_events", "_run_once"),
        ("socketserver", "serve_forever"),
        ("concurrent.futures.thread", "_worker"),
        ("gevent.threadpool", "run"),
        ("trio._core._run", "run"),
        ("trio._core._thread_cache", "_work"),
    }
)

# Between one of those, or a thread's outermost function, and the system call that waits.
_WAITING_MODULES = (
    "selectors",
    "queue",
    "multiprocessing.",
    "gevent._threading",
    "asyncio.windows_events",
    "trio._core._io_",
    "eventlet.hubs.",
)
_WAITING_METHODS = frozenset({("threading", "wait"), ("threading", "wait_for")})
_BOOTSTRAP = frozenset({"_bootstrap", "_bootstrap_inner", "run"})

#: C functions that fetch work, when a thread's outermost function calls them. Not `sleep`.
_FETCHING = frozenset(
    {"get", "wait", "select", "poll", "accept", "recv", "recv_into", "recvfrom", "read", "readline"}
)
# Loops written in C (uvloop) have no frame of their own.
RUNNING_A_LOOP = frozenset({"run_forever", "run_until_complete"})

#: Whose functions wait for locks; a process of a pool waits for its turn in the second.
_LOCKING = frozenset({"threading", "multiprocessing.synchronize"})
_LOCK_WAITS = frozenset({"acquire", "get", "join", "wait"})

_called: dict[tuple[int, int], tuple[CodeType, str]] = {}
_CACHE_LIMIT = 10_000


def waits_for_work(frames: Sequence[Any]) -> bool:
    """Whether a thread with these frames, root first, has nothing to do.

    To be asked of threads that use no CPU only: a loop that is busy has the same frames.
    """
    if not frames:
        return True
    at = len(frames) - 1
    leaf = frames[at]
    while True:
        frame = frames[at]
        module, name = _module(frame), frame.f_code.co_name
        role = bridges.role_of(frame.f_code)
        if (module, name) in _LOOPS or (role is not None and role.part is Part.HUB):
            return True
        if not module.startswith(_WAITING_MODULES) and (module, name) not in _WAITING_METHODS:
            break
        if at == 0:
            return False
        at -= 1
    if frames[at] is leaf and called_name(leaf) in RUNNING_A_LOOP:
        return True
    outermost = 0
    while outermost <= at and _is_bootstrap(frames[outermost]):
        outermost += 1
    if outermost == 0 or at > outermost:
        return False  # the main thread, or a function that was handed work
    if at < outermost:
        return frames[at] is not leaf  # a timer; the leaf itself would run a C function
    return frames[at] is not leaf or called_name(leaf) in _FETCHING


def _module(frame: Any) -> str:
    return str(getattr(frame, "f_globals", {}).get("__name__", ""))


def _is_bootstrap(frame: Any) -> bool:
    return frame.f_code.co_name in _BOOTSTRAP and _module(frame) == "threading"


def called_name(frame: Any) -> str:
    """The last name of what a frame calls just now (``get`` of ``queue.get()``), "" if unknown.

    C functions have no frame, so this is all there is to tell them by.
    """
    code, lasti = frame.f_code, getattr(frame, "f_lasti", -1)
    key = id(code), lasti
    found = _called.get(key)
    if found is None:
        found = _remember(key, code, _find_called_name(code, lasti))
    return found[1]


def _remember(key: tuple[int, int], code: CodeType, answer: str) -> tuple[CodeType, str]:
    if len(_called) >= _CACHE_LIMIT:
        _called.clear()
    # The code object is kept with the answer: its id stays taken.
    found = _called[key] = code, answer
    return found


def waits_for_lock(frame: Any) -> bool:
    """Whether a frame is in one of Python's own waits for a lock, a thread or a queue."""
    # By the names that the code has at all, first: to find the one that is called takes longer
    # than all else at a tick, and hardly a line is met twice.
    return _module(frame) in _LOCKING or (
        not _LOCK_WAITS.isdisjoint(frame.f_code.co_names) and called_name(frame) in _LOCK_WAITS
    )


def is_between_calls(frame: Any) -> bool:
    """Whether a frame stands where the interpreter looks for signals and other threads in a loop.

    A thread that uses no CPU there waits for its turn, not for something that it called.
    """
    code, lasti = frame.f_code, frame.f_lasti
    key = id(code), ~lasti
    found = _called.get(key)
    if found is None:
        name = dis.opname[code.co_code[lasti]] if 0 <= lasti < len(code.co_code) else ""
        between = name.startswith(("RESUME", "JUMP_BACKWARD"))
        found = _remember(key, code, "between" if between else "")
    return bool(found[1])


def _find_called_name(code: CodeType, lasti: int) -> str:
    instructions = list(dis.get_instructions(code))
    at = next((at for at, found in enumerate(instructions) if found.offset == lasti), None)
    if at is None or not instructions[at].opname.startswith("CALL"):
        return ""
    call = instructions[at].positions
    for found in reversed(instructions[:at]):
        if not found.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME")):
            continue
        where = found.positions
        # What is called starts where the call starts; its arguments start later. Without
        # columns (-X no_debug_ranges) the name that was loaded last has to do.
        if call is None or where is None or where.col_offset is None:
            return str(found.argval)
        if (where.lineno, where.col_offset) == (call.lineno, call.col_offset):
            return str(found.argval)
    return ""
