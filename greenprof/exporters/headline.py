"""The facts at the head of the summary and of the report: how long, how much, seen how well."""

from __future__ import annotations

from dataclasses import dataclass

from greenprof.analysis import Totals, is_exact, totals
from greenprof.exporters.units import duration, percent, plural
from greenprof.printable import printable
from greenprof.profiles import Profile

__all__ = ["Fact", "Headline", "headline", "reader_warnings", "running_word"]

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
    """How it was recorded: how many samples, or which engine."""


def running_word(profile: Profile) -> str:
    """Return what time is called in which functions ran, for heads of columns: "CPU" or "run".

    The exact engine may have measured it by the wall clock, and then it is no CPU time.
    """
    return "run" if is_exact(profile) and profile.info.clock == "wall" else "CPU"


def headline(profile: Profile) -> Headline:
    """Return the facts of a profile, in the order in which a reader asks for them."""
    sums = totals(profile)
    exact = is_exact(profile)
    waits = {
        "awaiting": sums.awaiting_ns,
        "ready": sums.ready_ns,
        "blocked": sums.blocked_ns,
        "idle": sums.idle_ns,
    }
    long = duration(sums.duration_ns)
    times = [
        Fact("long", long, f"{long} long", "the recording, by the clock on the wall"),
        *_running(profile, sums),
        *(
            Fact(state, duration(wait_ns), f"{state} {duration(wait_ns)}", _WAITS[state])
            for state, wait_ns in waits.items()
            if wait_ns or (state == "awaiting" and not exact)
        ),
    ]
    recording = _engine(profile, sums) if exact else _sampling(profile, sums)
    return Headline(_program(profile), times, [*recording, *_counted(profile)])


def _running(profile: Profile, sums: Totals) -> list[Fact]:
    cpu = duration(sums.process_cpu_ns)
    if running_word(profile) != "CPU":
        running = duration(sums.cpu_ns)
        note = "time in functions that ran, or were in a call that blocks or waits; of all tasks"
        return [
            Fact("CPU", cpu, f"CPU {cpu}", "used by the process"),
            Fact("running", running, f"running {running}", note),
        ]
    attributed = percent(sums.cpu_ns, sums.process_cpu_ns)
    whom = "functions" if is_exact(profile) else "samples"
    note = f"used by the process; {attributed} of it is attributed to {whom}"
    return [Fact("CPU", cpu, f"CPU {cpu} ({attributed} attributed)", note)]


def _sampling(profile: Profile, sums: Totals) -> list[Fact]:
    info = profile.info
    rate, seen = f"{info.rate_hz:g} Hz", plural(sums.samples, "sample")
    missed = f"{info.missed_ticks:,} of {info.ticks + info.missed_ticks:,} ticks"
    cost = f"{percent(info.sampler_cpu_ns, info.process_cpu_ns)} of the CPU"
    return [
        Fact(
            "samples",
            f"{sums.samples:,} at {rate}",
            f"{seen}, {rate}",
            "observations; a look at some of the tasks that wait counts for all of them",
        ),
        Fact("missed", missed, f"{missed} missed", "when nobody could look"),
        Fact("sampler cost", cost, f"sampler cost {cost}", "what greenprof itself used"),
    ]


def _engine(profile: Profile, sums: Totals) -> list[Fact]:
    info = profile.info
    clock = "wall clock" if info.clock == "wall" else "CPU clock"
    found = [
        Fact(
            "engine",
            f"exact, {clock}",
            f"exact engine, {clock}",
            "every call of a function is counted and timed, which slows short functions down most",
        ),
        Fact("calls", f"{sums.samples:,}", plural(sums.samples, "call"), "of functions, counted"),
    ]
    if info.sampler_cpu_ns:
        cost = f"{percent(info.sampler_cpu_ns, info.process_cpu_ns)} of the CPU"
        found.append(Fact("cost", cost, f"cost {cost}", "what greenprof itself used, where known"))
    return found


def _counted(profile: Profile) -> list[Fact]:
    """The awaits, where they were counted."""
    count = sum(stats.count for stats in profile.awaits)
    if not count:
        return []
    note = "over bridges; each is counted and timed, none is left out"
    return [Fact("awaits", f"{count:,}", f"{plural(count, 'await')} counted", note)]


def reader_warnings(profile: Profile) -> list[str]:
    """Return what a reader must know before believing the numbers; not made printable yet."""
    found = list(profile.info.warnings)
    lost = profile.info.lost_awaits
    if lost:
        found.append(
            f"{plural(lost, 'await')} of sites over the cap on sites left out of the awaits and repeats"
        )
    lost = profile.info.lost_slices
    if lost:
        found.append(
            f"the timeline keeps its last stretches only: {plural(lost, 'earlier one')} gave way to them"
        )
    if not profile.samples and is_exact(profile):
        found.append("no call was counted: nothing of what was recorded returned or ran meanwhile")
    elif not profile.samples:
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
