"""What a program under test knows about itself: which function of which route burned or waited how long.

The programs beside this file run under a profiler that they know nothing of, and write what they did as
JSON. Work is done in a function of its own for each route (`sync_burn_report`), below a chain of functions
of the same route (`endpoint_report`, `service_report`): whoever reads the profile finds the work by its
function's name, and can tell whether the names above it are the right ones.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROUTES = ("report", "search", "login")
# How much of the CPU work a visit of each route does: clearly different, so that a mix-up shows.
CPU_SHARE = {"report": 1.0, "search": 0.5, "login": 0.2}
# The same for waiting, the other way round.
WAIT_SHARE = {"report": 0.5, "search": 1.0, "login": 1.5}

STEPS_BETWEEN_CLOCKS = 150

F = TypeVar("F", bound=Callable[..., Any])


def for_routes(function: F) -> dict[str, F]:
    """A copy of the function for each route, `<name>_<route>`, as separate handlers would be."""
    if not isinstance(function, types.FunctionType):
        message = f"{function!r} is no plain function"
        raise TypeError(message)
    copies: dict[str, Any] = {}
    for route in ROUTES:
        name = f"{function.__name__}_{route}"
        code = function.__code__.replace(co_name=name, co_qualname=name)
        copies[route] = types.FunctionType(
            code, function.__globals__, name, function.__defaults__, function.__closure__
        )
    return copies


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    `function` does it (its name without the route) below the functions of `chain`, outermost first; `clock`
    says what counts: "cpu", "wall" (the task's life in it, whatever its state), or one state's share of the
    wall clock ("awaiting", "ready", "blocked").
    """

    label: str
    function: str
    chain: tuple[str, ...]
    clock: str


@dataclass
class Count:
    calls: int = 0
    total_ns: int = 0


@dataclass
class Truth:
    """Adds up what each function did, in integer nanoseconds; `kinds` by the name that work is added under."""

    kinds: Mapping[str, Kind]
    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    started_ns: int = field(default_factory=time.monotonic_ns)
    cpu_started_ns: int = field(default_factory=time.process_time_ns)

    def add(self, kind: str, route: str, spent_ns: int) -> None:
        count = self.counts.setdefault((kind, route), Count())
        count.calls += 1
        count.total_ns += spent_ns

    def as_json(self) -> dict[str, Any]:
        work = []
        for (name, route), count in sorted(self.counts.items()):
            kind = self.kinds[name]
            work.append(
                {
                    "kind": kind.label,
                    "route": route,
                    "function": f"{kind.function}_{route}",
                    "chain": [f"{above}_{route}" for above in kind.chain],
                    "clock": kind.clock,
                    "calls": count.calls,
                    "total_ns": count.total_ns,
                }
            )
        return {
            "program": Path(sys.argv[0]).stem,
            "wall_ns": time.monotonic_ns() - self.started_ns,
            "process_cpu_ns": time.process_time_ns() - self.cpu_started_ns,
            "work": work,
        }


@dataclass
class Visit:
    """One visitor of a route: says how long each piece of work is to be, and counts what it took.

    Lengths vary between a quarter and seven quarters of the mean, the same in every run: pieces of one
    length could beat in time with a sampler's clock.
    """

    route: str
    truth: Truth
    number: int
    deadline_ns: int
    lengths: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = random.Random(f"{self.route} {self.number}")

    def goes_on(self) -> bool:
        return time.monotonic_ns() < self.deadline_ns

    def cpu_ns(self, mean_ms: float) -> int:
        return int(self.lengths.uniform(0.25, 1.75) * mean_ms * CPU_SHARE[self.route] * 1e6)

    def wait_s(self, mean_ms: float) -> float:
        return self.lengths.uniform(0.25, 1.75) * mean_ms * WAIT_SHARE[self.route] / 1e3

    def burn(self, kind: str, mean_ms: float) -> None:
        """Burns this thread's CPU, and counts it."""
        self.truth.add(kind, self.route, burn(self.cpu_ns(mean_ms)))

    def waited(self, kind: str, since_ns: int) -> None:
        """Counts the time from `since_ns`, on the monotonic clock, until now."""
        self.truth.add(kind, self.route, time.monotonic_ns() - since_ns)


def burn(cpu_ns: int) -> int:
    """Burns that much of this thread's CPU time; returns how much it was."""
    started_ns = now_ns = time.thread_time_ns()
    value = 1
    while now_ns - started_ns < cpu_ns:
        for _ in range(STEPS_BETWEEN_CLOCKS):
            value = (value * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        now_ns = time.thread_time_ns()
    return now_ns - started_ns


def arguments(**more: Any) -> argparse.Namespace:
    """--seconds and --truth, and what a program adds: name=default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--truth", type=Path, help="where to write the JSON; stdout without it")
    for name, default in more.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true", default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    return parser.parse_args()


def visits(truth: Truth, seconds: float, each: int) -> list[Visit]:
    """`each` visitors of every route, who stop visiting after `seconds`."""
    deadline_ns = time.monotonic_ns() + int(seconds * 1e9)
    return [Visit(route, truth, number, deadline_ns) for number in range(each) for route in ROUTES]


def write(truth: Truth, path: Path | None) -> None:
    text = json.dumps(truth.as_json(), indent=1)
    if path is None:
        print(text)
    else:
        path.write_text(text + "\n", encoding="utf-8")
