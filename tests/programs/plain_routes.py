"""Routes of plain functions, one after the other in the main thread, which any profiler should get right."""

from __future__ import annotations

import itertools
import time

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from truth import Kind, Truth, Visit, arguments, for_routes, visits, write

SERVED = ("endpoint", "service")
KINDS = {
    "burn": Kind("CPU", "burn", SERVED, "cpu"),
    "sleep": Kind("time.sleep", "sleep", SERVED, "wall"),
    "query": Kind("pg_sleep by Session.execute", "query", SERVED, "wall"),
}
SLEEP_IN_DATABASE = text("select pg_sleep(:seconds)")


@for_routes
def burn(visit: Visit) -> None:
    visit.burn("burn", 12)


@for_routes
def sleep(visit: Visit) -> None:
    started_ns = time.monotonic_ns()
    time.sleep(visit.wait_s(8))
    visit.waited("sleep", started_ns)


@for_routes
def query(visit: Visit, session: Session) -> None:
    started_ns = time.monotonic_ns()
    session.execute(SLEEP_IN_DATABASE, {"seconds": visit.wait_s(8)})
    visit.waited("query", started_ns)


@for_routes
def service(visit: Visit, session: Session) -> None:
    burn[visit.route](visit)
    sleep[visit.route](visit)
    query[visit.route](visit, session)


@for_routes
def endpoint(visit: Visit, session: Session) -> None:
    service[visit.route](visit, session)


def main(url: str, seconds: float) -> Truth:
    engine = create_engine(url)
    with Session(engine) as session:
        session.execute(text("select 1"))
        truth = Truth(KINDS)
        for visit in itertools.cycle(visits(truth, seconds, 1)):
            if not visit.goes_on():
                break
            endpoint[visit.route](visit, session)
    engine.dispose()
    return truth


if __name__ == "__main__":
    options = arguments(url="")
    write(main(options.url, options.seconds), options.truth)
