"""Packets of a file that is read by ranges: its index first, then the bytes of those packets that are to be decoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

import av

from vidpipe.decode.by_range.file import GAP_BYTES, RangeFile, merged
from vidpipe.decode.by_range.fragments import fragment_groups, read_fragments
from vidpipe.decode.by_range.islands import read_islands
from vidpipe.decode.by_range.mp4 import PLAIN_CODECS, read_plain
from vidpipe.decode.container import FIRST_BOXES, Box, open_container, top_boxes
from vidpipe.decode.feed import CODEC_NAMES
from vidpipe.decode.h264 import Picture
from vidpipe.decode.headers import header_reader
from vidpipe.decode.packets import IndexMismatch, PacketIndex
from vidpipe.decode.plan import Run
from vidpipe.spec import ClipSpec

NEXT_HEADER_BYTES = 16
AHEAD_BYTES = 16 << 20  # ranges fetched at once


class RangeFeed:
    """What `Feed` is for a local file; raises IndexMismatch where a file has to be read whole."""

    def __init__(self, file: RangeFile, spec: ClipSpec) -> None:
        self._file = file
        self._boxes = self._boxes_up_to_fragment()
        self.container, self.stream = open_container(file)
        try:
            name = self.stream.codec_context.name
            self.codec = CODEC_NAMES.get(name, name)
            extradata = self.stream.codec_context.extradata or b""
            self._read_header = header_reader(self.codec, self.container.format.name, extradata)
            self.index = self._read_index(spec)
        except (av.error.FFmpegError, struct.error, IndexError, StopIteration) as error:
            self.container.close()
            raise IndexMismatch(f"an index that cannot be read: {error}") from None
        except BaseException:
            self.container.close()
            raise
        self._runs: Sequence[Run] = ()

    def close(self) -> None:
        self.container.close()

    def plan(self, runs: Sequence[Run]) -> None:
        """Say which runs come, so that they are fetched many at a time."""
        self._runs = runs
        if any(run.start < gap < run.stop for run in runs for gap in self.index.gaps):
            raise IndexMismatch("a wanted picture needs packets that were left out")

    def run(self, run: Run) -> Iterator[tuple[int, av.Packet]]:
        """(position, packet) of the packets that a run feeds."""
        if self.index.held is not None:
            yield from ((position, self.index.held[position]) for position in run.feed.tolist())
            return
        self._fetch_ahead(run)
        for position in run.feed.tolist():
            packet = self._packet(position)
            header = self._read_header(packet)
            if position == run.start > 0 and isinstance(header, Picture) and not header.is_clean_start:
                raise IndexMismatch(f"decoding cannot start at the key frame of packet {position}")
            yield position, packet

    def whole(self) -> Iterator[tuple[int, av.Packet]]:
        raise IndexMismatch("the pictures of this file have to be counted")

    def _read_index(self, spec: ClipSpec) -> PacketIndex:
        format_name = self.container.format.name
        if format_name.startswith("mov") and self.codec in PLAIN_CODECS:
            if self._boxes[-1].kind != b"moof":
                return read_plain(self._file, self._boxes, self.stream.index, spec)
            groups = fragment_groups(self._file, self._boxes, self.stream.id)
            return read_fragments(self._file, groups, self.stream, spec)
        if format_name.startswith("matroska") or format_name == "avi":
            return self._index_of(read_islands(self._file, self.container, self.stream, spec))
        raise IndexMismatch(f"{self.codec} in {format_name} is not read by ranges")

    def _index_of(self, islands: list[list[av.Packet]]) -> PacketIndex:
        packets = [packet for island in islands for packet in island]
        return PacketIndex(
            pts=[packet.pts for packet in packets],
            dts=[packet.dts for packet in packets],
            is_key=[packet.is_keyframe for packet in packets],
            is_discard=[packet.is_discard for packet in packets],
            size=[packet.size for packet in packets],
            header=[self._read_header(packet) for packet in packets],
            held=packets,
            gaps=list(accumulate(map(len, islands)))[:-1],
        )

    def _boxes_up_to_fragment(self) -> list[Box]:
        """The boxes of an MP4 file. Its index is then here, in one request; FFmpeg would read it piece by piece."""
        boxes: list[Box] = []
        if self._file.read_at(0, 8)[4:] not in FIRST_BOXES:
            return boxes
        for box in top_boxes(self._file, self._file.size_bytes):
            boxes.append(box)
            if box.kind == b"moov":
                self._file.fetch([(box.start, box.stop + NEXT_HEADER_BYTES)])
            if box.kind == b"moof":
                break
        return boxes

    def _packet(self, position: int) -> av.Packet:
        index = self.index
        packet = av.Packet(index.size[position])  # not of the bytes: decoders read a little beyond them, too
        packet.update(self._file.read_at(index.offset[position], index.size[position]))
        packet.pts, packet.dts = index.pts[position], index.dts[position]
        packet.is_keyframe = index.is_key[position]
        return packet

    def _fetch_ahead(self, run: Run) -> None:
        """Have the packets of a run here, and if they have to be fetched, those of the next ones, too."""
        if self._file.has(self._ranges(run)):
            return
        ranges, num_bytes = [], 0
        for later in self._runs:
            if later.start >= run.start and num_bytes < AHEAD_BYTES:
                wanted = merged(self._ranges(later), GAP_BYTES)
                ranges += wanted
                num_bytes += sum(stop - start for start, stop in wanted)
        self._file.fetch(ranges or self._ranges(run))

    def _ranges(self, run: Run) -> list[tuple[int, int]]:
        offsets, sizes = self.index.offset, self.index.size
        return [(offsets[position], offsets[position] + sizes[position]) for position in run.feed.tolist()]
