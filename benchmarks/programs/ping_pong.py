"""Two greenlets that switch to each other and do nothing else: the worst case of whoever follows switches."""

from __future__ import annotations

import greenlet

from benchmarks.programs.steady import arguments, in_turns

SWITCHES = 100_000


def pong() -> None:
    switch = ping.switch
    while True:
        switch()


ping = greenlet.getcurrent()
other = greenlet.greenlet(pong)


def turn() -> None:
    switch = other.switch
    for _ in range(SWITCHES // 2):
        switch()


def main() -> None:
    given = arguments()
    in_turns(turn, given)


if __name__ == "__main__":
    main()
