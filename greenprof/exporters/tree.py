"""The call tree of the unified stacks, as text: a line for each function, boundaries marked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from greenprof.analysis import check_clock, counted_ns, is_exact, weighted_stacks
from greenprof.exporters.cells import Cut
from greenprof.exporters.depth import shallow
from greenprof.exporters.headline import running_word
from greenprof.exporters.units import duration, percent, place, plural
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, State

__all__ = ["tree_renderable"]

_NUMBER_WIDTH = 11
# Names need room: levels for which there is none stand below each other.
_LEAST_ROOM = 28
_FOLDED_AT_LEAST = 3


def tree_renderable(
    profile: Profile, *, clock: str = "wall", min_share: float = 0.01
) -> RenderableType:
    """Return the call tree of each task group for a rich `Console`.

    Times are those of a function with all that it called. Branches with less than `min_share` of
    the whole (under the wall clock all time that was not idle, otherwise what the clock counts) are
    left out. Of the exact engine's profile there are the calls, too. Bridge internals are one line, `~ greenlet boundary: NAME`; a chain of library frames
    without branches is one line too, and so is a function that calls itself.
    Raises OptionError for a clock that is not "wall", "cpu" or "await".
    """
    check_clock(clock)
    profile = shallow(profile)
    roots = _trees(profile)
    whole = sum(root.weight_ns(clock) for root in roots)
    columns = _columns(profile, roots)
    header = "".join(f"{title:>{_NUMBER_WIDTH}}" for title in columns)
    # Where there is CPU time only, that is what the wall clock adds up.
    by = "CPU" if clock == "wall" and list(columns) == ["calls", "CPU"] else clock
    lines: list[RenderableType] = [
        Text(f"{header}  call tree, by {by} clock", style="bold", no_wrap=True)
    ]
    least = max(int(whole * min_share), 1)
    for root in sorted(roots, key=lambda root: -root.weight_ns(clock)):
        lines += _lines(root, clock, least, list(columns.values()))
    if len(lines) == 1:
        how = "measured" if is_exact(profile) else "sampled"
        lines.append(Text(f"nothing was {how} that the {clock} clock counts", style="dim"))
    elif min_share > 0:
        lines.append(Text(f"branches below {percent(min_share, 1)} left out", style="dim"))
    return Group(*lines)


@dataclass(slots=True, eq=False)
class _Branch:
    """A function (or a boundary) in a place of the tree."""

    label: str
    where: str = ""
    library: bool = False
    boundary: bool = False
    recursive: bool = False
    cpu_ns: int = 0
    await_ns: int = 0
    blocked_ns: int = 0
    calls: int = 0
    """Of this function in this place, as the exact engine counted them."""
    children: dict[tuple[str, str, int], _Branch] = field(default_factory=dict)

    def weight_ns(self, clock: str) -> int:
        return counted_ns(clock, self.cpu_ns, self.await_ns, self.blocked_ns)


def _columns(profile: Profile, roots: list[_Branch]) -> dict[str, str]:
    """The columns of numbers: what each shows of a branch, by its title."""
    columns = {running_word(profile): "cpu_ns", "await": "await_ns", "blocked": "blocked_ns"}
    if not is_exact(profile):
        return columns
    there = {
        title: name for title, name in columns.items() if any(getattr(root, name) for root in roots)
    }
    return {"calls": "calls", **there}


def _trees(profile: Profile) -> list[_Branch]:
    roots = []
    for group in profile.groups:
        kind = "" if group.kind == "asyncio" else f" ({group.kind})"
        roots.append(_Branch(f"{group.name}{kind}, {plural(group.count, 'task')}"))
    times: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for index, _, node, label, weight_ns in weighted_stacks(profile):
        if label != "[idle]":
            column = {"": 0, "[blocked]": 2}.get(label, 1)
            times[index, node][column] += weight_ns
    if is_exact(profile):
        for sample in profile.samples:
            if sample.state is State.ON_CPU and sample.stack >= 0:
                times[sample.group, sample.stack][3] += sample.count
    for (index, node), (cpu_ns, await_ns, blocked_ns, calls) in times.items():
        for branch in _path(roots[index], profile.stack(node)):
            branch.cpu_ns += cpu_ns
            branch.await_ns += await_ns
            branch.blocked_ns += blocked_ns
        branch.calls += calls
    return roots


def _path(root: _Branch, stack: tuple[Frame, ...]) -> Iterator[_Branch]:
    """Yield the branches of a stack, root first; those that are not there yet are made."""
    branch, key = root, ("", "", 0)
    yield branch
    for frame in stack:
        if frame.kind is FrameKind.BOUNDARY:
            if branch.boundary:
                continue
            key = ("~", frame.name, 0)
        else:
            if frame.crosses and not branch.boundary:
                branch = branch.children.setdefault(("~", "", 0), _boundary(""))
                key = ("~", "", 0)
                yield branch
            if key == (frame.name, frame.path, frame.first_line):
                branch.recursive = True
                continue
            key = (frame.name, frame.path, frame.first_line)
        child = branch.children.get(key)
        if child is None:
            child = _boundary(frame.name) if key[0] == "~" else _function(frame)
            branch.children[key] = child
        branch = child
        yield branch


def _boundary(name: str) -> _Branch:
    label = f"~ greenlet boundary: {name}" if name else "~ greenlet boundary"
    return _Branch(label, boundary=True, library=True)


def _function(frame: Frame) -> _Branch:
    where = place(frame.path, frame.first_line)
    return _Branch(frame.name, where, library=frame.origin is not FrameOrigin.APP)


def _lines(root: _Branch, clock: str, least: int, columns: list[str]) -> Iterator[RenderableType]:
    todo = [(root, 0)]
    while todo:
        branch, depth = todo.pop()
        if branch.weight_ns(clock) < least:
            continue
        chain = _library_chain(branch, clock, least)
        if len(chain) >= _FOLDED_AT_LEAST:
            label = f"[{len(chain)} library frames] {branch.label} ... {chain[-1].label}"
            yield _Line(branch, columns, depth, label, chain[-1].where, "dim")
            last = chain[-1]
        else:
            style = "bold" if branch is root else "cyan" if branch.boundary else ""
            style = "dim" if branch.library and not branch.boundary else style
            label = f"{branch.label} (recursive)" if branch.recursive else branch.label
            yield _Line(branch, columns, depth, label, branch.where, style)
            last = branch
        children = sorted(last.children.values(), key=lambda child: child.weight_ns(clock))
        todo.extend((child, depth + 1) for child in children)


def _library_chain(branch: _Branch, clock: str, least: int) -> list[_Branch]:
    """The library frames from here down to where time is spent or the way divides."""
    chain: list[_Branch] = []
    here: _Branch | None = branch
    while here is not None and here.library and not here.boundary:
        chain.append(here)
        heaviest = max(
            here.children.values(), key=lambda child: child.weight_ns(clock), default=None
        )
        lost = 0 if heaviest is None else here.weight_ns(clock) - heaviest.weight_ns(clock)
        here = heaviest if lost < least else None
    return chain


class _Line:
    """A line of the tree: numbers, then the label as far as there is room."""

    def __init__(
        self,
        branch: _Branch,
        columns: list[str],
        depth: int,
        label: str,
        where: str,
        style: str,
    ) -> None:
        shown = []
        for name in columns:
            number = getattr(branch, name)
            calls = f"{number:,}" if number else "-"
            shown.append(calls if name == "calls" else duration(number))
        self.numbers = "".join(f"{number:>{_NUMBER_WIDTH}}" for number in shown)
        self.indent = 2 * depth
        self.label = label
        self.where = where
        self.style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = options.max_width - len(self.numbers) - 2 - _LEAST_ROOM
        prefix = f"{self.numbers}  {' ' * min(self.indent, max(most, 0))}"
        yield Text(prefix, no_wrap=True, end="", overflow="crop")
        room = max(options.max_width - len(prefix), _LEAST_ROOM)
        where = f"  {self.where}" if self.where else ""
        where_width = min(cell_len(where), room // 2)
        parts = (
            (Cut(self.label, self.style), room - where_width),
            (Cut(where, "dim"), where_width),
        )
        for part, width in parts:
            yield from console.render(part, options.update(width=width))
        yield Text("")
