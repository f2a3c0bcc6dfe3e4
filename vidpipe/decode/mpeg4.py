"""MPEG-4 part 2 headers: the order of pictures in AVI, which stores none. Source: ISO/IEC 14496-2, 6.2.5."""

from __future__ import annotations

from enum import Enum

VOP_START = b"\x00\x00\x01\xb6"
EMPTY_VOP_BYTES = 20  # a picture smaller than this may be "not coded": whether it is shown, the decoder decides


class Vop(Enum):
    """Kinds of pictures (video object planes)."""

    INTRA = 0
    PREDICTED = 1
    BIDIRECTIONAL = 2
    SPRITE = 3
    NONE = 4
    """No picture in this packet, or one so small that it may not be coded."""


VOPS = tuple(Vop)


def read_vop(packet: bytes) -> Vop:
    """The kind of a packet's first picture."""
    start = packet.find(VOP_START)
    if start < 0 or start + 4 >= len(packet) or len(packet) < EMPTY_VOP_BYTES:
        return Vop.NONE
    return VOPS[packet[start + 4] >> 6]


def announces_packing(data: bytes) -> bool:
    """True when the headers before a picture hold a DivX mark, by which decoders know packets with two pictures.

    Looks for the mark only, not for the `p` in it.
    """
    start = data.find(VOP_START)
    return data.find(b"DivX", 0, start if start >= 0 else len(data)) >= 0


def display_ranks(vops: list[Vop]) -> list[int] | None:
    """The place of each picture in presentation order; None where a packet has no picture for sure.

    A B picture is shown at once, another one after the B pictures behind it:

        decoding order  I0 P3 B1 B2 P6 B4 B5
        ranks            0  3  1  2  6  4  5
    """
    if Vop.NONE in vops:
        return None
    ranks = [0] * len(vops)
    waiting: int | None = None
    rank = 0
    for position, vop in enumerate(vops):
        if vop is Vop.BIDIRECTIONAL:
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
