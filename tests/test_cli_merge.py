"""`greenprof merge`: files of several formats, the summary, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from greenprof.profiles import Profile
from tests.cli_programs import contents, one_line_error
from tests.profiles import MS, accounted_profile, orders_profile, traced_profile
from tests.running import run_greenprof


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with profiles of two workers, one of the exact engine, and what is none."""
    traced_profile().save(tmp_path / "one.gprof")
    accounted_profile().save(tmp_path / "two.gprof")
    for clock in ("cpu", "wall"):
        exact = orders_profile()
        exact.info = dataclasses.replace(exact.info, engine="exact", clock=clock)
        exact.save(tmp_path / f"exact-{clock}.gprof")
    (tmp_path / "link.gprof").symlink_to("one.gprof")
    (tmp_path / "broken.gprof").write_bytes(b"\x89GPROF\r\n\0\1\0\0x")
    (tmp_path / "taken.txt").write_text("precious")
    (tmp_path / "plain").mkdir()
    return tmp_path


def test_profiles_become_one_file(folder: Path) -> None:
    finished = run_greenprof("merge", "one.gprof", "two.gprof", "-o", "all.gprof", cwd=folder)
    assert (finished.stdout, finished.stderr) == ("", "greenprof: wrote all.gprof\n")
    merged = Profile.load(folder / "all.gprof")
    assert merged == Profile.merge([traced_profile(), accounted_profile()])
    assert merged.info.process_cpu_ns == 1800 * MS
    assert len(merged.spans) == len(traced_profile().spans)
    assert len(merged.slices) == len(accounted_profile().slices)


def test_any_format_will_do(folder: Path) -> None:
    words = "-q one.gprof two.gprof -o all.gprof -o all.txt -o all.collapsed -o all.speedscope.json"
    finished = run_greenprof("merge", *words.split(), cwd=folder)
    assert (finished.stdout, finished.stderr) == ("", "")
    run_greenprof("export", "-q", "all.gprof", "-o", "again.collapsed", cwd=folder)
    assert (folder / "all.collapsed").read_bytes() == (folder / "again.collapsed").read_bytes()
    assert "get_order" in (folder / "all.txt").read_text(encoding="utf-8")
    piped = run_greenprof(
        *["merge", "one.gprof", "two.gprof", "-o", "-", "--format", "collapsed"], cwd=folder
    )
    assert piped.stdout.encode() == (folder / "all.collapsed").read_bytes()
    assert piped.stderr == ""


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_without_an_output_the_summary_is_shown(folder: Path, clock: str) -> None:
    before = contents(folder)
    shown = run_greenprof("show", "--clock", clock, "one.gprof", "two.gprof", cwd=folder)
    merged = run_greenprof("merge", "--clock", clock, "one.gprof", "two.gprof", cwd=folder)
    assert merged.stdout == shown.stdout
    assert "GET /orders" in merged.stdout
    assert merged.stderr == ""
    assert contents(folder) == before


def test_a_profile_may_be_replaced_by_the_whole(folder: Path) -> None:
    words = ["merge", "one.gprof", "two.gprof", "-o", "one.gprof"]
    assert "--force" in one_line_error(*words, cwd=folder)
    assert Profile.load(folder / "one.gprof") == traced_profile()
    run_greenprof(*words, "--force", cwd=folder)
    whole = Profile.merge([traced_profile(), accounted_profile()])
    assert Profile.load(folder / "one.gprof") == whole


def test_one_profile_is_a_whole(folder: Path) -> None:
    run_greenprof("merge", "one.gprof", "-o", "all.gprof", cwd=folder)
    assert Profile.load(folder / "all.gprof") == traced_profile()


def test_profiles_of_the_exact_engine_are_merged_with_their_like(folder: Path) -> None:
    copy = folder / "copy.gprof"
    copy.write_bytes((folder / "exact-cpu.gprof").read_bytes())
    run_greenprof("merge", "exact-cpu.gprof", "copy.gprof", "-o", "all.gprof", cwd=folder)
    merged = Profile.load(folder / "all.gprof")
    assert (merged.info.engine, merged.info.clock) == ("exact", "cpu")
    calls = sum(sample.count for sample in merged.samples)
    assert calls == 2 * sum(sample.count for sample in orders_profile().samples)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "no profile given"),
        ("-o all.gprof", "no profile given"),
        ("one.gprof nosuch.gprof", "no profile 'nosuch.gprof'"),
        ("one.gprof plain", "is a directory"),
        ("one.gprof taken.txt", "'taken.txt' is not a greenprof profile"),
        ("one.gprof broken.gprof", "'broken.gprof' is cut short"),
        ("one.gprof one.gprof", "'one.gprof' is given twice"),
        ("one.gprof two.gprof link.gprof", "'link.gprof' is given twice"),
        ("one.gprof exact-cpu.gprof", "'exact-cpu.gprof' (exact engine, cpu clock) with 'one.g"),
        ("exact-cpu.gprof exact-wall.gprof", "cannot merge 'exact-wall.gprof'"),
        ("one.gprof two.gprof -o taken.txt", "--force"),
        ("one.gprof two.gprof -o all.xyz", "all.xyz"),
        ("one.gprof two.gprof -o -", "--format"),
        ("one.gprof two.gprof --format text", "-o"),
        ("one.gprof two.gprof --clock sun", "'sun'"),
        ("one.gprof two.gprof --nosuch", "--nosuch"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(folder: Path, typed: str, said: str) -> None:
    assert said in one_line_error("merge", *typed.split(), cwd=folder)


@pytest.mark.parametrize("command", ["show", "export -o all.txt", "view --no-browser"])
def test_other_commands_refuse_what_does_not_add_up_too(folder: Path, command: str) -> None:
    line = one_line_error(*command.split(), "one.gprof", "exact-wall.gprof", cwd=folder)
    assert "cannot merge 'exact-wall.gprof' (exact engine, wall clock)" in line


def test_names_with_control_characters_stay_on_one_line(folder: Path) -> None:
    name = "a\x1b[2J\n.gprof"
    (folder / name).write_bytes((folder / "one.gprof").read_bytes())
    assert r"a\x1b[2J\n.gprof" in one_line_error("merge", name, name, cwd=folder)
    assert r"a\x1b[2J\n.gprof" in one_line_error("merge", "exact-cpu.gprof", name, cwd=folder)


def test_help_has_examples() -> None:
    finished = run_greenprof("merge", "--help")
    assert "greenprof merge worker1.gprof worker2.gprof -o all.gprof" in finished.stdout
