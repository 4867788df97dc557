"""CPU in executor threads, and calls that block the loop's thread; --alone: without those threads."""

from __future__ import annotations

import asyncio
import time

from truth import Kind, Truth, Visit, arguments, for_routes, visits, write

KINDS = {
    "thread_burn": Kind("CPU in executor threads", "thread_burn", ("thread_job",), "cpu"),
    "block": Kind("time.sleep in the loop's thread", "block", ("endpoint",), "blocked"),
    "loop_burn": Kind("CPU in the loop's thread", "loop_burn", ("endpoint",), "cpu"),
}


@for_routes
def thread_burn(visit: Visit) -> None:
    visit.burn("thread_burn", 25)


@for_routes
def thread_job(visit: Visit) -> None:
    thread_burn[visit.route](visit)


@for_routes
def loop_burn(visit: Visit) -> None:
    visit.burn("loop_burn", 8)


@for_routes
def block(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    time.sleep(visit.wait_s(12))
    visit.waited("block", started_ns)


@for_routes
async def endpoint(visit: Visit, alone: bool) -> None:
    while visit.goes_on():
        if alone:
            await asyncio.sleep(visit.wait_s(20))
        else:
            await asyncio.to_thread(thread_job[visit.route], visit)
        block[visit.route](visit)
        loop_burn[visit.route](visit)


async def main(seconds: float, alone: bool) -> Truth:
    truth = Truth(KINDS)
    await asyncio.gather(
        *(
            asyncio.create_task(endpoint[visit.route](visit, alone), name=visit.route)
            for visit in visits(truth, seconds, 1)
        )
    )
    return truth


if __name__ == "__main__":
    options = arguments(alone=False)
    write(asyncio.run(main(options.seconds, options.alone)), options.truth)
