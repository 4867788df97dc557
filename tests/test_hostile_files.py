"""Mutated `.gprof` files: each is a profile that all formats write, or is refused in one line."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenprof.cli.main import main
from greenprof.differences import SCALES, compare
from greenprof.errors import GreenprofError, ProfileFileError
from greenprof.exporters.difference import difference_text
from greenprof.exporters.html.difference import difference_page
from greenprof.model import MAX_NUMBER
from greenprof.profile_file import MAGIC
from greenprof.profiles import Profile
from tests.hostile_files import HEADER, Json, decoded, document, outcome, packed, sealed, seeds

# Some measure time, on machines that are busy with others.
pytestmark = pytest.mark.flaky(reruns=3)

SEEDS = seeds()
DOCUMENTS = [document(seed) for seed in SEEDS]
TABLES = sorted({table for each in DOCUMENTS for table in each})
bounded = settings(max_examples=150, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])

_numbers = st.one_of(
    st.integers(-3, 60),
    st.sampled_from([MAX_NUMBER, MAX_NUMBER + 1, -MAX_NUMBER, 2**31, 2**32, 2**53, 10**30, 10**4000]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 1e308, 5e-324, 0.5, 1e18]),
)  # fmt: skip
_texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["\ud800", "\x00", "\x1b[2J", "\u202e", "</script>", "a;b\n1", "on-cpu", "W" * 5000]),
    st.sampled_from(["2026-01-01T00:00:00", "9999-12-31T23:59:59.999999+14:00", "0001-01-01", "exact", "wall"]),
)  # fmt: skip
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def mutated(data: st.DataObject) -> Json:
    """A sound document in which some things are replaced, doubled, dropped or swapped."""
    made: Json = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 4))):
        table = data.draw(st.sampled_from(sorted(made)))
        place = made[table]
        if not isinstance(place, dict) or not place:
            change_list(data, made, table)
            continue
        key = data.draw(st.sampled_from(sorted(place)))
        match data.draw(st.integers(0, 9)):
            case 0:
                del place[key]
            case 1:
                place[key] = data.draw(_values)
            case 2:
                other = data.draw(st.sampled_from(sorted(place)))
                place[key], place[other] = place[other], place[key]
            case 3:
                donor = data.draw(st.sampled_from(DOCUMENTS))
                made[table] = copy.deepcopy(donor.get(table))
            case _:
                change_list(data, place, key)
    return made


def change_list(data: st.DataObject, place: Json, key: str) -> None:
    column = place[key]
    if not isinstance(column, list) or not column:
        place[key] = data.draw(_values)
        return
    index = data.draw(st.integers(0, len(column) - 1))
    match data.draw(st.integers(0, 7)):
        case 0:
            del column[index:]
        case 1:
            column += column[index:]
        case 2:
            column.insert(index, data.draw(_values))
        case 3:
            column[:] = column[::-1]
        case _:
            column[index] = data.draw(_numbers | _texts | _values)


@bounded
@given(st.data())
def test_a_document_that_was_changed(data: st.DataObject) -> None:
    outcome(packed(mutated(data)))


@bounded
@given(
    st.data(),
    st.sampled_from(["wall", "cpu", "await"]),
    st.sampled_from(SCALES),
)
def test_what_loads_can_be_compared_and_merged(data: st.DataObject, clock: str, scale: str) -> None:
    """Or is refused in one line, as calls and samples are that do not add up."""
    try:
        one = Profile.from_bytes(packed(mutated(data)))
        other = Profile.from_bytes(packed(mutated(data)))
    except ProfileFileError:
        return
    refusal = ""
    try:
        comparison = compare(one, other, clock=clock, scale=scale)
        assert difference_text(comparison, ("one", "other")).encode()
        assert difference_page(comparison, ("one", "other")).encode()
        Profile.merge([one, other]).to_bytes()
    except GreenprofError as error:
        refusal = str(error)
    assert refusal.isprintable()


@bounded
@given(st.sampled_from(SEEDS), st.data())
def test_bytes_inside_that_were_changed(seed: bytes, data: st.DataObject) -> None:
    """As on a disk that fails before the file is compressed: no longer JSON, or another one."""
    inside = bytearray(decoded(seed) or b"")
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(inside) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                inside[at] ^= 1 << data.draw(st.integers(0, 7))
            case 1:
                inside[at] = data.draw(st.sampled_from(b'0123456789-.,:[]{}"\\eEnulltrue \x00\xff'))
            case 2:
                del inside[at : at + data.draw(st.integers(1, 20))]
                inside += b"}"
            case _:
                start = data.draw(st.integers(0, len(inside) - 1))
                inside[at:at] = inside[start : start + data.draw(st.integers(1, 40))]
    outcome(sealed(bytes(inside)))


@bounded
@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), st.data())
def test_bytes_of_the_file_that_were_changed(
    seed: bytes, other: bytes, data: st.DataObject
) -> None:
    """Flipped, cut, doubled, or the half of another file."""
    at = data.draw(st.integers(0, len(seed)))
    match data.draw(st.integers(0, 3)):
        case 0:
            outcome(seed[:at])
        case 1:
            outcome(seed[:at] + other[at:])
        case 2:
            outcome(seed[:at] + data.draw(st.binary(max_size=8)) + seed[at:])
        case _:
            changed = bytearray(seed)
            for _ in range(data.draw(st.integers(1, 4))):
                changed[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
            outcome(bytes(changed))


@bounded
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_at_all(noise: bytes, inside: bool) -> None:
    outcome(sealed(noise) if inside else MAGIC + noise)


@pytest.mark.parametrize(
    "inside",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"info":' + b"9" * 5_000_000 + b"}",
        b'{"info":{"rate_hz":1e' + b"9" * 100_000 + b"}}",
        b'{"strings":["' + b"\\ud800" * 200_000 + b'"]}',
        b'{"info":' * 3 + b"}}}",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"nul",
        b"",
        b"\x00" * 10_000,
    ],
    ids=lambda inside: repr(inside[:12]),
)
def test_json_that_is_hard_on_its_parser(inside: bytes) -> None:
    began = time.monotonic()
    assert isinstance(outcome(sealed(inside)), str)
    assert time.monotonic() - began < 10


def test_a_key_that_is_there_twice_is_read_once() -> None:
    inside = decoded(SEEDS[-1]) or b""
    doubled = inside.replace(b'{"info":', b'{"info":{},"threads":7,"info":', 1)
    assert outcome(sealed(doubled)) == Profile.from_bytes(SEEDS[-1])


def test_numbers_that_claim_a_billion_samples_cost_nothing() -> None:
    """Counts are numbers, and no format writes a thing as often as one says."""
    made = copy.deepcopy(DOCUMENTS[-1])
    for table in TABLES:
        place = made.get(table)
        if not isinstance(place, dict):
            continue
        for key, column in place.items():
            if key in {"count", "waiting", "units", "awaits", "most", "errors", "cancelled"}:
                place[key] = [MAX_NUMBER for _ in column]
            elif key in {"ticks", "missed_ticks", "lost_awaits", "lost_slices", "sampler_cpu_ns"}:
                place[key] = MAX_NUMBER
    began = time.monotonic()
    assert isinstance(outcome(packed(made)), Profile)
    assert time.monotonic() - began < 10


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of each kind of damage, as many as the commands below are to be tried with."""
    folder = tmp_path_factory.mktemp("broken")
    sound = SEEDS[-1]
    kinds = {
        "cut": sound[: len(sound) // 2],
        "header": sound[:HEADER],
        "flipped": sound[:40] + bytes([sound[40] ^ 0xFF]) + sound[41:],
        "spliced": SEEDS[-1][:300] + SEEDS[-2][300:],
        "no-json": sealed(b"{"),
        "no-tables": packed({}),
        "bomb": sealed(bytes(100 << 20)),
        "future": sealed(b"{}", major=2),
    }
    for name, data in kinds.items():
        (folder / f"{name}.gprof").write_bytes(data)
    (folder / "a\x1b[2J\nb.gprof").write_bytes(b"nothing of ours")
    return sorted(folder.iterdir())


COMMANDS = {
    "show": ["show", "BROKEN"],
    "tree": ["show", "--tree", "BROKEN"],
    "view": ["view", "--no-browser", "BROKEN"],
    "view to a file": ["view", "--no-browser", "-f", "-o", "OLD.html", "BROKEN"],
    "export": ["export", "BROKEN", "-f", "-o", "OLD.html"],
    "export of two": ["export", "SOUND", "BROKEN", "-f", "-o", "OLD.txt", "-o", "new.callgrind"],
    "merge": ["merge", "SOUND", "BROKEN", "-f", "-o", "OLD.gprof"],
    "merge onto itself": ["merge", "SOUND", "BROKEN", "-f", "-o", "BROKEN"],
    "diff before": ["diff", "BROKEN", "SOUND", "-f", "-o", "OLD.html"],
    "diff after": ["diff", "SOUND", "BROKEN"],
    "diff of both": ["diff", "BROKEN", "BROKEN", "-f", "-o", "OLD.json"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_refuses_it_in_one_line_and_overwrites_nothing(
    broken: list[Path],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sound.gprof").write_bytes(SEEDS[-1])
    old = {f"OLD.{suffix}": b"precious" for suffix in ("html", "txt", "gprof", "json")}
    for name, data in old.items():
        (tmp_path / name).write_bytes(data)
    for path in broken:
        before = path.read_bytes()
        typed = [str(path) if word == "BROKEN" else word for word in words]
        typed = ["sound.gprof" if word == "SOUND" else word for word in typed]
        assert main(typed) == 2, path
        written = capfd.readouterr()
        assert written.out == ""
        assert written.err.count("\n") == 1
        assert written.err[:-1].isprintable()
        assert path.read_bytes() == before
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {**old, "sound.gprof": SEEDS[-1]}
