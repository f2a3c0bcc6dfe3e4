"""Read the few header fields that tell how pictures depend on each other. Knows bits, not videos."""

from __future__ import annotations

from collections.abc import Iterator


class BitReader:
    """Big-endian bits of some bytes; reading past the end raises ValueError."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")  # what is left
        self._left = 8 * len(data)

    @property
    def num_left(self) -> int:
        return self._left

    def bits(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("header ends too early")
        value = self._value >> self._left
        self._value ^= value << self._left
        return value

    def flag(self) -> bool:
        return self.bits(1) == 1

    def unsigned(self) -> int:
        """Exp-Golomb code, ue(v) of the H.264 standard."""
        zeros = self._left - self._value.bit_length()
        self._left -= 2 * zeros + 1
        if self._left < 0 or zeros > 32:
            raise ValueError("no Exp-Golomb code")
        code = self._value >> self._left
        self._value ^= code << self._left
        return code - 1

    def signed(self) -> int:
        """se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """NAL units of an access unit, none empty: behind lengths of `length_size` bytes, or for 0 between start codes."""
    position = 0
    if length_size:
        while position + length_size <= len(data):
            size = int.from_bytes(data[position : position + length_size], "big")
            position += length_size
            if not 0 < size <= len(data) - position:
                return
            yield data[position : position + size]
            position += size
        return
    position = data.find(b"\x00\x00\x01")
    while position >= 0:
        following = data.find(b"\x00\x00\x01", position + 3)
        unit = data[position + 3 : following if following >= 0 else len(data)]
        if unit:
            yield unit
        position = following


def without_escapes(data: bytes) -> bytes:
    return data.replace(b"\x00\x00\x03", b"\x00\x00")
