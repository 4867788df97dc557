"""The facts at the head of the summary and of the report: how long, how much, seen how well."""

from __future__ import annotations

from dataclasses import dataclass

from greenprof.analysis import totals
from greenprof.exporters.units import duration, percent, plural
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Fact", "Headline", "headline"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One answer, for a table (`label`, `value`, `note`) and as part of a line (`text`)."""

    label: str
    value: str
    text: str
    note: str = ""
    """What a reader may want to know about the value."""


@dataclass(frozen=True, slots=True)
class Headline:
    """What stands above all else. All of its texts are printable."""

    program: list[Fact]
    """What ran, beside the command: the Python, the number of processes where there are several."""
    times: list[Fact]
    sampling: list[Fact]


def headline(profile: Profile) -> Headline:
    """Return the facts of a profile, in the order in which a reader asks for them."""
    info = profile.info
    sums = totals(profile)
    program = []
    if info.python:
        python = printable(info.python)
        text = f"Python {python}" if python[0].isdigit() else python
        program.append(Fact("Python", python, text))
    if len(info.pids) > 1:
        text = plural(len(info.pids), "process").replace("processs", "processes")
        program.append(Fact("processes", f"{len(info.pids):,}", text))
    long, cpu = duration(sums.duration_ns), duration(sums.process_cpu_ns)
    attributed = percent(sums.cpu_ns, sums.process_cpu_ns)
    waits = {"ready": sums.ready_ns, "blocked": sums.blocked_ns, "idle": sums.idle_ns}
    awaiting = duration(sums.awaiting_ns)
    times = [
        Fact("long", long, f"{long} long"),
        Fact("CPU", cpu, f"CPU {cpu} ({attributed} attributed)", f"{attributed} attributed"),
        Fact("awaiting", awaiting, f"awaiting {awaiting}", "all tasks together"),
        *(
            Fact(state, duration(wait_ns), f"{state} {duration(wait_ns)}", "all tasks together")
            for state, wait_ns in waits.items()
            if wait_ns
        ),
    ]
    rate = f"{info.rate_hz:g} Hz"
    missed, ticks = f"{info.missed_ticks:,}", f"{info.ticks + info.missed_ticks:,}"
    cost = percent(info.sampler_cpu_ns, info.process_cpu_ns)
    sampling = [
        Fact("samples", f"{sums.samples:,}", plural(sums.samples, "sample")),
        Fact("rate", rate, rate),
        Fact("missed", missed, f"{missed} of {ticks} ticks missed", f"of {ticks} ticks"),
        Fact("sampler cost", cost, f"sampler cost {cost} of the CPU", "of the CPU"),
    ]
    return Headline(program, times, sampling)
