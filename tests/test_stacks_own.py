"""What greenprof puts between functions of the program is not on their stacks."""

from __future__ import annotations

import asyncio

import greenback
import pytest

import greenprof


@pytest.mark.parametrize("engine", ["sampling", "exact"])
def test_counted_awaits_leave_no_frames_of_ours(engine: str) -> None:
    stacks: list[greenprof.Stack] = []

    async def query() -> None:
        stacks.append(greenprof.capture_stack())
        await asyncio.sleep(0)

    def load() -> None:
        greenback.await_(query())

    async def handler() -> None:
        await greenback.ensure_portal()
        load()

    with greenprof.Profiler(engine=engine, awaits=True) as profiler:
        asyncio.run(handler())
    assert [stats.count for stats in profiler.profile.awaits] == [1]
    names = [frame.name.rpartition(".")[2] for frame in stacks[0].frames]
    assert names[names.index("load") :] == ["load", "await_", "query"]
