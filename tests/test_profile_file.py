"""The `.gprof` format: round trips, newer versions, and files that are none or broken."""

from __future__ import annotations

import copy
import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof import profile_file
from greenprof.errors import OutputError, ProfileFileError
from greenprof.exporters import exporters
from greenprof.profile_file import MAGIC, MAJOR, MINOR
from greenprof.profiles import FrameKind, FrameOrigin, Profile
from tests.profiles import SLOW_SPAN, accounted_profile, orders_profile, profiles, traced_profile

FORMATS = Path(__file__).parent / "data"
OLDER = FORMATS / "format-1.0.gprof"
HEADER = len(MAGIC) + 4
VALID = traced_profile().to_bytes()


def unpacked(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(data[HEADER:]))
    return found


DOCUMENT = unpacked(VALID)


def packed(document: object, *, major: int = MAJOR, minor: int = MINOR) -> bytes:
    payload = json.dumps(document).encode()
    return MAGIC + struct.pack(">HH", major, minor) + zlib.compress(payload)


def refused(data: bytes) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(ProfileFileError) as caught:
        Profile.from_bytes(data)
    message = str(caught.value)
    assert message.isprintable()
    return message


@given(profiles())
def test_round_trip(profile: Profile) -> None:
    assert Profile.from_bytes(profile.to_bytes()) == profile


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "run.gprof"
    profile = orders_profile()
    profile.save(path)
    assert Profile.load(path) == profile
    assert Profile.load(str(path)) == profile


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "run.gprof"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="--force"):
        orders_profile().save(path)
    assert path.read_bytes() == b"precious"
    orders_profile().save(path, force=True)
    assert Profile.load(path) == orders_profile()


def test_a_newer_minor_version_loads() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["events"] = [{"of": "the future"}]
    document["spans"]["name"] = "anything"
    document["awaits"]["retries"] = "anything"
    document["info"]["hostname"] = "tomorrow"
    document["frames"]["column"] = [1] * len(document["frames"]["name"])
    document["samples"]["memory"] = "anything"
    document["strings"] += ["coroutine", "cloud"]
    document["frames"]["kind"][0] = len(document["strings"]) - 2
    document["frames"]["origin"][0] = len(document["strings"]) - 1
    profile = Profile.from_bytes(packed(document, minor=MINOR + 7))
    expected = traced_profile()
    assert profile.samples == expected.samples
    assert profile.span_samples == expected.span_samples
    assert profile.info == expected.info
    assert profile.frames[1:] == expected.frames[1:]
    assert profile.frames[0].name == expected.frames[0].name
    # What this version does not know is taken for the least particular.
    assert profile.frames[0].kind is FrameKind.PYTHON
    assert profile.frames[0].origin is FrameOrigin.LIBRARY


def test_a_file_of_format_1_0_loads() -> None:
    profile = Profile.load(OLDER)
    assert profile == orders_profile()
    assert (profile.spans, profile.span_samples, profile.info.profile_id) == ([], [], "")


def test_a_file_of_format_1_1_loads() -> None:
    profile = Profile.load(FORMATS / "format-1.1.gprof")
    assert profile == traced_profile()
    assert profile.info.engine == "sampling"


@pytest.mark.parametrize(("version", "made"), [("1.0", orders_profile), ("1.1", traced_profile)])
def test_an_older_reader_finds_all_that_it_reads(version: str, made: Callable[[], Profile]) -> None:
    older = unpacked((FORMATS / f"format-{version}.gprof").read_bytes())
    document = unpacked(made().to_bytes())
    for added in (document, document, document["info"]):
        older_part = older["info"] if added is document["info"] else older
        for key in added.keys() - older_part.keys():
            del added[key]
    assert document == older


def test_an_older_reader_of_newer_tables_finds_all_that_it_reads() -> None:
    """What 1.2 added points to the tables that were there, and changes nothing in them."""
    document = unpacked(accounted_profile().to_bytes())
    older = unpacked(accounted_profile().to_bytes())
    for table in ("awaits", "await_durations", "repeats", "blocks", "tracks", "slices"):
        del older[table]
    without = Profile.from_bytes(packed(older, minor=1))
    whole = Profile.from_bytes(packed(document))
    assert (without.awaits, without.slices) == ([], [])
    assert without.samples == whole.samples
    assert [without.stack(one.stack) for one in without.samples] == [
        whole.stack(one.stack) for one in whole.samples
    ]


def test_spans_are_stored_with_their_parts_of_the_samples(tmp_path: Path) -> None:
    profile = traced_profile()
    profile.save(tmp_path / "run.gprof")
    loaded = Profile.load(tmp_path / "run.gprof")
    assert loaded == profile
    assert SLOW_SPAN in loaded.spans
    assert loaded.info.profile_id == "f" * 32


def test_a_newer_major_version_is_told_apart_from_damage() -> None:
    message = refused(packed({"all": "new"}, major=MAJOR + 1))
    assert "newer greenprof" in message
    assert f"{MAJOR + 1}.{MINOR}" in message


@pytest.mark.parametrize("length", [*range(1, HEADER + 3), len(VALID) // 2, len(VALID) - 1])
def test_a_cut_file(length: int) -> None:
    assert "cut short" in refused(VALID[:length])


def test_an_empty_file() -> None:
    assert "is empty" in refused(b"")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"PK\x03\x04 a zip", id="zip"),
        pytest.param(b'{"profiles": []}', id="json"),
        pytest.param(VALID.replace(b"\r\n", b"\n", 1), id="line ends changed on the way"),
        pytest.param(zlib.compress(b"{}"), id="zlib"),
    ],
)
def test_a_foreign_file(data: bytes) -> None:
    assert "not a greenprof profile" in refused(data)


def test_bytes_after_the_end() -> None:
    assert "5 bytes after its end" in refused(VALID + b"extra")


def inflating(chunk: bytes, times: int) -> bytes:
    """A file with so many times the same inside."""
    pack = zlib.compressobj(9)
    packed = b"".join(pack.compress(chunk) for _ in range(times)) + pack.flush()
    return MAGIC + struct.pack(">HH", MAJOR, MINOR) + packed


def test_a_file_that_inflates_absurdly() -> None:
    """A megabyte of zeros a thousand times over is a few hundred kilobytes of zlib."""
    bomb = inflating(bytes(1 << 20), 200)
    assert len(bomb) < 2 << 20
    assert "inflates to more than 100 times its size" in refused(bomb)


def test_a_file_that_inflates_to_too_much() -> None:
    bomb = inflating(os.urandom(20_000) + bytes((1 << 20) - 20_000), 200)
    assert len(bomb) > 1 << 20
    assert "inflates to more than 128 MiB" in refused(bomb)


@pytest.mark.parametrize(("megabytes", "most"), [(100, 32 << 20), (1024, 160 << 20)])
def test_a_bomb_is_refused_while_it_inflates(megabytes: int, most: int) -> None:
    bomb = inflating(bytes(1 << 20), megabytes)
    tracemalloc.start()
    try:
        refused(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


def test_a_profile_that_compresses_absurdly_is_stored_as_it_is() -> None:
    """Else its reader would take it for a bomb."""
    profile = orders_profile()
    profile.info.warnings = ["the same again "] * 700_000
    data = profile.to_bytes()
    assert len(data) > 8 << 20
    assert Profile.from_bytes(data) == profile


def test_a_file_of_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "_MAX_TOKENS", 1000)
    assert "too many values" in refused(packed({"info": [[]] * 1001}))


def test_a_file_of_too_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "_MAX_VALUES", 1000)
    assert "too many values" in refused(packed({"info": [1] * 1002}))


def test_a_profile_of_more_numbers_than_load_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "_MAX_VALUES", 10)
    with pytest.raises(ProfileFileError, match="too large to save"):
        orders_profile().to_bytes()


def test_a_profile_too_large_to_load_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "MAX_INFLATED_BYTES", 1000)
    with pytest.raises(ProfileFileError, match="too large to save"):
        orders_profile().to_bytes()


def test_json_nested_too_deeply() -> None:
    payload = zlib.compress(b"[" * 200_000)
    refused(MAGIC + struct.pack(">HH", MAJOR, MINOR) + payload)


def changed(*path: str | int, to: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return document


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "no object"),
        ({}, "strings"),
        (changed("info", to=None), "info"),
        (changed("info", "duration_ns", to=-1), "info.duration_ns"),
        (changed("info", "ticks", to=True), "info.ticks"),
        (changed("info", "rate_hz", to=float("nan")), "NaN"),
        (changed("info", "rate_hz", to="fast"), "info.rate_hz"),
        (changed("info", "pids", to=[None]), "info.pids"),
        (changed("info", "pids", to=[-1]), "info.pids"),
        (changed("info", "pids", to=[10**400]), "info.pids"),
        (changed("info", "warnings", to="one"), "info.warnings"),
        (changed("strings", 0, to=1), "strings"),
        (changed("frames", to=[]), "frames"),
        (changed("frames", "line", 0, to=1.5), "line"),
        (changed("frames", "line", to=[1]), "frames: columns of different lengths"),
        (changed("frames", "name", 0, to=10_000), "name"),
        (changed("nodes", "parent", 0, to=0), "nodes.parent"),
        (changed("nodes", "parent", 1, to=-2), "parent"),
        (changed("nodes", "frame", 0, to=10_000), "frame"),
        (changed("groups", "count", 0, to=-1), "count"),
        (changed("threads", to=["MainThread"]), "threads"),
        (changed("samples", "state", 0, to=0), "samples.state"),
        (changed("samples", "stack", 0, to=10_000), "stack"),
        (changed("samples", "group", 0, to=99), "group"),
        (changed("samples", "wall_ns", 0, to=2**63), "wall_ns"),
        (changed("info", "profile_id", to=None), "info.profile_id"),
        (changed("spans", to=[]), "spans"),
        (changed("spans", to={}), "trace_id"),
        (changed("spans", "trace_id", 0, to=10_000), "trace_id"),
        (changed("spans", "trace_id", 0, to=0), "spans.trace_id"),
        (changed("spans", "span_id", 0, to=0), "spans.span_id"),
        (changed("spans", "span_id", to=[]), "spans: columns of different lengths"),
        (changed("span_samples", to=None), "span_samples"),
        (changed("span_samples", "span", 0, to=4), "span"),
        (changed("span_samples", "sample", 0, to=8), "sample"),
        (changed("span_samples", "sample", 0, to=-1), "sample"),
        (changed("span_samples", "count", 0, to=-1), "count"),
        (changed("span_samples", "cpu_ns", 0, to=2**63), "cpu_ns"),
        (changed("span_samples", "wall_ns", to=[]), "span_samples: columns of different lengths"),
    ],
)
def test_damage_inside_is_found_and_named(document: object, place: str) -> None:
    message = refused(packed(document))
    assert "is damaged" in message
    assert place in message


@given(st.integers(HEADER, len(VALID) - 1), st.integers(1, 255))
def test_a_flipped_byte_does_not_go_unnoticed(position: int, flip: int) -> None:
    data = bytearray(VALID)
    data[position] ^= flip
    try:
        profile = Profile.from_bytes(bytes(data))
    except ProfileFileError:
        return
    # Some bits of a zlib header (the level) mean nothing to a reader.
    assert profile == traced_profile()


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data())
def test_whatever_loads_can_be_shown(data: st.DataObject) -> None:
    """A file made by hand is refused with one line, or is a profile like any other."""
    document = copy.deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from(sorted(document)))
        place = document[table]
        if isinstance(place, dict) and place and data.draw(st.integers(0, 9)):
            key = data.draw(st.sampled_from(sorted(place)))
            column = place[key]
            if isinstance(column, list) and column and data.draw(st.integers(0, 9)):
                index = data.draw(st.integers(0, len(column) - 1))
                column[index] = data.draw(st.integers(-3, 60) | _values)
            else:
                place[key] = data.draw(_values)
        else:
            document[table] = data.draw(_values)
    try:
        profile = Profile.from_bytes(packed(document))
    except ProfileFileError:
        return
    for exporter in exporters():
        assert exporter.render(profile)


class TestLoadingWhatIsNoReadableFile:
    def refused(self, path: str | os.PathLike[str]) -> str:
        with pytest.raises(ProfileFileError) as caught:
            Profile.load(path)
        message = str(caught.value)
        assert message.isprintable()
        return message

    def test_missing(self, tmp_path: Path) -> None:
        assert "greenprof run" in self.refused(tmp_path / "no.gprof")

    def test_directory(self, tmp_path: Path) -> None:
        assert "is a directory" in self.refused(tmp_path)

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot read" in self.refused(tmp_path / "file" / "x.gprof")

    def test_a_name_that_is_none(self) -> None:
        assert "cannot read" in self.refused("a\0b")

    def test_an_endless_device_is_not_read(self) -> None:
        assert "not a greenprof profile" in self.refused("/dev/zero")

    def test_the_message_names_the_file_without_its_escapes(self, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[2Jb.gprof"
        path.write_bytes(b"nothing of ours")
        assert "a\\x1b[2Jb.gprof" in self.refused(path)
