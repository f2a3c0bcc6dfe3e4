"""The index of an MP4 file without its payload: a demux in which what is not here reads as zeros.

Times, key frames and places of the packets are thus FFmpeg's own, edit lists and all, and cost no payload. Of a long
file only the groups of pictures around the wanted times are demuxed: 100,000 packets take as long as many pictures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard

from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.by_range.groups import Group, last_wanted, wanted_stamps
from vidpipe.decode.container import Box, open_hollow
from vidpipe.decode.packets import IndexMismatch, PacketIndex
from vidpipe.sampling import LAST_FRAMES
from vidpipe.spec import ClipSpec

# Codecs whose packets FFmpeg takes from an MP4 file as they are, without looking into them.
PLAIN_CODECS = frozenset(("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores"))
LONG_PACKETS = 5000


class Row(NamedTuple):
    """What a packet says besides its bytes."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_discard: bool
    size: int
    offset: int


def read_plain(file: RangeFile, boxes: list[Box], stream_index: int, spec: ClipSpec) -> PacketIndex:
    """The packets of a file that is not fragmented, with `boxes` at its top level; of a long one, not all."""
    file.hollow = payload = [(box.start + box.header_bytes, box.stop) for box in boxes if box.kind == b"mdat"]
    try:
        with _opened(file, stream_index) as container:
            return _read_groups(container, stream_index, spec)
    except IndexMismatch:
        file.hollow = payload
        return read_hollow(file, stream_index)


def read_hollow(file: RangeFile, stream_index: int) -> PacketIndex:
    """All packets of a stream; the file then looks like itself again."""
    with _opened(file, stream_index) as container:
        return _index_of(list(_rows(container, stream_index)), gaps=[])


@contextmanager
def _opened(file: RangeFile, stream_index: int) -> Iterator[InputContainer]:
    try:
        with open_hollow(file) as container:
            for other in container.streams:
                if other.index != stream_index:
                    other.discard = Discard.all
            yield container
    finally:
        file.hollow, file.disguise = [], []


def _rows(container: InputContainer, stream_index: int) -> Iterator[Row]:
    for packet in container.demux(container.streams[stream_index]):
        if packet.size:
            yield _row_of(packet)


def _row_of(packet: av.Packet) -> Row:
    if packet.pos is None or packet.is_corrupt or packet.has_sidedata("new_extradata"):
        raise IndexMismatch("packets that are not in the file as they are decoded")
    return Row(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, packet.size, packet.pos)


def _index_of(rows: list[Row], gaps: list[int]) -> PacketIndex:
    if not rows:
        return PacketIndex(held=None)
    pts, dts, is_key, is_discard, size, offset = map(list, zip(*rows, strict=True))
    return PacketIndex(pts, dts, is_key, is_discard, size, [None] * len(rows), held=None, offset=offset, gaps=gaps)


def _read_groups(container: InputContainer, stream_index: int, spec: ClipSpec) -> PacketIndex:
    """The packets of the groups around the wanted times; raises IndexMismatch where all have to be read."""
    stream = container.streams[stream_index]
    entries = stream.index_entries
    starts = [entry.timestamp for entry in entries if entry.is_keyframe] if len(entries) > LONG_PACKETS else []
    if len(starts) < 2 or starts != sorted(set(starts)):
        raise IndexMismatch("a short file, or one whose key frames are in no order")

    delay = 0  # from the decoding of a key frame to its being shown

    def read(number: int, last: float) -> list[Row]:
        """A group's packets, until no further one can be shown before `last`: none is before it is decoded."""
        container.seek(starts[number] + delay, stream=stream)
        rows: list[Row] = []
        for row in _rows(container, stream_index):
            if row.pts is None or row.dts is None or row.is_discard or (not rows and row.dts != starts[number]):
                raise IndexMismatch("packets without times, or that are not shown")
            rows.append(row)
            if row.dts > last:
                break
        if not rows:
            raise IndexMismatch(f"no packets from timestamp {starts[number]} on, where the index has a key frame")
        return rows

    beginning = read(0, starts[1])
    first = min(row.pts or 0 for row in beginning)
    delay = (beginning[0].pts or 0) - starts[0]
    groups = [Group(start + delay, 0, 0) for start in starts]
    number_of_end = len(groups)
    end: list[Row] = []
    while number_of_end > 0 and len(end) < LAST_FRAMES:
        number_of_end -= 1
        end = read(number_of_end, np.inf)
    seconds = float(stream.time_base or 0)
    stamps = wanted_stamps(first, [row.pts or 0 for row in end], seconds, spec)
    wanted = last_wanted(groups, stamps, reach=spec.tolerance_s / seconds)
    if len(wanted) > len(groups) // 2:
        raise IndexMismatch("most groups are wanted")
    islands = {number: read(number, last) for number, last in wanted.items() if number < number_of_end}
    islands[number_of_end] = end
    return _joined(islands, groups)


def _joined(islands: dict[int, list[Row]], groups: list[Group]) -> PacketIndex:
    """The packets of all islands in the order of the file."""
    rows: list[Row] = []
    gaps = []
    for number in sorted(islands):
        island = islands[number]
        if island[0].pts != groups[number].stamp:
            raise IndexMismatch("key frames that are shown sooner after their decoding than others")
        at = bisect_left(rows, island[0].dts or 0, key=lambda row: row.dts or 0)
        if at == len(rows) and rows:  # the one before does not reach up to here
            gaps.append(at)
        rows[at:] = island
    return _index_of(rows, gaps)
