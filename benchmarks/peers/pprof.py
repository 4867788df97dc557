"""Reads the pprof files that ddtrace writes: compressed by zstandard, by gzip in older releases."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Stack
from tests import pprof_reading

ZSTANDARD = b"\x28\xb5\x2f\xfd"
GZIP = b"\x1f\x8b"


def stacks(path: Path, measure: str) -> Iterator[Stack]:
    """The stacks with what `measure` ("cpu-time", "wall-time") says of them, which is in nanoseconds."""
    message = pprof_reading.MESSAGE.FromString(plain(path.read_bytes()))
    strings = list(message.string_table)
    kinds = [strings[kind.type] for kind in message.sample_type]
    if measure not in kinds:
        return
    column = kinds.index(measure)
    functions = {function.id: strings[function.name] for function in message.function}
    names = {
        location.id: tuple(functions[line.function_id] for line in reversed(location.line))
        for location in message.location
    }
    for sample in message.sample:
        if sample.value[column]:
            levels = (names[location] for location in reversed(sample.location_id))
            yield tuple(name for level in levels for name in level), sample.value[column] / 1e9


def plain(data: bytes) -> bytes:
    if data.startswith(ZSTANDARD):
        zstandard: Any = importlib.import_module("zstandard")
        unpacked: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return unpacked
    return gzip.decompress(data) if data.startswith(GZIP) else data
