"""The facts at the head of the summary and of the report: how long, how much, seen how well."""

from __future__ import annotations

from dataclasses import dataclass

from greenprof.analysis import totals
from greenprof.exporters.units import duration, percent, plural
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Fact", "Headline", "headline", "reader_warnings"]

_WAITS = {
    "awaiting": "suspended on something that was not there yet; times of tasks add up",
    "ready": "what they awaited was there, but the loop was busy with others",
    "blocked": "inside calls that hold up the thread, and with it the loop; less the CPU they used",
    "idle": "threads with nothing to do",
}


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
    long, cpu = duration(sums.duration_ns), duration(sums.process_cpu_ns)
    attributed = percent(sums.cpu_ns, sums.process_cpu_ns)
    waits = {
        "awaiting": sums.awaiting_ns,
        "ready": sums.ready_ns,
        "blocked": sums.blocked_ns,
        "idle": sums.idle_ns,
    }
    times = [
        Fact("long", long, f"{long} long", "the recording, by the clock on the wall"),
        Fact(
            "CPU",
            cpu,
            f"CPU {cpu} ({attributed} attributed)",
            f"used by the process; {attributed} of it is attributed to samples",
        ),
        *(
            Fact(state, duration(wait_ns), f"{state} {duration(wait_ns)}", _WAITS[state])
            for state, wait_ns in waits.items()
            if wait_ns or state == "awaiting"
        ),
    ]
    rate, seen = f"{info.rate_hz:g} Hz", plural(sums.samples, "sample")
    missed = f"{info.missed_ticks:,} of {info.ticks + info.missed_ticks:,} ticks"
    cost = f"{percent(info.sampler_cpu_ns, info.process_cpu_ns)} of the CPU"
    sampling = [
        Fact(
            "samples",
            f"{sums.samples:,} at {rate}",
            f"{seen}, {rate}",
            "observations; a look at some of the tasks that wait counts for all of them",
        ),
        Fact("missed", missed, f"{missed} missed", "when nobody could look"),
        Fact("sampler cost", cost, f"sampler cost {cost}", "what greenprof itself used"),
    ]
    return Headline(_program(profile), times, sampling)


def reader_warnings(profile: Profile) -> list[str]:
    """Return what a reader must know before believing the numbers; not made printable yet."""
    found = list(profile.info.warnings)
    if not profile.samples:
        found.append("nothing was sampled: run the program longer, or sample faster (--rate)")
    return found


def _program(profile: Profile) -> list[Fact]:
    info, found = profile.info, []
    if info.python:
        python = printable(info.python)
        text = f"Python {python}" if python[0].isdigit() else python
        found.append(Fact("Python", python, text))
    if len(info.pids) > 1:
        text = plural(len(info.pids), "process").replace("processs", "processes")
        found.append(Fact("processes", f"{len(info.pids):,}", text))
    return found
