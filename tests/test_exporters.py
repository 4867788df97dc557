"""The registry of formats, and what the formats write."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from greenprof import analysis
from greenprof.errors import OptionError, OutputError
from greenprof.exporters import Exporter, exporters, find_exporter, register_exporter, registry
from greenprof.exporters.speedscope import MOST_TRACES
from greenprof.profiles import Frame, Profile, ProfileBuilder, ProfileInfo, SpanRef, State
from tests.profiles import (
    BUSY_TRACE,
    FETCH,
    MS,
    QUICK_TRACE,
    SLOW_TRACE,
    orders_profile,
    profiles,
    traced_profile,
)

SCHEMA = json.loads(
    (Path(__file__).parent / "data" / "speedscope-file-format-schema.json").read_text()
)


def rendered(format_name: str, profile: Profile, clock: str = "wall") -> str:
    text = find_exporter(format_name).render(profile, clock=clock)
    assert isinstance(text, str)
    return text


def one_sample(
    *stack: Frame, state: State, wall_ns: int = 0, cpu_ns: int = 0, group: str = "task"
) -> Profile:
    builder = ProfileBuilder()
    ids = builder.group(group, "asyncio"), builder.thread("MainThread"), builder.stack(stack)
    builder.add(*ids, state, 1, wall_ns, cpu_ns)
    return builder.build(ProfileInfo())


class TestRegistry:
    @pytest.fixture
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exporters()
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @pytest.mark.parametrize(
        ("wanted", "name"),
        [
            ("out.txt", "text"),
            ("out.collapsed", "collapsed"),
            ("some.where/out.speedscope.json", "speedscope"),
            ("OUT.SPEEDSCOPE.JSON", "speedscope"),
            ("run.gprof", "gprof"),
            ("text", "text"),
            ("gprof", "gprof"),
            ("report.html", "html"),
            ("REPORT.HTM", "html"),
            ("html", "html"),
        ],
    )
    def test_found_by_name_and_by_suffix(self, wanted: str, name: str) -> None:
        assert find_exporter(wanted).name == name

    def test_found_by_a_path(self, tmp_path: Path) -> None:
        assert find_exporter(tmp_path / "x.txt").name == "text"

    @pytest.mark.parametrize("wanted", ["out.pdf", "out", "", "out.json", "-", "a\x1b[2Jb"])
    def test_an_unknown_one_is_told_what_there_is(self, wanted: str) -> None:
        with pytest.raises(OutputError, match=r"collapsed \(\.collapsed\), gprof \(\.gprof\)") as e:
            find_exporter(wanted)
        assert str(e.value).isprintable()

    @pytest.mark.usefixtures("restored")
    def test_the_longest_suffix_decides(self) -> None:
        register_exporter(Exporter("json", (".json",), binary=False, render=lambda p, clock="": ""))
        assert find_exporter("a.speedscope.json").name == "speedscope"
        assert find_exporter("a.json").name == "json"
        assert "json" in [exporter.name for exporter in exporters()]

    @pytest.mark.usefixtures("restored")
    @pytest.mark.parametrize(("name", "suffix"), [("text", ".new"), ("new", ".txt")])
    def test_a_taken_name_or_suffix_is_an_error(self, name: str, suffix: str) -> None:
        with pytest.raises(OptionError, match="belongs to 'text'"):
            register_exporter(
                Exporter(name, (suffix,), binary=False, render=lambda p, clock="": "")
            )

    def test_a_format_is_found_without_the_others(self) -> None:
        """What a run does not write it does not import: rich, the reports, the call graph."""
        code = (
            "import sys; from greenprof.exporters import exporters, find_exporter; found = find_exporter(sys.argv[1])\n"
            "print(found.name, *(name for name in sys.modules if name.startswith(('rich', 'greenprof.exporters.edges', 'greenprof.differences'))))\n"
            "assert found in exporters() and len(exporters()) > 5"
        )
        for wanted in ("gprof", "out/app.GPROF"):
            finished = subprocess.run(
                [sys.executable, "-c", code, wanted], capture_output=True, text=True, check=False
            )
            assert (finished.stdout, finished.stderr) == ("gprof\n", "")

    def test_a_format_found_alone_is_the_one_that_all_would_tell(self) -> None:
        for each in exporters():
            for wanted in (each.name, *(f"a{suffix}" for suffix in each.suffixes)):
                code = f"from greenprof.exporters import find_exporter; print(find_exporter({wanted!r}).name)"
                finished = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=False
                )
                assert finished.stdout == f"{each.name}\n", wanted

    @pytest.mark.parametrize("exporter", exporters(), ids=lambda exporter: exporter.name)
    def test_every_format_keeps_its_word(self, exporter: Exporter) -> None:
        for profile in (orders_profile(), Profile()):
            for clock in analysis.CLOCKS:
                data = exporter.render(profile, clock=clock)
                assert isinstance(data, bytes if exporter.binary else str)
        with pytest.raises(OptionError, match="gpu"):
            exporter.render(orders_profile(), clock="gpu")
        assert exporter.description
        assert all(suffix.startswith(".") for suffix in exporter.suffixes)

    @given(profiles())
    def test_every_format_takes_any_profile(self, profile: Profile) -> None:
        for exporter in exporters():
            data = exporter.render(profile)
            if isinstance(data, str):
                data.encode("utf-8")


class TestCollapsed:
    API = "/srv/orders/api.py"
    SITE = "/venv/lib/python3.11/site-packages"

    def test_gold(self) -> None:
        execute = f"AsyncSession.execute ({self.SITE}/sqlalchemy/ext/asyncio/session.py:100)"
        run_sync = f"AsyncSession.run_sync ({self.SITE}/sqlalchemy/ext/asyncio/session.py:100)"
        spawn = f"greenlet_spawn ({self.SITE}/sqlalchemy/util/concurrency.py:190)"
        sync = f"Session.execute ({self.SITE}/sqlalchemy/orm/session.py:100)"
        await_ = f"await_ ({self.SITE}/sqlalchemy/util/concurrency.py:190)"
        fetch = f"Connection.fetch ({self.SITE}/asyncpg/connection.py:690)"
        repo = "load_lines (/srv/orders/repo.py:31)"
        lazy = f"LazyLoader._load_for_state ({self.SITE}/sqlalchemy/orm/strategies.py:100)"
        query = f"get_order ({self.API}:40);{execute};{spawn};{sync};{await_};{fetch}"
        lazy = f"get_order ({self.API}:41);{run_sync};{spawn};{repo};{lazy};{await_};{fetch}"
        burn = f"report ({self.API}:50);{run_sync};{spawn};total ({self.API}:60)"
        digest = f"checksum ({self.API}:70);digest ({self.SITE}/hashing.py:100)"
        sleep = f"get_order ({self.API}:42);sleep (/usr/lib/python3.11/asyncio/tasks.py:639)"
        assert rendered("collapsed", orders_profile()).splitlines() == [
            "[idle] 400000",
            f"{digest} 40000",
            f"{digest};[blocked] 60000",
            f"{query} 50000",
            f"{query};[await] 1000000",
            f"{query};[ready] 200000",
            f"{lazy};[await] 300000",
            f"{sleep};[await] 50000",
            f"{burn} 800000",
        ]
        assert rendered("collapsed", orders_profile(), "cpu").splitlines() == [
            f"{digest} 40000",
            f"{query} 50000",
            f"{burn} 800000",
        ]
        assert rendered("collapsed", orders_profile(), "await").splitlines() == [
            f"{query};[await] 1000000",
            f"{query};[ready] 200000",
            f"{lazy};[await] 300000",
            f"{sleep};[await] 50000",
        ]

    def test_names_cannot_break_a_line(self) -> None:
        hostile = Frame("a;b\nc\r\x1b[31m\u2028", "/tmp/x;y\n.py", 3)
        profile = one_sample(hostile, state=State.ON_CPU, cpu_ns=MS)
        assert rendered("collapsed", profile) == (
            "a,b\\nc\\r\\x1b[31m\\u2028 (/tmp/x,y\\n.py:3) 1000\n"
        )

    @given(profiles())
    def test_every_line_can_be_read_back(self, profile: Profile) -> None:
        weights: Counter[str] = Counter()
        text = rendered("collapsed", profile)
        for line in text.splitlines():
            stack, _, weight = line.rpartition(" ")
            assert stack
            weights[stack] += int(weight)
        assert len(weights) == text.count("\n")
        expected = sum(weight.weight_ns for weight in analysis.weighted_stacks(profile)) / 1000
        assert sum(weights.values()) == pytest.approx(expected, abs=1 + len(profile.samples))

    def test_nothing_gives_nothing(self) -> None:
        assert rendered("collapsed", Profile()) == ""

    def test_times_below_a_microsecond_add_up_before_they_are_rounded(self) -> None:
        builder = ProfileBuilder()
        stack = builder.stack([Frame("f", "f.py", 1)])
        for number in range(4):
            group = builder.group(f"task {number}", "asyncio")
            builder.add(group, builder.thread("t"), stack, State.ON_CPU, 1, 300, 300)
        assert rendered("collapsed", builder.build(ProfileInfo())) == "f (f.py:1) 1\n"


class TestSpeedscope:
    def document(self, profile: Profile, clock: str = "wall") -> dict[str, Any]:
        document = json.loads(rendered("speedscope", profile, clock))
        jsonschema.validate(document, SCHEMA)
        assert isinstance(document, dict)
        return document

    def stacks(self, document: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], int]]:
        frames = document["shared"]["frames"]
        for profile in document["profiles"]:
            assert profile["unit"] == "nanoseconds"
            assert profile["endValue"] == sum(profile["weights"])
            for stack, weight in zip(profile["samples"], profile["weights"], strict=True):
                yield profile["name"], tuple(frames[index]["name"] for index in stack), weight

    def test_the_schema_refuses_what_is_wrong(self) -> None:
        document = self.document(orders_profile())
        document["profiles"][0]["unit"] = "fortnights"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)

    def test_one_profile_per_task_group_and_thread(self) -> None:
        document = self.document(orders_profile())
        found = list(self.stacks(document))
        assert list(dict.fromkeys(name for name, _, _ in found)) == [
            "GET /orders/{} (MainThread)",
            "GET /report (MainThread)",
            "ThreadPoolExecutor-0_0",
            "MainThread",
        ]
        assert (
            "GET /report (MainThread)",
            ("report", "AsyncSession.run_sync", "greenlet_spawn", "total"),
            800 * MS,
        ) in found
        assert ("GET /orders/{} (MainThread)", ("get_order", "sleep", "[await]"), 50 * MS) in found
        assert ("MainThread", ("[idle]",), 400 * MS) in found
        assert document["activeProfileIndex"] == 0
        assert document["name"] == "orders.py --requests 15"
        assert document["exporter"] == "greenprof 0.1.0"
        assert {"name": "get_order", "file": "/srv/orders/api.py", "line": 1} in document["shared"][
            "frames"
        ]

    def test_by_cpu_time(self) -> None:
        document = self.document(orders_profile(), "cpu")
        assert [profile["endValue"] for profile in document["profiles"]] == [
            800 * MS,
            50 * MS,
            40 * MS,
        ]

    def test_by_time_suspended(self) -> None:
        document = self.document(orders_profile(), "await")
        (profile,) = document["profiles"]
        assert profile["endValue"] == 1550 * MS
        leaves = {stack[-1] for _, stack, _ in self.stacks(document)}
        assert leaves == {"[await]", "[ready]"}

    def test_a_function_is_one_frame_whatever_its_lines(self) -> None:
        builder = ProfileBuilder()
        group, thread = builder.group("work", "asyncio"), builder.thread("one")
        for line in (3, 4):
            stack = builder.stack([Frame("f", "f.py", line, first_line=2)])
            builder.add(group, thread, stack, State.ON_CPU, 1, 7, 7)
        document = self.document(builder.build(ProfileInfo()))
        assert document["shared"]["frames"] == [{"name": "f", "file": "f.py", "line": 2}]

    def test_the_busiest_comes_first(self) -> None:
        builder = ProfileBuilder()
        thread, stack = builder.thread("one"), builder.stack([Frame("f", "f.py", 1)])
        builder.add(builder.group("pool", "thread"), thread, stack, State.IDLE, 1, 900, 0)
        builder.add(builder.group("work", "asyncio"), thread, stack, State.AWAITING, 1, 7, 0)
        names = [name for name, _, _ in self.stacks(self.document(builder.build(ProfileInfo())))]
        assert names == ["work (one)", "pool (one)"]

    def test_a_group_on_two_threads_is_two_profiles(self) -> None:
        builder = ProfileBuilder()
        group, stack = builder.group("work", "asyncio"), builder.stack([Frame("f", "f.py", 1)])
        for thread in ("one", "two"):
            builder.add(group, builder.thread(thread), stack, State.ON_CPU, 1, 7, 7)
        document = self.document(builder.build(ProfileInfo()))
        assert list(self.stacks(document)) == [("work (one)", ("f",), 7), ("work (two)", ("f",), 7)]

    def test_traces_come_after_the_groups_the_heaviest_first(self) -> None:
        document = self.document(traced_profile())
        plain = self.document(orders_profile())["profiles"]
        assert document["profiles"][: len(plain)] == plain
        assert [(one["name"], one["endValue"]) for one in document["profiles"][len(plain) :]] == [
            (f"trace {SLOW_TRACE} (GET /orders/{{}})", 825 * MS),
            (f"trace {BUSY_TRACE} (GET /report)", 400 * MS),
            (f"trace {QUICK_TRACE} (GET /orders/{{}})", 30 * MS),
        ]
        slow = {(s[-1], ns) for name, s, ns in self.stacks(document) if SLOW_TRACE in name}
        assert slow == {("[await]", 600 * MS), ("[await]", 200 * MS), (FETCH.name, 25 * MS)}
        awaited = self.document(traced_profile(), "await")["profiles"]
        assert [one["name"][:8] for one in awaited] == ["GET /ord", "trace 51", "trace 9c"]

    def test_of_many_traces_the_heaviest_are_there(self) -> None:
        builder = ProfileBuilder()
        key = builder.group("g", "asyncio"), builder.thread("t"), -1, State.AWAITING
        builder.add(*key, 1000, 1000, 0)
        for number in range(30):
            span = builder.span(SpanRef(f"{number:032x}", "1" * 16))
            builder.add_part(span, key, 1, number + 1)
        document = self.document(builder.build(ProfileInfo()))
        weights = [one["endValue"] for one in document["profiles"][1:]]
        assert weights == list(range(30, 30 - MOST_TRACES, -1))

    def test_an_empty_profile_is_valid(self) -> None:
        assert self.document(Profile())["profiles"] == []

    @given(profiles())
    def test_any_profile_is_valid(self, profile: Profile) -> None:
        document = self.document(profile)
        expected = sum(stack.weight_ns for stack in analysis.weighted_stacks(profile))
        groups = [one for one in self.stacks(document) if not one[0].startswith("trace ")]
        assert sum(weight for _, _, weight in groups) == expected
        frames = [json.dumps(frame) for frame in document["shared"]["frames"]]
        assert len(frames) == len(set(frames))
        assert all(frame["name"].isprintable() for frame in document["shared"]["frames"])


def test_gprof_is_what_loads() -> None:
    data = find_exporter("gprof").render(orders_profile())
    assert isinstance(data, bytes)
    assert Profile.from_bytes(data) == orders_profile()


def test_a_saved_profile_opens_without_what_it_was_recorded_with() -> None:
    """No greenlet, no event loop, no OpenTelemetry SDK: they may not be installed there."""
    program = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("greenlet", "asyncio") or name.startswith("opentelemetry.sdk"):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Refused())
from greenprof import analysis, exporters, profiles
opened = profiles.Profile.from_bytes(sys.stdin.buffer.read())
for exporter in exporters.exporters():
    assert exporter.render(opened)
print(analysis.totals(opened).samples)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=orders_profile().to_bytes(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.decode() == ""
    assert done.stdout.split() == [b"290"]
