"""Makes profiles as large services make them, for benchmarks of what is done with them."""

from __future__ import annotations

import random

from greenprof.durations import bucket_of
from greenprof.profiles import (
    DEFAULT_MAX_NODES,
    AwaitStats,
    Block,
    Frame,
    FrameKind,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    Slice,
    SliceKind,
    State,
    Track,
)
from greenprof.samplers.awaits import MAX_SITES
from greenprof.samplers.blocktable import MAX_SITES as MAX_BLOCKS
from greenprof.samplers.timeline import DEFAULT_MAX_SLICES
from tests.profiles import MS, SECOND, orders_profile


def large_profile(stacks: int = 50_000, seed: int = 1, *, events: bool = False) -> Profile:
    """A profile as a large service makes it: so many distinct stacks.

    With `events`, it has awaits, loop blockers and a timeline as well, up to what their tables hold.
    """
    made = random.Random(seed)
    # As a recording has: over the cap come markers, one below each node at most.
    builder = ProfileBuilder(max_nodes=2 * DEFAULT_MAX_NODES)
    frames = _Frames(builder, made)
    threads = [builder.thread(f"worker-{number}") for number in range(8)]
    groups = [builder.group(f"GET /shop/{number}/{{}}", "asyncio") for number in range(40)]
    for group in groups:
        builder.count_tasks(group, made.randint(1, 500))
    seen = set[int]()
    for number in range(stacks):
        group = groups[number % len(groups)]
        node = frames.new_stack(group, seen)
        for state in made.sample(list(State), made.choice((1, 1, 2))):
            count = made.randint(1, 20)
            wall_ns = int(made.paretovariate(1.2) * 10 * MS) * count
            cpu_ns = int(wall_ns * made.random()) if state is State.ON_CPU else 0
            builder.add(group, threads[number % len(threads)], node, state, count, wall_ns, cpu_ns)
    if events:
        _add_events(builder, made, sorted(seen), groups, threads)
    info = orders_profile().info
    info.duration_ns = 600 * SECOND
    return builder.build(info)


def _add_events(
    builder: ProfileBuilder,
    made: random.Random,
    nodes: list[int],
    groups: list[int],
    threads: list[int],
) -> None:
    """What is counted, and what happened when, in proportion to the stacks."""
    for number, node in enumerate(nodes[: 20 * MAX_SITES : 20]):
        total = sum(durations := [int(made.paretovariate(1.5) * MS) for _ in range(20)])
        builder.add_await(
            AwaitStats(
                groups[number % len(groups)], node, f"Connection.fetch_{number % 300}", "sqlalchemy",
                len(durations), total, min(durations), max(durations),
                durations={bucket_of(one): 1 for one in durations},
            )
        )  # fmt: skip
    for number, node in enumerate(nodes[: 50 * MAX_BLOCKS : 50]):
        builder.add_block(
            Block(
                groups[number % len(groups)], threads[0], node, 3, 300 * MS, 150 * MS, 12, "asyncio"
            )
        )  # fmt: skip
    tracks = [
        builder.track(Track(f"request-{number}", groups[number % len(groups)], threads[0]))
        for number in range(200)
    ]
    at = 0
    for number in range(min(2 * len(nodes), DEFAULT_MAX_SLICES)):
        kind = SliceKind.AWAIT if number % 2 else SliceKind.RUN
        duration = made.randint(1, 4 * MS // 2)
        stack = nodes[number * 7 % len(nodes)]
        builder.add_slice(
            Slice(tracks[number // 2 % len(tracks)], kind, at, duration, stack, "", number // 2 + 1)
        )
        at += duration


class _Frames:
    """Stacks that branch off from each other, through bridges, libraries and the program itself."""

    def __init__(self, builder: ProfileBuilder, made: random.Random) -> None:
        self._builder = builder
        self._made = made
        self._functions = [_function(number, made) for number in range(5_000)]
        # The levels of each group's stacks so far.
        self._stacks: dict[int, list[list[int]]] = {}

    def new_stack(self, group: int, seen: set[int]) -> int:
        """Returns the node of a stack that is not among those `seen` yet."""
        made, stacks = self._made, self._stacks.setdefault(group, [])
        while True:
            levels: list[int] = []
            if stacks:
                earlier = made.choice(stacks)
                levels = earlier[: max(len(earlier) - made.choice((0, 1, 2, 4)), 8)]
            depth = max(10, min(len(levels) + made.choice((1, 1, 3, 5, 8)), 60))
            while len(levels) < depth:
                levels.append(self._below(levels))
            if levels[-1] not in seen:
                seen.add(levels[-1])
                stacks.append(levels)
                return levels[-1]

    def _below(self, levels: list[int]) -> int:
        # Most functions call few others: what is below a level is drawn from a small neighbourhood.
        base = levels[-1] * 31 if levels else self._made.randrange(5_000)
        frame = self._functions[(base + self._made.randrange(6)) % len(self._functions)]
        line = frame.first_line + self._made.randrange(3)
        kept = Frame(
            frame.name, frame.path, line, frame.first_line, frame.kind, frame.origin, frame.module,
            frame.crosses,
        )  # fmt: skip
        return self._builder.node(levels[-1] if levels else -1, self._builder.frame(kept))


def _function(number: int, made: random.Random) -> Frame:
    module = f"package{number % 40}.module{number % 400}"
    path = module.replace(".", "/") + ".py"
    if number % 50 == 0:
        return Frame(
            f"greenlet_spawn_{number}", f"/venv/lib/python3.11/site-packages/{path}", 0, 90,
            FrameKind.BOUNDARY, FrameOrigin.LIBRARY, module,
        )  # fmt: skip
    mine = number % 3 == 0
    return Frame(
        name=f"Service{number % 90}.handle_order_{number}",
        path=f"/srv/shop/{path}" if mine else f"/venv/lib/python3.11/site-packages/{path}",
        first_line=made.randint(1, 2_000),
        kind=FrameKind.AWAITED if number % 10 == 1 else FrameKind.PYTHON,
        origin=FrameOrigin.APP if mine else FrameOrigin.LIBRARY,
        module=module,
        crosses=number % 25 == 1,
    )
