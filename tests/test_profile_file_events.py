"""Awaits, repeats, blocks, tracks and slices in the `.gprof` format: round trips, and files made by hand."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenprof.durations import MAX_BUCKET
from greenprof.errors import ProfileFileError
from greenprof.exporters import exporters
from greenprof.profile_file import MAGIC, MAJOR, MINOR
from greenprof.profiles import Profile, SliceKind
from tests.profiles import accounted_profile

HEADER = len(MAGIC) + 4
VALID = accounted_profile().to_bytes()
DOCUMENT: dict[str, Any] = json.loads(zlib.decompress(VALID[HEADER:]))
TABLES = ("awaits", "await_durations", "repeats", "blocks", "tracks", "slices")


def packed(document: object) -> bytes:
    payload = json.dumps(document).encode()
    return MAGIC + struct.pack(">HH", MAJOR, MINOR) + zlib.compress(payload)


def refused(document: object) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(ProfileFileError) as caught:
        Profile.from_bytes(packed(document))
    message = str(caught.value)
    assert message.isprintable()
    return message


def changed(*path: str | int, to: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return document


def test_saved_and_loaded(tmp_path: Path) -> None:
    profile = accounted_profile()
    assert all(getattr(profile, name) for name in TABLES if name != "await_durations")
    profile.save(tmp_path / "run.gprof")
    assert Profile.load(tmp_path / "run.gprof") == profile


@pytest.mark.parametrize("engine", ["exact", "sampling"])
def test_how_it_was_measured_is_stored(engine: str) -> None:
    profile = accounted_profile()
    profile.info.engine, profile.info.clock = engine, "wall"
    profile.info.lost_awaits = 17
    assert Profile.from_bytes(profile.to_bytes()).info == profile.info


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (changed("info", "engine", to=1), "info.engine"),
        (changed("info", "repeat_min", to=-1), "info.repeat_min"),
        (changed("awaits", to=[]), "awaits"),
        (changed("awaits", to={}), "group"),
        (changed("awaits", "group", 0, to=99), "group"),
        (changed("awaits", "stack", 0, to=-2), "stack"),
        (changed("awaits", "stack", 0, to=10_000), "stack"),
        (changed("awaits", "awaited", 0, to=10_000), "awaited"),
        (changed("awaits", "bridge", to=None), "bridge"),
        (changed("awaits", "count", 0, to=-1), "count"),
        (changed("awaits", "max_ns", 0, to=2**63), "max_ns"),
        (changed("awaits", "cancelled", 0, to=0.5), "cancelled"),
        (changed("awaits", "errors", to=[]), "awaits: columns of different lengths"),
        (changed("await_durations", to=None), "await_durations"),
        (changed("await_durations", "site", 0, to=2), "site"),
        (changed("await_durations", "site", 0, to=-1), "site"),
        (changed("await_durations", "bucket", 0, to=MAX_BUCKET + 1), "bucket"),
        (changed("await_durations", "bucket", 0, to=-1), "bucket"),
        (changed("await_durations", "count", 0, to=-1), "count"),
        (changed("await_durations", "count", to=[]), "await_durations: columns of different"),
        (
            changed("await_durations", to={"site": [0, 0], "bucket": [7, 7], "count": [1, 1]}),
            "await_durations.bucket",
        ),
        (changed("repeats", "site", 0, to=2), "site"),
        (changed("repeats", "units", 0, to=True), "units"),
        (changed("repeats", "most", to=[]), "repeats: columns of different lengths"),
        (changed("blocks", "group", 0, to=99), "group"),
        (changed("blocks", "thread", 0, to=99), "thread"),
        (changed("blocks", "stack", 0, to=10_000), "stack"),
        (changed("blocks", "loop", 0, to=-1), "loop"),
        (changed("blocks", "waiting", 0, to=-1), "waiting"),
        (changed("tracks", "name", 0, to=10_000), "name"),
        (changed("tracks", "group", 0, to=99), "group"),
        (changed("tracks", "thread", 0, to=-1), "thread"),
        (changed("tracks", to={"name": [], "group": [], "thread": []}), "track"),
        (changed("slices", "track", 0, to=2), "track"),
        (changed("slices", "kind", 0, to="run"), "kind"),
        (changed("slices", "start_ns", 0, to=-1), "start_ns"),
        (changed("slices", "duration_ns", 0, to=-1), "duration_ns"),
        (changed("slices", "stack", 0, to=10_000), "stack"),
        (changed("slices", "flow", 0, to=-1), "flow"),
        (changed("slices", "name", to=[]), "slices: columns of different lengths"),
        (changed("slices", "track", 0, to=1), "slices: not in the order"),
        (changed("slices", "start_ns", 0, to=10**9), "slices: not in the order"),
    ],
)
def test_damage_inside_is_found_and_named(document: object, place: str) -> None:
    message = refused(document)
    assert "is damaged" in message
    assert place in message


def test_slices_of_a_kind_that_a_newer_version_added_are_left_out() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["strings"].append("teleport")
    document["slices"]["kind"][0] = len(document["strings"]) - 1
    loaded = Profile.from_bytes(packed(document))
    assert loaded.slices == accounted_profile().slices[1:]
    assert {one.kind for one in loaded.slices} <= set(SliceKind)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data())
def test_whatever_loads_can_be_shown_merged_and_subtracted(data: st.DataObject) -> None:
    """A file made by hand is refused with one line, or is a profile like any other."""
    document = copy.deepcopy(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from([*TABLES, "info"]))
        place = document[table]
        if isinstance(place, dict) and place:
            key = data.draw(st.sampled_from(sorted(place)))
            column = place[key]
            if isinstance(column, list) and column and data.draw(st.integers(0, 9)):
                index = data.draw(st.integers(0, len(column) - 1))
                column[index] = data.draw(st.integers(-1, 30) | st.integers(0, 2**63) | _values)
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
    merged = Profile.merge([profile, profile])
    assert Profile.from_bytes(merged.to_bytes()) == merged
    since = merged.subtract(as_snapshot_of(profile, merged))
    assert Profile.from_bytes(since.to_bytes()) == since


def as_snapshot_of(profile: Profile, other: Profile) -> Profile:
    """The profile as an earlier snapshot of the other one."""
    profile.info.started_at = other.info.started_at
    return profile
