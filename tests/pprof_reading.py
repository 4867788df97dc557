"""Reads pprof's files: by Google's protobuf library and the field numbers that pprof publishes.

https://github.com/google/pprof/blob/main/proto/profile.proto
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
MESSAGES = {
    "Profile": """
        1 sample_type ValueType*     2 sample Sample*       3 mapping Mapping*
        4 location Location*         5 function Function*   6 string_table string*
        7 drop_frames int64          8 keep_frames int64    9 time_nanos int64
        10 duration_nanos int64      11 period_type ValueType   12 period int64
        13 comment int64*            14 default_sample_type int64   15 doc_url int64
    """,
    "ValueType": "1 type int64  2 unit int64",
    "Sample": "1 location_id uint64*  2 value int64*  3 label Label*",
    "Label": "1 key int64  2 str int64  3 num int64  4 num_unit int64",
    "Mapping": """
        1 id uint64             2 memory_start uint64     3 memory_limit uint64
        4 file_offset uint64    5 filename int64          6 build_id int64
        7 has_functions bool    8 has_filenames bool      9 has_line_numbers bool
        10 has_inline_frames bool
    """,
    "Location": "1 id uint64  2 mapping_id uint64  3 address uint64  4 line Line*  5 is_folded bool",
    "Line": "1 function_id uint64  2 line int64  3 column int64",
    "Function": "1 id uint64  2 name int64  3 system_name int64  4 filename int64  5 start_line int64",
}


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/profile.proto", package="perftools.profiles", syntax="proto3"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        words = fields.split()
        for number, field, kind in zip(words[::3], words[1::3], words[2::3], strict=True):
            added = message.field.add(name=field, number=int(number))
            repeated = kind.endswith("*")
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            one = kind.removesuffix("*")
            if one in _TYPES:
                added.type = _TYPES[one]
            else:
                added.type = added.TYPE_MESSAGE
                added.type_name = f".perftools.profiles.{one}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))


MESSAGE = _message_class()


@dataclass(frozen=True)
class Line:
    """A level of a stack."""

    function: str
    system_name: str
    file: str
    line: int
    start_line: int
    mapping: str


@dataclass(frozen=True)
class Sample:
    stack: tuple[Line, ...]
    """Root first."""
    values: tuple[int, ...]
    labels: frozenset[tuple[str, str | int]]

    def label(self, key: str) -> str | int | None:
        return dict(self.labels).get(key)


@dataclass(frozen=True)
class Read:
    """A whole file, its tables followed."""

    types: list[tuple[str, str]]
    samples: list[Sample]
    comments: list[str]
    default_type: str
    period: tuple[str, str, int]
    time_ns: int
    duration_ns: int
    mappings: list[str]

    def sums(self) -> dict[str, int]:
        """By sample type."""
        columns = zip(*(sample.values for sample in self.samples), strict=True)
        totals = [sum(column) for column in columns] or [0] * len(self.types)
        return dict(zip((name for name, _ in self.types), totals, strict=True))


def read(data: bytes) -> Read:
    """Checks what pprof's own CheckValid does, on the way."""
    message = MESSAGE.FromString(gzip.decompress(data))
    strings = list(message.string_table)
    assert strings[0] == ""
    assert len(set(strings)) == len(strings)
    mappings = {one.id: strings[one.filename] for one in message.mapping}
    functions = {one.id: one for one in message.function}
    locations = {}
    for one in message.location:
        lines = []
        for line in one.line:
            function = functions[line.function_id]
            lines.append(
                Line(
                    strings[function.name],
                    strings[function.system_name],
                    strings[function.filename],
                    line.line,
                    function.start_line,
                    mappings.get(one.mapping_id, ""),
                )
            )
        locations[one.id] = lines
    tables = (mappings, functions, locations)
    counts = (len(message.mapping), len(message.function), len(message.location))
    assert [len(table) for table in tables] == list(counts), "an id is given twice"
    assert all(0 not in table for table in tables), "0 is no id"
    samples = []
    for sample in message.sample:
        assert len(sample.value) == len(message.sample_type)
        stack = [line for number in sample.location_id for line in locations[number]]
        labels: set[tuple[str, str | int]] = set()
        for label in sample.label:
            assert bool(label.str) != bool(label.num)
            labels.add((strings[label.key], strings[label.str] if label.str else label.num))
        samples.append(Sample(tuple(reversed(stack)), tuple(sample.value), frozenset(labels)))
    period_type = message.period_type
    return Read(
        [(strings[one.type], strings[one.unit]) for one in message.sample_type],
        samples,
        [strings[index] for index in message.comment],
        strings[message.default_sample_type],
        (strings[period_type.type], strings[period_type.unit], message.period),
        message.time_nanos,
        message.duration_nanos,
        list(mappings.values()),
    )
