"""A service before and after a change that moved its lines, for tests of what is said of the two."""

from __future__ import annotations

import dataclasses

from greenprof.profiles import Frame, Profile, Sample, State
from tests.profiles import accounted_profile, orders_profile

FASTER, SLOWER = 0.25, 3.0
MOVED_BY = 7


def moved(profile: Profile, by: int = MOVED_BY, folder: str = "/home/other") -> Profile:
    """The same program from another folder, with lines added above all functions of its own."""

    def frame(old: Frame) -> Frame:
        if not old.path.startswith("/srv/"):
            return old
        path = old.path.replace("/srv", folder)
        return dataclasses.replace(
            old, path=path, line=old.line + by, first_line=old.first_line + by
        )

    return dataclasses.replace(profile, frames=[frame(old) for old in profile.frames])


def changed(profile: Profile, factors: dict[tuple[str, State], float]) -> Profile:
    """A profile in which stacks that end with a function have more time in a state, or less."""

    def sample(old: Sample) -> Sample:
        leaf = profile.stack(old.stack)[-1].name if old.stack >= 0 else ""
        factor = factors.get((leaf, old.state), 1.0)
        return dataclasses.replace(
            old,
            count=round(old.count * factor),
            wall_ns=round(old.wall_ns * factor),
            cpu_ns=round(old.cpu_ns * factor),
        )

    return dataclasses.replace(profile, samples=[sample(old) for old in profile.samples])


def before() -> Profile:
    """The orders service, as it is in the other tests."""
    return orders_profile()


def after() -> Profile:
    """The same, moved; `total` computes faster, queries take longer, nobody naps any more."""
    factors = {
        ("total", State.ON_CPU): FASTER,
        ("Connection.fetch", State.AWAITING): SLOWER,
        ("sleep", State.AWAITING): 0.0,
    }
    return changed(moved(orders_profile()), factors)


def accounted() -> tuple[Profile, Profile]:
    """Both with their awaits counted; after, each await at the first site takes twice as long."""
    old = accounted_profile()
    new = changed(moved(old), {("total", State.ON_CPU): FASTER})
    awaits = [
        dataclasses.replace(one, total_ns=one.total_ns * (2 if place == 0 else 1))
        for place, one in enumerate(new.awaits)
    ]
    return old, dataclasses.replace(new, awaits=awaits)


def exact(profile: Profile, clock: str = "cpu") -> Profile:
    """The same numbers as if calls had been counted."""
    return dataclasses.replace(
        profile, info=dataclasses.replace(profile.info, engine="exact", clock=clock)
    )
