"""The summary and the call tree: what a person reads."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from rich.cells import cell_len
from rich.console import Console

from greenprof.errors import OptionError
from greenprof.exporters.text import (
    render,
    summary_renderable,
    summary_text,
    tree_renderable,
    tree_text,
)
from greenprof.profiles import (
    Frame,
    Profile,
    ProfileBuilder,
    ProfileInfo,
    State,
    TaskGroup,
)
from tests.profiles import (
    MS,
    SECOND,
    SLEEP,
    app,
    library,
    orders_profile,
    profiles,
)


def large_profile(routes: int = 60, depth: int = 40) -> Profile:
    """More of everything than fits a screen, with long names."""
    builder = ProfileBuilder()
    thread = builder.thread("MainThread")
    for number in range(routes):
        group = builder.group(f"GET /a/rather/long/route/number/{number}/" + "x" * 60, "asyncio")
        builder.count_tasks(group, 1000)
        frames = [
            Frame(
                f"Service{number}.method_{level}", f"/srv/some/where/deep/module_{level}.py", 7, 5
            )
            for level in range(depth)
        ]
        wait = builder.stack([*frames, SLEEP])
        builder.add(group, thread, wait, State.AWAITING, 10_000, (number + 1) * SECOND, 0)
        builder.add(group, thread, builder.stack(frames), State.ON_CPU, 9, MS * number, MS * number)
    warnings = [f"warning {number}: " + "long " * 20 for number in range(10)]
    return builder.build(
        ProfileInfo("app.py", "3.13.1", duration_ns=SECOND, rate_hz=1000, warnings=warnings)
    )


def hostile_profile() -> Profile:
    """Names that would take over a terminal, fake lines, or be read as rich markup."""
    bad = "\x1b[2J\x9b31m[bold red]x[/] \r\nfake line\u2028\u202e"
    builder = ProfileBuilder()
    group, thread = builder.group(f"task {bad}", "asyncio"), builder.thread(f"thread {bad}")
    stack = builder.stack(
        [
            Frame(f"f {bad}", f"/srv/{bad}/x{bad}.py", 3),
            Frame(f"g {bad}", "[link=x]", 4, module=bad),
        ]
    )
    for state in State:
        builder.add(group, thread, stack, state, 1, SECOND, MS)
    return builder.build(ProfileInfo(command=f"cmd {bad}", python=bad, warnings=[bad]))


def shown(
    renderable: object, *, width: int = 100, encoding: str = "utf-8", **options: object
) -> str:
    """What a console of its own makes of a renderable."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    console = Console(file=file, width=width, **options)  # type: ignore[arg-type]
    console.print(renderable)
    file.seek(0)
    return file.read()


def cells(text: str, first: str) -> list[str]:
    """The columns of the line that begins with a text."""
    (line,) = [line for line in text.splitlines() if line.startswith(first)]
    return columns(line)


def columns(line: str) -> list[str]:
    return re.split(r" {2,}", line)


class TestSummary:
    def test_it_says_how_long_and_what_it_cost(self) -> None:
        lines = summary_text(orders_profile()).splitlines()
        assert lines[:3] == [
            "orders.py --requests 15, Python 3.11.9",
            "2.00 s long, CPU 900 ms (99 % attributed), awaiting 1.35 s, ready 200 ms,"
            " blocked 60.0 ms, idle 400 ms",
            "290 samples, 100 Hz, 2 of 200 ticks missed, sampler cost 1.0 % of the CPU",
        ]
        assert lines[-2:] == [
            "CPU columns: CPU clock. Other times: wall clock of each task, which add up.",
            "! another profiler took the greenlet tracer at 1.2 s; it was put back",
        ]

    def test_tables(self) -> None:
        text = summary_text(orders_profile())
        assert cells(text, "Tasks") == [
            "Tasks", "tasks", "wall", "CPU", "awaiting", "ready", "blocked", "idle",
        ]  # fmt: skip
        assert cells(text, "GET /orders/{}") == [
            "GET /orders/{}", "12", "1.61 s", "50.0 ms", "1.35 s", "200 ms", "-", "-",
        ]  # fmt: skip
        assert cells(text, "Functions") == [
            "Functions", "where", "CPU self", "total", "await self", "total", "blocked",
        ]  # fmt: skip
        assert cells(text, "load_lines") == [
            "load_lines", "orders/repo.py:20", "-", "-", "-", "300 ms", "-",
        ]  # fmt: skip
        assert cells(text, "Await sites") == [
            "Await sites", "in", "awaits", "seen", "awaiting", "ready",
        ]  # fmt: skip
        assert cells(text, "orders/api.py:40") == [
            "orders/api.py:40", "get_order", "asyncpg.connection.Connection.fetch",
            "120", "1.00 s", "200 ms",
        ]  # fmt: skip

    def test_the_users_functions_come_first_and_bridge_internals_are_in_the_rest(self) -> None:
        lines = summary_text(orders_profile()).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("Functions")) + 1
        names = [line.split()[0] for line in lines[start : lines.index("", start)]]
        assert names[:5] == ["get_order", "total", "report", "load_lines", "checksum"]
        assert names[5] == "Connection.fetch"
        assert names[-2:] == ["LazyLoader._load_for_state", "2"]
        assert not {"greenlet_spawn", "await_"} & set(names)

    def test_the_clock_decides_the_order(self) -> None:
        by_wall, by_cpu = (
            summary_text(orders_profile()),
            summary_text(orders_profile(), clock="cpu"),
        )
        assert by_wall.index("GET /orders") < by_wall.index("GET /report")
        assert by_cpu.index("GET /report") < by_cpu.index("GET /orders")
        assert by_cpu.index("\ntotal ") < by_cpu.index("\nget_order ")
        with pytest.raises(OptionError, match="gpu"):
            summary_renderable(orders_profile(), clock="gpu")

    @pytest.mark.parametrize("width", [80, 100, 120])
    @pytest.mark.parametrize(("height", "most"), [(24, 32), (40, 40), (200, 48)])
    def test_it_fits_a_screen(self, width: int, height: int, most: int) -> None:
        text = summary_text(large_profile(), width=width, height=height)
        lines = text.splitlines()
        assert len(lines) <= most
        assert max(map(cell_len, lines)) <= width
        for title in ("Tasks", "Functions", "Await sites"):
            assert sum(line.startswith(title) for line in lines) == 1
        # What gives way is names, never the line number at the end of a place.
        assert re.search(r"module_\d+\.py:5\b", text)

    def test_a_large_screen_is_used(self) -> None:
        small = summary_text(large_profile(), height=24).count("\n")
        large = summary_text(large_profile(), height=48).count("\n")
        assert small + 10 < large

    def test_the_rest_adds_up(self) -> None:
        lines = summary_text(large_profile(), height=30).splitlines()
        tasks, functions, sites = [columns(line) for line in lines if re.match(r"\d+ more ", line)]
        shown_tasks = sum(line.startswith("GET /a/rather") for line in lines)
        assert tasks[0] == f"{60 - shown_tasks} more"
        assert tasks[1] == f"{(60 - shown_tasks) * 1000:,}"
        # Of 1.77 s, the largest one of 60 functions that compute has a line.
        own = [columns(line)[2] for line in lines if re.search(r"method_39 .*\.py:5 ", line)]
        assert own == ["59.0 ms"]
        assert functions[1] == "1.71 s"
        shown_sites = sum(".py:7 " in line for line in lines)
        assert sites[0] == f"{60 - shown_sites} more"
        assert sites[1] == f"{(60 - shown_sites) * 10_000:,}"

    def test_many_warnings_are_counted(self) -> None:
        text = summary_text(large_profile(), height=40)
        assert sum(line.startswith("! ") for line in text.splitlines()) == 4
        assert "! 7 more warnings" in text

    def test_lines_of_servers_do_not_hide_the_users(self) -> None:
        builder = ProfileBuilder()
        group, thread = builder.group("t", "asyncio"), builder.thread("MainThread")
        server = builder.stack([library("uvicorn", "serve"), SLEEP])
        builder.add(group, thread, server, State.AWAITING, 100, 100 * SECOND)
        builder.add(group, thread, builder.stack([app("mine", 3), SLEEP]), State.AWAITING, 1, MS)
        text = summary_text(builder.build(ProfileInfo()))
        assert text.index("orders/api.py:3 ") < text.index("uvicorn.py:100 ")

    def test_nothing_sampled_says_so(self) -> None:
        text = summary_text(Profile())
        assert "nothing was sampled" in text
        assert "Tasks" not in text

    def test_the_implementation_is_named_once(self) -> None:
        profile = orders_profile()
        profile.info.python = "CPython 3.13.1"
        assert summary_text(profile).splitlines()[0] == "orders.py --requests 15, CPython 3.13.1"

    def test_a_group_of_which_nothing_was_seen_has_no_line(self) -> None:
        profile = orders_profile()
        profile.groups.append(TaskGroup("never", "asyncio", 3))
        assert "never" not in summary_text(profile)

    def test_merged_processes_are_told(self) -> None:
        profile = orders_profile()
        profile.info.pids = [1, 2, 3]
        assert summary_text(profile).splitlines()[0].endswith(", 3 processes")

    def test_it_has_colours_only_on_a_terminal(self) -> None:
        renderable = summary_renderable(orders_profile())
        assert "\x1b" not in shown(renderable)
        assert "\x1b[1m" in shown(renderable, force_terminal=True, color_system="standard")

    def test_a_console_of_another_encoding(self) -> None:
        builder = ProfileBuilder()
        stack = builder.stack([Frame("überlänge" * 30, "/srv/straße/datei.py", 1)])
        ids = builder.group("größe", "asyncio"), builder.thread("t"), stack
        for state in (State.ON_CPU, State.AWAITING):
            builder.add(*ids, state, 1, SECOND, SECOND)
        profile = builder.build(ProfileInfo(command="straße.py", warnings=["größer"]))
        text = shown(summary_renderable(profile), encoding="ascii")
        assert "gr\\xf6\\xdfe" in text
        assert "stra\\xdfe.py" in text
        assert "..." in text
        assert "gr\\xf6\\xdfe" in shown(tree_renderable(profile), encoding="ascii")


class TestHostileNames:
    @pytest.mark.parametrize("clock", ["wall", "cpu", "await"])
    def test_nothing_gets_through_to_a_terminal(self, clock: str) -> None:
        for renderable in (
            summary_renderable(hostile_profile(), clock=clock),
            tree_renderable(hostile_profile(), clock=clock),
        ):
            plain = shown(renderable, width=2000)
            assert all(line.isprintable() for line in plain.splitlines())
            assert not any(line.startswith("fake") for line in plain.splitlines())
            assert "[bold red]x[/]" in plain
            coloured = shown(renderable, width=2000, force_terminal=True, color_system="truecolor")
            # Only the styles of the report itself.
            assert set(re.findall(r"\x1b[^m]*m", coloured)) <= {
                "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[36m",
            }  # fmt: skip
            assert "\x9b" not in coloured
            assert "\x1b]8" not in coloured

    @given(profiles())
    def test_whatever_the_names_are(self, profile: Profile) -> None:
        text = render(profile)
        assert all(line.isprintable() for line in text.split("\n"))
        text.encode("utf-8")
        assert max(map(cell_len, summary_text(profile, width=90).splitlines())) <= 90

    def test_a_name_of_a_megabyte(self) -> None:
        name = "x" * (1 << 20)
        builder = ProfileBuilder()
        stack = builder.stack([Frame(name, f"/{name}/{name}.py", 1, module=name), SLEEP])
        ids = builder.group(name, "asyncio"), builder.thread("t"), stack
        builder.add(*ids, State.AWAITING, 1, SECOND, MS)
        text = render(builder.build(ProfileInfo(command=name)))
        assert len(text) < 20_000


def test_the_text_format_is_both() -> None:
    profile = orders_profile()
    assert render(profile, clock="cpu") == (
        summary_text(profile, clock="cpu") + "\n" + tree_text(profile, clock="cpu")
    )


@pytest.mark.parametrize(
    "variable", ["FORCE_COLOR", "COLUMNS", "JUPYTER_COLUMNS", "TTY_COMPATIBLE"]
)
def test_a_file_does_not_depend_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    expected = render(orders_profile())
    monkeypatch.setenv(variable, "1")
    assert render(orders_profile()) == expected
