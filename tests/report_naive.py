"""Profiles made at random, and the report's charts of them computed naively, one stack after the other."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from greenprof.exporters.html.payload import payload
from greenprof.exporters.units import place
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, ProfileBuilder, State
from tests.profiles import orders_profile

CLOCKS: Final = {
    "wall": ("cpu", "awaiting", "ready", "blocked", "idle"),
    "cpu": ("cpu",),
    "await": ("awaiting", "ready"),
}
COLUMNS: Final = {
    State.AWAITING: "awaiting",
    State.READY: "ready",
    State.BLOCKED: "blocked",
    State.IDLE: "idle",
}
Path = tuple[int, ...]
VIEWS: Final = ("top", "bottom", "sandwich")
DUMP: Final = """
  const boxes = (chart) => {
    const found = {};
    const todo = chart.up === null ? [chart.down] : [chart.down, chart.up];
    while (todo.length > 0) {
      const box = todo.pop();
      const path = chart.pathOf(box);
      if (box.weight > 0) {
        found[path.join(".")] = box.weight;
      }
      let left = box.start;
      let before = Infinity;
      for (const child of box.children) {
        if (child.start !== left || child.weight > before || child.parent !== box) {
          throw new Error(`children of ${path} do not lie side by side, the heaviest first`);
        }
        left += child.weight;
        before = child.weight;
        todo.push(child);
      }
      if (left > box.start + box.weight) {
        throw new Error(`children of ${path} are wider than it is`);
      }
      if (chart.boxAt(path) !== box) {
        throw new Error(`${path} does not lead back to its box`);
      }
    }
    return found;
  };
"""
"""JavaScript: `boxes(chart)` gives the weights of all boxes by path, and holds them to their order."""


@dataclass(frozen=True)
class Switches:
    group: str = "all"
    bridges: bool = False
    mine: bool = False
    idle: bool = False


EVERY_SWITCH: Final = [
    Switches(group, bridges, mine, idle)
    for group in ("all", "task", "thread")
    for bridges, mine, idle in product((False, True), repeat=3)
]


def random_profile(seed: int) -> Profile:
    """A few functions that call each other and themselves in every kind of stack."""
    made = random.Random(seed)
    functions = [
        Frame(
            f"f{number}",
            made.choice(["", "/srv/a.py", "/srv/b.py", "/x/site-packages/lib/c.py"]),
            first_line=10 * made.randrange(3),
            origin=made.choice(list(FrameOrigin)),
            module=made.choice(["", "orders.api"]),
        )
        for number in range(6)
    ]
    builder = ProfileBuilder()
    for _ in range(made.randrange(1, 15)):
        frames = [
            replace(
                made.choice(functions),
                line=made.randrange(3),
                kind=made.choice(list(FrameKind)),
                crosses=made.random() < 0.2,
            )
            for _ in range(made.choice((0, 1, 3, 8)))
        ]
        group = builder.group(made.choice("abcdefg"), made.choice(["asyncio", "thread"]))
        builder.count_tasks(group, made.randrange(3))
        thread = builder.thread(made.choice(["main", "pool"]))
        for state in made.sample(list(State), made.choice((1, 2))):
            times = made.choice((0, made.randrange(1000))), made.choice((0, made.randrange(1000)))
            builder.add(group, thread, builder.stack(frames), state, made.randrange(1, 9), *times)
    return builder.build(orders_profile().info)


class Naive:
    """The view tree of a profile, one stack after the other: paths of keys, and the time at their ends."""

    def __init__(self, profile: Profile, switches: Switches) -> None:
        self.profile = profile
        self.values = payload(profile)
        self.own: defaultdict[Path, Counter[str]] = defaultdict(Counter)
        self.samples: defaultdict[Path, set[int]] = defaultdict(set)
        """The samples that have something at the end of a path."""
        names = self.values["functions"]["name"]
        self.function_keys = 6 * len(names)
        self.root_key = self.function_keys + len(State)
        for index, sample in enumerate(profile.samples):
            path = self.path(sample.stack, sample.group, sample.thread, switches)
            left_out = sample.state is State.IDLE and not switches.idle
            if sample.cpu_ns:
                self.own[path]["cpu"] += sample.cpu_ns
                self.samples[path].add(index)
            waited = max(sample.wall_ns - sample.cpu_ns, 0) if sample.state in COLUMNS else 0
            if waited and not left_out:
                path += (self.function_keys + list(State).index(sample.state),)
                self.own[path][COLUMNS[sample.state]] += waited
            if not left_out:
                self.own[path]["seen"] += sample.count
                self.samples[path].add(index)

    def path(self, stack: int, group: int, thread: int, switches: Switches) -> Path:
        keys = []
        if switches.group == "task":
            keys.append(self.root_key + 1 + group)
        elif switches.group == "thread":
            keys.append(self.root_key + 1 + len(self.profile.groups) + thread)
        crossed = False
        for frame in self.profile.frame_ids(stack):
            fn = self.values["frames"]["function"][frame]
            kind = self.profile.frames[frame].kind
            crossed = crossed or self.profile.frames[frame].crosses
            bridge = kind is FrameKind.BOUNDARY
            path = self.values["paths"][self.values["functions"]["path"][fn]]
            mine = path and self.values["functions"]["origin"][fn] == 0 and not bridge
            if (switches.mine and not mine) or (bridge and not switches.bridges):
                crossed = crossed or bridge
                continue
            keys.append(fn * 6 + 2 * list(FrameKind).index(kind) + crossed)
            crossed = False
        return tuple(keys)

    def weights(self, clock: str) -> dict[Path, int]:
        return {
            path: sum(times[name] for name in CLOCKS[clock]) for path, times in self.own.items()
        }

    def functions(self, path: Path) -> list[int]:
        return [key // 6 if key < self.function_keys else -1 for key in path]

    def chart(self, clock: str, view: str, fn: int) -> dict[Path, int]:
        """The boxes of a chart, by their paths, with their weights."""
        boxes = Counter[Path]()
        for path, weight in self.weights(clock).items():
            for ways in self.ways(path, view, fn):
                for length in range(len(ways[1]) + 1):
                    boxes[ways[0] + ways[1][:length]] += weight
        return {path: weight for path, weight in boxes.items() if weight}

    def ways(self, path: Path, view: str, fn: int) -> list[tuple[Path, Path]]:
        """What a chart makes of a path: (path of a root, what grows from there)."""
        if view == "top":
            return [((), path)]
        if view == "bottom":
            return [((), path[::-1])]
        functions = self.functions(path)
        if fn < 0 or fn not in functions:
            return []
        outermost = functions.index(fn)
        return [((0,), path[outermost + 1 :]), ((1,), path[:outermost][::-1])]

    def under(self, prefix: Path) -> list[Path]:
        return [path for path in self.own if path[: len(prefix)] == prefix]

    def figures(self, prefix: Path) -> dict[str, Any]:
        """The figures of a box of the top-down chart."""
        total, own, seen = Counter[str](), Counter[str](), set[int]()
        for path in self.under(prefix):
            seen |= self.samples[path]
            total.update(self.own[path])
            rest = path[len(prefix) :]
            if not rest or (len(rest) == 1 and self.function_keys <= rest[0] < self.root_key):
                own.update(self.own[path])
        groups = {self.profile.samples[sample].group for sample in seen}
        columns = {**CLOCKS, "blocked": ("blocked",), "idle": ("idle",)}
        return {
            **{
                name: {
                    "self": sum(own[part] for part in parts),
                    "total": sum(total[part] for part in parts),
                }
                for name, parts in columns.items()
            },
            "seen": total["seen"],
            "tasks": sum(self.profile.groups[group].count for group in groups),
        }

    def function_figures(self) -> dict[int, Counter[str]]:
        """Figures of the functions that are not hidden, by name and "Self" or "Total"."""
        found = defaultdict[int, Counter[str]](Counter)
        for path, times in self.own.items():
            waits = path and self.function_keys <= path[-1] < self.root_key
            functions = self.functions(path[:-1] if waits else path)
            for name, part in times.items():
                column = "await" if name in CLOCKS["await"] else name
                for fn in {*functions} - {-1}:
                    found[fn][f"{column}Total"] += part
                if functions and functions[-1] >= 0:
                    found[functions[-1]][f"{column}Self"] += part
        return {fn: +figures for fn, figures in found.items()}

    def says(self, fn: int, text: str) -> bool:
        """Whether a function's qualified name or place has a text in it."""
        functions = self.values["functions"]
        where = place(self.values["paths"][functions["path"][fn]], functions["line"][fn])
        name = f"{functions['module'][fn]}.{functions['name'][fn]}"
        return any(text.lower() in part.lower() for part in (name.removeprefix("."), where))

    def group_names(self) -> dict[int, str]:
        """What tasks and threads are called, in small letters, by their keys."""
        kinds = [
            "" if group.kind == "asyncio" else f" ({group.kind})" for group in self.profile.groups
        ]
        names = [group.name + kind for group, kind in zip(self.profile.groups, kinds, strict=True)]
        names += self.profile.threads
        return {self.root_key + 1 + number: name.lower() for number, name in enumerate(names)}

    def share(self, clock: str, wanted: list[int], groups: set[int]) -> int:
        """Time in any of some functions, tasks and threads."""
        return sum(
            weight
            for path, weight in self.weights(clock).items()
            if set(self.functions(path)) & set(wanted) or set(path) & groups
        )


PROFILES: Final = [orders_profile(), *map(random_profile, range(40))]
PAYLOADS: Final = [payload(profile) for profile in PROFILES]
