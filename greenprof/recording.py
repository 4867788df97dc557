"""What runs while a profiler does: an engine, and what is recorded beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from greenprof import bridges, switches
from greenprof.frames import FrameTable
from greenprof.profiles import Profile, ProfileBuilder, ProfileInfo
from greenprof.samplers.awaits import DEFAULT_REPEAT_MIN, AwaitAccount
from greenprof.samplers.marks import Marks
from greenprof.samplers.pacing import Pace, PacedBuilder
from greenprof.samplers.statistical import Sampler

if TYPE_CHECKING:
    from greenprof.samplers.blocks import Blocks
    from greenprof.samplers.exact import ExactEngine
    from greenprof.samplers.timeline import Timeline

__all__ = ["Options", "Recording"]


class Part(Protocol):
    """Something that records. From any thread; `stop` undoes what a failed `start` did."""

    def start(self) -> None:
        """Start to record."""

    def stop(self) -> None:
        """Stop; a second call does nothing, and what was recorded stays."""

    def abandon(self) -> None:
        """Forget everything, in a forked child."""

    def before_fork(self) -> None:
        """Go without threads for a moment."""

    def after_fork_in_parent(self) -> None:
        """Take them back."""

    @property
    def warnings(self) -> list[str]:
        """What a reader of the profile has to know."""


class Options(NamedTuple):
    """What is to be recorded, and how; `greenprof.Profiler` documents each."""

    rate_hz: float
    max_nodes: int
    engine: str = "sampling"
    clock: str = "cpu"
    only: tuple[str, ...] = ()
    awaits: bool | None = None
    """None: for a small part of the program's time."""
    repeat_min: int = DEFAULT_REPEAT_MIN
    block_limit: float | None = None
    on_block: Callable[[Any], None] | None = None
    timeline: float | None = None
    """Seconds to keep, infinity for all; None for no timeline."""


class Recording:
    """Records this process until stopped; to be started once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sampler: Sampler | None = None
        self._exact: ExactEngine | None = None
        self._account: AwaitAccount | None = None
        self._blocks: Blocks | None = None
        self._timeline: Timeline | None = None
        if options.engine == "exact":
            from greenprof.samplers.exact import ExactEngine

            self._exact = ExactEngine(options.clock, only=options.only, max_nodes=options.max_nodes)
        else:
            self._sampler = Sampler(options.rate_hz, options.max_nodes)
        if options.awaits is not False:
            exact = options.engine == "exact"
            self._account = AwaitAccount(
                repeat_min=options.repeat_min,
                # An engine that measures CPU time alone takes the time of waits from here.
                as_samples=exact and options.clock == "cpu",
                # Who wants each call, or each event, wants each await too.
                sparing=options.awaits is None and not exact and options.timeline is None,
            )
            if self._sampler is not None:
                self._sampler.spare(self._account)
        if options.block_limit is not None:
            from greenprof.samplers.blocks import Blocks

            self._blocks = Blocks(options.block_limit, options.on_block)
        if options.timeline is not None:
            from greenprof.samplers.timeline import Timeline

            self._timeline = Timeline(self._account, self._blocks, seconds=options.timeline)
        found = (self._timeline, self._blocks, self._account, self._exact, self._sampler)
        # What counts and measures each event is started last and stopped first: it sees least
        # of the others.
        self._parts: list[Part] = [part for part in found if part is not None]
        self._switches_before = 0
        self._switches: int | None = None

    def start(self) -> None:
        """Start all parts, from any thread. After an error, `stop` undoes what was done."""
        self._switches_before = _switches_so_far()
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """Stop all parts, from any thread. A second call does nothing.

        What a signal handler of the program's raises in the middle of it is raised in the end.
        """
        self._switches = self._greenlet_switches()
        for part in reversed(self._parts):
            try:
                part.stop()
            except BaseException:
                for each in reversed(self._parts):
                    each.stop()
                raise

    def abandon(self) -> None:
        """Forget everything in a forked child."""
        for part in self._parts:
            part.abandon()

    def before_fork(self) -> None:
        """Go without threads for a moment."""
        for part in self._parts:
            part.before_fork()

    def after_fork_in_parent(self) -> None:
        """Take the threads back, as soon as the fork is over."""
        for part in self._parts:
            part.after_fork_in_parent()

    def result(
        self,
        info: ProfileInfo,
        started_ns: int,
        pace: Pace | None = None,
        marks: Marks | None = None,
    ) -> Profile:
        """The profile so far. `info` has what is known of the session; the rest is filled in.

        One at a time. What `pace` raises comes through. With `marks`, it has only those samples
        and tasks that are new by them, where `adds_up`.
        """
        # Over the cap come markers, one below each node at most.
        nodes = 2 * self._options.max_nodes
        builder = ProfileBuilder(nodes) if pace is None else PacedBuilder(nodes, pace)
        table = FrameTable()
        over = 0
        if self._sampler is not None:
            self._sampler.settle()
            over = self._sampler.recorder.fill(builder, table, marks)
            self._tell_sampling(info, self._sampler)
        for part in (self._exact, self._account, self._blocks, self._timeline):
            if part is not None:
                part.fill(builder, table, started_ns)
        info.overflow_samples = over
        info.greenlet_switches = self._greenlet_switches()
        info.engine = self._options.engine
        if self._exact is not None:
            info.clock = self._options.clock
        if self._account is not None:
            info.repeat_min = self._account.repeat_min
            info.lost_awaits = self._account.lost
        if self._blocks is not None:
            info.block_limit_ns = round((self._options.block_limit or 0) * 1e9)
        if self._timeline is not None:
            info.lost_slices = self._timeline.lost_slices
        info.warnings = self._warnings(over)
        return builder.build(info)

    @property
    def adds_up(self) -> bool:
        """Whether what is new can be told, and is little beside the whole."""
        return self._sampler is not None and self._timeline is None

    def _tell_sampling(self, info: ProfileInfo, sampler: Sampler) -> None:
        info.rate_hz = self._options.rate_hz
        info.ticks = sampler.ticks
        info.missed_ticks = sampler.missed
        info.sampler_cpu_ns = sampler.cost_ns

    def _warnings(self, over: int) -> list[str]:
        found = [text for part in reversed(self._parts) for text in part.warnings]
        found += bridges.problems()
        if any(state.given_up for state in switches.all_threads()):
            found.append(
                "another tool kept taking the greenlet tracer away; stacks of bridges that "
                "greenprof does not know may be split from then on"
            )
        if over:
            found.append(
                f"{over} samples went over the limit of {self._options.max_nodes} stored stack "
                "nodes; their innermost frames are not told apart (raise max_nodes, or --max-nodes)"
            )
        return found

    def _greenlet_switches(self) -> int:
        if self._sampler is not None:
            return self._sampler.switches
        if self._switches is not None:
            return self._switches
        return max(_switches_so_far() - self._switches_before, 0)


def _switches_so_far() -> int:
    return sum(state.position()[0] for state in switches.all_threads())
