"""Files that look like profiles and are none, or no sound ones: how they are made, and what may come of them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from greenprof.errors import ProfileFileError
from greenprof.exporters import exporters
from greenprof.profile_file import MAGIC, MAJOR, MINOR
from greenprof.profiles import Profile
from tests.profiles import accounted_profile, orders_profile, traced_profile

__all__ = [
    "HEADER",
    "Json",
    "decoded",
    "document",
    "later_parts",
    "outcome",
    "packed",
    "sealed",
    "seeds",
]

HEADER = len(MAGIC) + 4
Json = dict[str, Any]
_MOST_INSIDE = 1 << 20


def seeds() -> list[bytes]:
    """Sound files: of the formats before, of spans, of what is counted, and an autosave of two parts."""
    older = sorted((Path(__file__).parent / "data").glob("*.gprof"))
    made = (orders_profile(), traced_profile(), accounted_profile())
    data = [profile.to_bytes() for profile in made]
    return [*(path.read_bytes() for path in older), data[1] + data[2], *data]


def decoded(data: bytes) -> bytes | None:
    """What is inside of a file, None where that cannot be told."""
    if not data.startswith(MAGIC):
        return None
    try:
        return zlib.decompressobj().decompress(data[HEADER:], _MOST_INSIDE)
    except zlib.error:
        return None


def later_parts(data: bytes) -> bytes:
    """What comes after a file's first part, as far as that can be told."""
    stream = zlib.decompressobj()
    try:
        stream.decompress(data[HEADER:], _MOST_INSIDE)
    except zlib.error:
        return b""
    return stream.unused_data


def document(data: bytes) -> Json:
    """The JSON inside of a sound file, of its first part."""
    found: Json = json.loads(zlib.decompressobj().decompress(data[HEADER:]))
    return found


def sealed(inside: bytes, *, major: int = MAJOR, minor: int = MINOR) -> bytes:
    """A file with these bytes inside."""
    return MAGIC + struct.pack(">HH", major, minor) + zlib.compress(inside, 1)


def packed(made: object, **version: int) -> bytes:
    """A file with this JSON inside."""
    return sealed(json.dumps(made).encode(), **version)


def outcome(data: bytes) -> Profile | str:
    """The profile in a file, which all formats can write and which is the same when saved; or the one line.

    Raises whatever else comes of it.
    """
    try:
        profile = Profile.from_bytes(data)
    except ProfileFileError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < 300, len(line)
        return line
    assert Profile.from_bytes(profile.to_bytes()) == profile
    for exporter in exporters():
        assert exporter.render(profile)
    return profile
