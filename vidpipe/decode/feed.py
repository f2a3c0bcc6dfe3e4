"""Packets by their position: from memory, or read from the file again, from as near before them as it can enter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import av

from vidpipe.decode.container import open_container
from vidpipe.decode.packets import is_packed, read_packets, video_packets
from vidpipe.decode.plan import Run

# Demuxers that go to the key frame they are asked for; the others are read from the beginning.
SEEKABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "asf")
READ_ON_PACKETS = 64  # fewer packets than these are read and thrown away rather than sought past
CODEC_NAMES = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}


class Feed:
    """A file open for reading packets, and the index of all of them."""

    def __init__(self, path: str, *, unpacks: bool = True) -> None:
        self._path = path
        self._unpacks = unpacks
        self.container, self.stream = open_container(path)
        name = self.stream.codec_context.name
        self.codec = CODEC_NAMES.get(name, name)
        self._ahead: Iterator[tuple[int, av.Packet]] | None = None
        self._next = 0
        self._position_by: dict[tuple[int | None, int], int] | None = None
        try:
            self.index = read_packets(self.container, self.stream, self.codec, unpacks=unpacks)
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
        self.container.close()

    def plan(self, runs: Sequence[Run]) -> None:
        """Nothing to prepare: the file is here."""

    def whole(self) -> Iterator[tuple[int, av.Packet]]:
        """(position, packet) of the whole stream."""
        if self.index.held is not None:
            return enumerate(self.index.held)
        return islice(self._from_beginning(), len(self.index))  # without what broke off when they were indexed

    def run(self, run: Run) -> Iterator[tuple[int, av.Packet]]:
        """(position, packet) of the packets that a run feeds."""
        if self.index.held is not None:
            held = self.index.held
            yield from ((int(position), held[position]) for position in run.feed)
            return
        wanted = set(run.feed.tolist())
        for position, packet in self._from(run.start):
            self._next = position + 1
            if position in wanted:
                yield position, packet
            if self._next >= run.stop:
                return

    def _from(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """Packets from at or before `start`: read on, go there, or begin anew."""
        is_near = self._next <= start and (not self._is_seekable or start <= self._next + READ_ON_PACKETS)
        if self._ahead is None or not is_near:
            self._ahead = self._sought(start) or self._from_beginning()
        return self._ahead

    @property
    def _is_seekable(self) -> bool:
        return self.container.format.name in SEEKABLE_FORMATS and not is_packed(self.container, self.stream)

    def _from_beginning(self) -> Iterator[tuple[int, av.Packet]]:
        self.container.close()
        self.container, self.stream = open_container(self._path)
        return enumerate(video_packets(self.container, self.stream, unpacks=self._unpacks))

    def _sought(self, start: int) -> Iterator[tuple[int, av.Packet]] | None:
        """Packets from a key frame at or before `start`; None where the file cannot be entered there for sure."""
        index = self.index
        time = index.dts[start] if index.dts[start] is not None else index.pts[start]
        if time is None or not self._is_seekable:
            return None
        try:
            self.container.seek(time, stream=self.stream, backward=True)
            packets = video_packets(self.container, self.stream, unpacks=self._unpacks)
            first = next(packets, None)
        except av.error.FFmpegError:
            return None
        if first is None:
            return None
        position = self._position_of(first)
        if position is None or position > start:
            return None
        return enumerate(_with_first(first, packets), position)

    def _position_of(self, packet: av.Packet) -> int | None:
        """Where a packet is in the stream, by its time and size; None when that is not sure."""
        if self._position_by is None:
            marks = list(zip(self.index.pts, self.index.size, strict=True))
            self._position_by = {mark: position for position, mark in enumerate(marks)}
            for mark, number in Counter(marks).items():
                if number > 1:
                    del self._position_by[mark]
        return self._position_by.get((packet.pts, packet.size))


def _with_first(first: av.Packet, others: Iterator[av.Packet]) -> Iterator[av.Packet]:
    yield first
    yield from others
