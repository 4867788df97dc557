"""Routes whose sync parts await by greenback: with a portal of the task's own, and one for each call."""

from __future__ import annotations

import asyncio
import time

import greenback

from truth import Kind, Truth, Visit, arguments, for_routes, visits, write

SERVED = ("endpoint", "service")
KINDS = {
    "life": Kind("the task's life", "endpoint", (), "wall"),
    "sync_burn": Kind("CPU in the sync part", "sync_burn", SERVED, "cpu"),
    "awaited_burn": Kind("CPU in the awaited coroutine", "awaited_burn", SERVED, "cpu"),
    "awaited_sleep": Kind("asyncio.sleep through await_", "awaited_sleep", SERVED, "wall"),
}


@for_routes
def sync_burn(visit: Visit) -> None:
    visit.burn("sync_burn", 4)


@for_routes
async def awaited_burn(visit: Visit) -> None:
    visit.burn("awaited_burn", 3)
    await asyncio.sleep(0)
    visit.burn("awaited_burn", 1)


@for_routes
async def awaited_sleep(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    await asyncio.sleep(visit.wait_s(50))
    visit.waited("awaited_sleep", started_ns)


@for_routes
def service(visit: Visit) -> None:
    sync_burn[visit.route](visit)
    greenback.await_(awaited_sleep[visit.route](visit))
    greenback.await_(awaited_burn[visit.route](visit))


@for_routes
async def endpoint(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    portal_of_its_own = visit.number % 2 == 0
    if portal_of_its_own:
        await greenback.ensure_portal()
    while visit.goes_on():
        if portal_of_its_own:
            service[visit.route](visit)
        else:
            await greenback.with_portal_run_sync(service[visit.route], visit)
    visit.waited("life", started_ns)


async def started(visit: Visit) -> None:
    """The third of each route's visitors has a portal round all of it."""
    if visit.number == 2:
        await greenback.with_portal_run(endpoint[visit.route], visit)
    else:
        await endpoint[visit.route](visit)


async def main(seconds: float, each: int) -> Truth:
    truth = Truth(KINDS)
    await asyncio.gather(
        *(
            asyncio.create_task(started(visit), name=visit.route)
            for visit in visits(truth, seconds, each)
        )
    )
    return truth


if __name__ == "__main__":
    options = arguments(each=3)
    write(asyncio.run(main(options.seconds, options.each)), options.truth)
