"""AV1 packets without the frames that no wanted one depends on."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from itertools import chain

import av

from vidpipe.decode.av1 import Av1Headers, needed_parts

HOLD_BYTES = 32 << 20  # of a run, to be looked at before the first packet is decoded


def trimmed(
    packets: Iterator[tuple[int, av.Packet]], targets: Container[int], extradata: bytes
) -> Iterator[tuple[int, av.Packet]]:
    """(position, packet) of a run, cut down to what those at positions `targets` need.

    Where the headers do not tell, or the run is too long to be held, at least without those that no other refers to.
    """
    held: list[tuple[int, av.Packet]] = []
    num_bytes = 0
    for position, packet in packets:
        held.append((position, packet))
        num_bytes += packet.size
        if num_bytes > HOLD_BYTES:
            yield from _without_idle(chain(held, packets), targets, extradata)
            return
    try:
        parts = needed_parts([memoryview(packet) for _, packet in held], [position in targets for position, _ in held])
    except (ValueError, LookupError):
        yield from _without_idle(held, targets, extradata)
        return
    for (position, packet), part in zip(held, parts, strict=True):
        if part:
            yield position, packet if len(part) == packet.size else _with_data(packet, part)


def _without_idle(
    packets: Iterable[tuple[int, av.Packet]], targets: Container[int], extradata: bytes
) -> Iterator[tuple[int, av.Packet]]:
    headers = Av1Headers(extradata)
    for position, packet in packets:
        is_idle = headers.is_idle(bytes(packet)) and not packet.is_keyframe
        if position in targets or not is_idle:
            yield position, packet


def _with_data(packet: av.Packet, data: bytes) -> av.Packet:
    """A packet of other bytes for the same time."""
    other = av.Packet(len(data))  # not of the bytes: decoders read a little beyond them, too
    other.update(data)
    other.pts, other.dts, other.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return other
