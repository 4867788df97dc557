"""CPU alone: a parser by recursive descent, which does hardly anything but short calls."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.programs.steady import arguments, in_turns

TOKEN = re.compile(r"\d+|[-+*()]")


class Parser:
    """Of sums and products of integers."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))

    def peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def take(self) -> str:
        return self._tokens.pop(0)

    def sum(self) -> int:
        value = self.product()
        while self.peek() in {"+", "-"}:
            value += self.product() if self.take() == "+" else -self.product()
        return value

    def product(self) -> int:
        value = self.atom()
        while self.peek() == "*":
            self.take()
            value *= self.atom()
        return value

    def atom(self) -> int:
        token = self.take()
        if token != "(":
            return int(token)
        value = self.sum()
        self.take()
        return value


def tokens(text: str) -> Iterator[str]:
    for match in TOKEN.finditer(text):
        yield match[0]


def evaluate(text: str) -> int:
    return Parser(text).sum()


TEXT = " + ".join(f"({number} * (2 - {number % 7}))" for number in range(12))
TIMES = 500


def turn() -> None:
    for _ in range(TIMES):
        evaluate(TEXT)


def main() -> None:
    given = arguments()
    in_turns(turn, given)


if __name__ == "__main__":
    main()
