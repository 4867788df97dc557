"""What the report's page is made of: the payload, and the page that it is put into."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from greenprof.analysis import await_sites, function_table, group_table, totals, weighted_stacks
from greenprof.exporters import find_exporter, html
from greenprof.exporters.html import page
from greenprof.exporters.html.payload import MOST_LETTERS, payload
from greenprof.profiles import (
    Frame,
    FrameKind,
    FrameOrigin,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    State,
)
from tests.profiles import MS, app, orders_profile, profiles

ASSETS = files(html) / "assets"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "'\"`&amp;${1}",
    "a\x00b\x1b[2J\x7f",
    "line\u2028separator\u2029",
    "\u202eevil\u2066",
    "\ud800",
    "\U0001f9ea",
    "__proto__",
    "constructor",
    "x" * 10_000,
    "\x00" * 10_000,
    "",
]


class Elements(HTMLParser):
    """The elements of a page: their attributes and the text that they begin with."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self._open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def texts(self, tag: str, **attributes: str) -> list[str]:
        return [
            text
            for found, have, text in self.found
            if found == tag and all(have.get(name) == value for name, value in attributes.items())
        ]


def rendered(profile: Profile, clock: str = "wall") -> str:
    text = html.render(profile, clock=clock)
    assert isinstance(text, str)
    return text


def embedded(text: str) -> dict[str, Any]:
    """The payload as a browser would read it out of the page."""
    (found,) = Elements(text).texts("script", id="profile")
    value = json.loads(found)
    assert isinstance(value, dict)
    return value


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    return [text for inner in value for text in strings(inner)] if isinstance(value, list) else []


def named(name: str) -> Profile:
    """A profile in which everything that has a name has this one."""
    builder = ProfileBuilder()
    frame = Frame(name, name, 3, 2, module=name)
    awaited = Frame(name, name, 4, 3, FrameKind.AWAITED, FrameOrigin.LIBRARY, name)
    group, thread = builder.group(name, name), builder.thread(name)
    builder.add(group, thread, builder.stack([frame, awaited]), State.AWAITING, 2, 5 * MS, 0)
    info = ProfileInfo(name, name, name, name, warnings=[name])
    return builder.build(info)


class TestPayload:
    def test_of_a_service(self) -> None:
        found = payload(orders_profile(), clock="cpu")
        assert found["version"] == 1
        assert found["title"] == "orders.py --requests 15"
        assert found["clock"] == "cpu"
        assert [fact[:2] for fact in found["header"]] == [
            ["long", "2.00 s"],
            ["CPU", "900 ms"],
            ["awaiting", "1.35 s"],
            ["ready", "200 ms"],
            ["blocked", "60.0 ms"],
            ["idle", "400 ms"],
            ["samples", "290 at 100 Hz"],
            ["missed", "2 of 200 ticks"],
            ["sampler cost", "1.0 % of the CPU"],
            ["Python", "3.11.9"],
            ["recorded", "2026-01-02 03:04:05 UTC"],
        ]
        hints = {label: hint for label, _, hint in found["header"]}
        assert hints["CPU"] == "used by the process; 99 % of it is attributed to samples"
        assert "the loop was busy" in hints["ready"]
        assert found["warnings"] == orders_profile().info.warnings
        assert found["kinds"] == ["python", "boundary", "awaited"]
        assert found["origins"] == ["app", "library", "stdlib"]
        assert found["states"] == ["on-cpu", "awaiting", "ready", "blocked", "idle"]
        functions = found["functions"]
        assert functions["name"][0] == "get_order"
        assert functions["module"][0] == "orders.api"
        assert found["paths"][functions["path"][0]] == "/srv/orders/api.py"
        assert found["places"][functions["path"][0]] == "orders/api.py"
        # get_order was seen in three lines: three frames of one function.
        assert found["frames"]["function"].count(0) == 3
        assert found["sites"] == {
            "function": ["get_order", "load_lines", "get_order"],
            "fn": [0, functions["name"].index("load_lines"), 0],
            "place": ["orders/api.py:40", "orders/repo.py:31", "orders/api.py:42"],
            "line": [40, 31, 42],
            "origin": [0, 0, 0],
            "awaited": ["asyncpg.connection.Connection.fetch"] * 2 + ["asyncio.tasks.sleep"],
        }

    @given(profiles())
    def test_has_all_that_analysis_has(self, profile: Profile) -> None:
        found = payload(profile)
        samples, frames, nodes = found["samples"], found["frames"], found["nodes"]
        assert {len(column) for column in samples.values()} == {len(profile.samples)}
        assert {len(column) for column in frames.values()} == {len(profile.frames)}
        sums = totals(profile)
        assert sum(samples["wall"]) == sums.wall_ns
        assert sum(samples["cpu"]) == sums.cpu_ns
        assert sum(samples["count"]) == sums.samples
        assert list(zip(nodes["parent"], nodes["frame"], strict=True)) == profile.nodes
        assert all(parent < node for node, parent in enumerate(nodes["parent"]))
        assert len(found["functions"]["name"]) == len(function_table(profile))
        assert found["groups"]["tasks"] == [group.count for group in profile.groups]
        assert len(found["groups"]["name"]) == len(group_table(profile))
        self.check_sites(profile, found)

    @staticmethod
    def check_sites(profile: Profile, found: dict[str, Any]) -> None:
        sites, samples = await_sites(profile), found["samples"]
        assert found["sites"]["line"] == [site.line for site in sites]
        seen = [0] * len(sites)
        for site, count in zip(samples["site"], samples["count"], strict=True):
            if site >= 0:
                seen[site] += count
        assert seen == [site.seen for site in sites]

    @given(profiles())
    def test_the_clocks_can_be_had_from_the_samples(self, profile: Profile) -> None:
        """As the contract between payload and page says: by state, less the CPU time."""
        found = payload(profile)
        samples, states = found["samples"], found["states"]
        columns = zip(samples["state"], samples["wall"], samples["cpu"], strict=True)
        rest = [(states[state], max(wall - cpu, 0)) for state, wall, cpu in columns]
        waits = sum(ns for state, ns in rest if state in {"awaiting", "ready"})
        others = sum(ns for state, ns in rest if state in {"blocked", "idle"})
        weights = {
            clock: sum(stack.weight_ns for stack in weighted_stacks(profile, clock=clock))
            for clock in ("wall", "cpu", "await")
        }
        cpu = sum(samples["cpu"])
        assert weights == {"wall": cpu + waits + others, "cpu": cpu, "await": waits}

    def test_a_function_is_told_by_name_file_and_first_line(self) -> None:
        builder = ProfileBuilder()
        frames = [app("f", 5, first_line=1), app("f", 6, first_line=1), app("f", 9, first_line=8)]
        group, thread = builder.group("task", "asyncio"), builder.thread("MainThread")
        builder.add(group, thread, builder.stack(frames), State.ON_CPU, 1, 1, 1)
        found = payload(builder.build(ProfileInfo()))
        assert found["frames"]["function"] == [0, 0, 1]
        assert found["functions"]["line"] == [1, 8]
        assert found["functions"]["path"] == [0, 0]

    def test_an_empty_profile(self) -> None:
        found = payload(Profile())
        assert found["title"] == "profile"
        assert found["warnings"] == [
            "nothing was sampled: run the program longer, or sample faster (--rate)"
        ]
        tables = ("functions", "frames", "nodes", "groups", "samples", "sites")
        assert all(column == [] for table in tables for column in found[table].values())
        assert found["paths"] == found["places"] == found["threads"] == []

    @pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
    def test_every_text_is_printable_and_short(self, name: str) -> None:
        for text in strings(payload(named(name))):
            assert text.isprintable()
            assert len(text) <= MOST_LETTERS
            text.encode("utf-8")

    def test_long_names_keep_their_beginning_and_long_paths_their_end(self) -> None:
        profile = named(f"/begin{'x' * 2000}end.py")
        found = payload(profile)
        assert found["functions"]["name"][0].startswith("/begin")
        assert found["functions"]["name"][0].endswith("x…")
        assert found["paths"][0].startswith("…x")
        assert found["paths"][0].endswith("end.py")
        assert len(found["paths"][0]) == len(found["functions"]["name"][0]) == MOST_LETTERS

    def test_times_of_recording_in_other_zones_and_none(self) -> None:
        for started_at, shown in (
            ("2026-01-02T03:04:05.678+02:00", "2026-01-02 01:04:05 UTC"),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
            ("once upon a time", "once upon a time"),
        ):
            header = payload(Profile(ProfileInfo(started_at=started_at)))["header"]
            assert header[-1] == ["recorded", shown, ""]
        assert payload(Profile())["header"][-1][0] != "recorded"


class TestPage:
    @pytest.fixture
    def text(self) -> str:
        return rendered(orders_profile())

    def test_it_has_the_payload(self, text: str) -> None:
        assert embedded(text) == payload(orders_profile())
        assert Elements(text).texts("title") == ["orders.py --requests 15 - greenprof"]
        assert text.startswith("<!doctype html>")

    def test_only_its_own_scripts_and_styles_may_run(self, text: str) -> None:
        found = Elements(text)
        scripts = [
            body for tag, have, body in found.found if tag == "script" and "type" not in have
        ]
        (policy,) = [
            have["content"] or ""
            for tag, have, _ in found.found
            if tag == "meta" and have.get("http-equiv") == "Content-Security-Policy"
        ]
        rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
        assert rules["default-src"] == ["'none'"]
        assert rules["script-src"] == [page._hash(script) for script in scripts]
        assert rules["style-src"] == [page._hash(style) for style in found.texts("style")]
        assert rules["require-trusted-types-for"] == ["'script'"]
        assert rules["base-uri"] == rules["form-action"] == rules["trusted-types"] == ["'none'"]
        assert rules["img-src"] == ["data:"]
        assert len(rules) == 8
        assert text.index("Content-Security-Policy") < text.index("<style")
        digest = hashlib.sha256(scripts[0].encode()).digest()
        assert rules["script-src"][0] == f"'sha256-{base64.b64encode(digest).decode()}'"

    def test_every_script_is_there_in_order_under_its_name(self, text: str) -> None:
        assert tuple(re.findall(r"^//# sourceURL=greenprof/(.*)$", text, re.MULTILINE)) == (
            page.SCRIPTS
        )

    def test_no_script_is_forgotten(self) -> None:
        have = {asset.name for asset in ASSETS.iterdir() if asset.name.endswith(".js")}
        assert set(page.SCRIPTS) == have

    def test_it_needs_nothing_from_elsewhere(self, text: str) -> None:
        found = Elements(text)
        for tag, have, _ in found.found:
            assert not {name for name in have if name.startswith("on")}, tag
            assert "style" not in have, tag
            for name in ("src", "href", "action", "data", "srcset", "poster"):
                assert (have.get(name) or "data:").startswith(("data:", "#")), (tag, have)
        (style,) = found.texts("style")
        assert "@import" not in style
        assert not re.search(r"url\((?!\s*[\"']?data:)", style)
        assert ("meta", {"name": "referrer", "content": "no-referrer"}) in [
            (tag, have) for tag, have, _ in found.found
        ]

    @pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
    def test_names_are_data(self, name: str) -> None:
        text = rendered(named(name))
        text.encode("utf-8")
        plain = [(tag, have) for tag, have, _ in Elements(rendered(Profile())).found]
        assert [(tag, have) for tag, have, _ in Elements(text).found] == plain
        assert embedded(text) == payload(named(name))
        (data,) = Elements(text).texts("script", id="profile")
        assert data.isascii()
        assert "<" not in data

    def test_names_are_no_placeholders(self) -> None:
        for placeholder in ("<!-- title -->", "<!-- payload -->", "<!-- scripts -->"):
            text = rendered(named(placeholder))
            assert text.count('id="profile"') == 1
            assert embedded(text)["title"] == placeholder

    def test_any_clock_that_there_is(self) -> None:
        for clock in ("wall", "cpu", "await"):
            assert embedded(rendered(orders_profile(), clock))["clock"] == clock

    def test_an_empty_profile_has_a_page(self) -> None:
        assert embedded(rendered(Profile()))["nodes"] == {"parent": [], "frame": []}

    def test_the_same_profile_gives_the_same_page(self, text: str) -> None:
        assert rendered(orders_profile()) == text

    @pytest.mark.parametrize("bad", ["'</script>'", "// <!-- note -->", "'<SCRIPT>'"])
    def test_an_asset_that_would_break_the_page_is_an_error(
        self, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "x.js").write_text(bad)
        monkeypatch.setattr(page, "files", lambda _: tmp_path)
        with pytest.raises(ValueError, match=r"x\.js has"):
            page._asset("x.js")

    def test_a_missing_asset_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page, "SCRIPTS", (*page.SCRIPTS, "nosuch.js"))
        page._fixed_parts.cache_clear()
        with pytest.raises(FileNotFoundError):
            rendered(Profile())
        page._fixed_parts.cache_clear()

    def test_every_placeholder_is_filled_once(self) -> None:
        template = (ASSETS / "page.html").read_text(encoding="utf-8")
        found = page._PLACEHOLDER.findall(template)
        assert sorted(found) == ["payload", "policy", "scripts", "style", "title"]


def test_knowing_the_format_costs_no_reading_of_the_page() -> None:
    program = (
        "import sys; from greenprof.exporters import find_exporter; find_exporter('x.html');"
        "print(sorted(name for name in sys.modules if name.startswith('greenprof.exporters.html')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "['greenprof.exporters.html']\n"


def test_it_works_from_an_archive(tmp_path: Path) -> None:
    """As where greenprof is imported from a zip file: the assets are no files there."""
    package = Path(str(files("greenprof")))
    with zipfile.ZipFile(tmp_path / "greenprof.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("greenprof", path.relative_to(package)))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from greenprof.exporters import find_exporter; from greenprof.profiles import Profile;"
        "import greenprof; assert '.zip' in greenprof.__file__;"
        "print(find_exporter('x.html').render(Profile())[:15])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "greenprof.zip")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("<!doctype html>\n", "")


def test_the_registry_knows_it() -> None:
    assert find_exporter("a.html").name == find_exporter("a.HTM").name == "html"
