"""How far somebody has got who saves samples again and again, and wants to add what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress, count
from operator import itemgetter, ne
from typing import Any

from greenprof.profiles import SpanRef
from greenprof.samplers.spanlinks import SampleKey

__all__ = ["Marks"]

Numbers = tuple[int, int, int]
_NONE: Numbers = (0, 0, 0)


class Marks:
    """What of a recorder's samples has been saved: nothing at first, and then as `keep` says.

    A task group that has got a better name since is saved under the one that it had.
    """

    def __init__(self) -> None:
        # In the order in which they came, which stays.
        self._samples: list[Numbers] = []
        self._parts: dict[tuple[SpanRef, SampleKey], Numbers] = {}
        self._tasks: list[int] = []
        self._over = 0
        # All of them as they will be, but of parts only those that changed.
        self._next: tuple[list[Numbers], dict[Any, Numbers], list[int], int] = ([], {}, [], 0)

    def __len__(self) -> int:
        """The number of samples that are kept in mind."""
        return len(self._samples)

    def news(
        self,
        samples: Sequence[tuple[SampleKey, Sequence[int]]],
        parts: Iterable[tuple[SpanRef, SampleKey, Numbers]],
        tasks: list[int],
        pause: Callable[[], None],
    ) -> tuple[
        list[tuple[SampleKey, Numbers]], list[tuple[SpanRef, SampleKey, Numbers]], list[int]
    ]:
        """Samples, parts of them in spans, and tasks of each group, as far as they have grown.

        `samples` are all that there are, in the order in which they came.
        """
        before = self._samples
        # In C: nearly all are as they were.
        now: list[Any] = list(map(tuple, map(itemgetter(1), samples)))
        changed = [*compress(count(), map(ne, before, now)), *range(len(before), len(now))]
        pause()
        new_samples = []
        for index in changed:
            pause()
            then = before[index] if index < len(before) else _NONE
            new_samples.append((samples[index][0], _difference(now[index], then)))
        grown = {key for key, _ in new_samples}
        changed_parts: dict[tuple[SpanRef, SampleKey], Numbers] = {}
        new_parts = []
        for ref, key, numbers in parts:
            pause()
            then = self._parts.get((ref, key), _NONE)
            # One whose sample was saved with it already waits until that grows again.
            if numbers != then and key in grown:
                changed_parts[ref, key] = numbers
                new_parts.append((ref, key, _difference(numbers, then)))
        earlier = [*self._tasks, *[0] * (len(tasks) - len(self._tasks))]
        self._next = now, changed_parts, tasks, self._over
        new_tasks = [max(one - then, 0) for one, then in zip(tasks, earlier, strict=True)]
        return new_samples, new_parts, new_tasks

    def over(self, more: int) -> int:
        """How many observations went over the cap in all, with so many more of the latest news."""
        self._next = (*self._next[:3], self._over + more)
        return self._over + more

    def keep(self) -> None:
        """Say that the latest news have been saved."""
        self._samples, parts, self._tasks, self._over = self._next
        self._parts.update(parts)
        self._next = self._samples, {}, self._tasks, self._over


def _difference(numbers: Numbers, before: Numbers) -> Numbers:
    return numbers[0] - before[0], numbers[1] - before[1], numbers[2] - before[2]
