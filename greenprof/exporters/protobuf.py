"""Protocol buffers' wire format, as far as pprof's messages need it: numbers, text, messages.

The format: https://protobuf.dev/programming-guides/encoding/. As the reference implementation
does, a field that has its default is left out, and fields come in the order of their numbers if
they are given so; equal messages are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Message"]

_VARINT, _LENGTH = 0, 2
_INT64_MAX = 2**63 - 1


class Message:
    """A message that is written field by field. Numbers are not negative; too large ones are cut."""

    def __init__(self) -> None:
        self._data = bytearray()

    def number(self, field: int, value: int) -> None:
        """Add a number; nothing if it is 0."""
        if value > 0:
            self._data += _varint(field << 3 | _VARINT)
            self._data += _varint(value)

    def numbers(self, field: int, values: Iterable[int]) -> None:
        """Add a repeated field of numbers, all of them together; zeros count."""
        packed = b"".join(_varint(max(value, 0)) for value in values)
        if packed:
            self._bytes(field, packed)

    def text(self, field: int, value: str) -> None:
        """Add an element of a repeated field of strings; the empty string counts."""
        self._bytes(field, value.encode("utf-8"))

    def message(self, field: int, value: Message) -> None:
        """Add another message, or an element of a repeated field of messages."""
        self._bytes(field, bytes(value))

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def _bytes(self, field: int, data: bytes) -> None:
        self._data += _varint(field << 3 | _LENGTH)
        self._data += _varint(len(data))
        self._data += data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    value = min(value, _INT64_MAX)
    if value < 0x80:
        return _SMALL[value]
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


_SMALL = [bytes([value]) for value in range(0x80)]
