"""`greenprof diff` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_programs import contents, one_line_error
from tests.differing import after, before, exact
from tests.running import run_greenprof


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    before().save(tmp_path / "old.gprof")
    after().save(tmp_path / "new.gprof")
    exact(before()).save(tmp_path / "exact.gprof")
    (tmp_path / "taken.html").write_text("precious")
    (tmp_path / "plain.txt").write_text("no profile")
    return tmp_path


def test_the_tables_go_to_standard_output(folder: Path) -> None:
    files = contents(folder)
    done = run_greenprof("diff", "old.gprof", "new.gprof", "--clock", "cpu", cwd=folder)
    assert done.stderr == ""
    assert done.stdout.startswith("before: old.gprof, orders.py --requests 15")
    assert "-600 ms" in done.stdout
    assert contents(folder) == files


def test_rows_are_as_many_as_asked_for(folder: Path) -> None:
    few = run_greenprof("diff", "old.gprof", "new.gprof", "--rows", "2", cwd=folder).stdout
    assert "11 more" in few


def test_outputs_are_pages_and_texts(folder: Path) -> None:
    words = ["diff", "old.gprof", "new.gprof", "-o", "diff.html", "-o", "diff.txt"]
    done = run_greenprof(*words, cwd=folder)
    assert done.stdout == ""
    assert done.stderr == "greenprof: wrote diff.html\ngreenprof: wrote diff.txt\n"
    assert (folder / "diff.html").read_text().startswith("<!doctype html>")
    assert "old.gprof" in (folder / "diff.txt").read_text()
    again = run_greenprof(*words, "--force", "--quiet", cwd=folder)
    assert again.stderr == ""


def test_a_page_for_standard_output_needs_its_format(folder: Path) -> None:
    done = run_greenprof(
        "diff", "old.gprof", "new.gprof", "-o", "-", "--format", "html", cwd=folder
    )
    assert done.stdout.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("diff", "two profiles are needed"),
        ("diff old.gprof", "two profiles are needed"),
        ("diff old.gprof new.gprof exact.gprof", "unexpected extra argument"),
        ("diff old.gprof nosuch.gprof", "there is no profile 'nosuch.gprof'"),
        ("diff plain.txt new.gprof", "'plain.txt'"),
        ("diff old.gprof exact.gprof", "record both alike"),
        ("diff old.gprof new.gprof -o out.collapsed", "writes html and text, not collapsed"),
        ("diff old.gprof new.gprof -o out.gprof", "writes html and text, not gprof"),
        ("diff old.gprof new.gprof -o taken.html", "exists; choose another name"),
        ("diff old.gprof new.gprof -o nosuch/out.html", "no directory 'nosuch'"),
        ("diff old.gprof new.gprof -o -", "add --format"),
        ("diff old.gprof new.gprof --format html", "name one with -o"),
        ("diff old.gprof new.gprof --clock cup", "cup"),
        ("diff old.gprof new.gprof --scale seconds", "seconds"),
        ("diff old.gprof new.gprof --rows 0", "--rows"),
    ],
)
def test_bad_input_is_told_in_one_line(folder: Path, typed: str, said: str) -> None:
    error = one_line_error(*typed.split(), cwd=folder)
    assert error.startswith("greenprof diff: ")
    assert said in error


def test_help_says_what_is_compared(folder: Path) -> None:
    said = run_greenprof("diff", "--help", cwd=folder).stdout
    assert "--scale" in said
    assert "before.gprof after.gprof" in said
