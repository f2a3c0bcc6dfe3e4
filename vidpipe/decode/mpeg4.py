"""MPEG-4 part 2 headers: the order of pictures in AVI, which stores none. Source: ISO/IEC 14496-2, 6.2.5."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from vidpipe.decode.bits import BitReader

START_CODE, VOP_START = b"\x00\x00\x01", b"\x00\x00\x01\xb6"
DIVX_MARK = re.compile(rb"\x00\x00\x01\xb2DivX\d+(?:Build|b)\d+(.?)", re.DOTALL)
UNSEEN_VOP_BYTES = 7  # in so few, behind a picture that it has kept, the decoder looks for no other one
MAX_TICKS = 1 << 16  # from one picture to the next; the decoder counts them with 16 bits
EMPTY_VOP_BYTES = 20  # a picture smaller than this may be "not coded": whether it is shown, the decoder decides


class Kind(Enum):
    """Kinds of pictures (video object planes)."""

    INTRA = 0
    PREDICTED = 1
    BIDIRECTIONAL = 2
    SPRITE = 3
    NONE = 4
    """No picture in this packet, or one that is not coded, or so small that it may not be."""


# To ask the class for one of its members takes Python 3.11 a function call.
KINDS = INTRA, PREDICTED, BIDIRECTIONAL, SPRITE, NONE = tuple(Kind)


class Vop(NamedTuple):
    """A packet's picture, as its header tells."""

    kind: Kind
    time: int | None = None
    """By the pictures' own clock, in its ticks; None where it cannot be read."""
    is_interlaced: bool = False


NO_VOP = Vop(NONE)


class Mpeg4Headers:
    """Reads packets one after the other, in decoding order: each picture's time counts from the one before."""

    def __init__(self, extradata: bytes) -> None:
        self._ticks_a_second = self._tick_bits = 0
        self._is_interlaced = False
        self._second = self._second_before = 0
        self._read_headers(extradata)

    def read(self, packet: bytes) -> Vop:
        """The packet's first picture."""
        start = 0 if packet[:4] == VOP_START else packet.find(VOP_START)
        if start > 0:
            self._read_headers(packet[:start])
        if start < 0 or start + 4 >= len(packet) or len(packet) < EMPTY_VOP_BYTES:
            return NO_VOP
        head = int.from_bytes(packet[start + 4 : start + 20].ljust(16, b"\0"), "big")
        kind = KINDS[head >> 126]
        if not self._ticks_a_second:
            return Vop(kind)
        left = (~head & (1 << 126) - 1).bit_length() - 2  # behind the ones that count seconds, a zero, and a marker
        num_seconds = 124 - left
        left -= self._tick_bits + 2
        if left < 0 or head >> left & 3 != 3:  # a marker, and whether it is coded
            return NO_VOP
        if kind is BIDIRECTIONAL:
            second = self._second_before + num_seconds
        else:
            self._second_before = self._second
            self._second = second = self._second + num_seconds
        tick = head >> left + 2 & (1 << self._tick_bits) - 1
        return Vop(kind, second * self._ticks_a_second + tick, self._is_interlaced)

    def _read_headers(self, data: bytes) -> None:
        """What stands before a picture: how time is counted, and from where."""
        position = data.find(START_CODE)
        while position >= 0:
            code, body = data[position + 3 : position + 4], data[position + 4 : position + 68]
            try:
                if b"\x20" <= code <= b"\x2f":
                    self._read_layer(BitReader(body))
                elif code == b"\xb3":
                    self._read_time_code(BitReader(body))
            except ValueError:
                self._ticks_a_second = 0
            position = data.find(START_CODE, position + 3)

    def _read_layer(self, reader: BitReader) -> None:
        self._ticks_a_second = 0
        reader.bits(1 + 8)  # random access, kind of object
        if reader.flag():
            reader.bits(4 + 3)
        if reader.bits(4) == 15:  # shape of a pixel
            reader.bits(8 + 8)
        if reader.flag():
            reader.bits(2 + 1)
            if reader.flag():
                reader.bits(79)  # buffer sizes
        if reader.bits(2) != 0:  # not rectangular
            return
        reader.bits(1)
        ticks = reader.bits(16)
        tick_bits = max((ticks - 1).bit_length(), 1) if ticks else 1
        reader.bits(1)
        if reader.flag():
            reader.bits(tick_bits)
        reader.bits(1 + 13 + 1 + 13 + 1)
        self._is_interlaced = reader.flag()
        self._ticks_a_second, self._tick_bits = ticks, tick_bits

    def _read_time_code(self, reader: BitReader) -> None:
        hours, minutes, _, seconds = reader.bits(5), reader.bits(6), reader.bits(1), reader.bits(6)
        self._second = seconds + 60 * (minutes + 60 * hours)


def announces_packing(data: bytes) -> bool | None:
    """Whether the DivX mark before a picture ends in `p`, which says that pictures are packed; None without a mark."""
    if data[:4] == VOP_START:
        return None
    start = data.find(VOP_START)
    headers = data[:start] if start >= 0 else data
    if b"DivX" not in headers:
        return None
    mark = DIVX_MARK.search(headers)
    return mark is not None and mark[1] == b"p"


class PackedOrder:
    """Whether packets that announce packed pictures keep to it: each second picture is awaited by an empty one.

        packets         I | P B | empty | P B1 | B2 | empty | P ...
        kept back             B     -       B1   B2     -

    The decoder keeps the second picture of a packet, and takes it in place of the next packet; what that one holds is
    lost unless it is empty, or the next B picture. A filter that unpacks goes by other rules where a packet is missing.
    """

    def __init__(self, *, is_announced: bool) -> None:
        self._is_announced = is_announced
        self._keeps_one = False

    def holds(self, data: bytes) -> bool:
        """False where a decoder would not make of this packet, the next in the stream, what unpacking makes of it."""
        mark = announces_packing(data)
        if mark is not None:
            self._is_announced = mark
        first = data.find(VOP_START)
        second = data.find(VOP_START, first + 4) if first >= 0 else -1
        if second >= 0:
            is_alone = data.find(VOP_START, second + 4) < 0
            holds = self._is_announced and not self._keeps_one and is_alone and _kind(data, second) is BIDIRECTIONAL
            self._keeps_one = True
            return holds
        if not self._keeps_one:
            return True
        kind = _kind(data, first) if data.find(START_CODE) == first >= 0 else NONE
        is_empty = len(data) < EMPTY_VOP_BYTES and (kind is PREDICTED or len(data) <= UNSEEN_VOP_BYTES)
        self._keeps_one = not is_empty
        holds = kind is not NONE if is_empty else kind is BIDIRECTIONAL and len(data) >= EMPTY_VOP_BYTES
        return self._is_announced and holds


def _kind(data: bytes, start: int) -> Kind:
    """The kind of the picture whose start code is at `start`."""
    return KINDS[data[start + 4] >> 6] if start + 4 < len(data) else NONE


def are_in_time(vops: Sequence[Vop], gaps: Sequence[int] = ()) -> bool:
    """False where the pictures' own times say that one between them is lost, or damaged.

    The decoder does not show a B picture whose time is not between those of the two pictures around it. And by the
    first one's distance to the picture before it tells the fields of all others of an interlaced video apart.
    `gaps`: positions before which packets are left out.
    """
    before = after = None
    distances = set()
    is_first = True
    for position, vop in enumerate(vops):
        if position in gaps:
            before = after = None
        if vop.kind is not BIDIRECTIONAL:
            before, after, is_first = after, vop.time, True
            continue
        if vop.time is None:
            return False
        if before is not None and after is not None:
            if not before < vop.time < after < before + MAX_TICKS:
                return False
            if is_first and vop.is_interlaced:
                distances.add(vop.time - before)
            is_first = False
    return len(distances) <= 1


def display_ranks(vops: Sequence[Vop]) -> list[int]:
    """The place of each picture in presentation order.

    A B picture is shown at once, another one after the B pictures behind it:

        decoding order  I0 P3 B1 B2 P6 B4 B5
        ranks            0  3  1  2  6  4  5
    """
    ranks = [0] * len(vops)
    waiting: int | None = None
    rank = 0
    for position, vop in enumerate(vops):
        if vop.kind is BIDIRECTIONAL:
            ranks[position] = rank
            rank += 1
            continue
        if waiting is not None:
            ranks[waiting] = rank
            rank += 1
        waiting = position
    if waiting is not None:
        ranks[waiting] = rank
    return ranks
