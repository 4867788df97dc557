"""What loop blockers amount to: one record of each line, the worst of it kept."""

from __future__ import annotations

from typing import Any, NamedTuple

from greenprof.capture import Stack
from greenprof.frames import FrameTable
from greenprof.profiles import Block, ProfileBuilder
from greenprof.samplers.looks import Look
from greenprof.samplers.recorder import Recorder

__all__ = ["MAX_SITES", "BlockInfo", "BlockTable"]

#: Lines that are told apart, and nodes of the tree of their stacks.
MAX_SITES = 2_000
MAX_NODES = 50_000

_NS = 1_000_000_000


class BlockInfo(NamedTuple):
    """A loop was kept for longer than the limit."""

    function: str
    """Qualified name of the function that did it: the innermost of the application's."""
    path: str
    line: int
    """The line in it that ran, or called what ran."""
    duration: float
    """Seconds."""
    waiting: int
    """How many could have gone on meanwhile, as far as the loop knew when it was over."""
    task: str
    """The task, greenlet or thread: its route, its name, or its root function."""
    loop: str
    """"asyncio", "uvloop", "gevent" or "eventlet"."""
    stack: Stack
    """What ran, whole, from the middle of the stretch."""


def info_of(look: Look, duration_ns: int, waiting: int, loop: str) -> BlockInfo:
    """What a program is told of a stretch."""
    line, stack = look.line, look.stack
    seconds = duration_ns / _NS
    return BlockInfo(line.name, line.path, line.line, seconds, waiting, stack.task, loop, stack)


def attributes_of(look: Look | None, duration_ns: int, waiting: int) -> dict[str, Any]:
    """The same for a span's event; without a look, of what is known."""
    found: dict[str, Any] = {
        "greenprof.block.duration": duration_ns / _NS,
        "greenprof.block.waiting": waiting,
    }
    if look is not None:
        found["code.function.name"] = look.line.qualified_name
        found["code.file.path"] = look.line.path
        found["code.line.number"] = look.line.line
        found["code.stacktrace"] = str(look.stack)
    return found


class _Site:
    """A line, in one task group and thread, and all stretches in which it kept a loop."""

    __slots__ = ("block", "name")

    def __init__(self, look: Look, loop: str) -> None:
        self.name = look.line.name
        self.block = Block(look.group, look.thread, look.node, 0, 0, 0, 0, loop)

    def add(self, look: Look, duration_ns: int, waiting: int) -> None:
        block = self.block
        block.count += 1
        block.total_ns += duration_ns
        block.waiting = max(block.waiting, waiting)
        if duration_ns > block.worst_ns:
            block.worst_ns = duration_ns
            block.stack = look.node


class BlockTable:
    """Adds up stretches by line. Not safe for several threads."""

    def __init__(self) -> None:
        self.recorder = Recorder(MAX_NODES)
        #: Stretches at lines that went over the cap.
        self.over = 0
        self._sites: list[_Site] = []
        self._known: dict[Any, int] = {}
        self._placed: list[tuple[int, int, str]] = []

    def add(self, look: Look, duration_ns: int, waiting: int, loop: str) -> int:
        """Add a stretch; return the number of its site, -1 over the cap."""
        line = look.line
        key = look.group, look.thread, line.name, line.path, line.line, loop
        site = self._known.get(key, -1)
        if site < 0:
            if len(self._sites) >= MAX_SITES:
                self.over += 1
                return -1
            site = self._known[key] = len(self._sites)
            self._sites.append(_Site(look, loop))
        self._sites[site].add(look, duration_ns, waiting)
        return site

    def fill(self, builder: ProfileBuilder, table: FrameTable) -> None:
        """Put everything into a profile."""
        placed = self.recorder.place(builder, table)
        self._placed = []
        for site in self._sites:
            own = site.block
            group, stack = placed.groups[own.group], placed.node(own.stack)
            self._placed.append((group, stack, site.name))
            builder.add_block(
                Block(
                    group,
                    placed.threads[own.thread],
                    stack,
                    own.count,
                    own.total_ns,
                    own.worst_ns,
                    own.waiting,
                    own.loop,
                )
            )

    def placed_site(self, site: int) -> tuple[int, int, str]:
        """What `fill` has made of a site: its group, its stack, and the function's name."""
        return self._placed[site] if 0 <= site < len(self._placed) else (0, -1, "")
