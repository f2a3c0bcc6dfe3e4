"""The index of an MP4 file without its payload: a demux in which what is not here reads as zeros.

Times, key frames and places of the packets are thus FFmpeg's own, edit lists and all, and cost no payload.
"""

from __future__ import annotations

from av.stream import Discard

from vidpipe.decode.by_range.file import RangeFile
from vidpipe.decode.container import Box, open_hollow
from vidpipe.decode.packets import IndexMismatch, PacketIndex

# Codecs whose packets FFmpeg takes from an MP4 file as they are, without looking into them.
PLAIN_CODECS = frozenset(("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores"))


def read_plain(file: RangeFile, boxes: list[Box], stream_index: int) -> PacketIndex:
    """The packets of a file that is not fragmented, with `boxes` at its top level."""
    file.hollow = [(box.start + box.header_bytes, box.stop) for box in boxes if box.kind == b"mdat"]
    return read_hollow(file, stream_index)


def read_hollow(file: RangeFile, stream_index: int) -> PacketIndex:
    """What the packets of a stream say besides their bytes; the file then looks like itself again."""
    rows = []
    try:
        with open_hollow(file) as container:
            for other in container.streams:
                if other.index != stream_index:
                    other.discard = Discard.all
            for packet in container.demux(container.streams[stream_index]):
                if not packet.size:
                    continue
                if packet.pos is None or packet.is_corrupt or packet.has_sidedata("new_extradata"):
                    raise IndexMismatch("packets that are not in the file as they are decoded")
                rows.append((packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, packet.size, packet.pos))
    finally:
        file.hollow, file.disguise = [], []
    if not rows:
        return PacketIndex(held=None)
    pts, dts, is_key, is_discard, size, offset = map(list, zip(*rows, strict=True))
    return PacketIndex(pts, dts, is_key, is_discard, size, [None] * len(rows), held=None, offset=offset)
