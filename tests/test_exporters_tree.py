"""The call tree as text."""

from __future__ import annotations

import pytest
from hypothesis import given

from greenprof.errors import OptionError
from greenprof.exporters.text import tree_renderable, tree_text
from greenprof.profiles import Frame, FrameOrigin, Profile, ProfileBuilder, ProfileInfo, State
from tests.profiles import (
    AWAIT,
    FETCH,
    REPO,
    SECOND,
    SPAWN,
    app,
    library,
    orders_profile,
    profiles,
)


class TestTree:
    def test_of_a_service(self) -> None:
        assert (
            tree_text(orders_profile())
            == """\
        CPU      await    blocked  call tree, by wall clock
    50.0 ms     1.55 s          -  GET /orders/{}, 12 tasks
    50.0 ms     1.55 s          -    get_order  orders/api.py:1
    50.0 ms     1.20 s          -      AsyncSession.execute  sqlalchemy/../session.py:90
    50.0 ms     1.20 s          -        ~ greenlet boundary: greenlet_spawn
    50.0 ms     1.20 s          -          Session.execute  sqlalchemy/../session.py:90
    50.0 ms     1.20 s          -            ~ greenlet boundary: await_
    50.0 ms     1.20 s          -              Connection.fetch  asyncpg/connection.py:90
          -     300 ms          -      AsyncSession.run_sync  sqlalchemy/../session.py:90
          -     300 ms          -        ~ greenlet boundary: greenlet_spawn
          -     300 ms          -          load_lines  orders/repo.py:20
          -     300 ms          -            LazyLoader._load_for_state  sqlalchemy/../strategies.py:90
          -     300 ms          -              ~ greenlet boundary: await_
          -     300 ms          -                Connection.fetch  asyncpg/connection.py:90
          -    50.0 ms          -      sleep  asyncio/tasks.py:630
     800 ms          -          -  GET /report, 3 tasks
     800 ms          -          -    report  orders/api.py:48
     800 ms          -          -      AsyncSession.run_sync  sqlalchemy/../session.py:90
     800 ms          -          -        ~ greenlet boundary: greenlet_spawn
     800 ms          -          -          total  orders/api.py:1
    40.0 ms          -    60.0 ms  ThreadPoolExecutor-0_0 (thread), 1 task
    40.0 ms          -    60.0 ms    checksum  orders/api.py:69
    40.0 ms          -    60.0 ms      digest  hashing.py:90
branches below 1.0 % left out
"""
        )

    def test_by_cpu_the_order_and_the_pruning_change(self) -> None:
        lines = tree_text(orders_profile(), clock="cpu", min_share=0.1).splitlines()
        assert lines[0].endswith("call tree, by cpu clock")
        assert "GET /report" in lines[1]
        assert len(lines) == 1 + 5 + 1
        assert lines[-1] == "branches below 10 % left out"
        with pytest.raises(OptionError, match="gpu"):
            tree_renderable(orders_profile(), clock="gpu")

    def test_by_time_suspended_only_what_waits_is_there(self) -> None:
        lines = tree_text(orders_profile(), clock="await").splitlines()
        assert lines[0].endswith("call tree, by await clock")
        assert "GET /orders/{}" in lines[1]
        assert len(lines) == 1 + 14 + 1
        assert not [line for line in lines if "GET /report" in line or "ThreadPool" in line]

    def text_of(self, *stacks: tuple[Frame, ...], min_share: float = 0.01) -> str:
        builder = ProfileBuilder()
        group, thread = builder.group("task", "asyncio"), builder.thread("MainThread")
        for stack in stacks:
            builder.add(group, thread, builder.stack(stack), State.ON_CPU, 1, SECOND, SECOND)
        return tree_text(builder.build(ProfileInfo()), min_share=min_share)

    def test_several_frames_of_a_bridge_are_one_line(self) -> None:
        inner = Frame("switch", SPAWN.path, 1, 1, SPAWN.kind, FrameOrigin.LIBRARY)
        text = self.text_of((app("a", 1), SPAWN, inner, REPO, AWAIT, inner, FETCH))
        assert text.count("~ greenlet boundary") == 2
        assert "switch" not in text

    def test_a_greenlet_without_a_bridge_is_marked_too(self) -> None:
        text = self.text_of((app("a", 1), REPO))
        assert [line[33:] for line in text.splitlines()[1:-1]] == [
            "  task, 0 tasks",
            "    a  orders/api.py:1",
            "      ~ greenlet boundary",
            "        load_lines  orders/repo.py:20",
        ]

    def test_recursion_is_one_line(self) -> None:
        text = self.text_of(
            *[(app("fib", line),) * depth for line in (1, 2) for depth in (1, 5, 9)]
        )
        assert text.count("fib") == 1
        assert "6.00 s          -          -    fib (recursive)" in text

    def test_a_chain_of_library_frames_is_one_line(self) -> None:
        inner = [library("framework", f"call_{number}") for number in range(8)]
        text = self.text_of((app("main", 1), *inner, app("handler", 2)))
        assert "[8 library frames] call_0 ... call_7" in text
        assert "call_3" not in text
        assert "handler" in text

    def test_a_chain_ends_where_time_goes_another_way(self) -> None:
        inner = [library("framework", f"call_{number}") for number in range(8)]
        text = self.text_of((app("main", 1), *inner), (app("main", 1), *inner[:4], app("b", 2)))
        assert "[4 library frames] call_0 ... call_3" in text
        assert "[4 library frames] call_4 ... call_7" in text

    def test_deep_stacks_stay_readable(self) -> None:
        frames = tuple(Frame(f"level_{n}", f"/srv/m/x{n}.py", 1, 1) for n in range(1500))
        text = self.text_of(frames)
        lines = text.splitlines()
        assert len(lines) == 1 + 1 + 1500 + 1
        assert "level_1499" in lines[-2]
        assert max(map(len, lines)) <= 160

    @pytest.mark.parametrize("width", [80, 110])
    def test_lines_keep_to_the_width(self, width: int) -> None:
        frames = [Frame(f"level_{n}" * 9, f"/srv/m/{'x' * 60}{n}.py", 1, 1) for n in range(60)]
        builder = ProfileBuilder()
        ids = builder.group("task", "asyncio"), builder.thread("MainThread"), builder.stack(frames)
        builder.add(*ids, State.ON_CPU, 1, SECOND, SECOND)
        lines = tree_text(builder.build(ProfileInfo()), width=width).splitlines()
        assert len(lines) == 1 + 1 + 60 + 1
        assert max(map(len, lines)) <= width
        assert all("level" in line for line in lines[2:-1])

    def test_small_branches_are_left_out_unless_asked_for(self) -> None:
        stacks = [(app("main", 1), app(f"part_{number}", 1)) for number in range(30)]
        assert self.text_of(*stacks, min_share=0.05).count("part_") == 0
        everything = self.text_of(*stacks, min_share=0)
        assert everything.count("part_") == 30
        assert "left out" not in everything

    def test_nothing(self) -> None:
        assert "nothing was sampled" in tree_text(Profile())

    @given(profiles())
    def test_any_profile(self, profile: Profile) -> None:
        text = tree_text(profile, min_share=0)
        assert all(line.isprintable() for line in text.splitlines())
