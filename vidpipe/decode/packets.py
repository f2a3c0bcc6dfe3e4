"""The packets of a video stream: what each says without being decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.video.stream import VideoStream

from vidpipe.decode.headers import Header, header_reader
from vidpipe.decode.mpeg4 import PackedOrder, announces_packing

HOLD_BYTES = 64 << 20  # packets (and pictures) kept in memory instead of being read (decoded) a second time


class IndexMismatch(Exception):  # noqa: N818 - not an error of the video: it has to be read in another way
    """The packets do not tell enough, or promised something that did not come."""


@dataclass
class PacketIndex:
    """One entry a packet, in decoding order."""

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_discard: list[bool] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    header: list[Header] = field(default_factory=list)
    held: list[av.Packet] | None = field(default_factory=list)
    """The packets themselves; None when they are too many to keep."""
    damaged: list[int] = field(default_factory=list)
    """Positions of packets that the demuxer marks as damaged."""
    read_error: str | None = None
    """What stopped the demuxer before the end, if anything did."""
    gaps: list[int] = field(default_factory=list)
    """Positions before which packets of the file are left out."""
    offset: list[int] = field(default_factory=list)
    """Where each packet begins in a file that is read by ranges. The packets are not here then, nor their headers."""

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def is_hollow(self) -> bool:
        return bool(self.offset)


def read_packets(container: InputContainer, stream: VideoStream, codec: str, *, unpacks: bool = True) -> PacketIndex:
    """Demux the whole stream once, without decoding; raises IndexMismatch, see `video_packets`."""
    index = PacketIndex()
    read_header = header_reader(codec, container.format.name, stream.codec_context.extradata or b"")
    rows: list[tuple[int | None, int | None, bool, bool, int, Header]] = []
    num_bytes = 0
    try:
        for packet in video_packets(container, stream, unpacks=unpacks):
            size = packet.size
            if packet.is_corrupt:
                index.damaged.append(len(rows))
            rows.append((packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, size, read_header(packet)))
            num_bytes += size
            if index.held is not None:
                index.held.append(packet)
                if num_bytes > HOLD_BYTES:
                    index.held = None
    except av.error.FFmpegError as error:
        index.read_error = f"{type(error).__name__}: {error.strerror}"
    if rows:
        columns = zip(*rows, strict=True)
        index.pts, index.dts, index.is_key, index.is_discard, index.size, index.header = map(list, columns)
    return index


def is_packed(container: InputContainer, stream: VideoStream) -> bool:
    """MPEG-4 in AVI may hold two pictures in one packet, and then an empty one."""
    return stream.codec_context.name == "mpeg4" and container.format.name == "avi"


def video_packets(container: InputContainer, stream: VideoStream, *, unpacks: bool = True) -> Iterator[av.Packet]:
    """The packets of a stream from where the container stands: if `unpacks` one picture each, else as they are.

    Raises IndexMismatch where one does not follow from the other, since some packet is damaged or lost.
    """
    packets = _demux(container, stream)
    return _unpacked(packets, stream) if unpacks and is_packed(container, stream) else packets


def _unpacked(packets: Iterator[av.Packet], stream: VideoStream) -> Iterator[av.Packet]:
    # Before the first packet that announces them there are none, and looking for them takes 3 % of a decode.
    is_announced = announces_packing(stream.codec_context.extradata or b"") is True
    unpack, order = None, PackedOrder(is_announced=is_announced)
    for packet in packets:
        if unpack is None and (is_announced or announces_packing(bytes(packet))):
            unpack = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
        if unpack is None:
            yield packet
        elif order.holds(bytes(packet)):
            yield from unpack.filter(packet)
        else:
            raise IndexMismatch("packed pictures whose packets contradict each other")
    if unpack is not None:
        yield from unpack.filter(None)


def _demux(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The packets that hold something.

    PyAV fails at a packet of a stream that turns up after the beginning, as in MPEG-TS; it is none of ours.
    """
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
            return
        except IndexError:
            continue
