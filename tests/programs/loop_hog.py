"""A task hogs the loop, 300 ms at a time, while what the others wait for is long there."""

from __future__ import annotations

import asyncio
import time

from truth import Kind, Truth, Visit, arguments, burn, for_routes, visits, write

KINDS = {
    "hog": Kind("CPU of the hog", "hog", ("endpoint",), "cpu"),
    "nap_awaiting": Kind("asyncio.sleep not over yet", "nap", ("endpoint",), "awaiting"),
    "nap_ready": Kind("asyncio.sleep over, kept by the hog", "nap", ("endpoint",), "ready"),
}
HOG_NS = 300_000_000
PAUSE_S = 0.2
NAP_S = 0.01


@for_routes
def hog(visit: Visit) -> None:
    visit.truth.add("hog", visit.route, burn(HOG_NS))


@for_routes
async def nap(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    await asyncio.sleep(NAP_S)
    slept_ns = time.monotonic_ns() - started_ns
    visit.truth.add("nap_awaiting", visit.route, min(slept_ns, int(NAP_S * 1e9)))
    visit.truth.add("nap_ready", visit.route, max(slept_ns - int(NAP_S * 1e9), 0))


@for_routes
async def endpoint(visit: Visit) -> None:
    while visit.goes_on():
        if visit.route == "report":
            hog[visit.route](visit)
            await asyncio.sleep(PAUSE_S)
        else:
            await nap[visit.route](visit)


async def main(seconds: float) -> Truth:
    truth = Truth(KINDS)
    await asyncio.gather(
        *(
            asyncio.create_task(endpoint[visit.route](visit), name=visit.route)
            for visit in visits(truth, seconds, 1)
        )
    )
    return truth


if __name__ == "__main__":
    options = arguments()
    write(asyncio.run(main(options.seconds)), options.truth)
