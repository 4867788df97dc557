"""pprof's profile.proto, compressed: for `go tool pprof` and all that reads its format.

The messages and their field numbers:
https://github.com/google/pprof/blob/main/proto/profile.proto.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from greenprof.analysis import check_clock, counted_ns
from greenprof.exporters.depth import shallow
from greenprof.exporters.edges import calls_are, names_of, owner_of
from greenprof.exporters.protobuf import Message
from greenprof.exporters.registry import Exporter
from greenprof.printable import printable
from greenprof.profiles import Frame, FrameKind, FrameOrigin, Profile, Sample, State
from greenprof.sites import WAITS, function_key, waited_ns

__all__ = ["EXPORTER", "render"]

_GZIP: Final = 31
"""zlib's window bits for gzip; its header has no time then, and equal profiles give equal bytes."""
_LEVEL: Final = 6
_NO_STACK: Final = Frame("[no stack]", "", origin=FrameOrigin.LIBRARY)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Values(NamedTuple):
    """What a sample weighs, by each of the sample types."""

    seen: int
    """Observations, or calls."""
    cpu_ns: int
    wall_ns: int
    await_ns: int

    def less(self, other: _Values) -> _Values:
        return _Values(*(one - part for one, part in zip(self, other, strict=True)))

    def at_most(self, other: _Values) -> _Values:
        return _Values(*map(min, self, other))


def render(profile: Profile, /, *, clock: str = "wall") -> bytes:
    """Return a gzip-compressed Profile message, the same bytes for the same profile.

    Its sample types are samples (calls by the exact engine), cpu, wall and await, the times in
    nanoseconds and counted as everywhere else in greenprof; the clock is the one that is shown by
    itself. Labels are task, task_kind, state and thread; trace_id for what was seen in a trace; and
    boundaries, the number of greenlet boundaries in the stack. Idle time is left out.

    A mapping, which elsewhere is a binary, is a package here, or "[greenlet boundary]" for a bridge's
    internals, so that `-ignore`, `-hide` and `-focus` know them. Of very deep stacks the lowest levels
    are left out, see `depth.shallow`.
    """
    check_clock(clock)
    return _compressed(bytes(_Writer(shallow(profile)).profile(clock)))


class _Writer:
    """Numbers what a Profile message has in tables: strings, mappings, functions, locations."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._strings: dict[str, int] = {"": 0}
        # Of the program first: that is what a reader calls the profile by.
        self._mappings: dict[str, int] = {}
        self._mapping(_program_of(profile))
        self._functions: dict[tuple[str, str, int], int] = {}
        self._function_messages: list[Message] = []
        self._locations: list[Message] = []
        self._boundaries: dict[int, int] = {}

    def profile(self, clock: str) -> Message:
        """Return the whole message."""
        info, result = self._profile.info, Message()
        types = {calls_are(self._profile): "count", "cpu": "nanoseconds"}
        types |= {"wall": "nanoseconds", "await": "nanoseconds"}
        for name, unit in types.items():
            result.message(1, self._value_type(name, unit))
        self._locations = [
            self._location(number, frame)
            for number, frame in enumerate(self._profile.frames, start=1)
        ]
        for sample, trace_id, values in _parts(self._profile):
            idle = sample.state is State.IDLE and not values.cpu_ns
            if any(values) and not idle:
                result.message(2, self._sample(sample, trace_id, values))
        for name in self._mappings:
            result.message(3, self._mapping_message(name))
        for location in self._locations:
            result.message(4, location)
        for function in self._function_messages:
            result.message(5, function)
        comments = [self._string(comment) for comment in _comments(self._profile)]
        period_ns = _period_ns(self._profile)
        period_type = self._value_type("wall", "nanoseconds")
        default_type = self._string(clock)
        for text in self._strings:
            result.text(6, text)
        result.number(9, _since_epoch_ns(info.started_at))
        result.number(10, info.duration_ns)
        if period_ns:
            result.message(11, period_type)
            result.number(12, period_ns)
        result.numbers(13, comments)
        result.number(14, default_type)
        return result

    def _sample(self, sample: Sample, trace_id: str, values: _Values) -> Message:
        profile, message = self._profile, Message()
        # The leaf comes first.
        stack = [frame + 1 for frame in reversed(profile.frame_ids(sample.stack))]
        message.numbers(1, stack or [self._no_stack()])
        message.numbers(2, values)
        group = profile.groups[sample.group]
        labels = {
            "task": group.name,
            "task_kind": group.kind,
            "state": sample.state.value,
            "thread": profile.threads[sample.thread],
            "trace_id": trace_id,
        }
        for key, text in labels.items():
            if text:
                label = Message()
                label.number(1, self._string(key))
                label.number(2, self._string(text))
                message.message(3, label)
        boundaries = self._boundaries_in(sample.stack)
        if boundaries:
            label = Message()
            label.number(1, self._string("boundaries"))
            label.number(3, boundaries)
            label.number(4, self._string("count"))
            message.message(3, label)
        return message

    def _location(self, number: int, frame: Frame) -> Message:
        message, line = Message(), Message()
        message.number(1, number)
        message.number(2, self._mapping(_mapping_of(frame)))
        # A reader may take locations for one another that have the same address.
        message.number(3, number)
        line.number(1, self._function(frame))
        line.number(2, frame.line or frame.first_line)
        message.message(4, line)
        return message

    def _no_stack(self) -> int:
        """The location of what was seen of a task without a stack."""
        number = len(self._profile.frames) + 1
        if len(self._locations) < number:
            self._locations.append(self._location(number, _NO_STACK))
        return number

    def _function(self, frame: Frame) -> int:
        key = function_key(frame)
        number = self._functions.setdefault(key, len(self._functions) + 1)
        if number > len(self._function_messages):
            message = Message()
            message.number(1, number)
            name, qualified_name = names_of(frame)
            message.number(2, self._string(qualified_name or "?"))
            message.number(3, self._string(name))
            message.number(4, self._string(frame.path))
            message.number(5, frame.first_line)
            self._function_messages.append(message)
        return number

    def _mapping(self, name: str) -> int:
        return self._mappings.setdefault(name, len(self._mappings) + 1)

    def _mapping_message(self, name: str) -> Message:
        message = Message()
        message.number(1, self._mappings[name])
        message.number(5, self._string(name))
        # Without these a reader looks for symbols in a file of this name.
        for has_functions_to_line_numbers in (7, 8, 9):
            message.number(has_functions_to_line_numbers, 1)
        return message

    def _value_type(self, name: str, unit: str) -> Message:
        message = Message()
        message.number(1, self._string(name))
        message.number(2, self._string(unit))
        return message

    def _string(self, text: str) -> int:
        return self._strings.setdefault(printable(text), len(self._strings))

    def _boundaries_in(self, node: int) -> int:
        """How often a stack goes over to another greenlet, or to what is awaited from one."""
        way = []
        while node >= 0 and node not in self._boundaries:
            way.append(node)
            node = self._profile.nodes[node][0]
        for child in reversed(way):
            above = self._profile.frames[self._profile.nodes[node][1]] if node >= 0 else None
            frame = self._profile.frames[self._profile.nodes[child][1]]
            bridge_above = above is not None and above.kind is FrameKind.BOUNDARY
            bridge = frame.kind is FrameKind.BOUNDARY
            more = not bridge_above and (bridge or frame.crosses)
            self._boundaries[child] = self._boundaries.get(node, 0) + more
            node = child
        return self._boundaries.get(node, 0)


def _parts(profile: Profile) -> Iterator[tuple[Sample, str, _Values]]:
    """Yield each sample's parts by trace id, and what is left of it with none."""
    traces: dict[int, dict[str, Sample]] = {}
    for part in profile.span_samples:
        by_trace = traces.setdefault(part.sample, {})
        whole = profile.samples[part.sample]
        one = by_trace.setdefault(
            profile.spans[part.span].trace_id,
            Sample(whole.group, whole.thread, whole.stack, whole.state, 0, 0, 0),
        )
        one.count += part.count
        one.wall_ns += part.wall_ns
        one.cpu_ns += part.cpu_ns
    exact = calls_are(profile) == "calls"
    for index, sample in enumerate(profile.samples):
        left = _values(sample)
        if exact and sample.state is not State.ON_CPU:
            left = left._replace(seen=0)
        for trace_id, one in traces.get(index, {}).items():
            # A part's waiting can be more than the whole's, whose CPU time took some of it away.
            values = _values(one).at_most(left)
            left = left.less(values)
            yield sample, trace_id, values
        yield sample, "", left


def _values(sample: Sample) -> _Values:
    waited = waited_ns(sample)
    awaited = waited if sample.state in WAITS else 0
    blocked = waited if sample.state is State.BLOCKED else 0
    wall_ns = counted_ns("wall", sample.cpu_ns, awaited, blocked)
    return _Values(sample.count, sample.cpu_ns, wall_ns, awaited)


def _program_of(profile: Profile) -> str:
    return profile.info.command or "greenprof"


def _mapping_of(frame: Frame) -> str:
    owner = owner_of(frame)
    return f"[{owner}]" if frame.kind is FrameKind.BOUNDARY else owner


def _comments(profile: Profile) -> Iterator[str]:
    info = profile.info
    yield f"greenprof {info.greenprof}".strip()
    if info.command:
        yield f"command: {info.command}"
    if info.python:
        yield f"Python {info.python}"
    if info.engine != "sampling":
        yield f"{info.engine} engine, {info.clock} clock".removesuffix(",  clock")
    for warning in info.warnings:
        yield f"warning: {warning}"


def _period_ns(profile: Profile) -> int:
    rate_hz = profile.info.rate_hz
    # The exact engine has no period; a rate may be as odd as a file can hold.
    return round(1e9 / rate_hz) if 1e-9 < rate_hz < 1e12 else 0


def _since_epoch_ns(iso: str) -> int:
    try:
        since = datetime.fromisoformat(iso)
    except ValueError:
        return 0
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return (since - _EPOCH) // timedelta(microseconds=1) * 1000


def _compressed(data: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(data) + compressor.flush()


EXPORTER = Exporter(
    name="pprof",
    suffixes=(".pb.gz", ".pprof"),
    binary=True,
    render=render,
    description="for go tool pprof and its kind",
)
